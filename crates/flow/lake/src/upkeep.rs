//! Upkeep as part of writing: small files become larger ones, the log gets checkpoints, what no version needs is removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use change::{Result, Timestamp};
use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::checkpoints;
use tokio::sync::Mutex;

use crate::changes::{Changes, partition, without_date};
use crate::current::Current;
use crate::failure::Explain;
use crate::index::{Change, KeyHash, KeyIndex, Place, Shape};
use crate::join::{Joined, Target, join};
use crate::log::{Committed, DataFile, TableLog, remove};
use crate::{offload, purge, sweep};

/// Commits between two checkpoints of the log.
const LOG_CHECKPOINT_EVERY: u64 = 50;
/// Files below this size are worth joining.
const SMALL_BYTES: i64 = 32 << 20;
/// Files up to this size are joined whatever the others' sizes are.
const TINY_BYTES: i64 = 1 << 20;
/// Bytes of Parquet that one compaction reads; the table's commits wait for it.
const GROUP_BYTES: i64 = 24 << 20;
/// Files of one compaction at least.
const GROUP_FILES: usize = 8;
/// Live rows of one compaction: it holds what the key index needs of each in memory.
const GROUP_ROWS: u64 = 2_000_000;
/// A file with this share of deleted rows, and more than so many of them or so many bytes, is rewritten.
const DELETED_SHARE: f64 = 0.4;
const WORN_ROWS: u64 = 1_000;
const WORN_BYTES: i64 = 1 << 20;
/// So many tiny files do not wait until a table has nothing else to do.
const PRESSING_FILES: usize = 64;
/// How often what no version needs is looked for: it costs a listing of the table.
const SWEEP_EVERY_MICROS: i64 = 6 * 3600 * 1_000_000;
/// So many objects are removed in one piece; the table's commits wait for it.
const SWEPT_AT_ONCE: usize = 2_000;

/// What upkeep remembers of a table.
pub(crate) struct State {
    /// Held while files are joined or listed: one table of a lake at a time, so that memory does not grow with their number.
    turn: Arc<Mutex<()>>,
    /// The version of the last log checkpoint, once it is known.
    checkpointed: Option<u64>,
    cleaned_at: Option<Timestamp>,
    swept_at: Option<Timestamp>,
    /// What the last sweep has found and not yet removed.
    past: Vec<String>,
}

impl State {
    pub(crate) fn new(turn: Arc<Mutex<()>>) -> Self {
        Self { turn, checkpointed: None, cleaned_at: None, swept_at: None, past: Vec::new() }
    }
}

/// Bytes of a file's live rows, about.
fn live_bytes(file: &DataFile) -> i64 {
    (file.add.size as f64 * file.live() as f64 / file.rows.max(1) as f64) as i64
}

/// Whether so many rows of a file are deleted that it is worth rewriting alone, however large it is.
fn is_worn(file: &DataFile) -> bool {
    let (gone, live) = (file.rows.saturating_sub(file.live()), live_bytes(file));
    gone as f64 >= file.rows as f64 * DELETED_SHARE
        && (gone > WORN_ROWS || file.add.size - live > WORN_BYTES)
        && live <= GROUP_BYTES
        && file.live() <= GROUP_ROWS
}

/// What one compaction may take in.
#[derive(Default)]
struct Group {
    files: Vec<Add>,
    read: i64,
    live: i64,
    rows: u64,
}

impl Group {
    fn has_room_for(&self, file: &DataFile) -> bool {
        self.read + file.add.size <= GROUP_BYTES && self.rows + file.live() <= GROUP_ROWS
    }

    fn push(&mut self, file: &DataFile) {
        self.read += file.add.size;
        self.live += live_bytes(file);
        self.rows += file.live();
        self.files.push(file.add.clone());
    }
}

