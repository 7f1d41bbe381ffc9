use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::claims::{ClaimLines, Transport, policy_of_claim_lines};
use crate::follower::{Follower, saved};
use crate::process::{Finished, timed};
use crate::report::{Line, count, memory, rate, say, time};
use crate::slot::{copy_slot, drop_slot, log_end};
use crate::stage::Stage;
use crate::statistics::median;

const SLOT: &str = "bench_backlog";
const NOWHERE: &str = "bench_backlog_nowhere";
/// Changes in one transaction: 600 updates, 250 inserts, 150 deletes.
pub(crate) const BATCH: u64 = 1_000;

/// Catching up from the same slot and the same lake, again and again, over both transports.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    let changes = stage.options.changes / BATCH * BATCH;
    ensure!(
        changes > 0 && changes * 3 / 4 <= stage.options.rows,
        "--changes is to be 1000 or more and less than the rows"
    );
    let source = ClaimLines::load(stage, "backlog").await?;
    let ours = begin(stage, &source).await?;
    let idle = match &ours {
        Some(ours) => ours.idle(stage.options.runs).await?,
        None => None,
    };
    match &ours {
        Some(ours) => ours.save(&source.client).await?,
        None => copy_slot(&source.client, SLOT, &saved(SLOT)).await?,
    }
    make_changes(&source.client, changes).await?;
    let end = log_end(&source.client).await?;
    let mut lines = Vec::new();
    for transport in [Transport::Tcp, Transport::Socket] {
        lines.push(catch_up(stage, &source, ours.as_ref(), transport, changes, &end).await?);
    }
    if let Some(idle) = idle {
        lines.push(Line::of("a start with nothing to do (inside the measures above)").ours(time(idle)));
    }
    drop_slot(&source.client, NOWHERE).await?;
    match ours {
        Some(ours) => ours.remove(&source.client).await?,
        None => {
            for slot in [SLOT, &saved(SLOT)] {
                drop_slot(&source.client, slot).await?;
            }
        }
    }
    source.remove(stage).await?;
    Ok(lines)
}

/// The first copy, which also makes slot and publication.
async fn begin(stage: &Stage, source: &ClaimLines) -> Result<Option<Follower>> {
    if stage.options.limits_only {
        source.client.batch_execute("CREATE PUBLICATION bench_backlog FOR TABLE claim_lines").await?;
        source.client.execute("SELECT pg_create_logical_replication_slot($1::text, 'pgoutput')", &[&SLOT]).await?;
        return Ok(None);
    }
    Follower::begin(stage, source, SLOT, &policy_of_claim_lines()?).await.map(Some)
}

/// Commits the backlog: rows in random order, no row touched twice, so that nothing of it can be left out.
pub(crate) async fn make_changes(client: &Client, changes: u64) -> Result<()> {
    // Unlogged and outside the publication: it adds next to nothing to the log.
    client
        .batch_execute(
            "SELECT setseed(0.5);
             CREATE UNLOGGED TABLE picked AS
                 SELECT row_number() OVER (ORDER BY random()) - 1 AS number, claim_id, line_number FROM claim_lines;
             CREATE INDEX ON picked (number);
             ANALYZE picked",
        )
        .await?;
    for batch in 0..changes / BATCH {
        client.batch_execute(&transaction(batch)).await.context("the backlog cannot be made")?;
    }
    say(&format!("a backlog of {changes} changes is made"));
    Ok(())
}

fn transaction(batch: u64) -> String {
    let first = batch * 750;
    let (updated, deleted) = (first + 600, first + 750);
    let sample = 250 * 2;
    format!(
        "BEGIN;
         UPDATE claim_lines AS l SET allowed_amount = round(charge_amount * 0.8, 2), paid_amount = round(charge_amount * 0.6, 2),
             line_status = 'REPRICED', repriced_at = '2026-10-01 09:00:00+00'
             FROM picked AS p WHERE p.number >= {first} AND p.number < {updated}
                 AND l.claim_id = p.claim_id AND l.line_number = p.line_number;
         INSERT INTO claim_lines SELECT l.claim_id + 1000000000000, l.line_number, l.member_id, l.mbi, l.rendering_npi,
             l.patient_account, l.patient_name, l.patient_birth_date, l.service_zip, l.service_date, l.paid_date,
             l.device_serial, l.remark, l.procedure_code, l.modifier, l.revenue_code, l.ndc, l.place_of_service,
             l.diagnosis_code, l.units, l.charge_amount, l.allowed_amount, l.paid_amount, l.line_status, l.repriced_at
             FROM picked AS p JOIN claim_lines AS l USING (claim_id, line_number)
             WHERE p.number >= {first} AND p.number < {first} + {sample} AND p.number % 2 = 0;
         DELETE FROM claim_lines AS l USING picked AS p WHERE p.number >= {updated} AND p.number < {deleted}
             AND l.claim_id = p.claim_id AND l.line_number = p.line_number;
         COMMIT"
    )
}

async fn catch_up(
    stage: &Stage,
    source: &ClaimLines,
    follower: Option<&Follower>,
    transport: Transport,
    changes: u64,
    end: &str,
) -> Result<Line> {
    let (mut limits, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..stage.options.runs {
        limits.push(read_to_nowhere(stage, source, transport, end).await?);
        say(&format!("pg_recvlogical, {}: {}", transport.name(), time(limits[limits.len() - 1])));
        if let Some(follower) = follower {
            ours.push(follower.catch_up(stage, source, transport, end).await?);
        }
    }
    let limit = median(&limits).context("no run")?;
    let line =
        Line::of(format!("{} changes (60 % updates) in transactions of {BATCH}, {}", count(changes), transport.name()))
            .beside(format!("pg_recvlogical to nowhere: {} ({})", rate(changes, limit), time(limit)));
    let walls: Vec<Duration> = ours.iter().map(|finished: &Finished| finished.wall).collect();
    let Some(wall) = median(&walls) else { return Ok(line) };
    let cpu = median(&ours.iter().map(|finished| finished.cpu).collect::<Vec<_>>()).unwrap_or_default();
    let peak = ours.iter().map(|finished| finished.peak_bytes).max().unwrap_or_default();
    Ok(line
        .ours(format!("{} ({}, CPU {}, peak {})", rate(changes, wall), time(wall), time(cpu), memory(peak)))
        .ratio(limit.as_secs_f64() / wall.as_secs_f64())
        .aim("0.6 or more"))
}

/// The same changes from a copy of the same slot, decoded and sent by the server and thrown away by its own client.
async fn read_to_nowhere(stage: &Stage, source: &ClaimLines, transport: Transport, end: &str) -> Result<Duration> {
    copy_slot(&source.client, &saved(SLOT), NOWHERE).await?;
    let publication: String = source.client.query_one("SELECT pubname::text FROM pg_publication", &[]).await?.get(0);
    let mut command = stage.program("pg_recvlogical");
    command.args(["-U", "postgres", "-d", &source.database, "--slot", NOWHERE, "--start", "-f", "/dev/null"]);
    command.args([
        "--no-loop",
        "--endpos",
        end,
        "-o",
        "proto_version=1",
        "-o",
        &format!("publication_names={publication}"),
    ]);
    command.arg("-h").arg(transport.host(stage)).arg("-p").arg(stage.server().port().to_string());
    Ok(timed(&mut command, &stage.path("pg_recvlogical.log")).await?.wall)
}
