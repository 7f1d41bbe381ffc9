//! Upkeep as part of writing: small files become larger ones, the log gets checkpoints, what no version needs is removed.

use std::collections::HashSet;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use change::{Result, Timestamp};
use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::checkpoints;
use futures::TryStreamExt;
use object_store::ObjectStoreExt as _;
use roaring::RoaringTreemap;

use crate::area;
use crate::changes::{Changes, partition, without_date};
use crate::current::Current;
use crate::deleted;
use crate::encode::fit;
use crate::failure::Explain;
use crate::index::{Change, Place, Shape};
use crate::lake::objects;
use crate::log::{Committed, DataFile, TableLog, remove};
use crate::rows;

/// Commits between two checkpoints of the log.
const LOG_CHECKPOINT_EVERY: u64 = 50;
/// Files below this size are worth joining.
const SMALL_BYTES: i64 = 32 << 20;
/// Bytes of Parquet that one compaction reads: what it holds in memory is a few times as much.
const GROUP_BYTES: i64 = 24 << 20;
/// Files of one compaction at least.
const GROUP_FILES: usize = 8;
/// A file with this share of deleted rows is rewritten.
const DELETED_SHARE: f64 = 0.4;
/// How long files that left the table are kept, for readers of older versions.
const RETENTION_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// How often they are looked for.
const SWEEP_EVERY_MICROS: i64 = 6 * 3600 * 1_000_000;

/// What upkeep remembers of a table.
#[derive(Default)]
pub(crate) struct State {
    commits: u64,
    swept_at: Option<Timestamp>,
}

impl State {
    pub(crate) fn committed(&mut self) {
        self.commits += 1;
    }
}

/// Files to join: a group of small ones, or one with many deleted rows. Pure.
fn choose<'a>(files: impl Iterator<Item = &'a DataFile>) -> Vec<Add> {
    let (mut small, mut bytes): (Vec<Add>, i64) = (Vec::new(), 0);
    for file in files {
        let gone = file.add.deletion_vector.as_ref().map_or(0, |vector| vector.cardinality);
        if gone as f64 >= file.rows as f64 * DELETED_SHARE && file.add.size <= GROUP_BYTES && gone > 1000 {
            return vec![file.add.clone()];
        }
        if file.add.size < SMALL_BYTES && bytes + file.add.size <= GROUP_BYTES {
            bytes += file.add.size;
            small.push(file.add.clone());
        }
    }
    // Joining pays when many files become one; a group of a few large ones waits.
    if small.len() >= GROUP_FILES { small } else { Vec::new() }
}

/// One piece of upkeep of a current table.
pub(crate) async fn current(table: &mut Current, state: &mut State, now: Timestamp) -> Result<()> {
    log_checkpoint(&table.log, state).await?;
    sweep(&table.log, state, now).await?;
    // Rows that wait may have their places in the files that would be rewritten.
    if table.stream.changes > 0 || table.copy.changes > 0 {
        return Ok(());
    }
    let old = choose(table.log.files.values());
    if old.is_empty() {
        return Ok(());
    }
    let now_ms = now / 1000;
    let (batches, places) = live_rows(&table.log, &old, true).await?;
    let mut actions: Vec<Action> = old.iter().map(|add| Action::Remove(remove(add, false, now_ms))).collect();
    let mut added = None;
    if !places.is_empty() {
        let schema = table.log.schema.clone();
        let mut add =
            area::write(&table.log.store, "", Default::default(), &schema, batches.clone(), &table.statistics, now_ms)
                .await?;
        add.data_change = false;
        actions.push(Action::Add(add.clone()));
        added = Some(add);
    }
    let version = table.log.version + 1;
    let mut record = table.log.record.clone();
    record.sequence += 1;
    record.commit = uuid::Uuid::new_v4().as_u128();
    if let Some((index, identifier)) = &mut table.index {
        let mut changes = Vec::with_capacity(places.len());
        if let Some(add) = &added {
            let file = index.file_id(&add.path)?;
            let mut keys = Vec::with_capacity(places.len());
            for batch in &batches {
                keys.extend(identifier.hashes(batch)?);
            }
            for (row, (key, (path, old_row))) in (0_u32..).zip(keys.into_iter().zip(&places)) {
                let from = Place { file: index.file_id(path)?, row: *old_row };
                changes.push(Change::Move { key, from, to: Place { file, row } });
            }
        }
        let mut step = index.step(version, record.commit)?;
        step.push(&changes)?;
        step.prepare()?;
    }
    match table.log.commit_as("OPTIMIZE", actions, record, now_ms).await? {
        Committed::Done => {}
        Committed::Fenced(error) | Committed::Foreign(error) => {
            if let Some((index, _)) = &mut table.index {
                index.abandon()?;
            }
            return Err(error);
        }
    }
    table.log.add_files(added);
    for add in &old {
        table.vectors.remove(&add.path);
    }
    if let Some((index, _)) = &mut table.index {
        index.finish()?;
        let gone: Vec<_> = old.iter().filter_map(|add| index.existing_file_id(&add.path)).collect();
        if index.shape() == Shape::Unique {
            index.forget_files(&gone)?;
        }
    }
    Ok(())
}

