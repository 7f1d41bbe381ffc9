use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::backlog::{BATCH, make_changes};
use crate::claims::{ClaimLines, TABLE, Transport};
use crate::follower::{COMMIT, Follower};
use crate::lockgate::{Project, lockgate_yaml};
use crate::report::{Line, count, say, time};
use crate::slot::{drop_slot, log_end};
use crate::stage::Stage;
use crate::statistics::median;
use crate::wide::{self, COLUMNS, keeping, masking};

const SLOT: &str = "bench_masking";

/// CPU times under a policy, and with every column kept.
#[derive(Default)]
struct Sides {
    masked: Vec<Duration>,
    kept: Vec<Duration>,
}

/// What a policy costs: the CPU time of a first copy and of a backlog under it, beside that of the same with every column kept. A masked value
/// is also longer or shorter in the file than the kept one, so this is the cost of the policy and not of its transforms alone.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Line>> {
    if stage.options.limits_only {
        return Ok(Vec::new());
    }
    let source = wide::load(stage, "masking").await?;
    let policies = (masking()?, keeping(&masking()?)?);
    let mut copies = Sides::default();
    for _ in 0..stage.options.runs {
        copies.masked.push(copy(stage, &source, "masked", &policies.0).await?);
        copies.kept.push(copy(stage, &source, "kept", &policies.1).await?);
    }
    let copied = copies.line(&format!("a first copy, {} rows", count(source.rows)))?;
    let changes = stage.options.changes.min(source.rows) / BATCH * BATCH;
    let caught_up = backlog(stage, &source, &policies, changes)
        .await?
        .line(&format!("a backlog of {} changes (60 % updates), the process's start in it", count(changes)))?;
    source.remove(stage).await?;
    Ok(vec![copied, caught_up])
}

async fn copy(stage: &Stage, source: &ClaimLines, name: &str, policy: &str) -> Result<Duration> {
    let yaml = lockgate_yaml(&source.url(stage, Transport::Socket), SLOT, &[TABLE], COMMIT);
    let project = Project::make(stage, &format!("masking-{name}"), &yaml, policy)?;
    let finished = project.run_once().await?;
    say(&format!("{name}: CPU {}, {}", time(finished.cpu), time(finished.wall)));
    let found = project.count(TABLE).await?;
    ensure!(found == source.rows, "the lake has {found} rows, the source has {}", source.rows);
    project.clear()?;
    drop_slot(&source.client, SLOT).await?;
    Ok(finished.cpu)
}

/// The same changes caught up with from slots of their own.
async fn backlog(
    stage: &Stage,
    source: &ClaimLines,
    (masking, keeping): &(String, String),
    changes: u64,
) -> Result<Sides> {
    let masked = Follower::begin(stage, source, "bench_masked", masking).await?;
    let kept = Follower::begin(stage, source, "bench_kept", keeping).await?;
    for follower in [&masked, &kept] {
        follower.save(&source.client).await?;
    }
    make_changes(&source.client, changes).await?;
    let end = log_end(&source.client).await?;
    let mut sides = Sides::default();
    for _ in 0..stage.options.runs {
        sides.masked.push(masked.catch_up(stage, source, Transport::Socket, &end).await?.cpu);
        sides.kept.push(kept.catch_up(stage, source, Transport::Socket, &end).await?.cpu);
    }
    for follower in [masked, kept] {
        follower.remove(&source.client).await?;
    }
    Ok(sides)
}

impl Sides {
    fn line(&self, of: &str) -> Result<Line> {
        let masked = median(&self.masked).context("no run")?;
        let kept = median(&self.kept).context("no run")?;
        let share = (masked.as_secs_f64() - kept.as_secs_f64()) / masked.as_secs_f64();
        Ok(Line::of(format!("CPU of {of}, {COLUMNS} columns, 12 masked (5 tokens)"))
            .ours(format!("{}: {:.0} % of it for the policy", time(masked), share * 100.0))
            .beside(format!("every column kept: {}", time(kept)))
            .ratio(masked.as_secs_f64() / kept.as_secs_f64())
            .aim("15 % or less"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_the_masked_side_needs() {
        let seconds = |times: [u64; 3]| times.map(Duration::from_secs).to_vec();
        let line = Sides { masked: seconds([5, 4, 9]), kept: seconds([4, 3, 7]) }.line("nothing").unwrap();
        assert!(line.markdown().contains("5.00 s: 20 % of it"), "{}", line.markdown());
        assert!(Sides::default().line("nothing").is_err());
    }
}
