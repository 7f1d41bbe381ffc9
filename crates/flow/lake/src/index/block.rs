//! The layout of a block: four buckets of 1 KiB, each with its own checksum.
//!
//! A bucket: CRC-32 of what follows (u32), number of entries (u16), marks (u16), its own number in the file (u64), then entries of 24
//! bytes: hash (u128), payload (u64), all little-endian; unused bytes are zero. A key's home is the bucket of its hash's low two bits; when
//! that is full the key goes to the next bucket of the same block and the full one is marked [`SPILLED`], for good: a search goes on past
//! a bucket only when it has the mark. So a key costs one read of 1 KiB, rarely two, and a block is full only when all four are.

use std::ops::Range;

use change::Result;

use super::KeyHash;
use super::disk::{NamedFile, damaged};

pub(super) const BLOCK_BYTES: usize = BUCKETS * BUCKET_BYTES;
/// Entries that fit a block.
pub(super) const BLOCK_ENTRIES: usize = BUCKETS * BUCKET_ENTRIES;
/// The first block follows the header.
pub(super) const BLOCKS_AT: u64 = 4096;

const BUCKETS: usize = 4;
const BUCKET_BYTES: usize = 1024;
const BUCKET_HEADER: usize = 16;
const ENTRY_BYTES: usize = 24;
const BUCKET_ENTRIES: usize = (BUCKET_BYTES - BUCKET_HEADER) / ENTRY_BYTES;
const SPILLED: u16 = 1;

/// One block in memory, whose buckets are read when they are needed and written when they have changed.
pub(super) struct Block {
    bytes: Box<[u8; BLOCK_BYTES]>,
    number: u64,
    /// The bytes are in memory and a bucket need not be read before it is checked.
    present: bool,
    /// Buckets that were read and checked.
    loaded: [bool; BUCKETS],
    dirty: [bool; BUCKETS],
}

impl Block {
    /// A block of which nothing is loaded.
    pub(super) fn unloaded(number: u64) -> Self {
        Self {
            bytes: Box::new([0; BLOCK_BYTES]),
            number,
            present: false,
            loaded: [false; BUCKETS],
            dirty: [false; BUCKETS],
        }
    }

    /// Lets go of everything and turns to another block.
    pub(super) fn turn_to(&mut self, number: u64) {
        self.number = number;
        self.present = false;
        self.loaded = [false; BUCKETS];
        self.dirty = [false; BUCKETS];
    }

    /// Turns to another block and makes it empty.
    pub(super) fn start_empty(&mut self, number: u64) {
        self.bytes.fill(0);
        self.number = number;
        self.loaded = [true; BUCKETS];
        self.dirty = [true; BUCKETS];
    }

