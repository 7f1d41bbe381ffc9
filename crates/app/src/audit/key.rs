//! The key that signs the audit log.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ::audit::{Remains, SigningKey};
use change::{Error, Kind, Result};
use zeroize::Zeroizing;

use super::{folder, random};
use crate::project::Project;
use crate::secrets;

/// Where the key is, when `audit.key` names no other place.
const KEY_FILE: &str = "keys/audit.key";

/// The file of the project's own key.
pub(super) fn own_file(project: &Project) -> PathBuf {
    project.dir.join(KEY_FILE)
}

/// The key that `audit.key` refers to, else the project's own, which is made when there is neither key nor log.
pub(super) fn signing_key(project: &Project) -> Result<SigningKey> {
    let path = own_file(project);
    if project.file.audit.key.is_none() && !path.exists() {
        let log = folder(&project.state_dir());
        if Remains::of(&log).are_any() {
            let what = format!("{} is missing, which signs the audit log in {}", path.display(), log.display());
            return Err(Error::new(Kind::Privacy, what).fix(
                "Restore the key from its backup. Without one: `lockgate audit renew --because key-lost` sets the log aside and begins another, \
                 which says so.",
            ));
        }
        make(&path)?;
    }
    existing_key(project)
}

/// Makes a new key in a file that is not there yet.
pub(super) fn make(path: &Path) -> Result<()> {
    let failed = |error| unusable(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let text = SigningKey::generate(&Zeroizing::new(random()?));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// As [`signing_key`], and none is made.
///
/// # Errors
/// `Privacy` when it cannot be read or is open to others.
pub(crate) fn existing_key(project: &Project) -> Result<SigningKey> {
    match &project.file.audit.key {
        Some(reference) => {
            let secret = reference.resolve(&project.dir).map_err(|error| error.context("audit.key"))?;
            SigningKey::parse(secret.reveal()).map_err(|error| error.context("audit.key"))
        }
        None => read(&own_file(project)),
    }
}

/// The key of a file.
pub(super) fn read(path: &Path) -> Result<SigningKey> {
    let failed = |error| unusable(path, error);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let what =
            format!("the key of the audit log {} is open to other users (mode {:o})", path.display(), mode & 0o777);
        return Err(Error::new(Kind::Privacy, what).fix(format!("Run: chmod 600 {}", path.display())));
    }
    let text = secrets::read(path).map_err(failed)?;
    SigningKey::parse(&text).map_err(|error| error.context(path.display()))
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Privacy, format!("the key of the audit log {} cannot be read or made", path.display()))
        .source(error)
        .fix("Make the folder writable, or name another place: audit: { key: ${file:PATH} }.")
}
