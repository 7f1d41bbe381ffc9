//! The file of signed heads: read from its end by writers, and from any place on by whoever copies heads elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::backwards::Backwards;
use crate::head::{SignedHead, proven_head};
use crate::log::open_private;
use crate::{HEADS_FILE, Hash, Head, PublicKey};

/// The heads of a log, in its folder.
pub struct Heads(PathBuf);

/// A head as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLine {
    /// What it says; `None` for a line that is no head of the key.
    pub head: Option<Head>,
    /// The line, without its line break.
    pub line: String,
    /// SHA-256 of its bytes.
    pub hash: Hash,
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

    /// Up to `most` lines from a place in the file on, where one begins, and the heads among them that the key signed. One that is being written
    /// is not there yet.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn from(&self, start: u64, most: usize, key: &PublicKey) -> Result<Vec<HeadLine>> {
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
            let hash = Hash::of(&[&line]);
            let line = String::from_utf8_lossy(&line).into_owned();
            lines.push(HeadLine { head: proven_head(&line, key), line, hash, end });
        }
        Ok(lines)
    }

    /// SHA-256 of the line that ends at this place of the file, zero where the file begins; `None` where no line ends.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn line_before(&self, place: u64) -> Result<Option<Hash>> {
        if place == 0 {
            return Ok(Some(Hash::default()));
        }
        let Some(file) = self.open()? else { return Ok(None) };
        if file.metadata()?.len() < place {
            return Ok(None);
        }
        let line = Backwards::new(&file, place).line()?;
        Ok(line.filter(|line| line.whole).map(|line| Hash::of(&[&line.text])))
    }

    /// Whether the file has this line of a head. It is looked for from the end on, as far as heads of the key have its number or a higher one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn have(&self, head: &Head, line: &str, key: &PublicKey) -> Result<bool> {
        let found =
            self.last_that(|signed| signed.line() == line || signed.said.nth < head.nth && signed.is_proven_by(key))?;
        Ok(found.is_some_and(|found| found.line() == line))
    }

    /// The last head that the key signed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn newest(&self, key: &PublicKey) -> Result<Option<(Head, String)>> {
        let newest = self.last_that(|signed| signed.is_proven_by(key))?;
        Ok(newest.map(|signed| (signed.said.clone(), signed.line())))
    }

    /// The last head of which this is true: looked for from the end on, line by line.
    pub(crate) fn last_that(&self, mut is_it: impl FnMut(&SignedHead) -> bool) -> Result<Option<SignedHead>> {
        let Some(file) = self.open()? else { return Ok(None) };
        let mut lines = Backwards::new(&file, file.metadata()?.len());
        while let Some(line) = lines.line()? {
            let read = std::str::from_utf8(&line.text).ok().filter(|_| line.whole).and_then(SignedHead::read);
            if let Some(signed) = read.filter(&mut is_it) {
                return Ok(Some(signed));
            }
        }
        Ok(None)
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
