//! A log that cannot go on is set aside, and another one begins that says why: its first entry names the one before.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::audit::{
    Because, Event, Former, HEADS_FILE, Hash, LOG_FILE, Log, Moment, Opener, PUBLIC_KEY_FILE, Program, PublicKey,
    SigningKey, newest_head, read_line,
};
use change::{Clock, Error, Kind, Result};

use super::anchor::Anchor;
use super::copies::Copies;
use super::key::{self, own_file};
use super::{Auditor, IN_FORCE_FILE, folder, look, opener};
use crate::project::Project;

/// Where the new log lies until it takes its place, in the state folder.
const STAGED: &str = "audit.next";
/// How the folders of logs begin that were set aside.
const ASIDE: &str = "audit-";

/// What was done.
pub(crate) struct Renewed {
    /// The folder of the log that was set aside; `None` when an earlier call had come so far.
    pub(crate) aside: Option<PathBuf>,
    /// Whether that log says at its end that it was set aside.
    pub(crate) is_ended: bool,
    /// The key of the new log.
    pub(crate) key: PublicKey,
}

/// Folders of logs that were set aside, in order of their names.
///
/// # Errors
/// `Full` when the state folder cannot be read; one that is not there has none.
pub(crate) fn set_aside(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(state_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => {
            read.and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(|error| unmoved(state_dir, error))?
        }
    };
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE)) && Log::is_begun(path)
    };
    let mut folders: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_one).collect();
    folders.sort();
    Ok(folders)
}

/// Refuses to begin a log by the way between two steps of a renewal.
///
/// # Errors
/// `Config` when there is one.
pub(super) fn must_be_finished(project: &Project) -> Result<()> {
    let state_dir = project.state_dir();
    match is_between_steps(&state_dir) {
        false => Ok(()),
        true => Err(Error::new(Kind::Config, "a renewal of the audit log was not finished")
            .fix("Run the same `lockgate audit renew` once more.")),
    }
}

fn is_between_steps(state_dir: &Path) -> bool {
    !folder(state_dir).exists() && state_dir.join(STAGED).exists()
}

/// Sets the project's log aside and begins another one. A kill leaves either the log that was there or, once the same is asked for again, the new
/// one. Nobody else may write meanwhile.
///
/// # Errors
/// `Config` when the reason does not fit what is there; those of the keys, and of the disk.
pub(crate) async fn renew(project: &Project, because: Because, clock: Arc<dyn Clock>) -> Result<Renewed> {
    let state_dir = project.state_dir();
    let (mut aside, mut is_ended) = (None, false);
    if !is_between_steps(&state_dir) {
        let log = folder(&state_dir);
        let keys = Keys::of(project, &log, because)?;
        let (anchor, shown) = (Anchor::of(project).await?, keys.shown);
        is_ended = keys.has_old && end(project, &log, because, &*clock)?;
        stage(project, keys, anchor.as_ref(), because, &*clock).await?;
        let to = name_aside(&state_dir, &log)?;
        std::fs::rename(&log, &to).map_err(|error| unmoved(&log, error))?;
        if let Some(anchor) = anchor {
            send(&to, anchor, &shown).await;
        }
        aside = Some(to);
    }
    finish(project)?;
    let auditor = Auditor::open(project, clock, Program::Audit).await?;
    let key = auditor.log().public_key();
    auditor.close().await?;
    Ok(Renewed { aside, is_ended, key })
}

/// The last head of a log that was set aside belongs at the anchor too; what it lacks, its kept copy has.
async fn send(aside: &Path, anchor: Anchor, key: &PublicKey) {
    let sent = match Copies::of(aside, anchor, *key) {
        Ok(copies) => copies.send().await.map(|_| ()),
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "the last head of the log that was set aside did not reach the anchor");
    }
}

/// The keys of both logs.
struct Keys {
    /// What the log that is set aside shows as its key.
    shown: PublicKey,
    /// Whether that key is there.
    has_old: bool,
    new: SigningKey,
}

impl Keys {
    /// A new key is made where the project has its own and the old one cannot stay; it lies beside the other until the end.
    fn of(project: &Project, log: &Path, because: Because) -> Result<Self> {
        let (path, staged) = (log.join(PUBLIC_KEY_FILE), staged_key(project));
        if staged.exists() {
            std::fs::remove_file(&staged).map_err(|error| unmoved(&staged, error))?;
        }
        let config = |what: String, fix: &str| Error::new(Kind::Config, what).fix(fix);
        if !Log::is_begun(log) {
            return Err(config("there is no audit log to set aside".into(), "The next command begins one."));
        }
        let shown = std::fs::read_to_string(&path).map_err(|error| {
            Error::new(Kind::Config, format!("the public key {} cannot be read", path.display()))
                .source(error)
                .fix("Put the key there that you keep: 64 digits.")
        })?;
        let shown = PublicKey::parse(&shown).map_err(|error| error.context(path.display()))?;
        let is_own = project.file.audit.key.is_none();
        let present = match is_own && !own_file(project).exists() {
            true => None,
            false => Some(key::existing_key(project)?),
        };
        let has_old = present.as_ref().is_some_and(|key| key.public() == shown);
        match (because, has_old, present) {
            (Because::KeyLost, true, _) => {
                Err(config("the key of the audit log is not lost".into(), "Say --because key-exposed, or damaged."))
            }
            (Because::KeyExposed, true, _) if !is_own => Err(config(
                "audit.key still names the key that somebody else may have".into(),
                "Put another key there first, then run this again.",
            )),
            (Because::KeyLost | Because::KeyExposed, false, Some(new)) | (Because::Damaged, _, Some(new)) => {
                Ok(Self { shown, has_old, new })
            }
            (Because::Damaged, _, None) => {
                Err(config("the key of the audit log is not there".into(), "Restore it, or say --because key-lost."))
            }
            (Because::KeyLost | Because::KeyExposed, _, _) => {
                key::make(&staged)?;
                Ok(Self { shown, has_old, new: key::read(&staged)? })
            }
        }
    }
}

