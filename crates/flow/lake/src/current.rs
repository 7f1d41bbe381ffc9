//! The current table: rows are collapsed by key as they come in, and a commit appends the new images and marks the old ones deleted.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use change::{Error, Kind, Op, Origin, Position, Result, RowMeta};
use gate::ClearedBatch;
use roaring::RoaringTreemap;

use crate::area::{Area, Fate, Held, Seat, Seats};
use crate::copied::CopyArea;
use crate::encode::Statistics;
use crate::fill::{From, Wanted};
use crate::held_bytes::HeldBytes;
use crate::identity::Identifier;
use crate::incoming::{Incoming, logged, removals, take};
use crate::index::{Change, Entry, KeyHash, KeyIndex, ScratchMap, Shape};
use crate::log::{Committed, TableLog};
use crate::naming::Layer;
use crate::plan::{FileChanges, additions, file_ids, path_of, push_unique};
use crate::record::Record;
use crate::reidentify::Parted;
use crate::stored::StoredRows;

/// Keys of one commit that are kept in memory: about 16 MiB; more go to a scratch file.
const KEYS_IN_MEMORY: usize = 1 << 19;

/// The current table of a source table.
pub(crate) struct Current {
    pub(crate) log: TableLog,
    /// `None` when rows cannot be found again (inserts only).
    pub(crate) index: Option<(KeyIndex, Identifier)>,
    pub(crate) statistics: Statistics,
    pub(crate) scratch: PathBuf,
    pub(crate) stream: Area,
    pub(crate) copy: CopyArea,
    /// Deleted rows of the files whose vectors were read or written by us.
    pub(crate) vectors: HashMap<String, RoaringTreemap>,
    /// Rows of a multiset that the stream has deleted before the first copy brought them: how many copied rows of an identity are to be
    /// passed over. Not durable: a copy of a table without key starts over when the process does, because its snapshot is gone.
    pub(crate) owed: HashMap<KeyHash, u64>,
    /// The columns by which rows of a multiset are to be found.
    pub(crate) identity: BTreeSet<String>,
    /// The columns that the stream has sent since the table was opened.
    pub(crate) sent: BTreeSet<String>,
    /// Rows are found by columns that the stream does not send: it has not come to them, or they were dropped since the table was opened.
    pub(crate) behind: bool,
    /// Rows wait that were sent during the first copy, when rows were found by other columns.
    pub(crate) mixed: bool,
    /// The index names a file that the table does not have: the log was restored, or a commit of it was damaged.
    pub(crate) stale: bool,
    /// What went wrong after the last commit was made.
    pub(crate) failed: Option<Error>,
}

/// An empty area for the stream.
pub(crate) fn stream_area(shape: Option<Shape>, scratch: &std::path::Path, bytes: HeldBytes) -> Result<Area> {
    let seats = match shape {
        None => Seats::Append,
        Some(Shape::Unique) => Seats::Unique(ScratchMap::create(&scratch.join("keys"), KEYS_IN_MEMORY)?),
        Some(Shape::Multiset) => {
            Seats::Multi { added: HashMap::new(), taken: HashMap::new(), parted: Parted::default() }
        }
    };
    Ok(Area::new(seats, bytes))
}

impl Current {
    /// Whether copied rows may still come.
    pub(crate) fn copying(&self) -> bool {
        self.log.record.copying()
    }

    /// Whether the rows of a multiset are found by the columns by which they are to be found.
    pub(crate) fn is_identified(&self) -> bool {
        self.index.as_ref().is_none_or(|(_, identifier)| {
            identifier.names(&self.log.schema).into_iter().collect::<BTreeSet<String>>() == self.identity
        })
    }

