use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use change::{Error, Kind, Result};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::claims::Table;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::screen::Screen;
use crate::watch::Seen;

/// Longest wait for a run that was told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// `lockgate run` as a process of its own, so that it can be killed like one.
pub(crate) struct Runner {
    dir: PathBuf,
    arguments: Vec<String>,
    child: Child,
    seen: watch::Receiver<Seen>,
    /// Commits and durable rows of earlier lives.
    before: (u64, u64),
}

/// What the runs of all lives have done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    pub(crate) lag_bytes: u64,
    pub(crate) lag_seconds: f64,
    pub(crate) tables_copied: usize,
    pub(crate) alive: bool,
}

impl Runner {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (child, seen) = spawn(dir, &arguments)?;
        Ok(Self { dir: dir.to_owned(), arguments, child, seen, before: (0, 0) })
    }

    /// Starts the process again after a kill.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let progress = self.progress();
        (self.child, self.seen) = spawn(&self.dir, &self.arguments)?;
        self.before = (progress.commits, progress.rows);
        Ok(())
    }

    pub(crate) async fn kill_9(&mut self) -> Result<()> {
        self.child.kill().await.map_err(lost)
    }

    /// Tells the process to commit and leave, and waits for it.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(|error| lost(error.into()))?;
        }
        self.end(STOP_WITHIN).await
    }

    /// Waits for the process to end well by itself.
    pub(crate) async fn end(&mut self, within: Duration) -> Result<()> {
        let status = tokio::time::timeout(within, self.child.wait())
            .await
            .map_err(|_| self.complaint(&format!("did not end within {} s", within.as_secs())))?
            .map_err(lost)?;
        if status.success() { Ok(()) } else { Err(self.complaint(&format!("ended with {status}"))) }
    }

    /// Fails when the process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().map_err(lost)? {
            None => Ok(()),
            Some(status) => Err(self.complaint(&format!("ended with {status}"))),
        }
    }

    /// Fails when a table is stopped: it would be waited for in vain.
    fn check_tables(&self) -> Result<()> {
        let seen = self.seen.borrow();
        match seen.tables.iter().find_map(|(table, seen)| Some((table, seen.stopped.as_ref()?))) {
            Some((table, why)) => Err(self.complaint(&format!("stopped {table}: {why}"))),
            None => Ok(()),
        }
    }

    /// Waits until the run has come as far as `enough` says.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        enough: impl Fn(&Seen) -> bool,
        screen: &mut Screen,
    ) -> Result<()> {
        let wait = async {
            while !enough(&self.seen.borrow()) {
                self.check()?;
                self.check_tables()?;
                screen.waiting(&self.progress());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        match tokio::time::timeout(within, wait).await {
            Ok(result) => result,
            Err(_) => Err(self.complaint(&format!("did not come to the end of {what} within {} s", within.as_secs()))),
        }
    }

    /// Whether the present life has committed anything.
    pub(crate) fn has_committed(&self) -> bool {
        self.seen.borrow().commits > 0
    }

    pub(crate) fn progress(&self) -> Progress {
        let seen = self.seen.borrow();
        Progress {
            commits: self.before.0 + seen.commits,
            rows: self.before.1 + seen.tables.values().map(|table| table.rows_durable).sum::<u64>(),
            lag_bytes: seen.lag_bytes,
            lag_seconds: seen.tables.values().filter_map(|table| table.lag_seconds).fold(0.0, f64::max),
            tables_copied: seen.tables.values().filter(|table| table.copied).count(),
            alive: self.child.id().is_some(),
        }
    }

    fn complaint(&self, what: &str) -> Error {
        let log = std::fs::read_to_string(log_path(&self.dir)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
        Error::new(Kind::Bug, format!("`lockgate run` {what}\n  {last}"))
            .fix(format!("Read all of {}.", log_path(&self.dir).display()))
    }
}

impl Seen {
    /// Whether the first copy of every table of the plan is complete.
    pub(crate) fn copied(&self) -> bool {
        self.tables.len() == Table::ALL.len() && self.tables.values().all(|table| table.copied)
    }
}

/// Where a run's log is kept.
fn log_path(dir: &Path) -> PathBuf {
    dir.join("lockgate.log")
}

fn spawn(dir: &Path, arguments: &[String]) -> Result<(Child, watch::Receiver<Seen>)> {
    let log = open_log(dir)?;
    let program = std::env::current_exe().map_err(lost)?;
    let mut child = Command::new(program)
        .args(["run", "--json", "--log", "info", "--dir"])
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(lost)?;
    let (sender, seen) = watch::channel(Seen::default());
    if let Some(output) = child.stdout.take() {
        // Detached: it ends with the process whose output it reads.
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            // The last line of a killed process may be cut off; the one before it stands.
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(seen) = serde_json::from_str(&line) {
                    sender.send_replace(seen);
                }
            }
        });
    }
    Ok((child, seen))
}

fn open_log(dir: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(log_path(dir)).map_err(lost)
}

fn lost(error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, "the demo's `lockgate run` could not be started or ended").source(error)
}