/// Files to join: those without a live row, a group of small ones, or those with many deleted rows. Pure.
fn choose<'a>(files: impl Iterator<Item = &'a DataFile>) -> Vec<Add> {
    let (dead, mut files): (Vec<&DataFile>, Vec<&DataFile>) = files.partition(|file| file.live() == 0);
    if !dead.is_empty() {
        return dead.into_iter().map(|file| file.add.clone()).collect();
    }
    files.sort_by_key(|file| live_bytes(file));
    let mut group = Group::default();
    for file in files.iter().filter(|file| file.add.size < SMALL_BYTES) {
        // A file that is larger than all before it together waits for its like: else every few commits would rewrite it.
        if live_bytes(file) > group.live.max(TINY_BYTES) {
            break;
        }
        if group.has_room_for(file) {
            group.push(file);
        }
    }
    // Joining pays when many files become one; a group of a few large ones waits, but for those that are mostly deleted.
    if group.files.len() >= GROUP_FILES {
        return group.files;
    }
    let mut group = Group::default();
    for file in files.into_iter().filter(|file| is_worn(file)) {
        if group.files.is_empty() || group.has_room_for(file) {
            group.push(file);
        }
    }
    group.files
}

/// Whether upkeep cannot wait until the table has nothing else to do: one that is always written would never come to it.
pub(crate) fn presses(log: &TableLog, state: &State) -> bool {
    // Files of different days are not joined.
    let mut tiny: HashMap<&str, usize> = HashMap::new();
    for file in log.files.values().filter(|file| file.add.size < TINY_BYTES) {
        *tiny.entry(file.add.path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    tiny.values().any(|files| *files >= PRESSING_FILES)
        || log.version >= state.checkpointed.unwrap_or_default() + 2 * LOG_CHECKPOINT_EVERY
}

/// One piece of upkeep of a current table.
pub(crate) async fn current(table: &mut Current, state: &mut State, now: Timestamp) -> Result<()> {
    log_checkpoint(&table.log, state, now).await?;
    if table.stream.staged.is_empty() && table.copy.staged.is_empty() {
        sweep_when_due(&table.log, state, now).await?;
    }
    // Rows that wait may have their places in the files that would be rewritten; while a copy is unfinished, deleted rows are needed.
    if table.copying() || table.stream.changes > 0 || table.copy.rows > 0 {
        return Ok(());
    }
    let old = choose(table.log.files.values());
    if old.is_empty() {
        return Ok(());
    }
    if let Some(Committed::Foreign(error) | Committed::Fenced(error)) = table.log.taken_after_all().await? {
        return Err(error);
    }
    // A table that has to wait looks again after its next commit.
    let Ok(_turn) = state.turn.try_lock() else { return Ok(()) };
    compact(table, &old, now / 1000).await
}

/// Replaces files by one with their live rows, or by none.
async fn compact(table: &mut Current, old: &[Add], now_ms: i64) -> Result<()> {
    let target = Target {
        folder: "",
        partition: HashMap::new(),
        schema: table.log.schema.clone(),
        statistics: table.statistics.clone(),
        without: HashMap::new(),
    };
    let identifier = table.index.as_ref().map(|(_, identifier)| identifier);
    let is_dead = |add: &Add| table.log.files.get(&add.path).is_some_and(|file| file.live() == 0);
    let joined = match old.iter().all(is_dead) {
        true => Joined::default(),
        false => join(&table.log.store, old, target, identifier, now_ms).await?,
    };
    let mut actions: Vec<Action> = old.iter().map(|add| Action::Remove(remove(add, false, now_ms))).collect();
    actions.extend(joined.add.clone().map(Action::Add));
    let version = table.log.version + 1;
    let mut record = table.log.record.clone();
    record.sequence += 1;
    record.commit = uuid::Uuid::new_v4().as_u128();
    if let Some((index, _)) = &mut table.index
        && index.shape() == Shape::Unique
    {
        prepare(index, version, record.commit, &joined, old)?;
    }
    let committed = table.log.commit_as("OPTIMIZE", actions, record, now_ms).await;
    let error = match committed {
        Ok(Committed::Done) => {
            table.log.add_files(joined.add.clone());
            old.iter().for_each(|add| drop(table.vectors.remove(&add.path)));
            return table.index.as_mut().map_or(Ok(()), |(index, _)| follow(index, version, &joined, old));
        }
        Ok(Committed::Fenced(error) | Committed::Foreign(error)) | Err(error) => error,
    };
    if let Some((index, _)) = &mut table.index {
        index.leave();
    }
    Err(error)
}

/// Rows whose moves are given to the index at a time.
const MOVES_AT_ONCE: usize = 1 << 16;

/// Where rows lay, and where they lie in the file that replaces theirs.
fn moves<'a>(
    index: &mut KeyIndex,
    joined: &'a Joined,
    old: &[Add],
) -> Result<impl Iterator<Item = (KeyHash, Place, Place)> + 'a> {
    let files = old.iter().map(|add| index.file_id(&add.path)).collect::<Result<Vec<_>>>()?;
    let new = joined.add.as_ref().map(|add| index.file_id(&add.path)).transpose()?;
    let moved = move |(row, (key, file, old_row)): (u32, &(KeyHash, u32, u32))| {
        let from = Place { file: files[*file as usize], row: *old_row };
        new.map(|file| (*key, from, Place { file, row }))
    };
    Ok((0_u32..).zip(&joined.rows).filter_map(moved))
}

