use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::commit_log::{newest_version, wait_for_rows};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::peers::{self, Script};
use crate::process::Running;
use crate::report::{Line, count, memory, say, time};
use crate::slot::{drop_slot, wait_for_reader};
use crate::stage::Stage;
use crate::statistics::median;

const SLOT: &str = "bench_upsert";
const TABLE: &str = "accounts";
const KEYS: u64 = 10_000;
/// A prime that divides none of the sizes: multiples of it modulo the size are all different, and scattered.
const STRIDE: u64 = 7_368_787;
const POLICY: &str = "profile: none\ntables:\n  claims_db.public.accounts:\n    id: keep\n    owner: keep\n    \
    city: keep\n    amount: keep\n    changed_at: keep\n    status: keep\n";

/// What was measured in a table of one size.
struct Measured {
    rows: u64,
    /// Until both tables have the commit, counted from the end of the source's transaction.
    ours: Option<Duration>,
    peak_bytes: u64,
    merge: Option<(Duration, u64)>,
}

/// One table after the other, of a key and five columns.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    if stage.options.limits_only {
        return Ok(vec![
            Line::of("delta-rs MERGE works on the same tables").beside("needs Lockgate, which writes them"),
        ]);
    }
    let mut all = Vec::new();
    for rows in &stage.options.upsert_rows {
        ensure!(
            *rows >= KEYS && !rows.is_multiple_of(STRIDE),
            "--upsert-rows: 10,000 or more, no multiple of {STRIDE}"
        );
        let client = stage.server().create_database("upsert").await?;
        let measured = measure_one(stage, &client, *rows).await;
        drop_slot(&client, SLOT).await?;
        drop(client);
        stage.server().execute("DROP DATABASE upsert WITH (FORCE)").await?;
        all.push(measured.with_context(|| format!("{} rows", count(*rows)))?);
    }
    Ok(lines(&all))
}

async fn measure_one(stage: &Stage, client: &Client, rows: u64) -> Result<Measured> {
    fill(client, rows).await?;
    // Due as soon as all keys of a transaction are there, and by nothing else.
    let commit = CommitRule { max_seconds: 3600.0, max_rows: KEYS };
    let url = stage.server().url_socket("postgres", "upsert");
    let project = Project::make(stage, "upsert", &lockgate_yaml(&url, SLOT, &[TABLE], commit), POLICY)?;
    project.run_once().await?;
    say(&format!("{} rows are in the lake", count(rows)));
    let merge = match peers::has_python(stage) {
        true => Some(merge(stage, &project, rows).await?),
        false => None,
    };
    let mut running = project.start()?;
    let times = changes(stage, client, &project, &mut running, rows).await?;
    let (_, peak_bytes) = running.used();
    running.stop().await?;
    let changed: i64 = client.query_one("SELECT count(*) FROM accounts", &[]).await?.get(0);
    ensure!(
        project.count(TABLE).await? == u64::try_from(changed)?,
        "the lake has another number of rows than the source"
    );
    project.clear()?;
    Ok(Measured { rows, ours: median(&times), peak_bytes, merge })
}

async fn fill(client: &Client, rows: u64) -> Result<()> {
    let sql = format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, city text NOT NULL, amount numeric(12,2) NOT NULL,
             changed_at timestamptz NOT NULL, status text NOT NULL);
         INSERT INTO accounts SELECT n, 'owner ' || md5(n::text), 'city ' || n % 997, (n * 37 % 1000000)::numeric / 100,
             '2026-01-01'::timestamptz + n % 86400 * interval '1 second', 'new' FROM generate_series(1, {rows}) AS n;
         VACUUM ANALYZE accounts"
    );
    // One by one, because VACUUM cannot run in a transaction.
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

/// Changes other keys each time; the first time warms up both sides and does not count.
async fn changes(
    stage: &Stage,
    client: &Client,
    project: &Project,
    running: &mut Running,
    rows: u64,
) -> Result<Vec<Duration>> {
    wait_for_reader(client, SLOT).await?;
    let (current, log) = (project.table(TABLE), project.table(&format!("{TABLE}__changes")));
    let mut times = Vec::new();
    for run in 0..=u64::from(stage.options.runs.max(5)) {
        let known = (newest_version(&current)?, newest_version(&log)?);
        let sql = format!(
            "UPDATE accounts SET amount = amount + 1, status = 'changed {run}'
             WHERE id IN (SELECT (n * {STRIDE} + {run}) % {rows} + 1 FROM generate_series(0::bigint, {KEYS} - 1) AS n)"
        );
        let changed = client.execute(&sql, &[]).await?;
        let committed = Instant::now();
        ensure!(changed == KEYS, "{changed} keys were changed");
        wait_for_rows(&current, known.0).await?;
        wait_for_rows(&log, known.1).await?;
        let took = committed.elapsed();
        running.ensure_alive()?;
        say(&format!("{} rows: in both tables {} after the source's commit", count(rows), time(took)));
        times.push(took);
    }
    Ok(times.split_off(1))
}

async fn merge(stage: &Stage, project: &Project, rows: u64) -> Result<(Duration, u64)> {
    let copy = stage.path("merge");
    let arguments = [rows, KEYS, u64::from(stage.options.runs)].map(|number| number.to_string());
    let answer = peers::run(stage, Script::Merge, &[&project.table(TABLE), &copy], &arguments).await?;
    std::fs::remove_dir_all(&copy)?;
    // What it wrote would go to the disk while the next is timed.
    let synced = Command::new("sync").status().context("sync")?;
    ensure!(synced.success(), "sync: {synced}");
    let seconds = answer["seconds"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    let times: Vec<Duration> = seconds.map(Duration::from_secs_f64).collect();
    let took = median(&times).context("the merge was not timed")?;
    say(&format!("{} rows: delta-rs MERGE {}", count(rows), time(took)));
    Ok((took, peers::number(&answer, "peak_bytes")? as u64))
}

fn lines(all: &[Measured]) -> Vec<Line> {
    let mut lines: Vec<Line> = all.iter().map(line).collect();
    if let [first, .., last] = all
        && let (Some(small), Some(large)) = (first.ours, last.ours)
    {
        let growth = |large: Duration, small: Duration| large.as_secs_f64() / small.as_secs_f64();
        let beside =
            first.merge.zip(last.merge).map(|((small, _), (large, _))| format!("MERGE: {:.1}", growth(large, small)));
        let what = format!("time at {} rows over time at {}", count(last.rows), count(first.rows));
        lines.push(Line::of(what).ratio(growth(large, small)).beside(beside.unwrap_or_default()).aim("1.3 or less"));
    }
    lines
}

fn line(measured: &Measured) -> Line {
    let mut line = Line::of(format!("table of {} rows, 6 columns", count(measured.rows)));
    if let Some(ours) = measured.ours {
        line = line.ours(format!(
            "{} from source commit to both files (peak {})",
            time(ours),
            memory(measured.peak_bytes)
        ));
    }
    if let Some((merge, peak_bytes)) = measured.merge {
        line = line.beside(format!("delta-rs MERGE: {} (peak {})", time(merge), memory(peak_bytes)));
    }
    if let (Some(ours), Some((merge, _))) = (measured.ours, measured.merge) {
        line = line.ratio(merge.as_secs_f64() / ours.as_secs_f64());
    }
    line
}
