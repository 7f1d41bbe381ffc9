//! Keys of copied rows that wait beside the blocks.
//!
//! A chunk of a first copy brings hundreds of thousands of keys, scattered over all blocks. Carried out like another step it would read and
//! write the whole index, so that a first copy cost the square of its rows. So its keys are laid into a file of blocks of their own,
//! `copied.0` and so on; [`Header::copied`] says how many such files are part of the index. They are merged into the blocks when they hold
//! as many keys as the blocks do, when they are many, and when rows are removed or moved.
//!
//! What the blocks say of a key counts, unless it is a copied row: then the newest file that has the key does. That is right because a copied
//! row never replaces what the stream has brought, and because a row that the stream removes leaves a tombstone as long as a copy goes on.

use change::{Error, Kind, Result};

use super::disk::{Dir, damaged};
use super::entry::{self, Entry, Place};
use super::filter::Filter;
use super::header::{Header, Shape, State};
use super::intent::Intent;
use super::key_index::LOG2_BLOCKS_MAX;
use super::map::BlockMap;
use super::{KeyHash, KeyIndex};

/// So many files cost a key that is there as many reads.
const FILES_MAX: u32 = 16;

fn name(number: u32) -> String {
    format!("copied.{number}")
}

/// Removes all files, part of an index or not.
pub(super) fn remove_all(dir: &Dir) -> Result<()> {
    remove(dir, FILES_MAX + 1)
}

/// Removes the first files.
pub(super) fn remove(dir: &Dir, number: u32) -> Result<()> {
    (0..number).try_for_each(|number| dir.remove(&name(number)))
}

/// The files, and what is known of all keys of the index.
#[derive(Default)]
pub(super) struct Copied {
    maps: Vec<BlockMap>,
    /// The file of the step that is prepared.
    next: Option<BlockMap>,
    /// Every key of the index, since the first chunk.
    filter: Option<Filter>,
}

impl Copied {
    /// The files that the header counts, and the one of the step that was prepared.
    pub(super) fn open(dir: &Dir, header: &Header, prepared: Option<&Intent>) -> Result<Self> {
        let open = |number: u32| -> Result<BlockMap> {
            let path = dir.path().join(name(number));
            let file = dir.open(&name(number))?.ok_or_else(|| damaged(&path, "the file is missing"))?;
            let own = Header::read(&file)?;
            if (own.table_id, own.seed) != (header.table_id, header.seed) {
                return Err(damaged(&path, "it belongs to another index"));
            }
            if own.log2_blocks > LOG2_BLOCKS_MAX {
                return Err(damaged(&path, "the header's number of blocks is impossible"));
            }
            BlockMap::open(file, own.log2_blocks, own.entries)
        };
        if header.copied > FILES_MAX {
            return Err(damaged(dir.path(), "the header's number of files of copied keys is impossible"));
        }
        let maps = (0..header.copied).map(open).collect::<Result<_>>()?;
        let next = prepared.is_some_and(|intent| intent.copies).then(|| open(header.copied)).transpose()?;
        Ok(Self { maps, next, filter: None })
    }

    /// The number of files that are part of the index.
    pub(super) fn number(&self) -> u32 {
        self.maps.len() as u32
    }

    /// The files, the oldest first.
    pub(super) fn maps(&self) -> &[BlockMap] {
        &self.maps
    }

    pub(super) fn entries(&self) -> u64 {
        self.maps.iter().map(BlockMap::entries).sum()
    }

    /// Whether they are to be merged into blocks of so many entries.
    pub(super) fn are_many(&self, entries: u64) -> bool {
        self.number() >= FILES_MAX || self.entries() >= entries
    }

    /// The step that was prepared is carried out: its file, when it has one, is part of the index.
    pub(super) fn keep(&mut self, copies: bool) {
        let next = self.next.take();
        self.maps.extend(next.filter(|_| copies));
    }

    /// The step that was prepared is dropped.
    pub(super) fn drop_next(&mut self) {
        self.next = None;
    }

    /// Lets go of the files, and tells how many there were.
    pub(super) fn clear(&mut self) -> u32 {
        std::mem::take(&mut self.maps).len() as u32
    }

    /// From now on the index may have this key.
    pub(super) fn know(&mut self, key: KeyHash) {
        if let Some(filter) = &mut self.filter {
            filter.insert(key);
        }
    }

