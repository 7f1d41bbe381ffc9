use std::path::Path;

use change::{Error, Kind, Result};
use hashbrown::HashMap;

use super::disk::{Dir, NamedFile};
use super::entry::{self, Entry, FileId, MORE};
use super::files::FileTable;
use super::header::{BootId, Header, Shape, State};
use super::map::{BlockMap, log2_blocks_for};
use super::multiset::slot;
use super::runs::{LOG2_PARTS, Runs};
use super::sequence::BlockFiller;
use super::{KeyHash, KeyIndex, KeySeed, copied, intent, key_index};

/// Builds an index from the rows of a table, in any order, in bounded memory and sequential writes.
///
/// A table's rows do not tell of tombstones: while a first copy is unfinished, the caller pushes one for every identity that the change
/// log shows deleted above LOW.
pub struct Builder {
    dir: Dir,
    header: Header,
    files: FileTable,
    runs: Runs,
    memory_bytes: usize,
}

impl Builder {
    /// Begins in the folder `path`; what was there is removed. `memory_bytes` bounds the buffers; beside them a thousandth of the table's
    /// entries is held at 60 bytes each. Until [`Builder::finish`] the folder holds no index.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another process uses the folder; otherwise when the disk fails.
    pub fn create(
        path: &Path,
        table_id: [u8; 16],
        shape: Shape,
        seed: KeySeed,
        boot: Option<BootId>,
        memory_bytes: usize,
    ) -> Result<Self> {
        Self::create_in(Dir::local(path)?, table_id, shape, seed, boot, memory_bytes)
    }

    pub(super) fn create_in(
        dir: Dir,
        table_id: [u8; 16],
        shape: Shape,
        seed: KeySeed,
        boot: Option<BootId>,
        memory_bytes: usize,
    ) -> Result<Self> {
        // The old blocks must not come back after a stop of the machine, beside the new list of files.
        dir.remove(key_index::NAME)?;
        dir.remove(intent::NAME)?;
        copied::remove_all(&dir)?;
        dir.sync()?;
        let state = State::Live;
        let header = Header {
            table_id,
            seed,
            shape,
            state,
            boot,
            version: 0,
            log2_blocks: 0,
            entries: 0,
            next_file: 0,
            copied: 0,
        };
        let files = FileTable::create(&dir)?;
        let runs = Runs::new(&dir, memory_bytes);
        Ok(Self { dir, header, files, runs, memory_bytes })
    }

    /// The key of the new index's hashes.
    pub fn seed(&self) -> KeySeed {
        self.header.seed
    }

    /// The number that stands for a data file in the new index.
    pub fn file_id(&mut self, path: &str) -> Result<FileId> {
        self.files.id(path)
    }

    /// Adds an entry. Where a key has a row and a tombstone, the row counts.
    pub fn push(&mut self, key: KeyHash, entry: Entry) -> Result<()> {
        self.runs.push(key, entry::encode(entry)?)
    }

    /// Makes the index, which reflects the table at `version`.
    ///
    /// # Errors
    /// [`Kind::Contract`] when two rows have the same key; otherwise when the disk fails.
    pub fn finish(mut self, version: u64) -> Result<KeyIndex> {
        let runs = match self.header.shape {
            Shape::Unique => self.runs,
            Shape::Multiset => spread(&self.runs, Runs::new(&self.dir, self.memory_bytes))?,
        };
        let mut log2_blocks = log2_blocks_for(runs.entries());
        let map = loop {
            let file = self.dir.create(key_index::NEW_NAME)?;
            match fill(&runs, &file, log2_blocks)? {
                Some(entries) => break BlockMap::open(file, log2_blocks, entries)?,
                None => log2_blocks += 1,
            }
        };
        self.header.version = version;
        self.header.log2_blocks = log2_blocks;
        self.header.entries = map.entries();
        self.header.next_file = self.files.next();
        self.header.write(map.file())?;
        let map = map.renamed(|file| self.dir.rename(file, key_index::NEW_NAME, key_index::NAME))?;
        Ok(KeyIndex::built(self.dir, self.header, map, self.files))
    }
}

/// Writes all blocks, in order; `None` when one is full.
fn fill(runs: &Runs, file: &NamedFile, log2_blocks: u32) -> Result<Option<u64>> {
    let log2_groups = log2_blocks.min(LOG2_PARTS);
    let (parts, blocks) = (1usize << (LOG2_PARTS - log2_groups), 1u64 << (log2_blocks - log2_groups));
    let mut filler = BlockFiller::new(file, log2_blocks);
    let mut total = 0;
    for group in 0..1u64 << log2_groups {
        let first_part = group as usize * parts;
        let entries = sorted(runs, first_part..first_part + parts)?;
        total += entries.len() as u64;
        if !filler.fill(group * blocks..(group + 1) * blocks, &entries)? {
            return Ok(None);
        }
    }
    filler.finish()?;
    Ok(Some(total))
}

/// The entries of some parts by key, one for each.
fn sorted(runs: &Runs, parts: std::ops::Range<usize>) -> Result<Vec<(KeyHash, u64)>> {
    let mut entries = Vec::new();
    for part in parts {
        runs.for_each(part, |key, payload| {
            entries.push((key, payload));
            Ok(())
        })?;
    }
    entries.sort_unstable();
    let mut rows_twice = false;
    entries.dedup_by(|next, kept| {
        if next.0 != kept.0 {
            return false;
        }
        if entry::is_tombstone(kept.1) {
            kept.1 = next.1;
        } else {
            rows_twice |= !entry::is_tombstone(next.1);
        }
        true
    });
    if rows_twice {
        return Err(Error::new(Kind::Contract, "the lake table holds two live rows with the same key")
            .fix("Find and remove the double rows, or copy the table anew."));
    }
    Ok(entries)
}

/// Gives the rows of each identity the hashes that [`super::multiset`] says.
fn spread(runs: &Runs, mut into: Runs) -> Result<Runs> {
    for part in 0..1 << LOG2_PARTS {
        let mut first_rows: HashMap<KeyHash, (u64, u64)> = HashMap::new();
        runs.for_each(part, |key, payload| {
            let (_, rows) = first_rows.entry(key).and_modify(|(_, rows)| *rows += 1).or_insert((payload, 1));
            if *rows > 1 { into.push(slot(key, *rows - 1), payload) } else { Ok(()) }
        })?;
        for (key, (payload, rows)) in first_rows {
            if rows == 1 {
                into.push(key, payload)?;
            } else {
                into.push(key, payload | MORE)?;
                into.push(key.count(), entry::pack_count(rows))?;
            }
        }
    }
    Ok(into)
}