/// One piece of upkeep of a change log.
pub(crate) async fn changes(table: &mut Changes, state: &mut State, now: Timestamp) -> Result<()> {
    log_checkpoint(&table.log, state).await?;
    sweep(&table.log, state, now).await?;
    let days: HashSet<Option<String>> =
        table.log.files.values().map(|file| file.add.partition_values.values().next().cloned().flatten()).collect();
    for day in days {
        let of_day = |file: &&DataFile| file.add.partition_values.values().next().cloned().flatten() == day;
        let old = choose(table.log.files.values().filter(of_day));
        let Some(first) = old.first() else { continue };
        let now_ms = now / 1000;
        let (batches, _) = live_rows(&table.log, &old, false).await?;
        let schema = without_date(&table.log.schema);
        let batches = batches.iter().map(|rows| fit(&schema, rows)).collect::<Result<Vec<_>>>()?;
        let (folder, _) = day_partition(first);
        let values = first.partition_values.clone();
        let mut add =
            area::write(&table.log.store, &folder, values, &schema, batches, &table.statistics, now_ms).await?;
        add.data_change = false;
        let record = table.log.record.clone();
        match table.replace(&old, add, record, now_ms).await? {
            Committed::Done => {}
            Committed::Fenced(error) | Committed::Foreign(error) => return Err(error),
        }
    }
    Ok(())
}

fn day_partition(add: &Add) -> (String, ()) {
    let folder = add.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_else(|| partition(None).0);
    (folder, ())
}

/// The live rows of files, in the table's structure, and where each of them lay.
async fn live_rows(log: &TableLog, files: &[Add], places: bool) -> Result<(Vec<RecordBatch>, Vec<(String, u32)>)> {
    let names: Vec<&str> = log.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let (mut batches, mut from) = (Vec::new(), Vec::new());
    for add in files {
        let gone = match &add.deletion_vector {
            Some(descriptor) => deleted::read(&log.store, descriptor).await?,
            None => RoaringTreemap::new(),
        };
        let mut stream = rows::read(&log.store, &add.path, &names, None).await?;
        let mut first = 0_u32;
        while let Some(batch) = stream.try_next().await? {
            let rows = first..first + batch.num_rows() as u32;
            first = rows.end;
            let live: BooleanArray = rows.clone().map(|row| Some(!gone.contains(u64::from(row)))).collect();
            if places {
                from.extend(rows.filter(|row| !gone.contains(u64::from(*row))).map(|row| (add.path.clone(), row)));
            }
            let kept = filter_record_batch(&batch, &live).explain(|| "cannot select rows".into())?;
            batches.push(fit(&log.schema, &kept)?);
        }
    }
    Ok((batches, from))
}

