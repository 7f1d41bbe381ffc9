//! Rows of a table without key are found by the columns that the source sends. When these change, so does what identifies a row: in the index, and
//! among the changes that wait for their commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use change::Result;
use roaring::RoaringTreemap;

use crate::area::{Seat, Seats};
use crate::current::Current;
use crate::index::{KeyHash, KeyIndex, Place, Shape};
use crate::plan::{missing_row, path_of};
use crate::rebuild;
use crate::writer::{WriterOptions, index_place};

/// Rows of a multiset that waiting deletes have taken out of the table, while rows were found by other columns than now.
#[derive(Default)]
pub(crate) struct Parted {
    /// By data file.
    rows: BTreeMap<String, RoaringTreemap>,
    /// By what identifies them now. The index has them still.
    places: HashMap<KeyHash, HashSet<Place>>,
}

impl Parted {
    /// Up to the wanted number of places for each identity, in their order, that no waiting delete has taken.
    pub(crate) fn free(&self, index: &KeyIndex, wanted: &[(KeyHash, u64)]) -> Result<Vec<Vec<Place>>> {
        let taken = |key: &KeyHash| self.places.get(key).map_or(0, HashSet::len) as u64;
        let asked: Vec<(KeyHash, u64)> = wanted.iter().map(|(key, rows)| (*key, rows + taken(key))).collect();
        let free = |((key, rows), places): (&(KeyHash, u64), Vec<Place>)| {
            let gone = self.places.get(key);
            let free = places.into_iter().filter(|place| gone.is_none_or(|gone| !gone.contains(place)));
            free.take(usize::try_from(*rows).unwrap_or(usize::MAX)).collect()
        };
        Ok(wanted.iter().zip(index.rows(&asked)?).map(free).collect())
    }

    /// Their identities and places.
    pub(crate) fn places(&self) -> impl Iterator<Item = (KeyHash, Place)> {
        self.places.iter().flat_map(|(key, places)| places.iter().map(|place| (*key, *place)))
    }
}

impl Current {
    /// Meets the columns that the source sends from here on.
    ///
    /// A column that the stream has sent and sends no more was dropped: what is in the table is found without it from then on. One that the
    /// stream has not sent yet came later than what it sends now, after a start. It is null there and does no harm.
    pub(crate) async fn reidentify(&mut self, names: BTreeSet<String>, options: &WriterOptions) -> Result<()> {
        let Some((index, identifier)) = &self.index else { return Ok(()) };
        if index.shape() == Shape::Unique {
            return Ok(());
        }
        let mut wanted = names.clone();
        wanted.extend(identifier.names(&self.log.schema).into_iter().filter(|name| !self.sent.contains(name)));
        let was_behind = std::mem::replace(&mut self.behind, wanted != names);
        let other_rows_wait = wanted != self.identity && self.stream.changes > 0;
        self.identity = wanted;
        self.sent.extend(names);
        self.mixed |= other_rows_wait && self.copying();
        if other_rows_wait && !self.mixed && !self.is_identified() {
            return self.part(was_behind, options).await;
        }
        self.meet_identity(options).await
    }

    /// Builds the index anew when rows are to be found by other columns than it knows them by. What waits and came before, or is owed to a first
    /// copy, is found by what identified it when it came: then this is done after the commit.
    pub(crate) async fn meet_identity(&mut self, options: &WriterOptions) -> Result<()> {
        self.mixed &= self.stream.changes > 0;
        if self.is_identified() || self.mixed || self.copying() {
            return Ok(());
        }
        // Rows that wait have the columns of now alone: their hashes, by this seed, are the same by either set of columns.
        self.index_by_identity(options).await
    }

    async fn index_by_identity(&mut self, options: &WriterOptions) -> Result<()> {
        let Some((index, _)) = self.index.take_if(|(index, _)| index.shape() == Shape::Multiset) else { return Ok(()) };
        let (shape, seed) = (index.shape(), index.seed());
        drop(index);
        let (path, boot) = index_place(&self.log, options);
        let names: Vec<String> = self.identity.iter().cloned().collect();
        self.index = Some(rebuild::build(&self.log, &names, shape, &path, boot, Some(seed)).await?);
        Ok(())
    }

    /// Goes over to other columns in the middle of a transaction: the rows that its deletes have taken so far are found by what identified them
    /// and put aside, and what it has added is known by the columns of now.
    async fn part(&mut self, was_behind: bool, options: &WriterOptions) -> Result<()> {
        let now_ms = options.clock.now() / 1000;
        self.stream.flush(&self.log.store, &self.log.schema, &self.statistics, now_ms).await?;
        let rows = self.taken_rows(was_behind)?;
        self.index_by_identity(options).await?;
        let parted = self.parted(rows).await?;
        let mut added: HashMap<KeyHash, Vec<Seat>> = HashMap::new();
        if let Some((_, identifier)) = &self.index {
            for (file, staged) in (0_u32..).zip(&self.stream.staged) {
                let keys = rebuild::keys_of(&self.log, &staged.add.path, identifier).await?;
                for (row, key) in (0_u32..).zip(keys).filter(|(row, _)| !staged.gone.contains(u64::from(*row))) {
                    added.entry(key).or_default().push(Seat::Staged { file, row });
                }
            }
        }
        self.stream.seats = Seats::Multi { added, taken: HashMap::new(), parted };
        Ok(())
    }

    /// The rows of the table that waiting deletes take, by data file.
    fn taken_rows(&self, behind: bool) -> Result<BTreeMap<String, RoaringTreemap>> {
        let (Some((index, _)), Seats::Multi { taken, parted, .. }) = (&self.index, &self.stream.seats) else {
            return Ok(BTreeMap::new());
        };
        if self.stream.truncated {
            return Ok(BTreeMap::new());
        }
        let mut rows = parted.rows.clone();
        let taken: Vec<(KeyHash, u64)> = taken.iter().map(|(key, rows)| (*key, *rows)).collect();
        for ((_, wanted), places) in taken.iter().zip(parted.free(index, &taken)?) {
            if (places.len() as u64) < *wanted {
                return Err(missing_row(&self.log, behind));
            }
            for place in places {
                rows.entry(path_of(index, place)?).or_default().insert(u64::from(place.row));
            }
        }
        Ok(rows)
    }

    async fn parted(&mut self, rows: BTreeMap<String, RoaringTreemap>) -> Result<Parted> {
        let mut places: HashMap<KeyHash, HashSet<Place>> = HashMap::new();
        let Some((index, identifier)) = &mut self.index else { return Ok(Parted { rows, places }) };
        for (path, rows) in &rows {
            let file = index.file_id(path)?;
            let keys = rebuild::keys_of(&self.log, path, identifier).await?;
            for (row, key) in (0_u32..).zip(keys).filter(|(row, _)| rows.contains(u64::from(*row))) {
                places.entry(key).or_default().insert(Place { file, row });
            }
        }
        Ok(Parted { rows, places })
    }

    /// The table's data files were written again under other names, row by row the same, and the index was built anew.
    pub(crate) async fn follow_parted(&mut self, renamed: &HashMap<String, String>) -> Result<()> {
        let Seats::Multi { parted, .. } = &mut self.stream.seats else { return Ok(()) };
        let new = |path: String| renamed.get(&path).cloned().unwrap_or(path);
        let rows = std::mem::take(parted).rows.into_iter().map(|(path, rows)| (new(path), rows)).collect();
        let followed = self.parted(rows).await?;
        if let Seats::Multi { parted, .. } = &mut self.stream.seats {
            *parted = followed;
        }
        Ok(())
    }
}
