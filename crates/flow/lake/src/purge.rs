//! The end of a table's history: nobody can read what it was before, and nothing of it is left in the store.

use std::collections::HashSet;

use change::{Error, Kind, Result, Timestamp};
use deltalake::DeltaTable;
use deltalake::logstore::LogStoreRef;
use deltalake::protocol::checkpoints;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::deleted;
use crate::erase::commit;
use crate::failure::Explain;
use crate::lake::{Lake, objects};
use crate::log::TableLog;
use crate::naming::LakeTable;
use crate::{foreign, offload, sidecars};

/// Data files of versions that nobody can read any more. They are of no table, so they may be removed at any time.
#[must_use = "the files are still there"]
pub struct Past {
    store: LogStoreRef,
    entries: u64,
    files: Vec<String>,
}

/// Objects that are removed at a time.
const REMOVALS_AT_ONCE: usize = 16;

impl Lake {
    /// Removes all versions of a table but the newest: entries and checkpoints of its log, with the statistics in them, and every file that
    /// the newest version does not need. No writer may have the table open. Returns the number of objects that were removed.
    ///
    /// # Errors
    /// As [`Lake::end_history`].
    pub async fn purge_history(&self, table: &LakeTable, now: Timestamp) -> Result<u64> {
        match self.end_history(table, now).await? {
            Some(past) => past.remove().await,
            None => Ok(0),
        }
    }

    /// As [`Lake::purge_history`], but leaves the files of the past, which no version names any more, for later: writers may open the table
    /// again. `None` when there is no table.
    ///
    /// # Errors
    /// `Conflict` when another program has changed rows; those of the store. Doing it again goes on.
    pub async fn end_history(&self, table: &LakeTable, now: Timestamp) -> Result<Option<Past>> {
        let Some(mut log) = TableLog::load(table, &self.store(table)?).await? else { return Ok(None) };
        Box::pin(foreign::check(&log, false)).await?;
        // What is staged is no version's either.
        self.forget_staged(table).await?;
        // A version of its own, of which the checkpoint is made: whoever wrote the table before is fenced.
        commit(&mut log, "LOCKGATE PURGE", Vec::new(), now / 1000).await?;
        let doing = || format!("{table}: cannot make a checkpoint of the Delta log");
        let mut delta = DeltaTable::new(log.store.clone());
        offload::outside(delta.load()).await.explain(doing)?;
        offload::outside(checkpoints::create_checkpoint(&delta, None)).await.explain(doing)?;
        if log.last_checkpoint().await? != log.version {
            return Err(Error::new(
                Kind::Unavailable,
                format!("{table}: the checkpoint of the Delta log was not made"),
            )
            .fix("Do this again."));
        }
        let needed = needed(&log);
        let objects = objects(&log.store).await?;
        let sidecars = sidecars::named(&log.store, log.version, &objects).await?;
        let is_past = |name: &str| {
            let sidecar = name.strip_prefix(sidecars::FOLDER);
            version_of(name).is_some_and(|version| version < log.version)
                || sidecar.is_some_and(|name| !sidecars.contains(name))
        };
        let (mut entries, mut files) = (Vec::new(), Vec::new());
        for object in objects {
            let path = object.location.to_string();
            match path.strip_prefix("_delta_log/") {
                Some(name) if is_past(name) => entries.push(path),
                Some(_) => {}
                None if !needed.contains(&path) => files.push(path),
                None => {}
            }
        }
        // The log first: while a file of the past is left, it shows that there is more to do.
        let past = Past { store: log.store, entries: entries.len() as u64, files };
        remove(&past.store, entries).await?;
        Ok(Some(past))
    }
}

impl Past {
    /// Removes the files. Returns the number of objects of the past that were removed, in all.
    ///
    /// # Errors
    /// Those of the store; [`Lake::purge_history`] finds what is left.
    pub async fn remove(self) -> Result<u64> {
        let removed = self.entries + self.files.len() as u64;
        remove(&self.store, self.files).await?;
        Ok(removed)
    }
}

/// Removes objects; one that is not there is gone already.
pub(crate) async fn remove(store: &LogStoreRef, paths: Vec<String>) -> Result<()> {
    let store = store.object_store(None);
    let removing = paths.into_iter().map(move |path| {
        let store = store.clone();
        async move {
            match store.delete(&Path::from(path.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error).explain(|| format!("cannot remove {path}")),
            }
        }
    });
    futures::stream::iter(removing).buffer_unordered(REMOVALS_AT_ONCE).try_collect().await
}

/// The version that an object of the log belongs to: entries, checkpoints, checksums all begin with its 20 digits.
fn version_of(name: &str) -> Option<u64> {
    name.get(..20)?.parse().ok()
}

fn needed(log: &TableLog) -> HashSet<String> {
    let vector = |add: &deltalake::kernel::Add| add.deletion_vector.as_ref().and_then(deleted::path);
    let files = log.files.values().map(|file| &file.add);
    files.flat_map(|add| std::iter::once(add.path.clone()).chain(vector(add))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_the_log_tell_their_version() {
        assert_eq!(version_of("00000000000000000012.json"), Some(12));
        assert_eq!(version_of("00000000000000000050.checkpoint.parquet"), Some(50));
        assert_eq!(version_of("_last_checkpoint"), None);
    }
}
