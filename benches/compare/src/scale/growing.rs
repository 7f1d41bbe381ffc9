use std::time::Duration;

use anyhow::{Result, ensure};
use sandbox::claims::SOURCE;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;

use super::Figures;
use super::judge::{Compared, same};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::report::{memory, say};
use crate::slot::{drop_slot, log_end, wait_for_confirmed};
use crate::stage::Stage;

const SLOT: &str = "scale_e";
/// How often the policy catches up with the table.
const REVIEWS: u64 = 4;
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// A table that gets a column every second while it is written. A policy cannot name a column that is not there, so each new one is
/// left out and said until the policy is reviewed; then it arrives, and the rows that change afterwards have it.
pub(crate) async fn run(stage: &Stage, seconds: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_e").await?;
    client
        .batch_execute(
            "CREATE TABLE growing (id bigint PRIMARY KEY, v text);
             INSERT INTO growing SELECT g, 'v' || g FROM generate_series(1, 1000) g;",
        )
        .await?;
    let url = stage.server().url_socket("postgres", "scale_e");
    let commit = CommitRule { max_seconds: 1.0, max_rows: 200_000 };
    let yaml = lockgate_yaml(&url, SLOT, &["growing"], commit);
    let project = Project::make(stage, "scale_e", &yaml, &policy(&[]))?;
    project.run_once().await?;
    let (mut columns, mut said, mut peak_bytes) = (Vec::new(), String::new(), 0);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for review in 0..REVIEWS {
        let mut running = project.start()?;
        for number in seconds * review / REVIEWS + 1..=seconds * (review + 1) / REVIEWS {
            ticks.tick().await;
            let column = format!("c{number}");
            add(&client, &column, number).await?;
            columns.push(column);
            running.ensure_alive()?;
        }
        wait_for_confirmed(&client, SLOT, &log_end(&client).await?, CATCH_UP_LIMIT).await?;
        peak_bytes = peak_bytes.max(running.stop().await?.peak_bytes);
        said.push_str(&project.said()?);
        project.review(&policy(&columns))?;
        say(&format!("{} columns were added, and the policy names them now", columns.len()));
        project.run_once().await?;
    }
    let silent = columns.iter().filter(|column| !is_said(&said, column)).count();
    ensure!(silent == 0, "of {silent} new columns nothing was said");
    // Rows that came before a column was named have it once they change.
    client.batch_execute("UPDATE growing SET v = v || '.'").await?;
    project.run_once().await?;
    let names: Vec<String> = ["id".to_owned(), "v".to_owned()].into_iter().chain(columns).collect();
    let rows = same(stage, &client, &project, &[Compared::of("growing", &names)]).await?;
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE scale_e WITH (FORCE)").await?;
    Ok(vec![(
        format!("a column every second for {seconds} s, the policy reviewed {REVIEWS} times"),
        format!("{rows} rows of {} columns are equal; each was said; peak {}", names.len(), memory(peak_bytes)),
    )])
}

/// Adds a column and writes to the table, with it and without.
async fn add(client: &Client, column: &str, number: u64) -> Result<()> {
    let sql = format!(
        "ALTER TABLE growing ADD COLUMN {column} text;
         UPDATE growing SET {column} = 'u' || id WHERE id % 100 = {number} % 100;
         INSERT INTO growing (id, v, {column}) SELECT 1000 + {number} * 10 + g, 'w', 'i' || g FROM generate_series(0, 9) g;
         UPDATE growing SET v = v || 'x' WHERE id % 50 = {number} % 50;
         DELETE FROM growing WHERE id = {number};"
    );
    for statement in sql.split_inclusive(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

fn policy(columns: &[String]) -> String {
    let rules: String = columns.iter().map(|column| format!("    {column}: keep\n")).collect();
    format!(
        "profile: none\nkeys: file:./keys/dev.key\ntables:\n  {SOURCE}.public.growing:\n    id: keep\n    v: keep\n{rules}"
    )
}

/// Whether a line about columns that are not stored names this one.
fn is_said(log: &str, column: &str) -> bool {
    let lines = log.lines().filter(|line| line.contains("not stored"));
    lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric())).any(|word| word == column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_said_by_its_whole_name_only() {
        let log = "WARN not stored: columns=\"c12, c3\"\nWARN other columns=\"c7\"\n";
        assert!(is_said(log, "c3") && is_said(log, "c12"));
        assert!(!is_said(log, "c1") && !is_said(log, "c7"));
    }
}
