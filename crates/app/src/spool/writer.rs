use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use change::{Checkpoint, Error, Kind, Result, TableName, TableSchema};
use gate::PolicyStamp;

use super::Entry;
use super::folder::{SpoolFolder, unusable};
use crate::audit::random;

/// Appends to a spool.
pub(crate) struct Writer {
    folder: SpoolFolder,
    stamp: PolicyStamp,
    open: Option<Open>,
    structures: BTreeMap<TableName, Arc<TableSchema>>,
    /// Bytes in all segments together.
    size: u64,
    limit: u64,
}

/// The segment that is being written.
struct Open {
    file: BufWriter<File>,
    number: u32,
    entries: u32,
    size: u64,
}

/// Bytes after which a segment ends at the next boundary, at the most; of a small spool so much less that draining soon makes room.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENTS: u64 = 16;

impl Writer {
    /// Goes on behind what is there. No more than `limit` bytes are kept.
    pub(crate) fn new(folder: SpoolFolder, stamp: PolicyStamp, limit: u64) -> Result<Self> {
        let mut size = 0;
        for segment in folder.segments() {
            let path = folder.segment(*segment);
            size += path.metadata().map_err(|error| unusable(&path, error))?.len();
        }
        Ok(Self { folder, stamp, open: None, structures: BTreeMap::new(), size, limit })
    }

    /// The last boundary that is safe on disk.
    pub(crate) fn through(&self) -> Option<&Checkpoint> {
        self.folder.through()
    }

    /// Bytes in all segments together.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// `Full` at the limit, and when the disk is.
    pub(crate) fn append(&mut self, entry: Entry) -> Result<()> {
        if let Entry::Structure(table) = &entry {
            self.structures.insert(table.table.clone(), table.clone());
        }
        if self.open.is_none() {
            self.begin()?;
            if matches!(entry, Entry::Structure(_)) {
                return Ok(());
            }
        }
        self.put(entry)
    }

    /// Everything through `boundary` is safe on disk when this returns.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(crate) fn sync(&mut self, boundary: Checkpoint) -> Result<()> {
        self.append(Entry::Boundary(boundary.clone()))?;
        if let Some(open) = &mut self.open {
            let synced = open.file.flush().and_then(|()| open.file.get_ref().sync_data());
            synced.map_err(|error| unusable(self.folder.path(), error))?;
            if open.size >= SEGMENT_BYTES.min(self.limit / SEGMENTS) {
                self.open = None;
            }
        }
        self.folder.reached(boundary);
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let number = self.folder.next();
        let path = self.folder.segment(number);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.and_then(|file| File::open(self.folder.path())?.sync_all().map(|()| file));
        let file = file.map_err(|error| unusable(&path, error))?;
        self.open = Some(Open { file: BufWriter::with_capacity(1 << 20, file), number, entries: 0, size: 0 });
        let after = self.folder.through().map(|through| through.through.clone());
        self.put(Entry::Begin(self.stamp.clone(), after))?;
        let structures: Vec<_> = self.structures.values().cloned().collect();
        structures.into_iter().try_for_each(|table| self.put(Entry::Structure(table)))
    }

    fn put(&mut self, entry: Entry) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(Error::new(Kind::Bug, "no segment of the spool is open")) };
        let place = self.folder.place(open.number, open.entries);
        let sealed = self.folder.cipher().seal(random()?, &place, &entry.spooled()?)?;
        let length = u32::try_from(sealed.len())
            .map_err(|_| Error::new(Kind::Full, "a batch of rows is larger than an entry of the spool can be"))?;
        let added = 4 + u64::from(length);
        if self.size + added > self.limit {
            let what =
                format!("the spool {} has reached its limit of {} bytes", self.folder.path().display(), self.limit);
            return Err(Error::new(Kind::Full, what)
                .fix("Bring the lake back. Where the disk has room, raise `wal_budget.spool_max` and start again."));
        }
        let written = open.file.write_all(&length.to_be_bytes()).and_then(|()| open.file.write_all(&sealed));
        written.map_err(|error| unusable(self.folder.path(), error))?;
        (open.entries, open.size, self.size) = (open.entries + 1, open.size + added, self.size + added);
        Ok(())
    }
}
