//! What the next step will write, kept beside the blocks so that the step can be carried out again.
//!
//! A header of 64 bytes, then records of 24 bytes: hash (u128), payload (u64), little-endian; [`ABSENT`] removes. Records say what is to
//! be, not what is to be done, so that carrying them out twice is carrying them out once. The header is written last: an intent without a
//! right header is none.

use change::Result;

use super::KeyHash;
use super::block::u64_at;
use super::disk::{Dir, NamedFile, damaged};
use super::entry::ABSENT;

pub(super) const NAME: &str = "intent";
const MAGIC: &[u8; 8] = b"LGINTNT\x01";
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 24;
/// Records are written to the file by so many bytes.
const FLUSH_BYTES: usize = 1 << 20;
/// A file that has grown beyond this is not used again.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// Records that are carried out at once: 6 MiB on disk, about three times that in memory.
const CHUNK_RECORDS: u64 = 1 << 18;

/// An intent that is complete.
pub(super) struct Intent {
    file: NamedFile,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) stamp: u128,
    /// The lowest number that was not given to a file when the intent was written.
    pub(super) next_file: u32,
    records: u64,
    records_sum: u32,
    /// The step makes the next file of copied rows' keys part of the index; see [`super::copied`].
    pub(super) copies: bool,
}

/// An intent that is being written.
pub(super) struct IntentWriter {
    file: NamedFile,
    buffer: Vec<u8>,
    records: u64,
    flushed: u64,
    sum: crc32fast::Hasher,
}

impl IntentWriter {
    /// Starts anew; an intent that was there is gone. The file stays, since ext4 starts to write out a file that was cut to nothing.
    pub(super) fn create(dir: &Dir) -> Result<Self> {
        let file = match dir.open(NAME)? {
            Some(file) if file.len()? <= KEPT_BYTES_MAX => file,
            _ => dir.create(NAME)?,
        };
        file.write_at(&[0; HEADER_BYTES], 0)?;
        Ok(Self { file, buffer: Vec::new(), records: 0, flushed: 0, sum: crc32fast::Hasher::new() })
    }

    pub(super) fn push(&mut self, key: KeyHash, payload: Option<u64>) -> Result<()> {
        self.buffer.extend_from_slice(&key.0.to_le_bytes());
        self.buffer.extend_from_slice(&payload.unwrap_or(ABSENT).to_le_bytes());
        self.records += 1;
        if self.buffer.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    pub(super) fn complete(mut self, from: u64, to: u64, stamp: u128, next_file: u32, copies: bool) -> Result<Intent> {
        self.flush()?;
        let (records, records_sum) = (self.records, self.sum.finalize());
        let intent = Intent { file: self.file, from, to, stamp, next_file, records, records_sum, copies };
        intent.file.write_at(&intent.header(), 0)?;
        Ok(intent)
    }

    fn flush(&mut self) -> Result<()> {
        self.sum.update(&self.buffer);
        self.file.write_at(&self.buffer, HEADER_BYTES as u64 + self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Intent {
    /// The intent on disk, when it is complete.
    pub(super) fn open(dir: &Dir) -> Result<Option<Self>> {
        let Some(file) = dir.open(NAME)? else { return Ok(None) };
        let length = file.len()?;
        let mut bytes = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_at(&mut bytes, 0)?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut stamp = [0; 16];
        stamp.copy_from_slice(&bytes[24..40]);
        let intent = Self {
            from: u64_at(&bytes, 8),
            to: u64_at(&bytes, 16),
            stamp: u128::from_le_bytes(stamp),
            records: u64_at(&bytes, 40),
            next_file: word(48),
            records_sum: word(52),
            copies: word(56) != 0,
            file,
        };
        let whole = bytes == intent.header() && intent.bytes().is_some_and(|bytes| bytes <= length);
        Ok(if whole && intent.sum_of_records()? == intent.records_sum { Some(intent) } else { None })
    }

    /// The number of records.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Whether there is nothing to carry out.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records in parts of bounded size, each ascending by key with the last word on a key.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Result<Vec<(KeyHash, Option<u64>)>>> + '_ {
        (0..self.records).step_by(CHUNK_RECORDS as usize).map(|first| {
            let mut records = Vec::new();
            for bytes in self.read(first)?.chunks_exact(RECORD_BYTES) {
                let mut hash = [0; 16];
                hash.copy_from_slice(&bytes[..16]);
                let payload = u64_at(bytes, 16);
                records.push((KeyHash(u128::from_le_bytes(hash)), (payload != ABSENT).then_some(payload)));
            }
            records.reverse();
            records.sort_by_key(|(key, _)| *key);
            records.dedup_by_key(|(key, _)| *key);
            Ok(records)
        })
    }

    fn read(&self, first: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; CHUNK_RECORDS.min(self.records - first) as usize * RECORD_BYTES];
        self.file.read_at(&mut bytes, HEADER_BYTES as u64 + first * RECORD_BYTES as u64)?;
        Ok(bytes)
    }

    fn sum_of_records(&self) -> Result<u32> {
        let mut sum = crc32fast::Hasher::new();
        for first in (0..self.records).step_by(CHUNK_RECORDS as usize) {
            sum.update(&self.read(first)?);
        }
        Ok(sum.finalize())
    }

    fn bytes(&self) -> Option<u64> {
        self.records.checked_mul(RECORD_BYTES as u64)?.checked_add(HEADER_BYTES as u64)
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.from.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.to.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.records.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.next_file.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.records_sum.to_le_bytes());
        bytes[56..60].copy_from_slice(&u32::from(self.copies).to_le_bytes());
        let sum = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// That the header promised an intent which is not there.
    pub(super) fn missing(dir: &Dir) -> change::Error {
        damaged(&dir.path().join(NAME), "the step that was under way cannot be finished")
    }
}
