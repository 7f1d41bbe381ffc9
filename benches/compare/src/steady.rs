use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbox::claims::{Claims, Live, Scale, Table, create_tables, load, lockgate_yaml, policy_yaml};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::Client;

use crate::lockgate::Project;
use crate::peers::{self, Script};
use crate::process::Running;
use crate::report::{Line, count, memory, rate, say, time};
use crate::slot::{drop_slot, wait_for_reader};
use crate::stage::Stage;
use crate::statistics::percentile;

const SEED: u64 = 2;
const SLOT: &str = "bench_steady";
const LINES: u64 = 200_000;
/// How long the writer works alone, before and again after the time with Lockgate, as a share of that time.
const ALONE_SHARE: f64 = 0.2;

/// What the writer felt.
struct Felt {
    rows: u64,
    took: Duration,
    transactions: Vec<Duration>,
}

/// The whole plan with all its tables; the writer alone, with Lockgate, alone again.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    let client = stage.server().create_database("steady").await?;
    client.batch_execute(create_tables()).await?;
    let data = Claims::new(SEED, Scale::of_lines(LINES));
    load(&client, &data, &Table::ALL).await?;
    let mut live = Live::new(data);
    let with = Duration::from_secs(stage.options.steady_seconds);
    let alone = with.mul_f64(ALONE_SHARE);
    let mut without = write(stage, &client, &mut live, alone, None).await?;
    if stage.options.limits_only {
        return Ok(vec![alone_line(&without)]);
    }
    let url = stage.server().url_socket("postgres", "steady");
    let project =
        Project::make(stage, "steady", &lockgate_yaml(&url, SLOT, stage.options.commit_seconds), policy_yaml())?;
    project.run_once().await?;
    let mut running = project.start()?;
    wait_for_reader(&client, SLOT).await?;
    let beside = write(stage, &client, &mut live, with, Some(&mut running)).await?;
    let last_bytes = running.resident_bytes;
    let ended = running.stop().await?;
    let after = write(stage, &client, &mut live, alone, None).await?;
    without.transactions.extend(after.transactions);
    let mut lines = freshness(stage, &project).await?;
    lines.push(
        Line::of("memory")
            .ours(format!("peak {}, at the end {}", memory(ended.peak_bytes), memory(last_bytes)))
            .aim("bounded"),
    );
    let share = ended.cpu.as_secs_f64() / ended.wall.as_secs_f64();
    lines.push(Line::of("CPU").ours(format!("{share:.2} cores for {}", rate(beside.rows, beside.took))));
    lines.push(latency(&without, &beside)?);
    drop_slot(&client, SLOT).await?;
    project.clear()?;
    drop(client);
    stage.server().execute("DROP DATABASE steady WITH (FORCE)").await?;
    Ok(lines)
}

/// Commits the workload's transactions at the wanted rate, one after the other as one connection does, and times each.
async fn write(
    stage: &Stage,
    client: &Client,
    live: &mut Live,
    time_limit: Duration,
    mut beside: Option<&mut Running>,
) -> Result<Felt> {
    let wanted = f64::from(stage.options.rate);
    let (before, started) = (live.tally().rows(), Instant::now());
    let mut transactions = Vec::new();
    while started.elapsed() < time_limit {
        let due = Duration::from_secs_f64((live.tally().rows() - before) as f64 / wanted);
        sleep_until(started + due.min(time_limit)).await;
        let begun = Instant::now();
        live.step(client).await?;
        transactions.push(begun.elapsed());
        if transactions.len().is_multiple_of(64)
            && let Some(running) = beside.as_mut()
        {
            running.ensure_alive()?;
        }
    }
    let felt = Felt { rows: live.tally().rows() - before, took: started.elapsed(), transactions };
    let who = if beside.is_some() { "with Lockgate" } else { "alone" };
    say(&format!("writer {who}: {} changes, {}", count(felt.rows), rate(felt.rows, felt.took)));
    Ok(felt)
}

async fn freshness(stage: &Stage, project: &Project) -> Result<Vec<Line>> {
    if !peers::has_python(stage) {
        return Ok(vec![Line::of("freshness").ours("not measured: it needs --python")]);
    }
    let folders: Vec<PathBuf> = Table::ALL.iter().map(|table| project.table(table.name())).collect();
    let logs: Vec<PathBuf> =
        Table::ALL.iter().map(|table| project.table(&format!("{}__changes", table.name()))).collect();
    let mut lines = Vec::new();
    let mut files = Vec::new();
    for (what, folders) in [("change logs", logs), ("current tables", folders)] {
        let folders: Vec<&std::path::Path> = folders.iter().map(PathBuf::as_path).collect();
        let answer = peers::run(stage, Script::Freshness, &folders, &[]).await?;
        let get = |name| peers::number(&answer, name);
        let seconds = |name| get(name).map(|seconds| time(Duration::from_secs_f64(seconds.max(0.0))));
        let rows = count(get("rows")? as u64);
        lines.push(
            Line::of(format!(
                "source commit to queryable, {what} ({rows} rows, a commit every {} s)",
                stage.options.commit_seconds
            ))
            .ours(format!("p50 {}, p99 {}, max {}", seconds("p50")?, seconds("p99")?, seconds("max")?)),
        );
        files.push(format!("{:.0} in {what}", get("files")? / get("tables")?));
    }
    lines.push(Line::of("files per table at the end").ours(files.join(", ")));
    Ok(lines)
}

fn latency(without: &Felt, beside: &Felt) -> Result<Line> {
    let of = |felt: &Felt| percentile(&felt.transactions, 95).context("the writer did nothing");
    let (alone, with) = (of(without)?, of(beside)?);
    ensure!(!alone.is_zero(), "a transaction took no time");
    Ok(Line::of(format!("the writer's p95 per transaction, {}", rate(beside.rows, beside.took)))
        .ours(format!("with Lockgate: {}", time(with)))
        .beside(format!("alone: {}", time(alone)))
        .ratio(with.as_secs_f64() / alone.as_secs_f64())
        .aim("1.05 or less"))
}

fn alone_line(without: &Felt) -> Line {
    let p95 = percentile(&without.transactions, 95).unwrap_or_default();
    Line::of("the writer's p95 per transaction").beside(format!(
        "alone: {} at {}",
        time(p95),
        rate(without.rows, without.took)
    ))
}
