//! What a proof of the audit log is made from, as the command line names it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use ::audit::{Anchored, Evidence, Files, Given, HEADS_FILE, PUBLIC_KEY_FILE, PublicKey, Report, SigningKey};
use change::{Clock, Error, Kind, Result};

use super::{log_file, open};
use crate::audit::{Anchor, set_aside};
use crate::cli;
use crate::clock::SystemClock;
use crate::project::Project;
use crate::secrets;

/// Where everything lies, and which keys must have signed.
pub(super) struct Gathered {
    /// The log's file, and those of the logs before it.
    pub(super) logs: Vec<PathBuf>,
    pub(super) key: Key,
    /// Keys of logs before it.
    former_keys: Vec<Key>,
    /// Whether the key is the log's own copy.
    pub(super) own_key: bool,
    pub(super) has_anchor: bool,
    anchored: Anchored,
}

/// A key, and its secret half when that was given.
pub(super) struct Key {
    pub(super) public: PublicKey,
    pub(super) signing: Option<SigningKey>,
}

impl Key {
    fn given(&self) -> Given<'_> {
        Given { public: self.public, macs: self.signing.as_ref().map(SigningKey::macs) }
    }
}

impl Gathered {
    pub(super) async fn of(dir: &Path, given: &cli::AuditEvidence) -> Result<Self> {
        let log = log_file(dir, given.file.as_deref());
        let mut keys = given.key.iter().map(|named| key(named)).collect::<Result<Vec<_>>>()?.into_iter();
        let (first, own_key) = match keys.next() {
            Some(key) => (key, false),
            None => (key(&log.with_file_name(PUBLIC_KEY_FILE).to_string_lossy())?, true),
        };
        let anchor = match &given.anchor {
            Some(place) => Some(Anchor::at(place, Vec::new()).await?),
            // A log that was named may be a copy of another project's.
            None if given.file.is_none() => match Project::read(dir) {
                Ok(project) => Anchor::of(&project).await?,
                Err(_) => None,
            },
            None => None,
        };
        let former_keys: Vec<Key> = keys.collect();
        // Before the log: what comes in between is then no finding.
        let mut anchored = Anchored::of_keys(std::iter::once(&first).chain(&former_keys).map(|key| key.public));
        if let Some(anchor) = &anchor {
            anchor.each_head(|line| anchored.add(line)).await?;
        }
        let aside = match given.file.is_none() && given.before.is_empty() {
            true => set_aside(&dir.join(".lockgate"))?,
            false => given.before.clone(),
        };
        let before = aside.iter().map(|folder| log_file(dir, Some(folder)));
        let logs = std::iter::once(log).chain(before).collect();
        Ok(Self { logs, key: first, former_keys, own_key, has_anchor: anchor.is_some(), anchored })
    }

    /// The public keys that were given, or found.
    pub(super) fn publics(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(&self.key).chain(&self.former_keys).map(|key| &key.public)
    }

    /// Proves the log and those before it.
    ///
    /// # Errors
    /// Those of their files.
    pub(super) fn prove(&self) -> Result<Report> {
        let mut logs = self.logs.iter().map(|path| files(path)).collect::<Result<Vec<_>>>()?.into_iter();
        let Some(log) = logs.next() else { return Ok(Report::default()) };
        ::audit::verify(Evidence {
            log,
            before: logs.collect(),
            anchored: &self.anchored,
            key: self.key.given(),
            former_keys: self.former_keys.iter().map(Key::given).collect(),
            now: SystemClock::new().now(),
        })
    }
}

/// Both files as they are at one moment: a process that writes meanwhile is waited for, and what it adds later is left out.
fn files(path: &Path) -> Result<Files<Box<dyn BufRead>>> {
    let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
    let entries = open_left(path)?;
    // Where files cannot be locked, nobody writes who would lock them.
    let locked = entries.as_ref().filter(|entries| entries.lock_shared().is_ok());
    let heads = match File::open(path.with_file_name(HEADS_FILE)) {
        Ok(heads) => Some(heads),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(error)),
    };
    let length = |file: &File| file.metadata().map(|file| file.len()).map_err(unreadable);
    let (of_entries, of_heads) = (entries.as_ref().map_or(Ok(0), length)?, heads.as_ref().map_or(Ok(0), length)?);
    if let Some(entries) = locked {
        entries.unlock().map_err(unreadable)?;
    }
    let read = |file: Option<File>, bytes| -> Box<dyn BufRead> {
        match file {
            Some(file) => Box::new(BufReader::new(file.take(bytes))),
            None => Box::new(std::io::empty()),
        }
    };
    Ok(Files { entries: read(entries, of_entries), heads: read(heads, of_heads) })
}

/// The file of a log's entries; `None` where heads are all that is left of the log.
///
/// # Errors
/// `Config` when it cannot be read.
pub(super) fn open_left(path: &Path) -> Result<Option<File>> {
    if !path.exists() && path.with_file_name(HEADS_FILE).exists() {
        return Ok(None);
    }
    open(path).map(|file| Some(file.into_inner()))
}

/// A public key by its digits or its file, or a signing key by its file.
fn key(named: &str) -> Result<Key> {
    if let Ok(public) = PublicKey::parse(named) {
        return Ok(Key { public, signing: None });
    }
    let text = secrets::read(Path::new(named)).map_err(|error| {
        Error::new(Kind::Config, format!("the key {named} cannot be read")).source(error).fix(
            "Give the 64 digits of the public key, its file audit.pub, or the file of the signing key: --key PATH.",
        )
    })?;
    match SigningKey::parse(&text) {
        Ok(key) => Ok(Key { public: key.public(), signing: Some(key) }),
        Err(_) => Ok(Key { public: PublicKey::parse(&text)?, signing: None }),
    }
}
