//! Finds files that no version within the retention needs: what was replaced, and what a crash left uncommitted.

use std::collections::HashSet;

use change::{Result, Timestamp};
use chrono::DateTime;
use deltalake::DeltaTable;
use deltalake::kernel::Add;
use futures::TryStreamExt;

use crate::deleted;
use crate::failure::Explain;
use crate::log::{TableLog, add_of};
use crate::offload;

/// How long versions can be read after they were replaced, in microseconds.
pub const RETENTION_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// How long a file may wait between its writing and its commit.
const STAGED_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Files that are older than the retention and needed by no version in it: they may be removed at any time.
///
/// A version in the retention is made of files that were there when the retention began, and of files that were written later: the
/// version of that time and the files' age say it all. The store has its own clock, which what it has seen last tells: by a clock that
/// is ahead of it, a file that another process has just staged would be old.
pub(crate) async fn past(log: &TableLog, now: Timestamp) -> Result<Vec<String>> {
    let (mut newest, mut old) = (None, Vec::new());
    let mut listed = log.store.object_store(None).list(None);
    while let Some(object) = listed.try_next().await.explain(|| "cannot list the table's files".into())? {
        let (path, written) = (object.location.as_ref(), object.last_modified.timestamp_micros());
        newest = newest.max(Some(written));
        let ours = path.ends_with(".parquet") || path.ends_with(".bin");
        if ours && !path.starts_with("_delta_log/") && written < young(now - RETENTION_MICROS) {
            old.push((path.to_owned(), written));
        }
    }
    let horizon = newest.map_or(now, |newest| now.min(newest)) - RETENTION_MICROS;
    old.retain(|(_, written)| *written < young(horizon));
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let needed = needed(log, horizon).await?;
    Ok(old.into_iter().map(|(path, _)| path).filter(|path| !needed.contains(path)).collect())
}

/// What was written from then on may wait for its commit still.
fn young(horizon: Timestamp) -> Timestamp {
    horizon - STAGED_MICROS
}

/// Data files and deletion vectors of the current version and of the one that was current at `horizon`.
async fn needed(log: &TableLog, horizon: Timestamp) -> Result<HashSet<String>> {
    let doing = || format!("{}: cannot read the version at the end of the retention", log.table);
    let mut needed = HashSet::new();
    let mut keep = |add: &Add| {
        needed.extend(add.deletion_vector.as_ref().and_then(deleted::path));
        needed.insert(add.path.clone());
    };
    log.files.values().for_each(|file| keep(&file.add));
    let mut then = DeltaTable::new(log.store.clone());
    let load = then.load_with_datetime(DateTime::from_timestamp_micros(horizon).unwrap_or_default());
    offload::outside(load).await.explain(doing)?;
    then.snapshot().explain(doing)?.log_data().iter().for_each(|view| keep(&add_of(&view)));
    Ok(needed)
}
