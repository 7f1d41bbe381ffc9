use anyhow::{Context, Result, ensure};

use crate::claims::{ClaimLines, TABLE, Transport};
use crate::follower::COMMIT;
use crate::lockgate::{Project, lockgate_yaml};
use crate::process::Finished;
use crate::report::{Line, count, memory, rate, say, time};
use crate::slot::drop_slot;
use crate::stage::Stage;
use crate::statistics::median;
use crate::wide::{self, COLUMNS, keeping, masking, narrower};

const SLOT: &str = "bench_remask";

/// What is changed before a remasking.
enum Before<'a> {
    /// The keys get a new epoch.
    Rotated,
    /// The policy becomes this one.
    Policy(&'a str),
}

/// What stored rows cost that have to become others: tokens under a new key, and 12 columns masked that were kept. Beside each the same
/// command over the same files, with nothing to do but to leave out a narrow column: a plain rewrite.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    if stage.options.limits_only {
        return Ok(Vec::new());
    }
    let source = wide::load(stage, "remask").await?;
    let masking = masking()?;
    let keeping = keeping(&masking)?;
    let keyed = keeping.replacen("profile: none\n", "profile: none\nkeys: file:./keys/dev.key\n", 1);
    let rotated = compared(stage, &source, &masking, &Before::Rotated).await?;
    let masked = compared(stage, &source, &keyed, &Before::Policy(&masking)).await?;
    let rows = source.rows;
    source.remove(stage).await?;
    Ok(vec![
        line("5 columns of tokens brought to a new key", rows, &rotated)?,
        line("12 columns masked that were kept, 5 by tokens", rows, &masked)?,
    ])
}

/// Remaskings and plain rewrites of one lake, in turns.
async fn compared(stage: &Stage, source: &ClaimLines, policy: &str, before: &Before<'_>) -> Result<[Vec<Finished>; 2]> {
    let yaml = lockgate_yaml(&source.url(stage, Transport::Socket), SLOT, &[TABLE], COMMIT);
    let project = Project::make(stage, "remask", &yaml, policy)?;
    project.run_once().await?;
    drop_slot(&source.client, SLOT).await?;
    project.save().await?;
    let plain = narrower(policy);
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..stage.options.runs {
        ours.push(remask(&project, source, before, "remasked").await?);
        beside.push(remask(&project, source, &Before::Policy(&plain), "plain rewrite").await?);
    }
    project.clear()?;
    Ok([ours, beside])
}

async fn remask(project: &Project, source: &ClaimLines, before: &Before<'_>, name: &str) -> Result<Finished> {
    project.restore().await?;
    match before {
        Before::Rotated => project.rotate_keys().await?,
        Before::Policy(policy) => project.review(policy)?,
    }
    let finished = project.remask().await?;
    say(&format!("{name}: {}, CPU {}, {}", time(finished.wall), time(finished.cpu), memory(finished.peak_bytes)));
    let said = project.said()?;
    ensure!(said.contains("as the policy wants it now"), "nothing was remasked: {said}");
    let found = project.count(TABLE).await?;
    ensure!(found == source.rows, "the lake has {found} rows, the source has {}", source.rows);
    Ok(finished)
}

fn line(what: &str, rows: u64, [ours, beside]: &[Vec<Finished>; 2]) -> Result<Line> {
    let wall = |runs: &[Finished]| median(&runs.iter().map(|run| run.wall).collect::<Vec<_>>()).context("no run");
    let cpu = |runs: &[Finished]| median(&runs.iter().map(|run| run.cpu).collect::<Vec<_>>()).context("no run");
    let peak = ours.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
    let (fast, plain) = (wall(ours)?, wall(beside)?);
    Ok(Line::of(format!("{what}, {} rows of {COLUMNS} columns in both tables", count(rows)))
        .ours(format!("{} ({}, CPU {}, peak {})", rate(2 * rows, fast), time(fast), time(cpu(ours)?), memory(peak)))
        .beside(format!("plain rewrite: {} ({}, CPU {})", rate(2 * rows, plain), time(plain), time(cpu(beside)?)))
        .ratio(plain.as_secs_f64() / fast.as_secs_f64())
        .aim("0.8 or more"))
}
