//! What lies on our own disk and may have been damaged there.

use std::fs;
use std::path::PathBuf;

use change::Kind;

use crate::key_index::{BootId, Change, Entry, FileId, KeyIndex, KeySeed, Opened, Place, Shape};

const TABLE: [u8; 16] = [7; 16];
const HEADER: usize = 4096;
const BUCKET: usize = 1024;
const INTENT_HEADER: usize = 64;
const INTENT_RECORD: usize = 24;

/// The folder of a key index. The first byte says which checksums are put right before it is opened (else hardly any damage would get past
/// them) and whether the blocks lie there a second time, as keys of copied rows; then follow the lengths of `files` and `intent` (u16,
/// big-endian), the two, and `blocks`.
pub fn index(bytes: &[u8]) {
    let Some(([flags, a, b, c, d], rest)) = bytes.split_first_chunk::<5>() else { return };
    let (files, rest) = rest.split_at(usize::from(u16::from_be_bytes([*a, *b])).min(rest.len()));
    let (intent, blocks) = rest.split_at(usize::from(u16::from_be_bytes([*c, *d])).min(rest.len()));
    let (mut files, mut intent, mut blocks) = (files.to_vec(), intent.to_vec(), blocks.to_vec());
    if flags & 1 != 0 {
        mend_blocks(&mut blocks);
    }
    if flags & 2 != 0 {
        mend_intent(&mut intent);
    }
    if flags & 4 != 0 {
        mend_files(&mut files);
    }
    let folder = Folder::new();
    if flags & 8 != 0 {
        fs::write(folder.0.join("copied.0"), &blocks).unwrap();
    }
    for (name, content) in [("files", files), ("intent", intent), ("blocks", blocks)] {
        fs::write(folder.0.join(name), content).unwrap();
    }
    let boot = Some(BootId::from_text("boot"));
    match KeyIndex::open(&folder.0, TABLE, boot) {
        Ok(Opened::Ready(index)) => {
            if let Err(error) = used(*index) {
                // `Full` and `Contract` are what numbers beyond every bound and colliding keys are told as.
                assert!(matches!(error.kind(), Kind::Data | Kind::Full | Kind::Contract), "{error}");
            }
        }
        Ok(Opened::Missing) => unreachable!("there are blocks"),
        Ok(Opened::Unusable { why }) => assert_eq!(why.kind(), Kind::Data),
        // The only other way in which it may fail is a number that no index reaches.
        Err(error) => assert_eq!(error.kind(), Kind::Full, "{error}"),
    }
}

/// What the lake does with an index that opens.
fn used(mut index: KeyIndex) -> change::Result<()> {
    let keys: Vec<_> = (0..4_u8).map(|number| KeySeed::new(1).hash(&[number])).collect();
    index.finish()?;
    index.lookup(&keys)?;
    let Some(version) = index.version().checked_add(1) else { return Ok(()) };
    let place = Place { file: index.file_id("new.parquet")?, row: 1 };
    let shape = index.shape();
    let mut step = index.step(version, 1)?;
    match shape {
        Shape::Unique => step.push(&[
            Change::Put { key: keys[0], entry: Entry::Row { place, copied: false } },
            Change::Put { key: keys[1], entry: Entry::Tombstone },
            Change::Remove { key: keys[2] },
        ])?,
        Shape::Multiset => {
            step.push(&[Change::Add { key: keys[0], place }, Change::Take { key: keys[1], place }])?;
        }
    }
    step.prepare()?;
    index.finish()?;
    match (shape, version.checked_add(1)) {
        (Shape::Multiset, _) => drop(index.rows(&[(keys[0], 3)])?),
        (Shape::Unique, Some(version)) => {
            index.expect_new_keys()?;
            if index.lookup(&keys)?[3].is_none() {
                index.prepare_copied(version, 2, &[(keys[3], place)])?;
                index.finish()?;
            }
        }
        (Shape::Unique, None) => {}
    }
    let files: Vec<FileId> = index.existing_file_id("new.parquet").into_iter().collect();
    index.clear_tombstones()?;
    index.verify()?;
    index.forget_files(&files)?;
    index.close()
}

fn mend_blocks(blocks: &mut [u8]) {
    if blocks.len() < HEADER {
        return;
    }
    blocks[8..24].copy_from_slice(&TABLE);
    sum_at(blocks, HEADER - 4, 0..HEADER - 4);
    for (number, bucket) in blocks[HEADER..].chunks_exact_mut(BUCKET).enumerate() {
        bucket[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        sum_at(bucket, 0, 4..BUCKET);
    }
}

fn mend_intent(intent: &mut [u8]) {
    if intent.len() < INTENT_HEADER {
        return;
    }
    let records = (intent.len() - INTENT_HEADER) / INTENT_RECORD;
    intent[40..48].copy_from_slice(&(records as u64).to_le_bytes());
    sum_at(intent, 52, INTENT_HEADER..INTENT_HEADER + records * INTENT_RECORD);
    sum_at(intent, 60, 0..60);
}

fn mend_files(files: &mut [u8]) {
    let mut at = 0;
    while at + 12 <= files.len() {
        let length = u32::from_le_bytes(files[at + 4..at + 8].try_into().unwrap()) as usize;
        let Some(end) = (at + 12).checked_add(length).filter(|end| *end <= files.len()) else { return };
        sum_at(&mut files[at..end], 0, 4..end - at);
        at = end;
    }
}

/// Puts the CRC-32 of a part where it belongs.
fn sum_at(bytes: &mut [u8], at: usize, of: std::ops::Range<usize>) {
    let sum = crc32fast::hash(&bytes[of]);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// A folder for one index, in memory where the system has such.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let inside = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = inside.join(format!("lockgate-fuzz-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}
