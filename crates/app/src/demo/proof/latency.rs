use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use change::{Result, Timestamp};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sandbox::claims::{SOURCE, Table};
use serde_json::Value;

use super::ask::unreadable;

/// Changes committed this long before the kill may have been under way when it came.
const UNDER_WAY_US: i64 = 5_000_000;

/// Time from the source's commit of a row to the moment when a reader of the current table can see it, in microseconds, ascending.
pub(super) struct Latency {
    /// Rows that were committed while Lockgate ran.
    pub(super) running: Vec<i64>,
    /// Rows that were committed shortly before the kill or while Lockgate was dead.
    pub(super) killed: Vec<i64>,
}

impl Latency {
    /// The value that so many percent of all do not exceed; `None` when there is none.
    pub(super) fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }
}

/// Reads the times off the lake's files: a row is queryable when the Delta log file that adds its data file is there.
pub(super) async fn measure(lake: PathBuf, since: Timestamp, dead: Range<Timestamp>) -> Result<Latency> {
    let measured = tokio::task::spawn_blocking(move || {
        let mut latency = Latency { running: Vec::new(), killed: Vec::new() };
        for table in Table::ALL {
            let folder = lake.join(SOURCE).join("public").join(table.name());
            table_latency(&folder, since, dead.start - UNDER_WAY_US..dead.end, &mut latency)?;
        }
        latency.running.sort_unstable();
        latency.killed.sort_unstable();
        Ok(latency)
    });
    measured.await.map_err(crate::outcome::lost_task)?
}

fn table_latency(folder: &Path, since: Timestamp, dead: Range<Timestamp>, latency: &mut Latency) -> Result<()> {
    let mut commits: Vec<PathBuf> = fs::read_dir(folder.join("_delta_log"))
        .map_err(unreadable)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    commits.sort();
    // A file is added again whenever rows in it are deleted; its rows could be seen since the first time. What maintenance has joined
    // could be seen before, too.
    let mut known = BTreeSet::new();
    for commit in commits {
        let modified = fs::metadata(&commit).and_then(|metadata| metadata.modified()).map_err(unreadable)?;
        let visible = modified.duration_since(UNIX_EPOCH).map_err(unreadable)?.as_micros() as i64;
        let first = added(&commit)?.into_iter().filter(|(file, _)| known.insert(file.clone()));
        for (file, _) in first.filter(|(_, new_rows)| *new_rows) {
            for committed in commit_times(&folder.join(file))?.into_iter().filter(|committed| *committed >= since) {
                let side = if dead.contains(&committed) { &mut latency.killed } else { &mut latency.running };
                side.push(visible - committed);
            }
        }
    }
    Ok(())
}

/// The data files that a commit adds, and whether their rows are new to the table.
fn added(commit: &Path) -> Result<Vec<(String, bool)>> {
    let text = fs::read_to_string(commit).map_err(unreadable)?;
    let mut files = Vec::new();
    for line in text.lines() {
        let action: Value = serde_json::from_str(line).map_err(unreadable)?;
        let add = &action["add"];
        if let (Some(path), Some(data_change)) = (add["path"].as_str(), add["dataChange"].as_bool()) {
            files.push((path.to_owned(), data_change));
        }
    }
    Ok(files)
}

/// The source's commit time of each row of a data file; none for a file that maintenance has removed since.
fn commit_times(file: &Path) -> Result<Vec<Timestamp>> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
    let only = ProjectionMask::columns(builder.parquet_schema(), ["_lg_committed_at"]);
    let batches = builder.with_projection(only).build().map_err(unreadable)?;
    let mut times = Vec::new();
    for batch in batches {
        let batch: RecordBatch = batch.map_err(unreadable)?;
        if let Some(column) = batch.columns().first().and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()) {
            times.extend(column.iter().flatten());
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let sorted: Vec<i64> = (1..=200).collect();
        assert_eq!(Latency::percentile(&sorted, 50), Some(100));
        assert_eq!(Latency::percentile(&sorted, 99), Some(198));
        assert_eq!(Latency::percentile(&[7], 50), Some(7));
        assert_eq!(Latency::percentile(&[], 50), None);
    }
}
