//! Standard output that may lose its reader: `lockgate query ... | head` is no failure.

use std::io::{self, ErrorKind, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use change::{Error, Kind, Result};

use crate::outcome::Outcome;

/// Standard output. Clones know of each other that the reader has gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    unread: Arc<AtomicBool>,
}

impl Output {
    /// How a command ends that wrote here: well, too, when nobody reads any more.
    ///
    /// # Errors
    /// What was `written`, when that is not the reason.
    pub(crate) fn ended<T>(&self, written: Result<T>) -> Result<Outcome> {
        match written {
            Err(error) if !self.unread.load(Ordering::Relaxed) => Err(error),
            _ => Ok(Outcome::Done),
        }
    }

    /// Writes a whole text.
    ///
    /// # Errors
    /// `Full` when it cannot be written.
    pub(crate) fn print(mut self, text: &[u8]) -> Result<Outcome> {
        let written = self.write_all(text).and_then(|()| self.flush()).map_err(|error| {
            Error::new(Kind::Full, "standard output cannot be written").source(error).fix("Free space where it goes.")
        });
        self.ended(written)
    }

    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            self.unread.store(true, Ordering::Relaxed);
        }
        done
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.noted(stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.noted(stdout().flush())
    }
}
