//! Which number stands for which data file: an append-only log beside the blocks.
//!
//! A record: CRC-32 of what follows (u32), length of the path (u32; 0 means that the file is gone), number (u32), path. It is written
//! before anything refers to the number. A record that the end of the file cuts off was never referred to and is dropped.

use change::{Error, Kind, Result};
use hashbrown::HashMap;

use super::disk::{Dir, NamedFile, damaged};
use super::entry::FileId;

const NAME: &str = "files";
const NEW_NAME: &str = "files.new";
const RECORD_HEADER: usize = 12;
const PATH_BYTES_MAX: usize = 4096;
/// The log is rewritten when it holds more records than this, and more than twice as many as there are files.
const RECORDS_MIN: usize = 1024;

pub(super) struct FileTable {
    log: NamedFile,
    end: u64,
    records: usize,
    paths: HashMap<u32, String>,
    ids: HashMap<String, u32>,
    next: u32,
}

impl FileTable {
    pub(super) fn create(dir: &Dir) -> Result<Self> {
        Ok(Self::empty(dir.create(NAME)?))
    }

    fn empty(log: NamedFile) -> Self {
        Self { log, end: 0, records: 0, paths: HashMap::new(), ids: HashMap::new(), next: 0 }
    }

    /// Reads the log. Every number below `next` has been given; numbers from there on are not referred to.
    pub(super) fn open(dir: &Dir, next: u32) -> Result<Self> {
        let Some(log) = dir.open(NAME)? else {
            return Err(damaged(&dir.path().join(NAME), "the file is missing"));
        };
        let mut bytes = vec![0; log.len()? as usize];
        log.read_at(&mut bytes, 0)?;
        let mut table = Self::empty(log);
        let mut rest = bytes.as_slice();
        while let Some((header, tail)) = rest.split_at_checked(RECORD_HEADER) {
            let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let (sum, length, id) = (word(0), word(4) as usize, word(8));
            let Some((path, tail)) = tail.split_at_checked(length) else { break };
            let record = &rest[4..RECORD_HEADER + length];
            let path = std::str::from_utf8(path);
            let (true, Ok(path)) = (sum == crc32fast::hash(record) && length <= PATH_BYTES_MAX, path) else {
                return Err(damaged(table.log.path(), "a record's checksum is wrong"));
            };
            table.note(id, path);
            table.end += (RECORD_HEADER + length) as u64;
            rest = tail;
        }
        if table.next < next {
            return Err(damaged(table.log.path(), "files that the index refers to are missing from its list"));
        }
        if table.end < bytes.len() as u64 {
            table.log.set_len(table.end)?;
        }
        Ok(table)
    }

    /// The number that stands for a path; a new one when the path is new.
    pub(super) fn id(&mut self, path: &str) -> Result<FileId> {
        if let Some(id) = self.ids.get(path) {
            return Ok(FileId(*id));
        }
        if path.is_empty() || path.len() > PATH_BYTES_MAX {
            return Err(Error::new(Kind::Bug, format!("a data file's path has {} bytes", path.len())));
        }
        let id = self.next;
        self.append(id, path)?;
        self.note(id, path);
        Ok(FileId(id))
    }

    /// The rows of a file lie in another one, under the same numbers. A file that has no number has no row here.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let Some(id) = self.ids.get(from).copied() else { return Ok(()) };
        self.append(id, to)?;
        self.note(id, to);
        Ok(())
    }

    pub(super) fn path(&self, id: FileId) -> Option<&str> {
        self.paths.get(&id.0).map(String::as_str)
    }

    pub(super) fn existing(&self, path: &str) -> Option<FileId> {
        self.ids.get(path).copied().map(FileId)
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Drops files to which no entry refers any more.
    pub(super) fn forget(&mut self, dir: &Dir, files: &[FileId]) -> Result<()> {
        for file in files {
            if self.paths.contains_key(&file.0) {
                self.append(file.0, "")?;
                self.note(file.0, "");
            }
        }
        if self.records > RECORDS_MIN && self.records > self.paths.len() * 2 { self.rewrite(dir) } else { Ok(()) }
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    fn note(&mut self, id: u32, path: &str) {
        self.records += 1;
        self.next = self.next.max(id.saturating_add(1));
        if path.is_empty() {
            if let Some(path) = self.paths.remove(&id) {
                self.ids.remove(&path);
            }
        } else {
            if let Some(before) = self.paths.insert(id, path.to_owned()) {
                self.ids.remove(&before);
            }
            self.ids.insert(path.to_owned(), id);
        }
    }

    fn append(&mut self, id: u32, path: &str) -> Result<()> {
        let bytes = record(id, path);
        self.log.write_at(&bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, dir: &Dir) -> Result<()> {
        let mut ids: Vec<(&u32, &String)> = self.paths.iter().collect();
        ids.sort_unstable();
        let mut bytes: Vec<u8> = ids.iter().flat_map(|(id, path)| record(**id, path)).collect();
        let mut records = ids.len();
        // The highest number must stay known although its file is gone.
        if let Some(last) = self.next.checked_sub(1)
            && !self.paths.contains_key(&last)
        {
            bytes.extend(record(last, ""));
            records += 1;
        }
        let file = dir.create(NEW_NAME)?;
        file.write_at(&bytes, 0)?;
        self.log = dir.rename(file, NEW_NAME, NAME)?;
        self.end = bytes.len() as u64;
        self.records = records;
        Ok(())
    }
}

fn record(id: u32, path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend((path.len() as u32).to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(path.as_bytes());
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}