fn prepare(index: &mut KeyIndex, version: u64, commit: u128, joined: &Joined, old: &[Add]) -> Result<()> {
    let mut moves = moves(index, joined, old)?.map(|(key, from, to)| Change::Move { key, from, to }).peekable();
    let mut step = index.step(version, commit)?;
    while moves.peek().is_some() {
        step.push(&moves.by_ref().take(MOVES_AT_ONCE).collect::<Vec<_>>())?;
    }
    step.prepare()
}

/// Brings the index to the version of a compaction that was committed.
fn follow(index: &mut KeyIndex, version: u64, joined: &Joined, old: &[Add]) -> Result<()> {
    if index.shape() == Shape::Unique {
        index.finish()?;
    } else if joined.rows.is_empty() {
        index.advance(version)?;
    } else {
        // A move in a multiset costs as many reads as there are equal rows; one pass over the index costs the same for all.
        let places: HashMap<Place, Place> = moves(index, joined, old)?.map(|(_, from, to)| (from, to)).collect();
        index.relocate(version, |place| places.get(&place).copied().unwrap_or(place))?;
    }
    let gone: Vec<_> = old.iter().filter_map(|add| index.existing_file_id(&add.path)).collect();
    index.forget_files(&gone)
}

/// One piece of upkeep of a change log.
pub(crate) async fn changes(table: &mut Changes, state: &mut State, now: Timestamp) -> Result<()> {
    log_checkpoint(&table.log, state, now).await?;
    if !table.stages() {
        sweep_when_due(&table.log, state, now).await?;
    }
    let days: HashSet<Option<String>> =
        table.log.files.values().map(|file| file.add.partition_values.values().next().cloned().flatten()).collect();
    for day in days {
        let of_day = |file: &&DataFile| file.add.partition_values.values().next().cloned().flatten() == day;
        let old = choose(table.log.files.values().filter(of_day));
        let Some(first) = old.first() else { continue };
        let Ok(_turn) = state.turn.try_lock() else { return Ok(()) };
        let now_ms = now / 1000;
        let target = Target {
            folder: &folder_of(first),
            partition: first.partition_values.clone(),
            schema: without_date(&table.log.schema),
            statistics: table.statistics.clone(),
            without: HashMap::new(),
        };
        let joined = join(&table.log.store, &old, target, None, now_ms).await?;
        let record = table.log.record.clone();
        match table.replace(&old, joined.add, record, now_ms).await? {
            Committed::Done => {}
            Committed::Fenced(error) | Committed::Foreign(error) => return Err(error),
        }
    }
    Ok(())
}

