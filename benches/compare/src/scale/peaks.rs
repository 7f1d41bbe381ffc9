use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;

use crate::process::{Finished, Running};
use crate::report::{memory, time};
use crate::stage::Stage;

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The most that was seen of what a run holds.
#[derive(Default)]
pub(crate) struct Peaks {
    /// Files that the program has open.
    pub(crate) files: u64,
    /// Bytes of its open files that have no name any more.
    nameless_bytes: u64,
    /// Bytes of log that the slots hold.
    retained_bytes: u64,
    /// Bytes that the server has written beside its log to decode large transactions.
    spilled_bytes: u64,
}

/// Waits for the end of a run, which must be a good one, and watches what it holds.
pub(crate) async fn watched(stage: &Stage, running: Running) -> Result<(Finished, Peaks)> {
    let client = stage.server().client().await?;
    let (pid, mut peaks) = (running.pid(), Peaks::default());
    let mut finish = Box::pin(running.finish());
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            finished = &mut finish => return Ok((finished?, peaks)),
            _ = looks.tick() => peaks.look(stage, &client, pid).await?,
        }
    }
}

impl Peaks {
    async fn look(&mut self, stage: &Stage, client: &Client, pid: i32) -> Result<()> {
        self.count_files(pid);
        let retained = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::bigint FROM pg_replication_slots";
        let retained: i64 = client.query_one(retained, &[]).await?.get(0);
        self.retained_bytes = self.retained_bytes.max(u64::try_from(retained).unwrap_or_default());
        let slots = stage.server().data_folder().with_file_name("pg_replslot");
        self.spilled_bytes = self.spilled_bytes.max(bytes_below(&slots));
        Ok(())
    }

    /// A process that has just ended has none.
    pub(crate) fn count_files(&mut self, pid: i32) {
        let (mut files, mut nameless) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            files += 1;
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            nameless += if file.is_file() && file.nlink() == 0 { file.len() } else { 0 };
        }
        self.files = self.files.max(files);
        self.nameless_bytes = self.nameless_bytes.max(nameless);
    }
}

/// One line of what a run has cost.
pub(crate) fn cost(finished: &Finished, peaks: &Peaks) -> String {
    format!(
        "{} (CPU {}), peak {}, nameless temporary files {}, log held by the slot {}, the server's spill {}",
        time(finished.wall),
        time(finished.cpu),
        memory(finished.peak_bytes),
        memory(peaks.nameless_bytes),
        memory(peaks.retained_bytes),
        memory(peaks.spilled_bytes),
    )
}

/// Bytes of the files below a folder. Files that go away while it is read count as nothing.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(file) = entry.metadata() else { continue };
        bytes += if file.is_dir() { bytes_below(&entry.path()) } else { file.len() };
    }
    bytes
}
