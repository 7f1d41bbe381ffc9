//! A table's rows under a stricter policy: every data file is written again, in one commit. Most of them may have been staged before: see
//! [`crate::staging`].

use std::path::Path as FsPath;

use change::{Position, Result, Timestamp};
use deltalake::kernel::{Action, Add};
use gate::{Remask, Remasker, TableStamp};
use uuid::Uuid;

use crate::deleted::under;
use crate::failure::Explain;
use crate::identity::index_id;
use crate::index::{KeyIndex, Opened, Shape};
use crate::lake::Lake;
use crate::log::{Committed, TableLog, remove};
use crate::naming::{LakeTable, Layer};
use crate::record::Record;
use crate::{foreign, schema};

/// A table that a policy wants otherwise than it is stored.
pub struct Strict {
    pub(crate) log: TableLog,
    pub(crate) remask: Remask,
    stored: TableStamp,
}

impl Strict {
    /// The columns that change or go.
    pub fn columns(&self) -> Vec<String> {
        self.remask.columns().map(str::to_owned).collect()
    }

    /// How the rows were cleared until now.
    pub fn stored(&self) -> &TableStamp {
        &self.stored
    }
}

/// A table that was switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remasked {
    /// Its version.
    pub version: u64,
    /// The place in its source up to which the table has everything, then as now; `None` while it has nothing of the stream.
    pub at: Option<Position>,
    /// Data files.
    pub files: usize,
    /// Those among them that had been staged.
    pub staged: usize,
    index: Option<Moved>,
}

/// What a key index that is right at version `from` has to learn: rows lie where they lay, in other files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moved {
    from: u64,
    files: Vec<(String, String)>,
}

/// The stamp of the last commit; `None` before there was one.
pub(crate) fn stamp_of(table: &LakeTable, record: &Record) -> Result<Option<TableStamp>> {
    if record.stamp.is_null() {
        return Ok(None);
    }
    let stamp = serde_json::from_value(record.stamp.clone());
    stamp.map(Some).explain(|| format!("{table}: the policy stamp in the table cannot be read"))
}

impl Lake {
    /// How the rows of a table were cleared; `None` when there is no table, or nothing was committed yet.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn stamp(&self, table: &LakeTable) -> Result<Option<TableStamp>> {
        let record = TableLog::newest_record(table, &self.store(table)?).await?;
        record.map_or(Ok(None), |record| stamp_of(table, &record))
    }

    /// Compares a table's rows with a policy; `None` when they are as it wants them, or there is no table.
    ///
    /// # Errors
    /// Those of [`Remasker::table`] and of the store; `Conflict` when another program has changed the rows that are to be written again.
    pub async fn stricter(&self, table: &LakeTable, remasker: &Remasker) -> Result<Option<Strict>> {
        let Some(log) = TableLog::load(table, &self.store(table)?).await? else { return Ok(None) };
        let Some(stored) = stamp_of(table, &log.record)? else { return Ok(None) };
        // The key stands with the current rows; the columns are the same in both.
        let current = LakeTable::new(table.name.clone(), Layer::Current)?;
        let key = TableLog::load(&current, &self.store(&current)?).await?.map(|log| log.record.key).unwrap_or_default();
        let Some(remask) = remasker.table(&table.name, &stored, &log.schema, &key)? else { return Ok(None) };
        Box::pin(foreign::check(&log, false)).await?;
        Ok(Some(Strict { log, remask, stored }))
    }

    /// Switches the table to what the policy wants, with the staged files that are of use; what is not staged is written now. No writer may
    /// have the table open. Older versions still have the rows as they were: end their history. `index_dir` as in [`Lake::erase`].
    ///
    /// # Errors
    /// Those of the store, of keys and vault. Nothing has changed then.
    pub async fn remask(&self, strict: Strict, index_dir: &FsPath, now: Timestamp) -> Result<Remasked> {
        let now_ms = now / 1000;
        let mut staged = self.staged(&strict, now).await?;
        let old: Vec<Add> = strict.log.files.values().map(|file| file.add.clone()).collect();
        let (mut new, taken) = (Vec::with_capacity(old.len()), staged.len());
        for add in &old {
            new.push(match staged.remove(&add.path) {
                Some(counterpart) => under(counterpart, add.deletion_vector.clone()),
                None => strict.counterpart(add, now_ms).await?,
            });
        }
        let Strict { mut log, remask, .. } = strict;
        let names_key = |column: &str| log.record.key.iter().any(|key| key == column);
        let same_key = !log.record.key.is_empty() && !remask.columns().any(names_key);
        let renamed = || old.iter().zip(&new).map(|(old, new)| (old.path.clone(), new.path.clone())).collect();
        let index = same_key.then(|| Moved { from: log.version, files: renamed() });
        let mut actions = schema::changed(&log, &remask.schema(&log.schema))?;
        actions.extend(old.iter().map(|add| Action::Remove(remove(add, true, now_ms))));
        actions.extend(new.into_iter().map(Action::Add));
        let stamp = serde_json::to_value(remask.stamp()).explain(|| "the policy's stamp is not JSON".into())?;
        let (epoch, writer) = (log.record.epoch + 1, Uuid::new_v4().to_string());
        let record = Record { stamp, epoch, writer, folder: None, ..log.record.clone() };
        match log.commit("LOCKGATE REMASK", actions, record, now_ms).await? {
            Committed::Done => {}
            Committed::Fenced(error) | Committed::Foreign(error) => return Err(error),
        }
        if log.table.layer == Layer::Current && index.is_none() {
            KeyIndex::delete(&index_dir.join(log.table.folders().join("/")))?;
        }
        self.forget_staged(&log.table).await?;
        let at = log.record.checkpoint.stream.map(|stream| stream.through);
        Ok(Remasked { version: log.version, at, files: old.len(), staged: taken, index })
    }

    /// Brings the key index of a table that was switched, and whose history was ended, to the table's version, when its keys have not changed.
    /// What does not fit is left: an index that is behind is built anew.
    ///
    /// # Errors
    /// Those of the store and of the local disk.
    pub async fn keep_index(&self, table: &LakeTable, done: &Remasked, index_dir: &FsPath) -> Result<()> {
        let (Some(Moved { from, files }), Layer::Current) = (&done.index, table.layer) else { return Ok(()) };
        let Some(log) = TableLog::load(table, &self.store(table)?).await? else { return Ok(()) };
        let id = index_id(log.id, &log.schema, &log.record.key, Shape::Unique);
        let path = index_dir.join(table.folders().join("/"));
        // The end of the history was a version, too.
        if log.version != done.version + 1 || !path.exists() {
            return Ok(());
        }
        let Opened::Ready(mut index) = KeyIndex::open(&path, id, None)? else { return Ok(()) };
        if index.version() == *from && index.shape() == Shape::Unique && index.prepared().is_none() {
            index.rename_files(files.iter().map(|(from, to)| (from.as_str(), to.as_str())))?;
            index.advance(log.version)?;
            index.close()?;
        }
        Ok(())
    }
}
