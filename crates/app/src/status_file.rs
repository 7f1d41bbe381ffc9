//! The status file of a project folder, and who may write it: one run, and the next one when that has ended or died.
//!
//! A second run in a folder may be a mistake, or a replacement for one that is about to go. Until then it says nothing here: what it has to
//! say is not true of the run that goes on.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use change::Result;

use crate::turn::unusable;
use crate::watch::Seen;

/// Locked by the run that writes; its process number stands in the file.
const LOCK_FILE: &str = "run.lock";

/// The status file of one project folder, as one run has it.
#[derive(Debug)]
pub(crate) struct StatusFile {
    state_dir: PathBuf,
    lock: File,
    ours: AtomicBool,
}

impl StatusFile {
    /// Asks for the right to write it.
    ///
    /// # Errors
    /// `Full` when the lock file cannot be made.
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let open = || {
            std::fs::create_dir_all(state_dir)?;
            OpenOptions::new().write(true).create(true).truncate(false).open(state_dir.join(LOCK_FILE))
        };
        let lock = open().map_err(|error| unusable(state_dir, error))?;
        let file = Self { state_dir: state_dir.to_owned(), lock, ours: AtomicBool::new(false) };
        file.is_ours()?;
        Ok(file)
    }

    /// Whether this run writes it, asked anew as long as another one does.
    ///
    /// # Errors
    /// `Full` when the system does not say.
    pub(crate) fn is_ours(&self) -> Result<bool> {
        if self.ours.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let failed = |error| unusable(&self.state_dir, error);
        match self.lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut lock = &self.lock;
        let named = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
        named.map_err(failed)?;
        self.ours.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// The process that wrote it last or writes it; `None` when that cannot be read.
    pub(crate) fn writer(&self) -> Option<u32> {
        std::fs::read_to_string(self.state_dir.join(LOCK_FILE)).ok()?.parse().ok()
    }

    /// Writes the file, whole or not at all; not while another run does.
    ///
    /// # Errors
    /// `Full` when it cannot be written.
    pub(crate) fn save(&self, seen: &Seen) -> Result<()> {
        if self.is_ours()? { seen.save(&self.state_dir) } else { Ok(()) }
    }

    /// What the last run has written; nothing before there was one.
    pub(crate) fn load(&self) -> Seen {
        Seen::load(&self.state_dir).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_writes_and_the_next_when_that_has_ended() {
        let folder = std::env::temp_dir().join(format!("lockgate-status-file-{}", std::process::id()));
        let seen = |commits| Seen { commits, ..Seen::default() };
        let first = StatusFile::open(&folder).unwrap();
        first.save(&seen(1)).unwrap();
        let second = StatusFile::open(&folder).unwrap();
        assert!(!second.is_ours().unwrap());
        assert_eq!(second.writer(), Some(std::process::id()));
        second.save(&seen(2)).unwrap();
        assert_eq!(second.load().commits, 1);
        drop(first);
        second.save(&seen(3)).unwrap();
        assert_eq!((second.load().commits, second.is_ours().unwrap()), (3, true));
        assert!(!StatusFile::open(&folder).unwrap().is_ours().unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
