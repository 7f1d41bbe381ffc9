//! A log that cannot go on is set aside, and another one begins that says why: its first entry names the one before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::audit::{
    AnchorSeen, Because, Event, Former, Heads, Log, Moment, Opener, PUBLIC_KEY_FILE, Program, PublicKey, Remains,
    SigningKey,
};
use change::{Clock, Error, Kind, Result};

use super::anchor::Anchor;
use super::copies::Copies;
use super::hold::Hold;
use super::key::{self, own_file};
use super::{ANCHOR_PATIENCE, folder, look, opener};
use crate::project::Project;

/// Where the new log lies until it takes its place, in the state folder. It is there from before anything is written: until then it is empty.
pub(super) const STAGED: &str = "audit.next";
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
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE)) && Remains::of(path).are_any()
    };
    let mut folders: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_one).collect();
    folders.sort();
    Ok(folders)
}

/// Refuses to go on in a log, or to begin one, by the way between two steps of a renewal. Nobody renews meanwhile.
///
/// # Errors
/// `Config` when there is one.
pub(super) fn must_be_finished(project: &Project) -> Result<()> {
    match project.state_dir().join(STAGED).exists() {
        false => Ok(()),
        true => Err(Error::new(Kind::Config, "a renewal of the audit log was not finished")
            .fix("Run the same `lockgate audit renew` once more.")),
    }
}

/// Whether the new log is whole and the old one has gone out of its way.
fn is_between_steps(state_dir: &Path) -> Result<bool> {
    let staged = state_dir.join(STAGED);
    let begun = Remains::of(&staged).have_begun().map_err(|error| unmoved(&staged, error))?;
    Ok(begun && !folder(state_dir).exists())
}

/// Sets the project's log aside and begins another one. A kill leaves either the log that was there or, once the same is asked for again, the new
/// one; until then no other command goes on. What has the log open is waited for.
///
/// # Errors
/// `Config` when the reason does not fit what is there; those of the keys, and of the disk. A copy that does not reach the anchor is none.
pub(crate) async fn renew(project: &Project, because: Because, clock: Arc<dyn Clock>) -> Result<Renewed> {
    let state_dir = project.state_dir();
    let alone = Hold::alone(&state_dir).await?;
    let done = match is_between_steps(&state_dir)? {
        true => None,
        false => Some(move_aside(project, because, &*clock).await?),
    };
    finish(project)?;
    drop(alone);
    // The new log is in its place: what an anchor lacks is copied later, or lies in the log that was set aside.
    let key = key::existing_key(project)?.public();
    if let Some(Aside { folder, old: Some(old), .. }) = &done {
        send(project, folder, old).await;
    }
    send(project, &folder(&state_dir), &key).await;
    let (aside, is_ended) = done.map_or((None, false), |done| (Some(done.folder), done.is_ended));
    Ok(Renewed { aside, is_ended, key })
}

/// A log that was set aside.
struct Aside {
    folder: PathBuf,
    /// Its key.
    old: Option<PublicKey>,
    is_ended: bool,
}

/// Ends the old log, begins the new one beside it, and takes the old one away.
async fn move_aside(project: &Project, because: Because, clock: &dyn Clock) -> Result<Aside> {
    let (state_dir, staged) = (project.state_dir(), project.state_dir().join(STAGED));
    let log = folder(&state_dir);
    if !Remains::of(&log).are_any() {
        // What a renewal had begun is for nothing.
        empty(&staged).and_then(|()| std::fs::remove_dir(&staged)).map_err(|error| unmoved(&staged, error))?;
        return Err(Error::new(Kind::Config, "there is no audit log to set aside").fix("The next command begins one."));
    }
    let keys = Keys::of(project, &log, because)?;
    let (old, anchor) = (keys.old, Anchor::of(project).await?);
    // The folder may be another's: the anchor knows what the key has signed before.
    if because == Because::KeyExposed && project.file.audit.key.is_some() {
        let (signed, _) = look(anchor.as_ref(), &keys.new.public()).await;
        if signed == AnchorSeen::Head {
            return Err(still_named());
        }
    }
    // From here on nobody goes on in a log that says that it was set aside.
    empty(&staged).map_err(|error| unmoved(&staged, error))?;
    let is_ended = keys.has_old && end(project, &log, because, clock)?;
    stage(project, keys, anchor.as_ref(), because, clock).await?;
    let to = name_aside(&state_dir, &log)?;
    std::fs::rename(&log, &to).map_err(|error| unmoved(&log, error))?;
    Ok(Aside { folder: to, old, is_ended })
}

/// A folder with nothing in it. It is there all the time where it was there before.
pub(super) fn empty(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::read_dir(folder)?.try_for_each(|file| std::fs::remove_file(file?.path()))
}

/// The heads of a log that nobody has open belong at the anchor too.
async fn send(project: &Project, log: &Path, key: &PublicKey) {
    let send = async {
        let Some(anchor) = Anchor::of(project).await? else { return Ok(()) };
        Copies::of(log, anchor, *key)?.send().await.map(|_| ())
    };
    match tokio::time::timeout(ANCHOR_PATIENCE, send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, log = %log.display(), "the last head of the log did not reach the anchor");
        }
        Err(_) => {
            tracing::warn!(log = %log.display(), "the anchor did not answer: it may lack the last head of the log")
        }
    }
}

