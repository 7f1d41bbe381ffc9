//! What a commit of the current table does: old rows marked deleted, files added, the index's step.

use std::collections::{BTreeMap, HashMap};

use change::{Error, Kind, Result};
use deltalake::kernel::{Action, Add, DeletionVectorDescriptor};
use roaring::RoaringTreemap;

use crate::area::{Area, Seat, Seats};
use crate::current::Current;
use crate::deleted::{self, VectorFile, under};
use crate::index::{Change, Entry, FileId, KeyHash, KeyIndex, Place, Shape, Step};
use crate::log::{TableLog, remove};
use crate::record::Record;

/// Keys that are looked up in the index at once: many, because the index then reads its file in order.
const LOOKUP: usize = 1 << 18;

/// Old rows that a commit marks deleted, and the index's step.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) gone: BTreeMap<String, RoaringTreemap>,
    pub(crate) changes: Vec<Change>,
    /// What a unique index learns of copied rows.
    pub(crate) copied: Vec<(KeyHash, Place)>,
    /// Deletes from a multiset whose rows the first copy has not brought yet.
    pub(crate) owed: HashMap<KeyHash, u64>,
    /// Copied rows that such deletes took.
    pub(crate) paid: HashMap<KeyHash, u64>,
}

/// A commit's file actions, the adds among them, and the deleted rows of files once the commit is made.
#[derive(Default)]
pub(crate) struct FileChanges {
    pub(crate) actions: Vec<Action>,
    pub(crate) adds: Vec<Add>,
    pub(crate) vectors: Vec<(String, RoaringTreemap)>,
}

impl Current {
    /// Stored rows that streamed ones replace or remove.
    pub(crate) fn plan_stream(&mut self) -> Result<Plan> {
        let (truncated, copying) = (self.stream.truncated, self.copying());
        let mut plan = Plan::default();
        let Some((index, _)) = &mut self.index else { return Ok(plan) };
        let files = file_ids(index, &self.stream)?;
        match &self.stream.seats {
            Seats::Append => {}
            Seats::Unique(map) => {
                let mut pending: Vec<KeyHash> = Vec::new();
                let mut settle = |pending: &mut Vec<KeyHash>| -> Result<()> {
                    for entry in index.lookup(pending)?.iter().flatten() {
                        if let Some(place) = entry.place() {
                            plan.gone.entry(path_of(index, place)?).or_default().insert(u64::from(place.row));
                        }
                    }
                    pending.clear();
                    Ok(())
                };
                if !truncated {
                    map.for_each(|key, _| {
                        pending.push(key);
                        if pending.len() == LOOKUP { settle(&mut pending) } else { Ok(()) }
                    })?;
                    settle(&mut pending)?;
                }
            }
            Seats::Multi { added, taken, parted } => {
                let taken: Vec<(KeyHash, u64)> =
                    taken.iter().filter(|_| !truncated).map(|(key, n)| (*key, *n)).collect();
                for ((key, wanted), places) in taken.iter().zip(parted.free(index, &taken)?) {
                    let missing = wanted.saturating_sub(places.len() as u64);
                    if missing > 0 && !copying {
                        return Err(missing_row(&self.log, self.behind || self.mixed));
                    }
                    if missing > 0 {
                        plan.owed.insert(*key, missing);
                    }
                    for place in places {
                        plan.gone.entry(path_of(index, place)?).or_default().insert(u64::from(place.row));
                        plan.changes.push(Change::Take { key: *key, place });
                    }
                }
                for (key, place) in parted.places().filter(|_| !truncated) {
                    plan.gone.entry(path_of(index, place)?).or_default().insert(u64::from(place.row));
                    plan.changes.push(Change::Take { key, place });
                }
                plan.changes.extend(additions(added, &files));
            }
        }
        Ok(plan)
    }

    /// Copied rows lose to whatever the stream has brought since, and replace what an earlier reading of their chunk left.
    pub(crate) fn plan_copy(&mut self, record: &Record) -> Result<Plan> {
        let mut plan = Plan::default();
        let Some((index, _)) = &mut self.index else { return Ok(plan) };
        if index.shape() == Shape::Multiset {
            return self.plan_copy_multi(record);
        }
        index.expect_new_keys()?;
        for staged in &mut self.copy.staged {
            let file = index.file_id(&staged.add.path)?;
            let place = |row: usize| Place { file, row: row as u32 };
            for (chunk, keys) in staged.keys.chunks(LOOKUP).enumerate() {
                for (at, (key, old)) in keys.iter().zip(index.lookup(keys)?).enumerate() {
                    let row = chunk * LOOKUP + at;
                    match old {
                        Some(Entry::Tombstone | Entry::Row { copied: false, .. }) => {
                            staged.gone.insert(row as u64);
                            continue;
                        }
                        Some(Entry::Row { place: old, copied: true }) => {
                            plan.gone.entry(path_of(index, old)?).or_default().insert(u64::from(old.row));
                        }
                        None => {}
                    }
                    plan.copied.push((*key, place(row)));
                }
            }
        }
        Ok(plan)
    }

