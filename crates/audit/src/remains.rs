//! What a folder has of a log, whoever left it so: nothing here takes it for proven that no key proves.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result};
use std::path::Path;

use change::Timestamp;

use crate::backwards::Backwards;
use crate::chain::read_back;
use crate::entry::{Line, Outline};
use crate::head::SignedHead;
use crate::standing::in_force_by;
use crate::{Former, HEADS_FILE, Hash, Heads, InForce, LOG_FILE, PublicKey, SigningKey};

/// Bytes that are read at a time where lines are counted.
const PIECE: usize = 64 << 10;

/// What is left of the log in a folder, which need not be there.
pub struct Remains<'a>(&'a Path);

impl<'a> Remains<'a> {
    /// Of the log in a folder.
    pub fn of(folder: &'a Path) -> Self {
        Self(folder)
    }

    /// Whether there is anything: entries, or heads. What cannot be looked at is there.
    pub fn are_any(&self) -> bool {
        [LOG_FILE, HEADS_FILE].iter().any(|name| match std::fs::metadata(self.0.join(name)) {
            Ok(file) => file.len() > 0,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        })
    }

    /// Whether a first entry is there: a line without end is what a full disk, or somebody else, leaves of none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn have_begun(&self) -> Result<bool> {
        self.first_line(LOG_FILE).map(|line| line.is_some())
    }

    /// The log, see [`crate::Head::log`], as its first entry says; without one, as its first head says.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn log(&self) -> Result<Option<Hash>> {
        Ok(log_of(self.first_line(LOG_FILE)?.as_deref(), self.first_line(HEADS_FILE)?.as_deref()))
    }

    /// Whether the key has signed one of its heads, or written one of its entries.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn are_of(&self, key: &SigningKey) -> Result<bool> {
        if Heads::of(self.0).newest(&key.public())?.is_some() {
            return Ok(true);
        }
        let is_ours = |line: &Line<'_>| line.mac.is_some_and(|mac| key.macs().proves(&line.hash, &mac));
        Ok(self.last_line_that(|line| is_ours(line).then_some(()))?.is_some())
    }

    /// What the log after it says of it: its newest head that the key signed, or what can be counted without one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn former(&self, key: &PublicKey) -> Result<Former> {
        if let Some(signed) = Heads::of(self.0).last_that(|signed| signed.is_proven_by(key))? {
            return Ok(signed.former());
        }
        let time = |line: &Line<'_>| serde_json::from_slice::<Outline>(line.body).ok().map(|entry| entry.at);
        let at: Timestamp = self.last_line_that(time)?.unwrap_or_default();
        let (log, entries) = (self.log()?.unwrap_or_default(), self.lines()?);
        Ok(Former { log, head: 0, hash: Hash::default(), entries, at, key: None })
    }

    /// What its last run had in force, by the entries that the newest head of the key covers; `None` when it cannot be known.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn in_force(&self, key: &PublicKey) -> Result<Option<InForce>> {
        let Some(signed) = Heads::of(self.0).last_that(|signed| signed.is_proven_by(key))? else { return Ok(None) };
        let Some(file) = self.open(LOG_FILE)? else { return Ok(None) };
        if file.metadata()?.len() < signed.said.bytes {
            return Ok(None);
        }
        let mut found = None;
        let read = read_back(&file, signed.said.bytes, signed.said.last, |line| in_force_by(line, &mut found));
        // What was changed says nothing.
        Ok(read.ok().and(found))
    }

    fn open(&self, name: &str) -> Result<Option<File>> {
        match File::open(self.0.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn first_line(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut line = Vec::new();
        BufReader::new(file).read_until(b'\n', &mut line)?;
        Ok((line.pop() == Some(b'\n')).then_some(line))
    }

    /// What is found at the last entry at which something is.
    fn last_line_that<T>(&self, find: impl Fn(&Line<'_>) -> Option<T>) -> Result<Option<T>> {
        let Some(file) = self.open(LOG_FILE)? else { return Ok(None) };
        let mut lines = Backwards::new(&file, file.metadata()?.len());
        while let Some(line) = lines.line()? {
            if let Some(found) = Line::read(&line.text).and_then(|line| find(&line)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn lines(&self) -> Result<u64> {
        let Some(mut file) = self.open(LOG_FILE)? else { return Ok(0) };
        let (mut piece, mut lines) = (vec![0; PIECE], 0);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(lines),
                bytes => lines += piece[..bytes].iter().filter(|byte| **byte == b'\n').count() as u64,
            }
        }
    }
}

/// The log that a first entry, or else a first head, is of.
pub(crate) fn log_of(entry: Option<&[u8]>, head: Option<&[u8]>) -> Option<Hash> {
    let by_head = || Some(SignedHead::read(std::str::from_utf8(head?).ok()?)?.said.log);
    entry.and_then(Line::read).map(|line| line.hash).or_else(by_head)
}
