//! The file of signed heads: read from its end by writers, and from any place on by whoever copies heads elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::backwards::Backwards;
use crate::head::SignedHead;
use crate::log::open_private;
use crate::{HEADS_FILE, Head};

/// The heads of a log, in its folder.
pub struct Heads(PathBuf);

/// A head as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLine {
    /// What it says; `None` for a line that is no head.
    pub head: Option<Head>,
    /// The line, without its line break.
    pub line: String,
    /// Where the next one begins.
    pub end: u64,
}

/// The last line of the file.
pub(crate) enum LastHead {
    None,
    Unreadable,
    Is(Box<SignedHead>),
}

impl Heads {
    /// The heads of the log in a folder, which need not be there.
    pub fn of(folder: &Path) -> Self {
        Self(folder.join(HEADS_FILE))
    }

    /// The length of the file, 0 when there is none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn length(&self) -> Result<u64> {
        match std::fs::metadata(&self.0) {
            Ok(heads) => Ok(heads.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Up to `most` heads from a place in the file on, where a line begins. One that is being written is not there yet.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn from(&self, start: u64, most: usize) -> Result<Vec<HeadLine>> {
        let Some(mut file) = self.open()? else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(start))?;
        let (mut reader, mut end, mut lines) = (BufReader::new(file), start, Vec::new());
        while lines.len() < most {
            let mut line = Vec::new();
            let bytes = reader.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            end += bytes as u64;
            let line = String::from_utf8_lossy(&line).into_owned();
            lines.push(HeadLine { head: SignedHead::read(&line).map(|signed| signed.said), line, end });
        }
        Ok(lines)
    }

    /// Whether a line ends at this place of the file, or the file begins there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_between_lines(&self, place: u64) -> Result<bool> {
        let Some(before) = place.checked_sub(1) else { return Ok(true) };
        let Some(mut file) = self.open()? else { return Ok(false) };
        let mut byte = [0];
        file.seek(SeekFrom::Start(before))?;
        Ok(file.read(&mut byte)? == 1 && byte == *b"\n")
    }

    /// Whether the file has this line of a head. It is looked for from the end on, as far as heads have its number or a higher one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn have(&self, head: &Head, line: &str) -> Result<bool> {
        let Some(file) = self.open()? else { return Ok(false) };
        let mut lines = Backwards::new(&file, file.metadata()?.len());
        while let Some(found) = lines.line()? {
            if found.whole && found.text == line.as_bytes() {
                return Ok(true);
            }
            let read = std::str::from_utf8(&found.text).ok().and_then(SignedHead::read);
            if read.is_some_and(|read| read.said.nth < head.nth) {
                break;
            }
        }
        Ok(false)
    }

    /// The newest head.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn newest(&self) -> Result<Option<(Head, String)>> {
        match self.last()? {
            LastHead::Is(signed) => Ok(Some((signed.said.clone(), signed.line()))),
            LastHead::None | LastHead::Unreadable => Ok(None),
        }
    }

    /// A run asks for it each minute: of a long file only the end is read. A head that was cut off by a stop of the machine is not there; the
    /// entries are, and are signed again.
    pub(crate) fn last(&self) -> Result<LastHead> {
        let Some(file) = self.open()? else { return Ok(LastHead::None) };
        let mut lines = Backwards::new(&file, file.metadata()?.len());
        let mut last = lines.line()?;
        if last.as_ref().is_some_and(|line| !line.whole) {
            last = lines.line()?;
        }
        let Some(line) = last else { return Ok(LastHead::None) };
        let read = std::str::from_utf8(&line.text).ok().and_then(SignedHead::read);
        Ok(read.map_or(LastHead::Unreadable, |signed| LastHead::Is(Box::new(signed))))
    }

    /// Writes a head behind the others; it is durable when this returns.
    pub(crate) fn add(&self, signed: &SignedHead) -> Result<()> {
        let mut file = open_private(&self.0)?;
        if let Some(line) = Backwards::new(&file, file.metadata()?.len()).line()?.filter(|line| !line.whole) {
            file.set_len(line.start)?;
        }
        file.write_all(format!("{}\n", signed.line()).as_bytes())?;
        file.sync_data()
    }

    fn open(&self) -> Result<Option<File>> {
        match File::open(&self.0) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