/// Writes at the end of the log that it is set aside, when what it has holds; whether it was written.
fn end(project: &Project, log: &Path, because: Because, clock: &dyn Clock) -> Result<bool> {
    match Log::open(log, key::existing_key(project)?, Moment::of(clock), opener(Program::Audit)?) {
        Ok(mut log) => {
            log.append(Moment::of(clock), Event::Ended { because })?;
            log.close(Moment::of(clock)).map(|_| true)
        }
        Err(error) if error.kind() == Kind::Privacy => {
            tracing::warn!(%error, "the log that is set aside cannot say so itself");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Begins the new log where nobody looks for it yet.
async fn stage(
    project: &Project,
    keys: Keys,
    anchor: Option<&Anchor>,
    because: Because,
    clock: &dyn Clock,
) -> Result<()> {
    let (state_dir, staged) = (project.state_dir(), project.state_dir().join(STAGED));
    if staged.exists() {
        std::fs::remove_dir_all(&staged).map_err(|error| unmoved(&staged, error))?;
    }
    let log = folder(&state_dir);
    let key = (keys.shown != keys.new.public()).then_some(keys.shown);
    let (anchor, _) = look(anchor, &keys.shown).await;
    let former = Some(Former { key, ..former(&log, &keys.shown)? });
    let opener = Opener { anchor, former, because: Some(because), ..opener(Program::Audit)? };
    Log::open(&staged, keys.new, Moment::of(clock), opener)?.close(Moment::of(clock))?;
    // What was in force at the last start is known to the next one.
    match std::fs::copy(log.join(IN_FORCE_FILE), staged.join(IN_FORCE_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unmoved(&staged, error)),
        _ => Ok(()),
    }
}

/// What the new log says of the one before: its newest head that its key signed, or what can be counted without one.
fn former(log: &Path, key: &PublicKey) -> Result<Former> {
    let read = |name: &str| match std::fs::read(log.join(name)) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unmoved(log, error)),
    };
    let heads = read(HEADS_FILE)?;
    let heads = String::from_utf8_lossy(&heads);
    if let Some(former) = newest_head(heads.lines(), key) {
        return Ok(former);
    }
    let entries = read(LOG_FILE)?;
    let entries = String::from_utf8_lossy(&entries);
    let first = entries.lines().next().and_then(|line| line.get(9..73)).and_then(Hash::parse);
    let at = entries.lines().rev().find_map(read_line).map_or(0, |entry| entry.at);
    let count = entries.lines().count() as u64;
    Ok(Former { log: first.unwrap_or_default(), head: 0, hash: Hash::default(), entries: count, at, key: None })
}

/// A name for the log that is set aside, which nothing has yet.
fn name_aside(state_dir: &Path, log: &Path) -> Result<PathBuf> {
    let file = File::open(log.join(LOG_FILE)).map_err(|error| unmoved(log, error))?;
    let mut line = String::new();
    // What is no text was changed; the name is then of its zeros.
    match BufReader::new(file).read_line(&mut line) {
        Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return Err(unmoved(log, error)),
        _ => {}
    }
    let hash = line.get(9..73).and_then(Hash::parse).unwrap_or_default();
    let name = |number: u32| match number {
        1 => format!("{ASIDE}{}", hash.short()),
        number => format!("{ASIDE}{}-{number}", hash.short()),
    };
    let free = (1..).map(name).map(|name| state_dir.join(name)).find(|path| !path.exists());
    free.ok_or_else(|| {
        Error::new(Kind::Full, "no name is left for the log that is set aside").fix("Move older ones away.")
    })
}

/// Puts the new key and the new log in their places, as far as they are not there.
fn finish(project: &Project) -> Result<()> {
    let state_dir = project.state_dir();
    let (staged_key, own) = (staged_key(project), own_file(project));
    if staged_key.exists() {
        if own.exists() {
            let name = format!("audit-{}.key", key::read(&own)?.public().fingerprint().as_str());
            std::fs::rename(&own, own.with_file_name(name)).map_err(|error| unmoved(&own, error))?;
        }
        std::fs::rename(&staged_key, &own).map_err(|error| unmoved(&own, error))?;
    }
    let (staged, log) = (state_dir.join(STAGED), folder(&state_dir));
    if staged.exists() {
        std::fs::rename(&staged, &log).map_err(|error| unmoved(&log, error))?;
    }
    let synced = File::open(&state_dir).and_then(|folder| folder.sync_all());
    synced.map_err(|error| unmoved(&log, error))
}

fn staged_key(project: &Project) -> PathBuf {
    own_file(project).with_extension("key.next")
}

fn unmoved(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("{} cannot be read, made or moved", path.display()))
        .source(error)
        .fix("Give this user the folder, and run the same once more.")
}