async fn log_checkpoint(log: &TableLog, state: &mut State) -> Result<()> {
    if state.commits < LOG_CHECKPOINT_EVERY {
        return Ok(());
    }
    state.commits = 0;
    let doing = || format!("{}: cannot make a checkpoint of the Delta log", log.table);
    let mut delta = DeltaTable::new(log.store.clone());
    delta.load().await.explain(doing)?;
    checkpoints::create_checkpoint(&delta, None).await.explain(doing)?;
    checkpoints::cleanup_metadata(&delta, None)
        .await
        .map(|_| ())
        .explain(|| format!("{}: cannot clean the Delta log", log.table))
}

/// Removes data files that no version of the last days refers to: what compaction replaced, and what a crash left uncommitted.
async fn sweep(log: &TableLog, state: &mut State, now: Timestamp) -> Result<()> {
    if state.swept_at.is_some_and(|at| now - at < SWEEP_EVERY_MICROS) {
        return Ok(());
    }
    state.swept_at = Some(now);
    let horizon = now - RETENTION_MICROS;
    let old: Vec<_> = objects(&log.store)
        .await?
        .into_iter()
        .filter(|object| object.last_modified.timestamp_micros() < horizon)
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let needed = needed(log, horizon).await?;
    for object in old {
        let path = object.location.to_string();
        let ours = path.ends_with(".parquet") || path.ends_with(".bin");
        if ours && !path.starts_with("_delta_log/") && !needed.contains(&path) {
            log.store.object_store(None).delete(&object.location).await.explain(|| format!("cannot remove {path}"))?;
        }
    }
    Ok(())
}

/// Files of the current version and of those that were current within the retention.
async fn needed(log: &TableLog, horizon: Timestamp) -> Result<HashSet<String>> {
    let doing = || format!("{}: cannot read the removed files", log.table);
    let mut needed = HashSet::new();
    let mut keep = |path: &str, vector: Option<&deltalake::kernel::DeletionVectorDescriptor>| {
        needed.insert(path.to_owned());
        needed.extend(vector.and_then(deleted::path));
    };
    for file in log.files.values() {
        keep(&file.add.path, file.add.deletion_vector.as_ref());
    }
    let mut delta = DeltaTable::new(log.store.clone());
    delta.load().await.explain(doing)?;
    let state = delta.snapshot().explain(doing)?;
    let tombstones: Vec<_> = state.all_tombstones(log.store.as_ref()).try_collect().await.explain(doing)?;
    for tombstone in tombstones {
        if tombstone.deletion_timestamp().is_none_or(|at| at * 1000 >= horizon) {
            needed.insert(tombstone.path().to_string());
        }
    }
    // A vector that was replaced within the retention is not told from one before it, so all vectors younger than the log are kept.
    for object in objects(&log.store).await? {
        let path = object.location.to_string();
        if path.ends_with(".bin") && object.last_modified.timestamp_micros() >= horizon {
            needed.insert(path);
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: i64, rows: u64, gone: i64) -> DataFile {
        let deletion_vector = (gone > 0).then(|| deltalake::kernel::DeletionVectorDescriptor {
            storage_type: deltalake::kernel::StorageType::Inline,
            path_or_inline_dv: String::new(),
            offset: None,
            size_in_bytes: 0,
            cardinality: gone,
        });
        DataFile { add: Add { size, deletion_vector, ..Add::default() }, rows }
    }

    #[test]
    fn many_small_files_are_joined_and_few_are_left() {
        let small = vec![file(1 << 20, 1000, 0); 7];
        assert!(choose(small.iter()).is_empty());
        let more = vec![file(1 << 20, 1000, 0); 20];
        assert_eq!(choose(more.iter()).len(), 20);
        let large = vec![file(SMALL_BYTES, 1000, 0); 20];
        assert!(choose(large.iter()).is_empty());
    }

    #[test]
    fn a_file_of_mostly_deleted_rows_is_rewritten_alone() {
        let files = [file(1 << 20, 10_000, 0), file(1 << 20, 10_000, 6_000)];
        let chosen = choose(files.iter());
        assert_eq!(chosen.len(), 1);
        assert!(chosen[0].deletion_vector.is_some());
    }
}
