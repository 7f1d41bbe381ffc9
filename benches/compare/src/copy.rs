use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{TryStreamExt, pin_mut};
use tokio::time::Instant;

use crate::claims::{ClaimLines, TABLE, Transport, policy_of_claim_lines};
use crate::follower::COMMIT;
use crate::lockgate::{Project, lockgate_yaml};
use crate::peers::{self, Script};
use crate::process::{Finished, timed};
use crate::report::{Line, count, memory, rate, say, time};
use crate::slot::drop_slot;
use crate::stage::Stage;
use crate::statistics::median;

const SLOT: &str = "bench_copy";
const SQL: &str = "COPY claim_lines TO STDOUT (FORMAT binary)";

/// The whole process, from its start to its end, beside the faster of two clients that throw the rows away.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    let source = ClaimLines::load(stage, "copy").await?;
    let project = match stage.options.limits_only {
        true => None,
        false => Some(project(stage, &source)?),
    };
    let (mut by_psql, mut by_client, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let before = stage.server_cpu()?;
    read_with_client(&source).await?;
    let server = stage.server_cpu()?.saturating_sub(before);
    for _ in 0..stage.options.runs {
        by_client.push(read_with_client(&source).await?);
        by_psql.push(read_with_psql(stage, &source).await?);
        say(&format!(
            "COPY to nowhere: client {}, psql {}",
            time(by_client[by_client.len() - 1]),
            time(by_psql[by_psql.len() - 1])
        ));
        if let Some(project) = &project {
            ours.push(copy_with_lockgate(project, &source).await?);
        }
    }
    let mut lines = lines(&source, &by_psql, &by_client, &ours)?;
    if let Some(project) = &project
        && peers::has_python(stage)
    {
        lines.push(both_steps(stage, project, &source, server, &ours).await?);
    }
    drop_slot(&source.client, SLOT).await?;
    project.map_or(Ok(()), |project| project.clear())?;
    source.remove(stage).await?;
    Ok(lines)
}

fn project(stage: &Stage, source: &ClaimLines) -> Result<Project> {
    let yaml = lockgate_yaml(&source.url(stage, Transport::Socket), SLOT, &[TABLE], COMMIT);
    Project::make(stage, "copy", &yaml, &policy_of_claim_lines()?)
}

async fn copy_with_lockgate(project: &Project, source: &ClaimLines) -> Result<Finished> {
    drop_slot(&source.client, SLOT).await?;
    project.empty()?;
    let finished = project.run_once().await?;
    say(&format!("Lockgate: {}, CPU {}, {}", time(finished.wall), time(finished.cpu), memory(finished.peak_bytes)));
    let found = project.count(TABLE).await?;
    ensure!(found == source.rows, "the lake has {found} rows, the source has {}", source.rows);
    Ok(finished)
}

async fn read_with_client(source: &ClaimLines) -> Result<Duration> {
    let started = Instant::now();
    let parts = source.client.copy_out(SQL).await?;
    pin_mut!(parts);
    let mut bytes = 0;
    while let Some(part) = parts.try_next().await? {
        bytes += part.len();
    }
    ensure!(bytes > 0, "the copy was empty");
    Ok(started.elapsed())
}

async fn read_with_psql(stage: &Stage, source: &ClaimLines) -> Result<Duration> {
    let mut psql = stage.program("psql");
    psql.args(["-X", "-q", "-U", "postgres", "-d", &source.database, "-c", SQL]);
    psql.arg("-h").arg(stage.server().folder()).arg("-p").arg(stage.server().port().to_string());
    Ok(timed(&mut psql, Path::new("/dev/null")).await?.wall)
}

/// The least that can be had on these cores: the server's work for one `COPY`, and the writing of its rows, once, by a library in C++ that has
/// them in Arrow already. Nothing is decoded, masked or indexed in it.
async fn both_steps(
    stage: &Stage,
    project: &Project,
    source: &ClaimLines,
    server: Duration,
    ours: &[Finished],
) -> Result<Line> {
    let folder = stage.path("plain");
    let answer = peers::run(stage, Script::Parquet, &[&project.table(TABLE), &folder], &[]).await?;
    std::fs::remove_dir_all(&folder)?;
    ensure!(
        peers::number(&answer, "rows")? as u64 == source.rows,
        "plain Parquet files have other rows than the source"
    );
    let writing = Duration::from_secs_f64(peers::number(&answer, "cpu_seconds")?);
    let cores = u32::try_from(std::thread::available_parallelism()?.get())?;
    let least = (server + writing) / cores;
    let cpu = median(&ours.iter().map(|finished| finished.cpu).collect::<Vec<_>>()).context("no run")?;
    let wall = median(&ours.iter().map(|finished| finished.wall).collect::<Vec<_>>()).context("no run")?;
    let beside = format!(
        "COPY's server process (CPU {}) and plain Parquet by pyarrow (CPU {}) on {cores} full cores: {}",
        time(server),
        time(writing),
        time(least)
    );
    let line = Line::of("both steps: read, and write once").ours(format!("{}, CPU {}", time(wall), time(cpu)));
    Ok(line.beside(beside).ratio(least.as_secs_f64() / wall.as_secs_f64()))
}

fn lines(source: &ClaimLines, by_psql: &[Duration], by_client: &[Duration], ours: &[Finished]) -> Result<Vec<Line>> {
    let psql = median(by_psql).context("no run")?;
    let client = median(by_client).context("no run")?;
    let (limit, who) = if psql < client { (psql, "psql") } else { (client, "tokio-postgres") };
    let what = format!("`{TABLE}`, {} rows, 25 columns, 12 masked (5 tokens)", count(source.rows));
    let beside = format!("COPY (binary) to nowhere, by {who}: {} ({})", rate(source.rows, limit), time(limit));
    let walls: Vec<Duration> = ours.iter().map(|finished| finished.wall).collect();
    let Some(wall) = median(&walls) else { return Ok(vec![Line::of(what).beside(beside)]) };
    let cpu = median(&ours.iter().map(|finished| finished.cpu).collect::<Vec<_>>()).unwrap_or_default();
    let peak = ours.iter().map(|finished| finished.peak_bytes).max().unwrap_or_default();
    Ok(vec![
        Line::of(what)
            .ours(format!("{} ({}, CPU {})", rate(source.rows, wall), time(wall), time(cpu)))
            .beside(beside)
            .ratio(limit.as_secs_f64() / wall.as_secs_f64())
            .aim("0.8 or more"),
        Line::of("peak memory").ours(memory(peak)).aim("under 512 MiB"),
    ])
}
