//! Who may work on a project folder at a time: runs beside each other (the lake fences them), what rewrites tables alone.
//!
//! Two files are locked; the system opens the lock of a process that has died.
//!
//! ```text
//! turn.lock    shared by those that work beside each other, held by one alone
//! wish.lock    held by who wants to be alone, from before it asks for the turn until it has ended; its name stands in the file
//! ```
//!
//! A run looks at the wish every second, and gives its turn back at its next boundary. Nobody takes a turn while somebody else holds the wish,
//! so that runs never keep one waiting that wants to be alone.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use change::{Error, Kind, Result};

const TURN_FILE: &str = "turn.lock";
const WISH_FILE: &str = "wish.lock";
/// How often a run looks whether somebody wants to be alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one that wants to be alone waits: a boundary is a matter of seconds, but a lake or another one alone may take its time.
const PATIENCE: Duration = Duration::from_secs(600);
/// When it is said that something is waited for, and how often again.
const SAY_AFTER: Duration = Duration::from_millis(1500);
const SAY_EVERY: Duration = Duration::from_secs(15);

/// What has to be alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Audit,
    Erase,
    Keys,
    Remask,
    Repair,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audit => "lockgate audit renew",
            Self::Erase => "lockgate erase",
            Self::Keys => "lockgate keys",
            Self::Remask => "lockgate remask",
            Self::Repair => "lockgate repair",
        })
    }
}

/// The right to work, given back when it is dropped, by a kill as well.
#[derive(Debug)]
pub(crate) struct Turn {
    state_dir: PathBuf,
    _held: File,
    /// Held by who is alone, looked at by the others.
    wish: File,
}

impl Turn {
    /// Beside others; `None` while something is alone or wants to be.
    ///
    /// # Errors
    /// `Full` when the lock files cannot be made.
    pub(crate) fn beside_others(state_dir: &Path) -> Result<Option<Self>> {
        let failed = |error| unusable(state_dir, error);
        let (held, wish) = files(state_dir)?;
        for file in [&wish, &held] {
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        wish.unlock().map_err(failed)?;
        Ok(Some(Self { state_dir: state_dir.to_owned(), _held: held, wish }))
    }

    /// Beside others, as soon as nothing is alone any more or wants to be. Who gives up waiting has to end the process: the lock is waited
    /// for in a thread.
    ///
    /// # Errors
    /// As [`Turn::beside_others`].
    pub(crate) async fn after_others(state_dir: &Path) -> Result<Self> {
        let failed = |error| unusable(state_dir, error);
        let (held, wish) = files(state_dir)?;
        let wish = locked(wish, File::lock_shared).await.map_err(failed)?;
        let held = locked(held, File::lock_shared).await.map_err(failed)?;
        wish.unlock().map_err(failed)?;
        Ok(Self { state_dir: state_dir.to_owned(), _held: held, wish })
    }

    /// As [`Turn::after_others`], for a command that somebody waits for.
    ///
    /// # Errors
    /// `Unavailable` when what is alone goes on for more than ten minutes; as [`Turn::beside_others`].
    pub(crate) async fn beside_runs(state_dir: &Path) -> Result<Self> {
        let said = || format!("waiting for `{}` to end", waited_for(state_dir));
        let turn = patiently(Self::after_others(state_dir), PATIENCE, said).await;
        turn.unwrap_or_else(|| Err(too_long(&format!("`{}` goes on", waited_for(state_dir)))))
    }

    /// Alone, for what rewrites tables behind the back of every run: asks the runs for their turn, and waits until they have given it.
    ///
    /// # Errors
    /// `Unavailable` when they do not within ten minutes; as [`Turn::beside_others`].
    pub(crate) async fn alone(state_dir: &Path, work: Work) -> Result<Self> {
        Self::alone_within(state_dir, work, PATIENCE).await
    }

    async fn alone_within(state_dir: &Path, work: Work, patience: Duration) -> Result<Self> {
        let failed = |error| unusable(state_dir, error);
        let (held, wish) = files(state_dir)?;
        let said = || format!("waiting for `{}` to end", waited_for(state_dir));
        let wish = patiently(locked(wish, File::lock), patience, said).await;
        let mut wish =
            wish.ok_or_else(|| too_long(&format!("`{}` goes on", waited_for(state_dir))))?.map_err(failed)?;
        wish.set_len(0).and_then(|()| wish.rewind()).and_then(|()| write!(wish, "{work}")).map_err(failed)?;
        let said = || "waiting for the run in this project folder to reach a boundary".into();
        let held = patiently(locked(held, File::lock), patience, said).await;
        let held = held.ok_or_else(|| too_long("the run in this project folder has not given its turn"))?;
        Ok(Self { state_dir: state_dir.to_owned(), _held: held.map_err(failed)?, wish })
    }

    /// Who wants to be alone, or has become it meanwhile.
    ///
    /// # Errors
    /// `Full` when the system does not say.
    pub(crate) fn asked_for(&self) -> Result<Option<String>> {
        match self.wish.try_lock_shared() {
            Ok(()) => self.wish.unlock().map(|()| None).map_err(|error| unusable(&self.state_dir, error)),
            Err(TryLockError::WouldBlock) => Ok(Some(waited_for(&self.state_dir))),
            Err(TryLockError::Error(error)) => Err(unusable(&self.state_dir, error)),
        }
    }

    /// Waits until somebody wants to be alone; says who.
    pub(crate) async fn until_asked_for(&self) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.asked_for() {
                Ok(Some(who)) => return who,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "it cannot be seen whether a command waits for this run"),
            }
        }
    }
}

