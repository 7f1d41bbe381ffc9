//! The table of the workload as claims come from warehouses: 40 columns.

use anyhow::{Context, Result};

use crate::claims::{ClaimLines, TABLE, policy_of_claim_lines};
use crate::stage::Stage;

/// Columns that are added to the table's 25, and kept under the policy.
const ADDED: u32 = 15;
/// All of its columns.
pub(crate) const COLUMNS: u32 = 25 + ADDED;
/// A column of two to three characters: without it the table is rewritten, and nothing is computed.
pub(crate) const NARROW: &str = "added_1";

/// A database with about so many rows of the wide table.
pub(crate) async fn load(stage: &Stage, database: &str) -> Result<ClaimLines> {
    let source = ClaimLines::load(stage, database).await?;
    source.client.batch_execute(&widened()).await?;
    source.client.batch_execute(&format!("VACUUM FULL ANALYZE {TABLE}")).await?;
    source.client.batch_execute("CHECKPOINT").await?;
    Ok(source)
}

/// Rows that come later have values in these columns, too.
fn widened() -> String {
    let added = (1..=ADDED).map(|number| match number % 3 {
        0 => format!("ADD added_{number} int DEFAULT (random() * 1000)::int"),
        1 => format!("ADD added_{number} text DEFAULT chr(65 + (random() * 25)::int) || (random() * 99)::int"),
        _ => format!("ADD added_{number} numeric(12,2) DEFAULT (random() * 100000)::numeric(12,2)"),
    });
    format!("ALTER TABLE {TABLE} {}", added.collect::<Vec<_>>().join(", "))
}

/// The plan's policy for the wide table: 12 columns masked, 5 of them by tokens.
pub(crate) fn masking() -> Result<String> {
    let added: String = (1..=ADDED).map(|number| format!("    added_{number}: keep\n")).collect();
    Ok(policy_of_claim_lines()? + &added)
}

/// The same with every column kept.
pub(crate) fn keeping(policy: &str) -> Result<String> {
    let (_, tables) = policy.split_once("tables:\n").context("a policy without tables")?;
    let kept = tables.lines().map(|line| match line.trim_start().split_once(':') {
        Some((column, _)) if line.starts_with("    ") => format!("    {column}: keep\n"),
        _ => format!("{line}\n"),
    });
    Ok(format!("profile: none\ntables:\n{}", kept.collect::<String>()))
}

/// A policy without the narrow column.
pub(crate) fn narrower(policy: &str) -> String {
    policy.replace(&format!("    {NARROW}: keep\n"), &format!("    {NARROW}: drop\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_policies_name_every_column_and_one_of_them_masks() {
        let masking = masking().unwrap();
        let keeping = keeping(&masking).unwrap();
        for policy in [&masking, &keeping] {
            assert_eq!(policy.lines().filter(|line| line.starts_with("    ")).count(), 40, "{policy}");
            assert_eq!(narrower(policy).matches(": drop").count(), 1);
        }
        assert_eq!(masking.matches("hmac_token(").count(), 5);
        assert_eq!(keeping.matches(": keep").count(), 40);
    }
}