    /// Takes in rows; what the table has already is passed over.
    pub(crate) async fn write(&mut self, batch: &Arc<ClearedBatch>, now_ms: i64) -> Result<()> {
        let copied = match batch.origin() {
            Origin::Copy { chunk } => {
                let done = self.log.record.checkpoint.copy.as_ref().is_some_and(|copy| copy.done.contains(chunk));
                let cut = self.log.record.truncated.as_ref().is_some_and(|cut| {
                    batch.meta().positions.iter().flatten().next().is_some_and(|low| low < cut.as_bytes())
                });
                if done || cut || self.stream.truncated {
                    return Ok(());
                }
                true
            }
            Origin::Stream if matches!(self.stream.seats, Seats::Multi { .. }) => {
                for column in &batch.schema().columns {
                    if !self.sent.contains(&column.name) {
                        self.sent.insert(column.name.clone());
                    }
                }
                false
            }
            Origin::Stream | Origin::Held => false,
        };
        let after = self.log.record.checkpoint.stream.as_ref().map(|stream| stream.through.clone());
        // Held rows are from before the checkpoint, and were not in the table when it was made.
        let after = after.filter(|_| batch.origin() == Origin::Stream);
        let Some(incoming) = take(batch, after.as_ref(), &self.log.schema, Layer::Current)? else { return Ok(()) };
        if copied {
            let keys = self.keys(&incoming)?;
            return self.copy.hold(batch, keys, &self.log, &self.statistics, now_ms).await;
        }
        self.take_in(incoming, now_ms).await
    }

    /// Takes in removals of rows that the table has.
    pub(crate) async fn remove(&mut self, stored: &StoredRows, meta: &RowMeta, now_ms: i64) -> Result<()> {
        let incoming = removals(stored, meta, &self.log.schema, Layer::Current)?;
        self.take_in(incoming, now_ms).await
    }

    /// Takes in changes that the change log has already.
    pub(crate) async fn replay(&mut self, stored: &StoredRows, now_ms: i64) -> Result<()> {
        let incoming = logged(stored, &self.log.schema)?;
        self.take_in(incoming, now_ms).await
    }

    fn keys(&self, incoming: &Incoming) -> Result<Vec<KeyHash>> {
        self.index.as_ref().map_or(Ok(Vec::new()), |(_, identifier)| identifier.hashes(&incoming.rows))
    }

    /// Changes that are new to the table.
    async fn take_in(&mut self, incoming: Incoming, now_ms: i64) -> Result<()> {
        let keys = self.keys(&incoming)?;
        self.stream.changes += incoming.ops.len() as u64;
        self.stream.newest = self.stream.newest.max(incoming.newest);
        if self.index.is_none() {
            let fates = vec![Fate::Live; incoming.ops.len()];
            self.stream.hold(Held { rows: incoming.rows, keys, fates });
        } else {
            self.collapse(incoming, keys).await?;
        }
        if self.stream.is_full() {
            self.stream.flush(&self.log.store, &self.log.schema, &self.statistics, now_ms).await?;
        }
        Ok(())
    }

    async fn collapse(&mut self, incoming: Incoming, keys: Vec<KeyHash>) -> Result<()> {
        let batch = self.stream.held.len() as u32;
        let removed = match &self.stream.seats {
            Seats::Unique(_) if self.copying() => Fate::Grave,
            _ => Fate::Gone,
        };
        let fates: Vec<Fate> = incoming.ops.iter().map(|op| if op.removes() { removed } else { Fate::Live }).collect();
        match &self.stream.seats {
            Seats::Multi { .. } => {
                self.stream.hold(Held { rows: incoming.rows, keys: keys.clone(), fates });
                self.collapse_multi(batch, &incoming.ops, &keys);
                Ok(())
            }
            _ => self.collapse_unique(batch, incoming, keys, fates).await,
        }
    }

