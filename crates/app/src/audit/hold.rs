//! Who may write the log's folder at a time: commands beside each other, a renewal alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use change::{Error, Kind, Result};

use crate::turn::{locked, patiently, unusable};

/// In the state folder, beside the log's: it stays where it is while that is exchanged.
const FILE: &str = "audit.lock";
/// How long one waits for the others: they write little, and a renewal asks an anchor.
const PATIENCE: Duration = Duration::from_secs(600);

/// The right to write the log, given back when it is dropped, by a kill as well.
pub(super) struct Hold {
    _file: File,
}

impl Hold {
    /// Beside other commands, as soon as no renewal goes on.
    ///
    /// # Errors
    /// `Full` when the file cannot be made, `Unavailable` when the renewal goes on for more than ten minutes.
    pub(super) async fn beside_others(state_dir: &Path) -> Result<Self> {
        let who = "`lockgate audit renew` goes on";
        Self::take(state_dir, File::try_lock_shared, File::lock_shared, PATIENCE, who).await
    }

    /// Alone, as soon as no command has the log open.
    ///
    /// # Errors
    /// As [`Hold::beside_others`], of the commands.
    pub(super) async fn alone(state_dir: &Path) -> Result<Self> {
        let who = "a command has the audit log open";
        Self::take(state_dir, File::try_lock, File::lock, PATIENCE, who).await
    }

    async fn take(
        state_dir: &Path,
        try_lock: fn(&File) -> std::result::Result<(), TryLockError>,
        lock: fn(&File) -> std::io::Result<()>,
        patience: Duration,
        who: &str,
    ) -> Result<Self> {
        let failed = |error| unusable(state_dir, error);
        let file = open(state_dir).map_err(failed)?;
        match try_lock(&file) {
            Ok(()) => return Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match patiently(locked(file, lock), patience, || format!("waiting: {who}")).await {
            Some(file) => Ok(Self { _file: file.map_err(failed)? }),
            None => Err(Error::new(Kind::Unavailable, format!("{who}, and this cannot go on beside it"))
                .fix("Nothing was changed. Do this again when it has ended.")),
        }
    }
}

/// To lock it, it need not be this user's.
fn open(state_dir: &Path) -> std::io::Result<File> {
    let path = state_dir.join(FILE);
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(state_dir)?;
            OpenOptions::new().write(true).create(true).truncate(false).open(&path)
        }
        opened => opened,
    }
}
