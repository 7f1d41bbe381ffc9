//! A table's rows under a stricter policy: every data file is written again, in one commit.

use std::path::Path as FsPath;

use change::{Result, Timestamp};
use deltalake::kernel::{Action, Add};
use futures::TryStreamExt;
use gate::{Remask, Remasker, TableStamp};
use uuid::Uuid;

use crate::area;
use crate::changes::without_date;
use crate::encode::fit;
use crate::erase::statistics_of;
use crate::failure::Explain;
use crate::index::KeyIndex;
use crate::lake::Lake;
use crate::log::{Committed, TableLog, remove};
use crate::naming::{LakeTable, Layer};
use crate::record::Record;
use crate::{rows, schema};

/// A table that a policy wants otherwise than it is stored.
pub struct Strict {
    log: TableLog,
    remask: Remask,
}

impl Strict {
    /// The columns that change or go.
    pub fn columns(&self) -> Vec<String> {
        self.remask.columns().map(str::to_owned).collect()
    }
}

/// The stamp of the last commit; `None` before there was one.
fn stamp_of(log: &TableLog) -> Result<Option<TableStamp>> {
    if log.record.stamp.is_null() {
        return Ok(None);
    }
    let stamp = serde_json::from_value(log.record.stamp.clone());
    stamp.map(Some).explain(|| format!("{}: the policy stamp in the table cannot be read", log.table))
}

impl Lake {
    /// How the rows of a table were cleared; `None` when there is no table, or nothing was committed yet.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn stamp(&self, table: &LakeTable) -> Result<Option<TableStamp>> {
        let log = TableLog::load(table, &self.store(table)?).await?;
        log.map_or(Ok(None), |log| stamp_of(&log))
    }

    /// Compares a table's rows with a policy; `None` when they are as it wants them, or there is no table.
    ///
    /// # Errors
    /// Those of [`Remasker::table`] and of the store.
    pub async fn stricter(&self, table: &LakeTable, remasker: &Remasker) -> Result<Option<Strict>> {
        let Some(log) = TableLog::load(table, &self.store(table)?).await? else { return Ok(None) };
        let Some(stored) = stamp_of(&log)? else { return Ok(None) };
        // The key stands with the current rows; the columns are the same in both.
        let current = LakeTable::new(table.name.clone(), Layer::Current)?;
        let key = TableLog::load(&current, &self.store(&current)?).await?.map(|log| log.record.key).unwrap_or_default();
        let remask = remasker.table(&table.name, &stored, &log.schema, &key)?;
        Ok(remask.map(|remask| Strict { log, remask }))
    }

    /// Writes the table again as the policy wants it; returns its version. No writer may have it open. Older versions still have the rows
    /// as they were: purge them. `index_dir` as in [`Lake::erase`].
    ///
    /// # Errors
    /// Those of the store, of keys and vault. Nothing has changed then.
    pub async fn remask(&self, strict: Strict, index_dir: &FsPath, now: Timestamp) -> Result<u64> {
        let Strict { mut log, remask } = strict;
        let now_ms = now / 1000;
        let after = remask.schema(&log.schema);
        let [stored, wanted] = [&log.schema, &after].map(|columns| match log.table.layer {
            Layer::Current => columns.clone(),
            Layer::Changes => without_date(columns),
        });
        let old: Vec<Add> = log.files.values().map(|file| file.add.clone()).collect();
        let mut new = Vec::with_capacity(old.len());
        for add in &old {
            let names: Vec<&str> = stored.fields().iter().map(|field| field.name().as_str()).collect();
            let mut stream = rows::read(&log.store, &add.path, &names, None).await?;
            let mut batches = Vec::new();
            while let Some(batch) = stream.try_next().await? {
                batches.push(fit(&wanted, &remask.apply(&fit(&stored, &batch)?)?)?);
            }
            let mut statistics = statistics_of(add);
            statistics.0.retain(|column| remask.allows_statistics(column, true));
            let more = remask.columns().filter(|column| remask.allows_statistics(column, false)).collect::<Vec<_>>();
            let statistics = statistics.and(&more);
            let folder = add.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
            let values = add.partition_values.clone();
            let written = area::write(&log.store, &folder, values, &wanted, batches, &statistics, now_ms).await?;
            // Rows keep their numbers, deleted ones among them, so deletion vectors stay as they are.
            new.push(Add { deletion_vector: add.deletion_vector.clone(), ..written });
        }
        let mut actions = schema::changed(&log.metadata, &log.schema, &after, &log.table)?;
        actions.extend(old.iter().map(|add| Action::Remove(remove(add, true, now_ms))));
        actions.extend(new.into_iter().map(Action::Add));
        let stamp = serde_json::to_value(remask.stamp()).explain(|| "the policy's stamp is not JSON".into())?;
        let (epoch, writer) = (log.record.epoch + 1, Uuid::new_v4().to_string());
        let record = Record { stamp, epoch, writer, ..log.record.clone() };
        match log.commit("LOCKGATE REMASK", actions, record, now_ms).await? {
            Committed::Done => {}
            Committed::Fenced(error) | Committed::Foreign(error) => return Err(error),
        }
        if log.table.layer == Layer::Current {
            KeyIndex::delete(&index_dir.join(log.table.folders().join("/")))?;
        }
        Ok(log.version)
    }
}