    /// A multiset: a delete takes a row that waits, else one of the table's.
    fn collapse_multi(&mut self, batch: u32, ops: &[Op], keys: &[KeyHash]) {
        for (row, (op, key)) in (0_u32..).zip(ops.iter().zip(keys)) {
            let Seats::Multi { added, taken, .. } = &mut self.stream.seats else { return };
            // An update that leaves the identity as it is takes the row and adds its like.
            let killed = match op {
                Op::Copy | Op::Insert => None,
                Op::Update | Op::Delete | Op::MoveOut => {
                    let seat = added.get_mut(key).and_then(Vec::pop);
                    if seat.is_none() {
                        *taken.entry(*key).or_default() += 1;
                    }
                    seat
                }
            };
            if !op.removes() {
                added.entry(*key).or_default().push(Seat::Held { batch, row });
            }
            if let Some(seat) = killed {
                self.stream.kill(seat);
            }
        }
    }

    async fn collapse_unique(
        &mut self,
        batch: u32,
        incoming: Incoming,
        keys: Vec<KeyHash>,
        mut fates: Vec<Fate>,
    ) -> Result<()> {
        let Incoming { rows, ops, unsent, .. } = incoming;
        let before = self.seats(&keys)?;
        let stored = self.stored_places(&ops, &keys, &unsent)?;
        let mut here: HashMap<KeyHash, Seat> = HashMap::new();
        let mut wanted = Wanted::default();
        // The place of the row whose key changes, for the row that follows it.
        let mut moved: Option<Option<Base>> = None;
        let base = |seat: Option<Seat>, key: &KeyHash| match seat {
            Some(Seat::Removed) => None,
            Some(seat) => Some(Base::Seat(seat)),
            None => stored.get(key).cloned().map(Base::File),
        };
        let mut replaced = Vec::new();
        for row in 0..ops.len() {
            let (op, key) = (ops[row], &keys[row]);
            let seat = here.get(key).copied().or(before[row]);
            let from = moved.take();
            if op == Op::MoveOut {
                moved = Some(base(seat, key));
            }
            let row_u32 = row as u32;
            if !op.removes() && unsent.iter().any(|(_, bits)| bits.value(row)) {
                let base = if op == Op::Insert { from.flatten() } else { base(seat, key) };
                let Some(base) = base else {
                    self.check_missing(&rows, row)?;
                    fates[row] = Fate::Gone;
                    continue;
                };
                for (column, _) in unsent.iter().filter(|(_, bits)| bits.value(row)) {
                    let origin = self.origin(&base, batch, *column, &wanted)?;
                    wanted.0.insert((*column, row_u32), origin);
                }
            }
            if let Some(seat) = seat {
                replaced.push(seat);
            }
            let now = if op.removes() { Seat::Removed } else { Seat::Held { batch, row: row_u32 } };
            here.insert(*key, now);
        }
        let rows = wanted.fill(rows, &self.stream, &self.log.store, &self.log.schema).await?;
        self.stream.hold(Held { rows, keys, fates });
        for seat in replaced {
            self.stream.kill(seat);
        }
        if let Seats::Unique(map) = &mut self.stream.seats {
            map.set(&here.iter().map(|(key, seat)| (*key, Some(seat.pack()))).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn seats(&self, keys: &[KeyHash]) -> Result<Vec<Option<Seat>>> {
        match &self.stream.seats {
            Seats::Unique(map) => Ok(map.get(keys)?.into_iter().map(|bits| bits.map(Seat::unpack)).collect()),
            _ => Ok(vec![None; keys.len()]),
        }
    }

    /// Where the table has the rows that unsent cells may be filled from.
    fn stored_places(
        &self,
        ops: &[Op],
        keys: &[KeyHash],
        unsent: &[(usize, arrow::array::BooleanArray)],
    ) -> Result<HashMap<KeyHash, (String, u32)>> {
        if unsent.is_empty() || self.stream.truncated {
            return Ok(HashMap::new());
        }
        let needs = |row: usize| unsent.iter().any(|(_, bits)| bits.value(row)) || ops[row] == Op::MoveOut;
        let asked: Vec<KeyHash> = (0..ops.len()).filter(|row| needs(*row)).map(|row| keys[row]).collect();
        let Some((index, _)) = &self.index else { return Ok(HashMap::new()) };
        let mut places = HashMap::new();
        for (key, entry) in asked.iter().zip(index.lookup(&asked)?) {
            if let Some(place) = entry.as_ref().and_then(Entry::place) {
                places.insert(*key, (path_of(index, place)?, place.row));
            }
        }
        Ok(places)
    }

    fn origin(&self, base: &Base, batch: u32, column: usize, wanted: &Wanted) -> Result<From> {
        Ok(match base {
            Base::File((path, row)) => From::File(path.clone(), *row),
            Base::Seat(Seat::Held { batch: of, row }) if *of == batch => wanted.origin(column, *row),
            Base::Seat(Seat::Held { batch, row }) => From::Held(*batch, *row),
            Base::Seat(Seat::Staged { file, row }) => {
                From::File(self.stream.staged[*file as usize].add.path.clone(), *row)
            }
            Base::Seat(Seat::Removed) => return Err(Error::new(Kind::Bug, "a removed row was asked for its values")),
        })
    }

    /// A row without its base: right while the copy is unfinished or when its chunk may have seen the delete that will follow.
    fn check_missing(&self, rows: &arrow::array::RecordBatch, row: usize) -> Result<()> {
        let finished = self.log.record.checkpoint.copy.as_ref().and_then(|copy| copy.finished.as_ref());
        let position = rows
            .column_by_name(crate::schema::POSITION)
            .map(|column| Position::from_bytes(arrow::array::AsArray::as_binary::<i32>(column).value(row)));
        match (finished, position) {
            (Some(finished), Some(position)) if position > *finished => Err(Error::new(
                Kind::SourceGone,
                format!("{}: an update leaves out values of a row that the lake does not have", self.log.table),
            )
            .fix("Rows were lost or changed outside Lockgate: remove the table's folders so that it is copied anew.")),
            _ => Ok(()),
        }
    }

    /// Commits the streamed rows (or the copied ones) with `record`.
    pub(crate) async fn commit(&mut self, copied: bool, record: Record, now_ms: i64) -> Result<Committed> {
        if let Some(taken) = self.log.taken_after_all().await? {
            return Ok(taken);
        }
        if copied {
            self.copy.flush(&self.log, &self.statistics, now_ms).await?;
        } else {
            self.stream.flush(&self.log.store, &self.log.schema, &self.statistics, now_ms).await?;
        }
        let plan = if copied { self.plan_copy(&record)? } else { self.plan_stream()? };
        self.stale = plan.gone.keys().any(|path| !self.log.files.contains_key(path));
        let truncated = !copied && self.stream.truncated;
        let copying = self.copying();
        let FileChanges { actions, adds, vectors } = self.file_changes(copied, &plan, truncated, now_ms).await?;
        let version = self.log.version + 1;
        let stamp = uuid::Uuid::new_v4().as_u128();
        let record = Record { commit: stamp, sequence: self.log.record.sequence + 1, ..record };
        if let Some((index, _)) = &mut self.index
            && !truncated
        {
            if copied && index.shape() == Shape::Unique {
                index.prepare_copied(version, stamp, &plan.copied)?;
            } else {
                let files = file_ids(index, &self.stream)?;
                let mut step = index.step(version, stamp)?;
                step.push(&plan.changes)?;
                if !copied {
                    push_unique(&self.stream, &files, copying, &mut step)?;
                }
                step.prepare()?;
            }
        }
        let operation = if copied { "LOCKGATE COPY" } else { "LOCKGATE STREAM" };
        match self.log.commit_as(operation, actions, record, now_ms).await {
            Ok(Committed::Done) => {}
            // Whether it was made or not, the next start finds the step beside the index and knows.
            other => {
                if let Some((index, _)) = &mut self.index {
                    index.leave();
                }
                return other;
            }
        }
        self.log.add_files(adds);
        if truncated {
            self.vectors.clear();
            self.owed.clear();
        }
        self.vectors.extend(vectors);
        self.vectors.retain(|path, _| self.log.files.contains_key(path));
        self.settle_debts(plan.owed, plan.paid);
        let unnamed = self.unnamed(copied, plan.gone.keys());
        self.failed = self.follow(copied, truncated, copying, &plan.changes, &unnamed).err();
        Ok(Committed::Done)
    }

    /// Files that this commit touched and that the table does not have after it: each of their rows is deleted, so no entry of the index is of
    /// one. While keys of a first copy wait beside the index, such files stay.
    fn unnamed<'a>(&'a self, copied: bool, gone: impl Iterator<Item = &'a String>) -> Vec<String> {
        let staged = if copied { &self.copy.staged } else { &self.stream.staged };
        let touched = gone.chain(staged.iter().map(|staged| &staged.add.path));
        touched.filter(|path| !self.log.files.contains_key(*path)).cloned().collect()
    }

    /// Brings the index to the version that was committed and lets go of the rows that are in it. What fails here does not undo the
    /// commit: it is said at the next call.
    fn follow(
        &mut self,
        copied: bool,
        truncated: bool,
        copying: bool,
        changes: &[Change],
        unnamed: &[String],
    ) -> Result<()> {
        if truncated {
            self.rebuild_after_truncate(changes, copying)?;
        } else if let Some((index, _)) = &mut self.index {
            index.finish()?;
        }
        if let Some((index, _)) = &mut self.index {
            let unnamed: Vec<_> = unnamed.iter().filter_map(|path| index.existing_file_id(path)).collect();
            index.forget_files(&unnamed)?;
        }
        self.clear(copied)
    }

    fn settle_debts(&mut self, owed: HashMap<KeyHash, u64>, paid: HashMap<KeyHash, u64>) {
        for (key, rows) in owed {
            *self.owed.entry(key).or_default() += rows;
        }
        for (key, rows) in paid {
            if let Some(owed) = self.owed.get_mut(&key) {
                *owed = owed.saturating_sub(rows);
            }
        }
        self.owed.retain(|_, rows| *rows > 0);
    }

    fn clear(&mut self, copied: bool) -> Result<()> {
        if copied {
            self.copy = self.copy.emptied();
        } else {
            let shape = self.index.as_ref().map(|(index, _)| index.shape());
            // The old area lets go of the scratch folder first.
            let bytes = self.stream.empty();
            self.stream = stream_area(shape, &self.scratch, bytes)?;
        }
        if copied
            && self.log.record.checkpoint.copy.as_ref().is_some_and(|copy| copy.finished.is_some())
            && let Some((index, _)) = &mut self.index
            && index.shape() == Shape::Unique
        {
            index.clear_tombstones()?;
        }
        Ok(())
    }

    fn rebuild_after_truncate(&mut self, changes: &[Change], copying: bool) -> Result<()> {
        let version = self.log.version;
        let Some((index, identifier)) = self.index.take() else { return Ok(()) };
        // One step from the empty index of the version before to this one.
        let mut index = index.emptied(version - 1)?;
        let files = file_ids(&mut index, &self.stream)?;
        let mut step = index.step(version, self.log.record.commit)?;
        // The places of a multiset's rows were numbered in the index that is gone, so they are made again.
        match &self.stream.seats {
            Seats::Multi { added, .. } => step.push(&additions(added, &files))?,
            _ => step.push(changes)?,
        }
        push_unique(&self.stream, &files, copying, &mut step)?;
        step.prepare()?;
        index.finish()?;
        self.index = Some((index, identifier));
        Ok(())
    }
}

/// Where a row's values are before this batch changes it.
#[derive(Clone)]
enum Base {
    Seat(Seat),
    File((String, u32)),
}
