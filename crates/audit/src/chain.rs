//! Entries from a proven one back: each is proven by the hash of the one behind it.

use std::fs::File;

use change::{Error, Kind, Result};

use crate::Hash;
use crate::backwards::Backwards;
use crate::entry::{Line, chained};
use crate::log::tampered;

/// Hands over the entries of a file's first `bytes`, the newest first, until `take` says that it has enough. The hash of the newest one is
/// `newest`.
///
/// # Errors
/// `Privacy` when the chain of hashes is broken, `Unavailable` when the file cannot be read, and those of `take`.
pub(crate) fn read_back(
    file: &File,
    bytes: u64,
    newest: Hash,
    mut take: impl FnMut(&Line<'_>) -> Result<bool>,
) -> Result<()> {
    let mut lines = Backwards::new(file, bytes);
    let mut line = || {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        lines.line().map_err(unreadable).map(|line| line.map(|line| line.text))
    };
    let (mut text, mut expected) = (line()?, newest);
    while let Some(newer) = text {
        let older = line()?;
        let previous = match older.as_deref().map(Line::read) {
            None => Hash::default(),
            Some(read) => read.ok_or_else(|| tampered("an entry cannot be read"))?.hash,
        };
        let entry = Line::read(&newer).filter(|newer| newer.hash == expected);
        let entry = entry.filter(|newer| chained(&previous, newer.body) == newer.hash);
        let entry = entry.ok_or_else(|| tampered("its chain of hashes is broken"))?;
        if take(&entry)? {
            break;
        }
        (text, expected) = (older, previous);
    }
    Ok(())
}
