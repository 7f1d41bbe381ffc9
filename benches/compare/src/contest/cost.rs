use std::time::Duration;

use anyhow::Result;

use crate::process::Finished;
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
        Ok(Self { process, server: stage.server_cpu()?.saturating_sub(server_before), number })
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