/// Who is alone or wants to be, for people: what the last holder of the wish has written.
pub(crate) fn waited_for(state_dir: &Path) -> String {
    let mut name = String::new();
    let read = File::open(state_dir.join(WISH_FILE)).and_then(|file| file.take(64).read_to_string(&mut name));
    // One that was killed early has written nothing.
    if read.is_ok() && !name.is_empty() { name } else { "a command".into() }
}

/// Waits in a thread, so that the system wakes it.
pub(crate) async fn locked(file: File, lock: fn(&File) -> std::io::Result<()>) -> std::io::Result<File> {
    let waiting = tokio::task::spawn_blocking(move || {
        loop {
            match lock(&file) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done.map(|()| file),
            }
        }
    });
    waiting.await.map_err(std::io::Error::other)?
}

/// Waits, and says now and then what for; `None` when that takes too long.
#[allow(clippy::print_stderr)]
pub(crate) async fn patiently<T>(
    waiting: impl Future<Output = T>,
    patience: Duration,
    said: impl Fn() -> String,
) -> Option<T> {
    tokio::pin!(waiting);
    let start = tokio::time::Instant::now();
    let mut say_at = start + SAY_AFTER;
    loop {
        tokio::select! {
            biased;
            done = &mut waiting => return Some(done),
            () = tokio::time::sleep_until(start + patience) => return None,
            () = tokio::time::sleep_until(say_at) => {
                eprintln!("{} ({} s)", said(), start.elapsed().as_secs());
                say_at += SAY_EVERY;
            }
        }
    }
}

fn files(state_dir: &Path) -> Result<(File, File)> {
    let open = |name: &str| {
        std::fs::create_dir_all(state_dir)?;
        OpenOptions::new().write(true).create(true).truncate(false).open(state_dir.join(name))
    };
    let both = open(TURN_FILE).and_then(|turn| Ok((turn, open(WISH_FILE)?)));
    both.map_err(|error| unusable(state_dir, error))
}

fn too_long(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{what}, and this has to be alone")).fix(
        "Nothing was changed. `lockgate status` says what the run waits for (a lake, a database, keys); one with --once goes on to its end. Do this again, or stop the run.",
    )
}

pub(crate) fn unusable(state_dir: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("cannot write in {}", state_dir.display()))
        .source(error)
        .fix("Free space there, or allow writing.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("lockgate-turn-{name}-{}", std::process::id()))
    }

    fn beside(folder: &Path) -> Option<Turn> {
        Turn::beside_others(folder).unwrap()
    }

    #[tokio::test]
    async fn runs_share_a_folder_and_one_alone_does_not() {
        let folder = folder("share");
        let (first, second) = (beside(&folder).unwrap(), beside(&folder).unwrap());
        assert_eq!((first.asked_for().unwrap(), second.asked_for().unwrap()), (None, None));
        drop((first, second));
        let alone = Turn::alone(&folder, Work::Erase).await.unwrap();
        assert!(beside(&folder).is_none());
        assert_eq!(waited_for(&folder), "lockgate erase");
        drop(alone);
        drop(beside(&folder).unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn one_that_wants_to_be_alone_is_seen_and_no_run_comes_between() {
        let folder = folder("wish");
        let run = beside(&folder).unwrap();
        let asking = tokio::spawn({
            let folder = folder.clone();
            async move { Turn::alone(&folder, Work::Remask).await.unwrap() }
        });
        assert_eq!(run.until_asked_for().await, "lockgate remask");
        assert!(beside(&folder).is_none(), "a run came between");
        let again = tokio::spawn({
            let folder = folder.clone();
            async move { Turn::after_others(&folder).await.unwrap() }
        });
        drop(run);
        let alone = asking.await.unwrap();
        tokio::time::sleep(SHORT).await;
        assert!(!again.is_finished(), "a run beside one alone");
        drop(alone);
        assert_eq!(again.await.unwrap().asked_for().unwrap(), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn patience_ends_and_leaves_nothing_behind() {
        let folder = folder("patience");
        let run = beside(&folder).unwrap();
        let error = Turn::alone_within(&folder, Work::Keys, SHORT).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.what().contains("has not given its turn") && error.how_to_fix().is_some(), "{error}");
        // The wish is gone: another run may come.
        drop(beside(&folder).unwrap());
        drop(run);
        // Two in a row: the second waits for the first.
        let first = loop {
            // The thread of the one that gave up may still get the lock for an instant; in a program it ends with it.
            if let Ok(first) = Turn::alone_within(&folder, Work::Repair, SHORT).await {
                break first;
            }
        };
        let error = Turn::alone_within(&folder, Work::Keys, SHORT).await.unwrap_err();
        assert!(error.what().contains("`lockgate repair` goes on"), "{error}");
        drop(first);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