    fn plan_copy_multi(&mut self, record: &Record) -> Result<Plan> {
        let mut plan = Plan::default();
        let Some((index, _)) = &mut self.index else { return Ok(plan) };
        let mut owed = self.owed.clone();
        for staged in &mut self.copy.staged {
            staged.gone.clear();
            let file = index.file_id(&staged.add.path)?;
            for (row, key) in (0_u32..).zip(&staged.keys) {
                match owed.get_mut(key).filter(|rows| **rows > 0) {
                    Some(rows) => {
                        *rows -= 1;
                        *plan.paid.entry(*key).or_default() += 1;
                        staged.gone.insert(u64::from(row));
                    }
                    None => plan.changes.push(Change::Add { key: *key, place: Place { file, row } }),
                }
            }
        }
        let finishes = record.checkpoint.copy.as_ref().is_some_and(|copy| copy.finished.is_some());
        // A truncate that waits has made the copied rows pass over, and the debts with them.
        if finishes && !self.stream.truncated && owed.values().any(|rows| *rows > 0) {
            // A new start copies the table anew, as it is now.
            return Err(missing_row(&self.log, self.behind || !self.is_identified()));
        }
        Ok(plan)
    }

    /// What the commit does to files.
    pub(crate) async fn file_changes(
        &self,
        copied: bool,
        plan: &Plan,
        truncated: bool,
        now_ms: i64,
    ) -> Result<FileChanges> {
        // While a copy is unfinished, deleted rows tell which keys must not come back: their files stay.
        let remembers = self.copying() && self.index.as_ref().is_some_and(|(index, _)| index.shape() == Shape::Unique);
        let mut file = VectorFile::new();
        let mut changes = FileChanges::default();
        if truncated {
            changes.actions.extend(self.log.files.values().map(|file| Action::Remove(remove(&file.add, true, now_ms))));
        }
        for (path, rows) in &plan.gone {
            let old = self.log.files.get(path).ok_or_else(|| {
                Error::new(
                    Kind::Data,
                    format!("{}: the key index knows a file that the table does not have", self.log.table),
                )
                .fix("Nothing to do: the index is built anew.")
            })?;
            let mut all = match (self.vectors.get(path), &old.add.deletion_vector) {
                (Some(known), _) => known.clone(),
                (None, Some(descriptor)) => deleted::read(&self.log.store, descriptor).await?,
                (None, None) => RoaringTreemap::new(),
            };
            all |= rows;
            changes.actions.push(Action::Remove(remove(&old.add, true, now_ms)));
            if all.len() < old.rows || remembers {
                changes.adds.push(with_vector(&old.add, file.push(&all)?));
                changes.vectors.push((path.clone(), all));
            }
        }
        let staged = if copied { &self.copy.staged } else { &self.stream.staged };
        for staged in staged.iter().filter(|staged| staged.gone.len() < staged.rows || remembers) {
            if staged.gone.is_empty() {
                changes.adds.push(staged.add.clone());
            } else {
                changes.adds.push(with_vector(&staged.add, file.push(&staged.gone)?));
                changes.vectors.push((staged.add.path.clone(), staged.gone.clone()));
            }
        }
        file.write(&self.log.store).await?;
        changes.actions.extend(changes.adds.iter().cloned().map(Action::Add));
        Ok(changes)
    }
}

fn with_vector(add: &Add, vector: DeletionVectorDescriptor) -> Add {
    Add { data_change: true, ..under(add.clone(), Some(vector)) }
}

/// That a delete names a row that is not there. `behind`: it may not say all of the row.
pub(crate) fn missing_row(log: &TableLog, behind: bool) -> Error {
    if behind {
        let what = format!("{}: a delete does not say all columns of its row: one may have been dropped", log.table);
        return Error::new(Kind::Unavailable, what)
            .fix("Nothing to do: the table is opened again, which shows its columns.");
    }
    Error::new(Kind::SourceGone, format!("{}: a delete names a row that the lake does not have", log.table))
        .fix("Rows were lost or changed outside Lockgate: remove the table's folders so that it is copied anew.")
}

/// The data file that a place is in.
pub(crate) fn path_of(index: &KeyIndex, place: Place) -> Result<String> {
    index.file_path(place.file).map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::Data, "the key index names a file that it does not know")
            .fix("Remove the index below .lockgate/index; it is rebuilt at the next start.")
    })
}

/// The index's numbers of the staged files.
pub(crate) fn file_ids(index: &mut KeyIndex, area: &Area) -> Result<Vec<FileId>> {
    area.staged.iter().map(|staged| index.file_id(&staged.add.path)).collect()
}

/// What the index learns from a stream over unique keys, in pieces, so that a transaction of any size fits into memory.
pub(crate) fn push_unique(area: &Area, files: &[FileId], copying: bool, step: &mut Step<'_>) -> Result<()> {
    let Seats::Unique(map) = &area.seats else { return Ok(()) };
    let mut changes = Vec::new();
    map.for_each(|key, bits| {
        changes.push(match Seat::unpack(bits) {
            Seat::Staged { file, row } => Change::Put {
                key,
                entry: Entry::Row { place: Place { file: files[file as usize], row }, copied: false },
            },
            _ if copying => Change::Put { key, entry: Entry::Tombstone },
            _ => Change::Remove { key },
        });
        if changes.len() == LOOKUP {
            step.push(&changes)?;
            changes.clear();
        }
        Ok(())
    })?;
    step.push(&changes)
}

/// What the index of a multiset learns of added rows.
pub(crate) fn additions(added: &HashMap<KeyHash, Vec<Seat>>, files: &[FileId]) -> Vec<Change> {
    let of_key = |(key, seats): (&KeyHash, &Vec<Seat>)| {
        let key = *key;
        let place = move |seat: &Seat| match seat {
            Seat::Staged { file, row } => {
                Some(Change::Add { key, place: Place { file: files[*file as usize], row: *row } })
            }
            _ => None,
        };
        seats.iter().filter_map(place).collect::<Vec<_>>()
    };
    added.iter().flat_map(of_key).collect()
}
