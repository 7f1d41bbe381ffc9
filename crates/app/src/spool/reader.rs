use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use change::{Checkpoint, Error, Kind, Position, Result, TableName};
use gate::ClearedSchema;

use super::Entry;
use super::folder::{Frame, SpoolFolder, frame, unusable};

/// Reads a spool from its beginning, and removes what is durable in the lake.
pub(crate) struct Reader {
    folder: SpoolFolder,
    /// The last boundary of the folder.
    through: Checkpoint,
    open: Option<Open>,
    /// Segments that were not begun, the next one last.
    left: Vec<u32>,
    /// Segments that were read to their end, and the boundary there.
    read: Vec<(u32, Position)>,
    /// Where the segment before ended.
    ended: Option<Position>,
}

/// The segment that is being read.
struct Open {
    file: BufReader<File>,
    number: u32,
    entries: u32,
    boundary: Option<Position>,
}

impl Reader {
    /// `None` when nothing waits.
    pub(crate) fn new(folder: SpoolFolder) -> Option<Self> {
        let through = folder.through()?.clone();
        let left = folder.segments().iter().rev().copied().collect();
        Some(Self { folder, through, open: None, left, read: Vec::new(), ended: None })
    }

    /// The last boundary that is in it.
    pub(crate) fn through(&self) -> &Checkpoint {
        &self.through
    }

    /// The next entry; `None` behind the last. `structure` is how a table is cleared now.
    ///
    /// # Errors
    /// `Privacy` when it is damaged.
    pub(crate) fn next(
        &mut self,
        structure: impl FnOnce(&TableName) -> Option<Arc<ClearedSchema>>,
    ) -> Result<Option<Entry>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let Some(number) = self.left.pop() else { return Ok(None) };
                    let path = self.folder.segment(number);
                    let file = BufReader::new(File::open(&path).map_err(|error| unusable(&path, error))?);
                    self.open.insert(Open { file, number, entries: 0, boundary: None })
                }
            };
            let (number, place) = (open.number, self.folder.place(open.number, open.entries));
            open.entries += 1;
            let frame = match frame(&mut open.file).map_err(|error| unusable(self.folder.path(), error))? {
                Frame::Whole(frame) => frame,
                Frame::Torn => return Err(damaged(number)),
                Frame::End => {
                    self.end_segment()?;
                    continue;
                }
            };
            let entry = self.folder.cipher().open(&place, &frame, structure).and_then(Entry::of);
            let entry = entry.map_err(|error| error.context(format!("segment {number} of the spool")))?;
            match &entry {
                Entry::Boundary(boundary) => open.boundary = Some(boundary.through.clone()),
                Entry::Begin(_, after) if self.ended.is_some() && *after != self.ended => return Err(damaged(number)),
                _ => {}
            }
            return Ok(Some(entry));
        }
    }

    /// Everything at or below is durable in the lake: segments that end there go. The last one stays, so that the spool still says how far
    /// it went.
    ///
    /// # Errors
    /// `Full` when the folder cannot be written.
    pub(crate) fn forget(&mut self, durable: &Position) -> Result<()> {
        let gone = |(number, end): &&(u32, Position)| end <= durable && self.folder.segments().last() != Some(number);
        let gone: Vec<u32> = self.read.iter().filter(gone).map(|(number, _)| *number).collect();
        self.read.retain(|(number, _)| !gone.contains(number));
        gone.into_iter().try_for_each(|number| self.folder.remove(number))
    }

    /// Everything is durable in the lake, and recorded there.
    ///
    /// # Errors
    /// `Full` when the folder cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.folder.segments().to_vec().into_iter().try_for_each(|number| self.folder.remove(number))
    }

    fn end_segment(&mut self) -> Result<()> {
        let Some(Open { number, boundary, .. }) = self.open.take() else { return Ok(()) };
        let end = boundary.ok_or_else(|| damaged(number))?;
        self.ended = Some(end.clone());
        self.read.push((number, end));
        Ok(())
    }
}

fn damaged(segment: u32) -> Error {
    Error::new(Kind::Privacy, format!("segment {segment} of the spool is damaged, or the one before it"))
        .fix("Restore the folder from a backup; or remove it, and run `lockgate repair`.")
}
