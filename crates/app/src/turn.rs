//! Who may work on a project folder at a time: runs beside each other (the lake fences them), an erasure or a repair alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use change::{Error, Kind, Result};

const LOCK_FILE: &str = "turn.lock";

/// The right to work, given back when it is dropped, by a kill as well.
#[derive(Debug)]
pub(crate) struct Turn {
    _held: File,
}

impl Turn {
    /// For a run.
    ///
    /// # Errors
    /// `Unavailable` while something works that must be alone.
    pub(crate) fn beside_others(state_dir: &Path) -> Result<Self> {
        let file = open(state_dir)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _held: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                Kind::Unavailable,
                format!("an erasure or a repair works alone on the tables of {}", state_dir.display()),
            )
            .fix("Wait for `lockgate erase` or `lockgate repair` to end, then start again.")),
            Err(TryLockError::Error(error)) => Err(unusable(state_dir, error)),
        }
    }

    /// For what rewrites tables behind the back of every run.
    ///
    /// # Errors
    /// `Unavailable` while a run goes on.
    pub(crate) fn alone(state_dir: &Path) -> Result<Self> {
        let file = open(state_dir)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _held: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(Kind::Unavailable, "a run goes on in this project folder, and owns its tables")
                    .fix("Stop it (Ctrl-C or SIGTERM), do this, and start it again: it goes on where it was."))
            }
            Err(TryLockError::Error(error)) => Err(unusable(state_dir, error)),
        }
    }
}

fn open(state_dir: &Path) -> Result<File> {
    let open = || {
        std::fs::create_dir_all(state_dir)?;
        OpenOptions::new().write(true).create(true).truncate(false).open(state_dir.join(LOCK_FILE))
    };
    open().map_err(|error| unusable(state_dir, error))
}

fn unusable(state_dir: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("cannot write in {}", state_dir.display()))
        .source(error)
        .fix("Free space there, or allow writing.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_a_folder_and_an_erasure_does_not() {
        let folder = std::env::temp_dir().join(format!("lockgate-turn-{}", std::process::id()));
        let (first, second) = (Turn::beside_others(&folder).unwrap(), Turn::beside_others(&folder).unwrap());
        assert_eq!(Turn::alone(&folder).unwrap_err().kind(), Kind::Unavailable);
        drop((first, second));
        let alone = Turn::alone(&folder).unwrap();
        assert_eq!(Turn::beside_others(&folder).unwrap_err().kind(), Kind::Unavailable);
        drop(alone);
        drop(Turn::beside_others(&folder).unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
