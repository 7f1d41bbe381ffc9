use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

use super::Figures;
use super::judge::{Compared, same};
use super::peaks::{Peaks, cost, watched};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::peers::{self, Script};
use crate::report::{count, memory, say, time};
use crate::slot::{drop_slot, log_end, wait_for_confirmed};
use crate::stage::Stage;

const SLOT: &str = "scale_c";
/// How many tables one statement makes: the server's lock table is bounded.
const AT_ONCE: u64 = 100;
/// One table in so many changes.
const QUIET: u64 = 20;
const ROUNDS: u64 = 20;
/// How long a start over all tables may take before it counts as stuck.
const START_LIMIT: Duration = Duration::from_secs(600);

/// Tables by the hundred: the first copy, a start when nothing has changed, and some of them changing every second.
pub(crate) async fn run(stage: &Stage, tables: u64) -> Result<Figures> {
    let client = stage.server().create_database("scale_c").await?;
    let names: Vec<String> = (1..=tables).map(|number| format!("t{number}")).collect();
    make(&client, tables).await?;
    let url = stage.server().url_socket("postgres", "scale_c");
    let commit = CommitRule { max_seconds: 1.0, max_rows: 200_000 };
    let names_here: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules: String =
        names.iter().map(|name| format!("  claims_db.public.{name}: {{ id: keep, v: keep, at: keep }}\n")).collect();
    let policy = format!("profile: none\nkeys: file:./keys/dev.key\ntables:\n{rules}");
    let project = Project::make(stage, "scale_c", &lockgate_yaml(&url, SLOT, &names_here, commit), &policy)?;
    let (copied, copying) = watched(stage, project.start_once()?).await?;
    let (again, idle) = watched(stage, project.start_once()?).await?;
    say(&format!("{tables} tables are copied and opened again"));
    let (following, lag) = follow(stage, &client, &project, tables).await?;
    let columns = ["id", "v"].map(str::to_owned);
    let compared: Vec<Compared> = names.iter().map(|name| Compared::of(name, &columns)).collect();
    let rows = same(stage, &client, &project, &compared).await?;
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE scale_c WITH (FORCE)").await?;
    Ok(vec![
        (format!("{tables} tables ({} rows), first copy", count(rows)), files(cost(&copied, &copying), &copying)),
        (format!("{tables} tables, a start with nothing to do"), files(cost(&again, &idle), &idle)),
        (
            format!("{tables} tables, of which {} change every second", tables.div_ceil(QUIET)),
            format!("{following}; {lag}"),
        ),
    ])
}

fn files(cost: String, peaks: &Peaks) -> String {
    format!("{cost}; {} files open", peaks.files)
}

async fn make(client: &Client, tables: u64) -> Result<()> {
    for first in (1..=tables).step_by(AT_ONCE as usize) {
        let last = tables.min(first + AT_ONCE - 1);
        let statements: String = (first..=last)
            .map(|number| {
                format!(
                    "CREATE TABLE t{number} (id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now());
                     INSERT INTO t{number} SELECT g, 'v' || g FROM generate_series(1, 100) g;"
                )
            })
            .collect();
        client.batch_execute(&statements).await?;
    }
    Ok(())
}

/// What a run that follows costs, and how fresh the changing tables are.
async fn follow(stage: &Stage, client: &Client, project: &Project, tables: u64) -> Result<(String, String)> {
    let (started, mut peaks) = (Instant::now(), Peaks::default());
    let mut running = project.start()?;
    let busy: Vec<u64> = (1..=tables).step_by(QUIET as usize).collect();
    // The first change shows when the start is over.
    change(client, &busy, 0).await?;
    wait_for_confirmed(client, SLOT, &log_end(client).await?, START_LIMIT).await?;
    let start = started.elapsed();
    running.ensure_alive()?;
    let (before, _) = running.used();
    let (mut seconds, begun) = (interval(Duration::from_secs(1)), Instant::now());
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 1..=ROUNDS {
        seconds.tick().await;
        change(client, &busy, round).await?;
        running.ensure_alive()?;
        peaks.count_files(running.pid());
    }
    let (after, _) = running.used();
    let share = (after.saturating_sub(before)).as_secs_f64() / begun.elapsed().as_secs_f64();
    wait_for_confirmed(client, SLOT, &log_end(client).await?, START_LIMIT).await?;
    let finished = running.stop().await?;
    let folders: Vec<PathBuf> = busy.iter().map(|number| project.table(&format!("t{number}"))).collect();
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let answer = peers::run(stage, Script::Freshness, &folders, &[]).await?;
    let rows = peers::number(&answer, "rows")? as u64;
    ensure!(rows >= busy.len() as u64 * ROUNDS, "freshness is known of {rows} changes only");
    let seconds = |name: &str| peers::number(&answer, name).map(|lag| time(Duration::from_secs_f64(lag.max(0.0))));
    Ok((
        format!(
            "changes flow {} after the start, then {share:.2} cores, peak {}, {} files open",
            time(start),
            memory(finished.peak_bytes),
            peaks.files
        ),
        format!(
            "source commit to queryable (with those of the start) p50 {}, max {}",
            seconds("p50")?,
            seconds("max")?
        ),
    ))
}

async fn change(client: &Client, busy: &[u64], round: u64) -> Result<()> {
    let statements: String = busy
        .iter()
        .map(|number| format!("UPDATE t{number} SET v = 'r{round}', at = now() WHERE id = {round} + 1;"))
        .collect();
    Ok(client.batch_execute(&statements).await?)
}
