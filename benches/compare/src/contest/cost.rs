use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Finished, family_cpu};
use crate::report::{memory, rate, time};
use crate::stage::Stage;

/// What a task has cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// The contender's own process, from its start to its end.
    pub(super) process: Finished,
    /// What the server has used meanwhile.
    server: Duration,
    /// Rows or changes.
    number: u64,
}

impl Cost {
    /// Of so many rows or changes, with the server's CPU time before.
    pub(super) fn of(process: Finished, stage: &Stage, server_before: Duration, number: u64) -> Result<Self> {
        Ok(Self { process, server: server_cpu(stage)?.saturating_sub(server_before), number })
    }

    /// `45 K/s (22.4 s)`.
    pub(super) fn speed(&self) -> String {
        format!("{} ({})", rate(self.number, self.process.wall), time(self.process.wall))
    }

    /// CPU seconds for a million, of the contender and of the server.
    pub(super) fn cpu(&self) -> String {
        let million = |cpu: Duration| format!("{:.1}", cpu.as_secs_f64() * 1e6 / self.number as f64);
        format!("{} + {}", million(self.process.cpu), million(self.server))
    }

    /// The largest resident set.
    pub(super) fn peak(&self) -> String {
        memory(self.process.peak_bytes)
    }
}

/// CPU time of the private server since its start, all its processes together.
pub(super) fn server_cpu(stage: &Stage) -> Result<Duration> {
    let base = stage.server().data_folder();
    let file = base.parent().context("the server's data lies in no folder")?.join("postmaster.pid");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).context("not the number of a process")?;
    Ok(family_cpu(pid))
}
