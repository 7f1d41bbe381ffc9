//! Equal rows in a map that has one entry for a hash.
//!
//! The first row of an identity lies under its hash, like a key's. When there are more, the first is marked [`MORE`], their number lies
//! under [`KeyHash::count`] and the n-th further row under [`KeyHash::occurrence`] of n. So a block never fills with equal rows, however
//! many there are, and adding a row or taking the last costs three reads at most.

use change::Result;

use super::KeyHash;
use super::disk::damaged;
use super::entry::{self, ABSENT, MORE, Place};
use super::map::BlockMap;
use super::scratch::ScratchMap;

/// What is to lie under which hash.
pub(super) type Writes = Vec<(KeyHash, Option<u64>)>;

pub(super) struct Multiset<'a> {
    map: &'a BlockMap,
    /// What is written down for this step and not in the map yet; [`ABSENT`] for what is removed.
    overlay: Option<&'a ScratchMap>,
}

impl<'a> Multiset<'a> {
    pub(super) fn new(map: &'a BlockMap, overlay: Option<&'a ScratchMap>) -> Self {
        Self { map, overlay }
    }

    /// Up to so many rows of an identity, those added last first.
    pub(super) fn last_rows(&self, key: KeyHash, wanted: u64) -> Result<Vec<Place>> {
        let rows = self.count(key)?;
        (rows.saturating_sub(wanted)..rows).rev().map(|number| Ok(entry::unpack(self.row(key, number)?))).collect()
    }

    /// One row more.
    pub(super) fn add(&self, key: KeyHash, place: Place) -> Result<Writes> {
        let rows = self.count(key)?;
        let mut writes = vec![(slot(key, rows), Some(entry::pack(place)?))];
        if rows == 1 {
            writes.push((key, Some(self.row(key, 0)? | MORE)));
        }
        if rows > 0 {
            writes.push((key.count(), Some(entry::pack_count(rows + 1))));
        }
        Ok(writes)
    }

    /// One row less: the last takes the place of the one that goes.
    pub(super) fn take(&self, key: KeyHash, place: Place) -> Result<Writes> {
        let Some((rows, number)) = self.locate(key, place)? else { return Ok(Writes::new()) };
        let last = rows - 1;
        let mut writes = Writes::new();
        if number != last {
            let mark = if number == 0 { MORE } else { 0 };
            writes.push((slot(key, number), Some(self.row(key, last)? | mark)));
        }
        writes.push((slot(key, last), None));
        if rows > 2 {
            writes.push((key.count(), Some(entry::pack_count(last))));
        } else if rows == 2 {
            let first = if number == 0 { self.row(key, last)? } else { self.row(key, 0)? };
            writes.push((key.count(), None));
            writes.push((key, Some(first & !MORE)));
        }
        Ok(writes)
    }

    /// A row elsewhere.
    pub(super) fn move_row(&self, key: KeyHash, from: Place, to: Place) -> Result<Writes> {
        let Some((_, number)) = self.locate(key, from)? else { return Ok(Writes::new()) };
        let marks = entry::marks(self.row(key, number)?);
        Ok(vec![(slot(key, number), Some(entry::pack(to)? | marks))])
    }

    /// How many rows the identity has, and the number of the one that lies at a place.
    fn locate(&self, key: KeyHash, place: Place) -> Result<Option<(u64, u64)>> {
        let rows = self.count(key)?;
        for number in (0..rows).rev() {
            if entry::unpack(self.row(key, number)?) == place {
                return Ok(Some((rows, number)));
            }
        }
        Ok(None)
    }

    fn count(&self, key: KeyHash) -> Result<u64> {
        match self.read(key)? {
            None => Ok(0),
            Some(first) if first & MORE == 0 => Ok(1),
            Some(_) => self.read(key.count())?.map(entry::unpack_count).ok_or_else(|| self.lost()),
        }
    }

    fn row(&self, key: KeyHash, number: u64) -> Result<u64> {
        self.read(slot(key, number))?.ok_or_else(|| self.lost())
    }

    fn read(&self, key: KeyHash) -> Result<Option<u64>> {
        if let Some(overlay) = self.overlay
            && let [Some(payload)] = overlay.get(&[key])?[..]
        {
            return Ok((payload != ABSENT).then_some(payload));
        }
        Ok(self.map.get(&[key])?.pop().flatten())
    }

    fn lost(&self) -> change::Error {
        damaged(self.map.file().path(), "a row of a multiset is missing")
    }
}

/// Where the `number`-th row of an identity lies, from 0.
pub(super) fn slot(key: KeyHash, number: u64) -> KeyHash {
    if number == 0 { key } else { key.occurrence(number) }
}
