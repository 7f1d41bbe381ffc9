//! What can be seen of a run from outside: counters that the loop writes and the view, the status file and the logs read. No row value.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use change::{Clock, Error, Kind, Result, SourceStatus, StatusReader, TableName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::status_file::StatusFile;

/// One table as a run sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableSeen {
    /// Chunks of the first copy that are durable, and in all; zero of zero before it is planned.
    pub(crate) chunks_done: u64,
    /// See `chunks_done`.
    pub(crate) chunks: u64,
    /// Whether the first copy is complete.
    pub(crate) copied: bool,
    /// Rows that passed the gate since the start of the run.
    pub(crate) rows_cleared: u64,
    /// Rows that are durable in the change log since the start of the run.
    pub(crate) rows_durable: u64,
    /// Values that a transform could not read and replaced by null, by column.
    pub(crate) invalid: BTreeMap<String, u64>,
    /// Version of the current table after the last commit.
    pub(crate) version: Option<u64>,
    /// Columns that are not stored because no rule names them.
    pub(crate) dropped_columns: Vec<String>,
    /// Columns that the policy stores and the source does not have.
    #[serde(default)]
    pub(crate) absent_columns: Vec<String>,
    /// Seconds between the source's commit and ours, for the newest change of the last commit.
    pub(crate) lag_seconds: Option<f64>,
    /// Why the table is stopped.
    pub(crate) stopped: Option<String>,
    /// The kind of that.
    #[serde(default)]
    pub(crate) stopped_by: Option<audit::Reason>,
    /// Changes of the table's structure since the start of the run.
    #[serde(default)]
    pub(crate) schema_changes: u64,
}

/// A whole run as seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// When this was written, microseconds since the Unix epoch.
    pub(crate) at: Timestamp,
    /// The tables by name.
    pub(crate) tables: BTreeMap<String, TableSeen>,
    /// The spools by source.
    #[serde(default)]
    pub(crate) spools: BTreeMap<String, SpoolSeen>,
    /// Delta commits since the start of the run.
    pub(crate) commits: u64,
    /// Bytes of a source's log that are not confirmed, of the source with the most.
    pub(crate) lag_bytes: u64,
    /// Bytes of log that a source keeps for us, of the source with the most.
    pub(crate) retained_bytes: u64,
    /// Bytes of log that a source will still keep before it gives us up, of the source with the least.
    pub(crate) retention_left_bytes: Option<u64>,
    /// Why nothing is being read from a source.
    pub(crate) idle: Option<String>,
    /// The last error that made the run start over or end.
    pub(crate) last_error: Option<String>,
    /// The run has ended.
    #[serde(default)]
    pub(crate) ended: bool,
    /// The exit code of a run that has ended by its last error.
    #[serde(default)]
    pub(crate) exit_code: Option<u8>,
}

/// What a run has done with the spool of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpoolSeen {
    /// Times that rows began to wait in it.
    pub(crate) filled: u64,
    /// Times that the last row had come into the lake.
    pub(crate) drained: u64,
}

/// The shared counters.
#[derive(Default)]
pub struct Watch {
    seen: Mutex<Seen>,
    /// By source: what it says of itself.
    sources: Mutex<BTreeMap<String, StatusReader>>,
}

impl Watch {
    /// Changes the counters of one table.
    pub(crate) fn table(&self, table: &TableName, change: impl FnOnce(&mut TableSeen)) {
        self.all(|seen| change(seen.tables.entry(table.to_string()).or_default()));
    }

    /// Changes the counters of one source's spool.
    pub(crate) fn spool(&self, source: &str, change: impl FnOnce(&mut SpoolSeen)) {
        self.all(|seen| change(seen.spools.entry(source.to_owned()).or_default()));
    }

    /// Changes anything.
    pub(crate) fn all(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks the source from now on whenever somebody looks.
    pub(crate) fn follow(&self, source: &str, status: StatusReader) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).insert(source.to_owned(), status);
    }

    /// A copy of everything, stamped with `now`.
    pub(crate) fn seen(&self, now: Timestamp) -> Seen {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.iter().for_each(|(name, status)| seen.ask(name, status()));
        seen.at = now;
        seen
    }
}

const STATUS_FILE: &str = "status.json";
/// Microseconds after which a run that wrote nothing is taken for dead.
const SILENT_AFTER: u64 = 15_000_000;
/// How often a run that waits writes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