/// The folder of a file, with a slash at its end.
fn folder_of(add: &Add) -> String {
    add.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_else(|| partition(None).0)
}

async fn log_checkpoint(log: &TableLog, state: &mut State, now: Timestamp) -> Result<()> {
    let last = match state.checkpointed {
        Some(version) => version,
        None => log.last_checkpoint().await?,
    };
    state.checkpointed = Some(last);
    if log.version < last + LOG_CHECKPOINT_EVERY {
        return Ok(());
    }
    let doing = || format!("{}: cannot make a checkpoint of the Delta log", log.table);
    let mut delta = DeltaTable::new(log.store.clone());
    offload::outside(delta.load()).await.explain(doing)?;
    offload::outside(checkpoints::create_checkpoint(&delta, None)).await.explain(doing)?;
    state.checkpointed = Some(log.version);
    let turn = state.turn.clone();
    let Ok(_turn) = turn.try_lock() else { return Ok(()) };
    if state.cleaned_at.is_some_and(|at| now - at < SWEEP_EVERY_MICROS) {
        return Ok(());
    }
    state.cleaned_at = Some(now);
    offload::outside(checkpoints::cleanup_metadata(&delta, None))
        .await
        .map(|_| ())
        .explain(|| format!("{}: cannot clean the Delta log", log.table))
}

/// Only while no file waits for its commit: it belongs to no version yet, and a clock that jumps makes it old.
async fn sweep_when_due(log: &TableLog, state: &mut State, now: Timestamp) -> Result<()> {
    let turn = state.turn.clone();
    let Ok(_turn) = turn.try_lock() else { return Ok(()) };
    if state.past.is_empty() && state.swept_at.is_none_or(|at| now - at >= SWEEP_EVERY_MICROS) {
        state.swept_at = Some(now);
        state.past = sweep::past(log, now).await?;
    }
    let left = state.past.len().saturating_sub(SWEPT_AT_ONCE);
    purge::remove(&log.store, state.past.split_off(left)).await
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

    #[test]
    fn files_that_lose_their_rows_as_fast_as_they_come_are_joined_too() {
        // As a table has them whose newest rows are changed again and again.
        let files = vec![file(128 << 10, 2_200, 1_900); 100];
        assert_eq!(choose(files.iter()).len(), 100);
        // What is large because of deleted rows does not wait for its like.
        let mut uneven = vec![file(100 << 10, 1_000, 0); 9];
        uneven.push(file(6 << 20, 100_000, 99_000));
        assert_eq!(choose(uneven.iter()).len(), 10);
    }

    #[test]
    fn a_large_file_of_mostly_deleted_rows_stops_nobody_and_is_rewritten_alone() {
        let worn = file(30 << 20, 400_000, 399_000);
        let mut files = vec![file(1 << 20, 10_000, 0); 20];
        files.push(worn.clone());
        assert_eq!(choose(files.iter()).len(), 20);
        let huge = file(200 << 20, 4_000_000, 3_900_000);
        let few = [file(1 << 20, 10_000, 0), worn, huge];
        assert_eq!(choose(few[..2].iter()).len(), 1);
        assert_eq!(choose(few[2..].iter()).len(), 1);
        assert_eq!(choose([file(30 << 20, 100, 60)].iter()).len(), 1, "few rows, but large ones");
        assert!(choose([file(1 << 10, 100, 60)].iter()).is_empty());
    }

    #[test]
    fn a_group_has_no_more_rows_than_the_index_has_memory_for() {
        let flat = vec![file(100 << 10, 200_000, 0); 20];
        assert_eq!(choose(flat.iter()).len(), 10);
    }

    #[test]
    fn files_without_a_live_row_go_at_once() {
        let files = [file(1 << 20, 10, 10), file(1 << 20, 10_000, 0), file(100 << 20, 10_000, 10_000)];
        assert_eq!(choose(files.iter()).len(), 2);
    }
}
