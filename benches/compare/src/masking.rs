use anyhow::{Context, Result, ensure};

use crate::claims::{ClaimLines, TABLE, Transport, policy_of_claim_lines};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::process::Finished;
use crate::report::{Line, count, say, time};
use crate::slot::drop_slot;
use crate::stage::Stage;
use crate::statistics::median;

const SLOT: &str = "bench_masking";
/// Columns that are added to the table's 25, and kept under both policies.
const ADDED: u32 = 15;

/// What a policy costs: the CPU time of a first copy under it, beside that of the same copy with every column kept. A masked value is also
/// longer or shorter in the file than the kept one, so this is the cost of the policy and not of its transforms alone.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    if stage.options.limits_only {
        return Ok(Vec::new());
    }
    let source = ClaimLines::load(stage, "masking").await?;
    source.client.batch_execute(&widened()).await?;
    source.client.batch_execute(&format!("VACUUM ANALYZE {TABLE}")).await?;
    let masking = masking()?;
    let (mut masked, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..stage.options.runs {
        masked.push(copy(stage, &source, "masked", &masking).await?);
        kept.push(copy(stage, &source, "kept", &keeping(&masking)?).await?);
    }
    let rows = source.rows;
    source.remove(stage).await?;
    let cpu = |runs: &[Finished]| median(&runs.iter().map(|run| run.cpu).collect::<Vec<_>>()).context("no run");
    let (masked, kept) = (cpu(&masked)?, cpu(&kept)?);
    let share = (masked.as_secs_f64() - kept.as_secs_f64()) / masked.as_secs_f64();
    let what = format!("CPU of a first copy, {} rows, {} columns, 12 masked (5 tokens)", count(rows), 25 + ADDED);
    Ok(vec![
        Line::of(what)
            .ours(format!("{}: {:.0} % of it for the policy", time(masked), share * 100.0))
            .beside(format!("every column kept: {}", time(kept)))
            .ratio(masked.as_secs_f64() / kept.as_secs_f64())
            .aim("15 % or less"),
    ])
}

async fn copy(stage: &Stage, source: &ClaimLines, name: &str, policy: &str) -> Result<Finished> {
    let commit = CommitRule { max_seconds: 5.0, max_rows: 200_000 };
    let yaml = lockgate_yaml(&source.url(stage, Transport::Socket), SLOT, &[TABLE], commit);
    let project = Project::make(stage, &format!("masking-{name}"), &yaml, policy)?;
    let finished = project.run_once().await?;
    say(&format!("{name}: CPU {}, {}", time(finished.cpu), time(finished.wall)));
    let found = project.count(TABLE).await?;
    ensure!(found == source.rows, "the lake has {found} rows, the source has {}", source.rows);
    project.clear()?;
    drop_slot(&source.client, SLOT).await?;
    Ok(finished)
}

/// A table of 40 columns, as claims come from warehouses.
fn widened() -> String {
    let added: String = (1..=ADDED)
        .map(|number| match number % 3 {
            0 => format!(", (random() * 1000)::int AS added_{number}"),
            1 => format!(", (random() * 100000)::numeric(12,2) AS added_{number}"),
            _ => format!(", chr(65 + (random() * 25)::int) || (random() * 99)::int AS added_{number}"),
        })
        .collect();
    format!(
        "CREATE TABLE wide AS SELECT *{added} FROM {TABLE};
         DROP TABLE {TABLE} CASCADE;
         ALTER TABLE wide RENAME TO {TABLE};
         ALTER TABLE {TABLE} ADD PRIMARY KEY (claim_id, line_number);"
    )
}

/// The plan's policy for the widened table.
fn masking() -> Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_policies_name_every_column_and_one_of_them_masks() {
        let masking = masking().unwrap();
        let keeping = keeping(&masking).unwrap();
        for policy in [&masking, &keeping] {
            assert_eq!(policy.lines().filter(|line| line.starts_with("    ")).count(), 40, "{policy}");
        }
        assert_eq!(masking.matches("hmac_token(").count(), 5);
        assert_eq!(keeping.matches(": keep").count(), 40);
    }
}
