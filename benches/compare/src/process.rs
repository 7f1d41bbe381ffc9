use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Ticks of `/proc/<pid>/stat` in a second: USER_HZ, which Linux shows as 100 whatever the kernel uses inside.
const TICKS: u64 = 100;

/// A process that has ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    /// From start to end.
    pub(crate) wall: Duration,
    /// On all cores together.
    pub(crate) cpu: Duration,
    /// The largest resident set, in bytes.
    pub(crate) peak_bytes: u64,
}

/// A process that is being watched; it is killed when the value is dropped.
pub(crate) struct Running {
    child: Child,
    pid: i32,
    started: Instant,
    log: PathBuf,
    cpu: Duration,
    peak_bytes: u64,
    /// The resident set when it was last looked at.
    pub(crate) resident_bytes: u64,
}

impl Running {
    /// Starts a command; what it prints goes to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        let output = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("a process without a number")?;
        Ok(Self { child, pid, started, log: log.to_owned(), cpu: Duration::ZERO, peak_bytes: 0, resident_bytes: 0 })
    }

    /// Waits for its end, which must be a good one.
    pub(crate) async fn finish(mut self) -> Result<Finished> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => {
                    let wall = self.started.elapsed();
                    let status = status?;
                    ensure!(status.success(), "it ended with {status}: {}", self.last_words());
                    return Ok(Finished { wall, cpu: self.cpu, peak_bytes: self.peak_bytes });
                }
                _ = looks.tick() => self.look(),
            }
        }
    }

    /// Asks it to end in order and waits for that.
    pub(crate) async fn stop(mut self) -> Result<Finished> {
        self.look();
        let pid = Pid::from_raw(self.pid).context("a process number out of range")?;
        kill_process(pid, Signal::TERM).context("the process cannot be signalled")?;
        self.finish().await
    }

    /// Kills it as a crash would, and waits until it is gone. Whether it was still at work.
    pub(crate) async fn kill_9(mut self) -> Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(false);
        }
        self.child.kill().await.context("the process cannot be killed")?;
        Ok(true)
    }

    /// Fails when it has ended, with the end of what it printed.
    pub(crate) fn ensure_alive(&mut self) -> Result<()> {
        self.look();
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself with {status}: {}", self.last_words()),
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// CPU time so far and the peak so far.
    pub(crate) fn used(&self) -> (Duration, u64) {
        (self.cpu, self.peak_bytes)
    }

    /// Reads the kernel's accounts. A process that has just ended keeps the figures of the last look.
    fn look(&mut self) {
        let folder = PathBuf::from(format!("/proc/{}", self.pid));
        if let Ok(status) = fs::read_to_string(folder.join("status")) {
            self.peak_bytes =
                field_kib(&status, "VmHWM:").map_or(self.peak_bytes, |kib| self.peak_bytes.max(kib * 1024));
            self.resident_bytes = field_kib(&status, "VmRSS:").map_or(self.resident_bytes, |kib| kib * 1024);
        }
        self.cpu = own_cpu(self.pid).unwrap_or(self.cpu);
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// Runs a command to its end, which must be a good one, and watches it.
pub(crate) async fn timed(command: &mut Command, log: &Path) -> Result<Finished> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    Running::start(command, log)?.finish().await.with_context(|| name)
}

/// CPU time of a process, of the children that it has waited for, and of those that still run.
pub(crate) fn family_cpu(pid: i32) -> Duration {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let living = children.split_whitespace().filter_map(|child| own_cpu(child.parse().ok()?));
    own_cpu(pid).unwrap_or_default() + living.sum::<Duration>()
}

/// CPU time of a process and of the children that it has waited for.
fn own_cpu(pid: i32) -> Option<Duration> {
    let ticks = cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}

/// A line of `/proc/<pid>/status`: `VmHWM:     6180 kB`.
fn field_kib(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time, fields 14 to 17 of `/proc/<pid>/stat` (its own, then of children that it has waited for); the name before them may
/// hold anything but ends with the last `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_accounts_are_read() {
        let stat = "4 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 250 50 7 3 20";
        assert_eq!(cpu_ticks(stat), Some(310));
        assert_eq!(field_kib("Name:\tx\nVmHWM:\t  6180 kB\n", "VmHWM:"), Some(6180));
        assert_eq!(field_kib("Name:\tx\n", "VmHWM:"), None);
    }
}