    pub(super) fn verify(&self) -> Result<()> {
        self.maps.iter().try_for_each(|map| map.for_each(|_, _| Ok(())))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.maps.iter().try_for_each(|map| map.file().sync())
    }
}

impl KeyIndex {
    /// Begins a chunk of a first copy: most keys that are looked up next are new. From here to [`KeyIndex::clear_tombstones`] a filter of up
    /// to 64 MiB in memory tells which are. Reads the whole index, sequentially, when it has doubled since.
    pub fn expect_new_keys(&mut self) -> Result<()> {
        if self.copied.filter.as_ref().is_some_and(|filter| !filter.is_crowded()) {
            return Ok(());
        }
        let mut filter = Filter::for_keys(self.entries());
        for map in std::iter::once(&self.map).chain(&self.copied.maps) {
            map.for_each(|key, _| {
                filter.insert(key);
                Ok(())
            })?;
        }
        self.copied.filter = Some(filter);
        Ok(())
    }

    /// Prepares the step in which a chunk of a first copy brings rows, in place of [`KeyIndex::step`]: each of a key that has neither a streamed row
    /// nor a tombstone. Where a key is there twice, its last row counts. [`KeyIndex::finish`] follows, or [`KeyIndex::abandon`].
    ///
    /// # Errors
    /// [`Kind::Bug`] in a multiset; otherwise as [`super::Step::prepare`].
    pub fn prepare_copied(&mut self, to_version: u64, stamp: u128, rows: &[(KeyHash, Place)]) -> Result<()> {
        if self.shape() == Shape::Multiset {
            return Err(Error::new(Kind::Bug, "copied rows of a multiset are added one by one"));
        }
        let intent = self.begin_step(to_version)?;
        if self.copied.number() >= FILES_MAX {
            self.settle()?;
        }
        let mut entries = Vec::with_capacity(rows.len());
        for (at, (key, place)) in rows.iter().enumerate() {
            self.copied.know(*key);
            entries.push((*key, at, entry::encode(Entry::Row { place: *place, copied: true })?));
        }
        entries.sort_unstable_by_key(|(key, at, _)| (*key, std::cmp::Reverse(*at)));
        entries.dedup_by_key(|(key, ..)| *key);
        let entries: Vec<(KeyHash, u64)> = entries.into_iter().map(|(key, _, payload)| (key, payload)).collect();
        if !entries.is_empty() {
            let map = BlockMap::of(|| self.dir.create(&name(self.copied.number())), &entries)?;
            let (log2_blocks, entries) = (map.log2_blocks(), map.entries());
            let header =
                Header { state: State::Live, version: to_version, log2_blocks, entries, copied: 0, ..self.header };
            header.write(map.file())?;
            self.copied.next = Some(map);
        }
        let copies = self.copied.next.is_some();
        let intent = intent.complete(self.version(), to_version, stamp, self.files.next(), copies)?;
        self.keep_prepared(intent);
        Ok(())
    }

    /// What lies under each of the keys, in their order.
    pub(super) fn payloads(&self, keys: &[KeyHash]) -> Result<Vec<Option<u64>>> {
        let Some(filter) = &self.copied.filter else { return self.payloads_on_disk(keys) };
        let (places, known): (Vec<usize>, Vec<KeyHash>) =
            keys.iter().enumerate().filter(|(_, key)| filter.may_have(**key)).unzip();
        let mut found = vec![None; keys.len()];
        for (place, payload) in places.into_iter().zip(self.payloads_on_disk(&known)?) {
            found[place] = payload;
        }
        Ok(found)
    }

    fn payloads_on_disk(&self, keys: &[KeyHash]) -> Result<Vec<Option<u64>>> {
        let mut found = self.map.get(keys)?;
        let mut open: Vec<usize> = (0..keys.len()).filter(|at| found[*at].is_none_or(entry::is_copied)).collect();
        for map in self.copied.maps.iter().rev() {
            let asked: Vec<KeyHash> = open.iter().map(|at| keys[*at]).collect();
            let mut rest = Vec::new();
            for (at, payload) in open.into_iter().zip(map.get(&asked)?) {
                match payload {
                    Some(_) => found[at] = payload,
                    None => rest.push(at),
                }
            }
            open = rest;
        }
        Ok(found)
    }
}
