//! What a proof of the audit log is made from, as the command line names it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ::audit::{Evidence, Files, HEADS_FILE, PUBLIC_KEY_FILE, PublicKey, Report, SigningKey};
use change::{Clock, Error, Kind, Result};

use super::{log_file, open};
use crate::audit::Anchor;
use crate::cli;
use crate::clock::SystemClock;
use crate::project::Project;
use crate::secrets;

/// Where everything lies, and which key must have signed.
pub(super) struct Gathered {
    /// The log's file, and those of the logs before it.
    pub(super) logs: Vec<PathBuf>,
    pub(super) public: PublicKey,
    /// The key itself, when it was given.
    pub(super) signing: Option<SigningKey>,
    /// Whether the key is the log's own copy.
    pub(super) own_key: bool,
    pub(super) has_anchor: bool,
    anchored: Vec<String>,
}

impl Gathered {
    pub(super) async fn of(dir: &Path, given: &cli::AuditEvidence) -> Result<Self> {
        let log = log_file(dir, given.file.as_deref());
        let (public, signing) = match &given.key {
            Some(named) => key(named)?,
            None => key(&log.with_file_name(PUBLIC_KEY_FILE).to_string_lossy())?,
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
        // Before the log: what comes in between is then no finding.
        let anchored = match &anchor {
            Some(anchor) => anchor.heads().await?,
            None => Vec::new(),
        };
        let before = given.before.iter().map(|folder| log_file(dir, Some(folder)));
        let (logs, own_key) = (std::iter::once(log).chain(before).collect(), given.key.is_none());
        Ok(Self { logs, public, signing, own_key, has_anchor: anchor.is_some(), anchored })
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
            anchored: self.anchored.clone(),
            key: self.public,
            macs: self.signing.as_ref().map(SigningKey::macs),
            now: SystemClock::new().now(),
        })
    }
}

fn files(path: &Path) -> Result<Files<BufReader<File>>> {
    let entries = open(path)?;
    let heads = match std::fs::read_to_string(path.with_file_name(HEADS_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        // What is not text was changed: as no head at all, it proves nothing.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => "not text\n".into(),
        Err(error) => {
            return Err(Error::new(Kind::Unavailable, "the heads of the audit log cannot be read").source(error));
        }
    };
    Ok(Files { entries, heads })
}

/// A public key by its digits or its file, or a signing key by its file.
fn key(named: &str) -> Result<(PublicKey, Option<SigningKey>)> {
    if let Ok(key) = PublicKey::parse(named) {
        return Ok((key, None));
    }
    let text = secrets::read(Path::new(named)).map_err(|error| {
        Error::new(Kind::Config, format!("the key {named} cannot be read")).source(error).fix(
            "Give the 64 digits of the public key, its file audit.pub, or the file of the signing key: --key PATH.",
        )
    })?;
    match SigningKey::parse(&text) {
        Ok(key) => Ok((key.public(), Some(key))),
        Err(_) => Ok((PublicKey::parse(&text)?, None)),
    }
}