    /// Becomes what another block is that is loaded whole, all of it to be written.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.bytes.copy_from_slice(other.bytes.as_slice());
        self.number = other.number;
        self.loaded = [true; BUCKETS];
        self.dirty = [true; BUCKETS];
    }

    /// Takes a block's bytes as they were read; a bucket is checked when it is needed.
    pub(super) fn take_bytes(&mut self, number: u64, bytes: &[u8]) {
        self.turn_to(number);
        self.bytes.copy_from_slice(bytes);
        self.present = true;
    }

    /// Checks all buckets of a block whose bytes were taken.
    pub(super) fn check_all(&mut self, file: &NamedFile) -> Result<()> {
        (0..BUCKETS).try_for_each(|bucket| self.check(bucket, file))?;
        self.loaded = [true; BUCKETS];
        Ok(())
    }

    /// Its number in the file.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Reads all buckets at once.
    pub(super) fn load(&mut self, file: &NamedFile) -> Result<()> {
        file.read_scattered(self.bytes.as_mut_slice(), BLOCKS_AT + self.number * BLOCK_BYTES as u64)?;
        (0..BUCKETS).try_for_each(|bucket| self.check(bucket, file))?;
        self.loaded = [true; BUCKETS];
        Ok(())
    }

    /// The payload under a hash.
    pub(super) fn get(&mut self, key: KeyHash, file: &NamedFile) -> Result<Option<u64>> {
        Ok(self.find(key, file)?.map(|(bucket, slot)| self.payload(bucket, slot)))
    }

    /// Sets or removes what is under a hash and tells what was there; `None` when the block is full.
    pub(super) fn set(&mut self, key: KeyHash, payload: Option<u64>, file: &NamedFile) -> Result<Option<Option<u64>>> {
        let found = self.find(key, file)?;
        let before = found.map(|(bucket, slot)| self.payload(bucket, slot));
        match (found, payload) {
            (Some((bucket, slot)), Some(payload)) => {
                if before != Some(payload) {
                    self.put(bucket, slot, key, payload);
                }
            }
            (Some((bucket, slot)), None) => self.remove(bucket, slot),
            (None, Some(payload)) => {
                if !self.insert(key, payload, file)? {
                    return Ok(None);
                }
            }
            (None, None) => {}
        }
        Ok(Some(before))
    }

    /// Every entry of a block that is loaded.
    pub(super) fn entries(&self) -> impl Iterator<Item = (KeyHash, u64)> + '_ {
        (0..BUCKETS).flat_map(move |bucket| {
            (0..self.count(bucket)).map(move |slot| (self.key(bucket, slot), self.payload(bucket, slot)))
        })
    }

    /// Gives the bytes back with the changes in them; false when nothing has changed.
    pub(super) fn give_bytes(&mut self, bytes: &mut [u8]) -> bool {
        let changed = self.dirty.contains(&true);
        for bucket in 0..BUCKETS {
            if self.dirty[bucket] {
                self.seal(bucket);
                bytes[span(bucket)].copy_from_slice(&self.bytes[span(bucket)]);
            }
        }
        self.dirty = [false; BUCKETS];
        changed
    }

    /// Writes the buckets that have changed: one write when all have.
    pub(super) fn store(&mut self, file: &NamedFile) -> Result<()> {
        let at = BLOCKS_AT + self.number * BLOCK_BYTES as u64;
        if self.dirty == [true; BUCKETS] {
            file.write_at(self.sealed(), at)?;
        } else {
            for bucket in 0..BUCKETS {
                if self.dirty[bucket] {
                    self.seal(bucket);
                    file.write_at(&self.bytes[span(bucket)], at + (bucket * BUCKET_BYTES) as u64)?;
                }
            }
        }
        self.dirty = [false; BUCKETS];
        Ok(())
    }

    /// The block's bytes with numbers and checksums set.
    pub(super) fn sealed(&mut self) -> &[u8; BLOCK_BYTES] {
        (0..BUCKETS).for_each(|bucket| self.seal(bucket));
        &self.bytes
    }

    fn find(&mut self, key: KeyHash, file: &NamedFile) -> Result<Option<(usize, usize)>> {
        for bucket in way(key) {
            self.need(bucket, file)?;
            let wanted = key.0.to_le_bytes();
            let entries = &self.bytes[span(bucket)][BUCKET_HEADER..][..self.count(bucket) * ENTRY_BYTES];
            if let Some(slot) = entries.chunks_exact(ENTRY_BYTES).position(|entry| entry[..16] == wanted) {
                return Ok(Some((bucket, slot)));
            }
            if !self.is_spilled(bucket) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Adds an entry that is not there; false when there is no room.
    pub(super) fn insert(&mut self, key: KeyHash, payload: u64, file: &NamedFile) -> Result<bool> {
        for bucket in way(key) {
            self.need(bucket, file)?;
            let count = self.count(bucket);
            if count < BUCKET_ENTRIES {
                self.set_count(bucket, count + 1);
                self.put(bucket, count, key, payload);
                return Ok(true);
            }
            if !self.is_spilled(bucket) {
                self.bytes[bucket * BUCKET_BYTES + 6] |= SPILLED as u8;
                self.dirty[bucket] = true;
            }
        }
        Ok(false)
    }

    fn remove(&mut self, bucket: usize, slot: usize) {
        let last = self.count(bucket) - 1;
        let (to, from) = (entry_at(bucket, slot), entry_at(bucket, last));
        self.bytes.copy_within(from..from + ENTRY_BYTES, to);
        self.bytes[from..from + ENTRY_BYTES].fill(0);
        self.set_count(bucket, last);
    }

    fn put(&mut self, bucket: usize, slot: usize, key: KeyHash, payload: u64) {
        let at = entry_at(bucket, slot);
        self.bytes[at..at + 16].copy_from_slice(&key.0.to_le_bytes());
        self.bytes[at + 16..at + ENTRY_BYTES].copy_from_slice(&payload.to_le_bytes());
        self.dirty[bucket] = true;
    }

    fn need(&mut self, bucket: usize, file: &NamedFile) -> Result<()> {
        if self.loaded[bucket] {
            return Ok(());
        }
        if !self.present {
            let at = BLOCKS_AT + self.number * BLOCK_BYTES as u64 + (bucket * BUCKET_BYTES) as u64;
            file.read_scattered(&mut self.bytes[span(bucket)], at)?;
        }
        self.check(bucket, file)?;
        self.loaded[bucket] = true;
        Ok(())
    }

    fn check(&self, bucket: usize, file: &NamedFile) -> Result<()> {
        let bytes = &self.bytes[span(bucket)];
        let sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let number = u64_at(bytes, 8);
        let whole = sum == crc32fast::hash(&bytes[4..]);
        if whole && number == self.bucket_number(bucket) && self.count(bucket) <= BUCKET_ENTRIES {
            return Ok(());
        }
        let which = self.bucket_number(bucket);
        Err(damaged(file.path(), &format!("the checksum or number of bucket {which} is wrong")))
    }

    fn seal(&mut self, bucket: usize) {
        let number = self.bucket_number(bucket);
        let bytes = &mut self.bytes[span(bucket)];
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        let sum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }

    fn bucket_number(&self, bucket: usize) -> u64 {
        self.number * BUCKETS as u64 + bucket as u64
    }

    /// The number of entries of a block that is loaded.
    pub(super) fn len(&self) -> u64 {
        (0..BUCKETS).map(|bucket| self.count(bucket) as u64).sum()
    }

    fn count(&self, bucket: usize) -> usize {
        let at = bucket * BUCKET_BYTES;
        usize::from(u16::from_le_bytes([self.bytes[at + 4], self.bytes[at + 5]]))
    }

    fn set_count(&mut self, bucket: usize, count: usize) {
        let at = bucket * BUCKET_BYTES;
        self.bytes[at + 4..at + 6].copy_from_slice(&(count as u16).to_le_bytes());
        self.dirty[bucket] = true;
    }

    fn is_spilled(&self, bucket: usize) -> bool {
        self.bytes[bucket * BUCKET_BYTES + 6] & SPILLED as u8 != 0
    }

    fn key(&self, bucket: usize, slot: usize) -> KeyHash {
        let at = entry_at(bucket, slot);
        let mut hash = [0; 16];
        hash.copy_from_slice(&self.bytes[at..at + 16]);
        KeyHash(u128::from_le_bytes(hash))
    }

    fn payload(&self, bucket: usize, slot: usize) -> u64 {
        u64_at(self.bytes.as_slice(), entry_at(bucket, slot) + 16)
    }
}

/// The buckets of a block in the order in which a key looks for room.
fn way(key: KeyHash) -> impl Iterator<Item = usize> {
    let home = (key.0 % BUCKETS as u128) as usize;
    (0..BUCKETS).map(move |step| (home + step) % BUCKETS)
}

fn span(bucket: usize) -> Range<usize> {
    bucket * BUCKET_BYTES..(bucket + 1) * BUCKET_BYTES
}

fn entry_at(bucket: usize, slot: usize) -> usize {
    bucket * BUCKET_BYTES + BUCKET_HEADER + slot * ENTRY_BYTES
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