impl Seen {
    /// Takes over what one more source says of itself: what is worst of all of them.
    fn ask(&mut self, source: &str, SourceStatus { lag, idle }: SourceStatus) {
        self.lag_bytes = self.lag_bytes.max(lag.confirmed_bytes);
        self.retained_bytes = self.retained_bytes.max(lag.retained_bytes);
        self.retention_left_bytes = match (self.retention_left_bytes, lag.retention_left_bytes) {
            (Some(least), Some(left)) => Some(least.min(left)),
            (least, left) => least.or(left),
        };
        self.idle = self.idle.take().or_else(|| Some(format!("{source}: {}", idle?)));
    }

    /// Writes the status file, whole or not at all.
    pub(crate) fn save(&self, state_dir: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::new(Kind::Full, format!("cannot write the status file in {}", state_dir.display()))
                .source(error)
                .fix("Free space in, or allow writing to, the project folder.")
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::new(Kind::Bug, "status").source(error))?;
        let temporary = state_dir.join("status.json.new");
        std::fs::create_dir_all(state_dir).map_err(failed)?;
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, state_dir.join(STATUS_FILE)).map_err(failed)
    }

    /// Writes the status file again and again, so that a run that waits is seen to live; ends only by failing.
    pub(crate) async fn keep_saving(mut self, file: &StatusFile, clock: &dyn Clock) -> Error {
        loop {
            self.at = clock.now();
            if let Err(error) = file.save(&self) {
                return error;
            }
            tokio::time::sleep(SIGN_OF_LIFE).await;
        }
    }

    /// Whether a run wrote this that is still going on: it writes every other second. A clock that was put back does not make a run of
    /// the future out of one that is dead.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        !self.ended && now.abs_diff(self.at) < SILENT_AFTER
    }

    /// Reads the status file of the last run; `None` when there was none.
    pub(crate) fn load(state_dir: &Path) -> Option<Self> {
        let text = std::fs::read(state_dir.join(STATUS_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl TableSeen {
    /// Takes over how far the first copy is.
    pub(crate) fn copying(&mut self, copy: &change::CopyProgress) {
        self.chunks = u64::from(copy.chunks);
        self.chunks_done = copy.done.len();
        self.copied = copy.finished.is_some();
    }

    /// Counts rows that passed the gate, and values that did not fit their transform.
    pub(crate) fn cleared(&mut self, rows: u64, invalid: &[(String, u64)]) {
        self.rows_cleared += rows;
        for (column, count) in invalid {
            *self.invalid.entry(column.clone()).or_default() += count;
        }
    }

    /// Counts a commit; times are microseconds since the Unix epoch.
    pub(crate) fn committed(
        &mut self,
        current: bool,
        version: Option<u64>,
        rows: u64,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) {
        if current {
            self.version = version.or(self.version);
            // The two clocks are of two machines: nothing is ahead of its source.
            self.lag_seconds = newest.map(|newest| (now - newest).max(0) as f64 / 1e6).or(self.lag_seconds);
        } else {
            self.rows_durable += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use change::StreamLag;

    use super::*;

    #[test]
    fn of_several_sources_the_worst_is_seen_and_the_one_that_is_away() {
        let watch = Watch::default();
        let source = |confirmed_bytes, left, idle: Option<&str>| -> StatusReader {
            let lag = StreamLag { confirmed_bytes, retained_bytes: confirmed_bytes + 1, retention_left_bytes: left };
            let status = SourceStatus { lag, idle: idle.map(str::to_owned) };
            Arc::new(move || status.clone())
        };
        watch.follow("away", source(500, Some(9), Some("it does not answer")));
        watch.follow("well", source(2, Some(70), None));
        watch.follow("without a limit", source(3, None, None));
        let seen = watch.seen(1);
        assert_eq!((seen.lag_bytes, seen.retained_bytes, seen.retention_left_bytes), (500, 501, Some(9)));
        assert_eq!(seen.idle.as_deref(), Some("away: it does not answer"));
        watch.follow("away", source(1, Some(80), None));
        assert_eq!((watch.seen(2).lag_bytes, watch.seen(2).idle), (3, None));
    }

    #[test]
    fn a_clock_that_jumps_makes_no_lag_below_zero_and_no_dead_run_alive() {
        const HOUR: Timestamp = 3_600_000_000;
        let mut table = TableSeen::default();
        table.committed(true, Some(1), 1, Some(10 * HOUR), 9 * HOUR);
        assert_eq!(table.lag_seconds, Some(0.0));
        let seen = Seen { at: 10 * HOUR, ..Seen::default() };
        assert!(seen.is_alive(10 * HOUR + 1_000_000) && seen.is_alive(10 * HOUR - 1_000_000));
        assert!(!seen.is_alive(9 * HOUR) && !seen.is_alive(11 * HOUR));
    }
}