/// The keys of both logs.
pub(super) struct Keys {
    /// That of the log that is set aside, as far as it is known.
    pub(super) old: Option<PublicKey>,
    /// Whether it is there, and that log is of it.
    has_old: bool,
    new: SigningKey,
}

impl Keys {
    /// A new key is made where the project has its own and the old one cannot stay; it lies beside the other until the end. What the log's folder
    /// shows as its key counts only where there is no other: whoever exchanges the log exchanges that too.
    pub(super) fn of(project: &Project, log: &Path, because: Because) -> Result<Self> {
        let (staged, remains) = (staged_key(project), Remains::of(log));
        if staged.exists() {
            std::fs::remove_file(&staged).map_err(|error| unmoved(&staged, error))?;
        }
        let refused = |what: &str, fix: &str| Err(Error::new(Kind::Config, what).fix(fix));
        let is_own = project.file.audit.key.is_none();
        let present = match is_own && !own_file(project).exists() {
            true => None,
            false => Some(key::existing_key(project)?),
        };
        let is_of = |key: &SigningKey| remains.are_of(key).map_err(|error| unmoved(log, error));
        let has_old = present.as_ref().map_or(Ok(false), is_of)?;
        match (because, present) {
            (Because::Damaged, Some(new)) => Ok(Self { old: Some(new.public()), has_old, new }),
            (Because::Damaged, None) => {
                refused("the key of the audit log is not there", "Restore it, or say --because key-lost.")
            }
            (Because::KeyLost, Some(_)) if is_own || has_old => refused(
                "the key of the audit log is not lost",
                "Say --because key-exposed, or damaged. If keys/audit.key is not the key of this log, move it away first.",
            ),
            (Because::KeyExposed, Some(_)) if !is_own && has_old => Err(still_named()),
            (Because::KeyLost | Because::KeyExposed, Some(new)) if !is_own => {
                Ok(Self { old: shown(log)?, has_old, new })
            }
            (Because::KeyLost | Because::KeyExposed, present) => {
                let old = present.map_or_else(|| shown(log), |key| Ok(Some(key.public())))?;
                key::make(&staged)?;
                Ok(Self { old, has_old, new: key::read(&staged)? })
            }
        }
    }
}

fn still_named() -> Error {
    Error::new(Kind::Config, "audit.key still names the key that somebody else may have")
        .fix("Put another key there first, then run this again.")
}

/// What a log shows as its key; `None` where it has no heads either that one could have signed.
fn shown(log: &Path) -> Result<Option<PublicKey>> {
    let path = log.join(PUBLIC_KEY_FILE);
    let heads = Heads::of(log).length().map_err(|error| unmoved(log, error))?;
    match std::fs::read_to_string(&path) {
        Ok(text) => PublicKey::parse(&text).map(Some).map_err(|error| error.context(path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && heads == 0 => Ok(None),
        Err(error) => Err(Error::new(Kind::Config, format!("the public key {} cannot be read", path.display()))
            .source(error)
            .fix("Put the key there that you keep: 64 digits.")),
    }
}

/// Writes at the end of the log that it is set aside, when what it has holds; whether it was written.
pub(super) fn end(project: &Project, log: &Path, because: Because, clock: &dyn Clock) -> Result<bool> {
    match Log::open(log, key::existing_key(project)?, Moment::of(clock), opener(project, Program::Audit)?) {
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
pub(super) async fn stage(
    project: &Project,
    keys: Keys,
    anchor: Option<&Anchor>,
    because: Because,
    clock: &dyn Clock,
) -> Result<()> {
    let log = folder(&project.state_dir());
    let unread = |error| unmoved(&log, error);
    let (remains, new) = (Remains::of(&log), keys.new.public());
    let old = keys.old.unwrap_or(new);
    let (anchor, there) = look(anchor, &old).await;
    let here = remains.former(&old).map_err(unread)?;
    let former = Former { key: (old != new).then_some(old), ..newer(here, there) };
    let in_force = remains.in_force(&old).map_err(unread)?;
    let (former, because) = (Some(former), Some(because));
    let opener = Opener { anchor, former, because, in_force, ..opener(project, Program::Audit)? };
    let staged = project.state_dir().join(STAGED);
    Log::open(&staged, keys.new, Moment::of(clock), opener)?.close(Moment::of(clock)).map(|_| ())
}

/// What the new log names: the newest head of the log that is set aside, or what the anchor has where that was set back or thrown away.
fn newer(here: Former, there: Option<Former>) -> Former {
    let is_newer = |there: &Former| here.head == 0 || there.log == here.log && there.head > here.head;
    there.filter(is_newer).unwrap_or(here)
}

/// A name for the log that is set aside, which nothing has yet.
pub(super) fn name_aside(state_dir: &Path, log: &Path) -> Result<PathBuf> {
    // What has neither an entry nor a head has a name of zeros.
    let id = Remains::of(log).log().map_err(|error| unmoved(log, error))?.unwrap_or_default();
    let name = |number: u32| match number {
        1 => format!("{ASIDE}{}", id.short()),
        number => format!("{ASIDE}{}-{number}", id.short()),
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
    std::fs::rename(&staged, &log).map_err(|error| unmoved(&log, error))?;
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
