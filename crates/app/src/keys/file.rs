//! The key file: read with care for its mode, made by `init`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use change::{Error, Kind, Result};
use gate::KeyRing;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::secrets;

/// Reads a key file's text.
///
/// # Errors
/// `Privacy` when the file is missing or readable by others.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>> {
    let wrong = |what: String, fix: &str| Error::new(Kind::Privacy, what).fix(fix);
    let found = std::fs::metadata(path).map_err(|error| {
        wrong(
            format!("cannot read the key file {}", path.display()),
            "Restore it from where you keep keys: a new one makes other tokens.",
        )
        .source(error)
    })?;
    if !found.is_file() {
        return Err(wrong(
            format!("the key file {} is no file", path.display()),
            "Name the file itself, in its folder: keys: file:./keys/dev.key",
        ));
    }
    let mode = found.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(
            format!("the key file {} is open to other users (mode {:o})", path.display(), mode & 0o777),
            &format!("Run: chmod 600 {}", path.display()),
        ));
    }
    secrets::read(path).map_err(|error| {
        wrong(format!("cannot read the key file {}", path.display()), "Make it readable for this user.").source(error)
    })
}

/// Puts another text in place of a key file, whole or not at all, with the mode that it has.
///
/// # Errors
/// `Full` when it cannot be written: the file is as it was then.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Full, format!("cannot write the key file {}", path.display()))
            .source(error)
            .fix("Make its folder writable for this user, or write the new file elsewhere: --out FILE.")
    };
    // A link stays a link.
    let path = path.canonicalize().map_err(failed)?;
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o7777;
    let new = path.with_extension("new");
    // A kill may have left one.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let written = write_new(&new, text, mode).and_then(|()| std::fs::rename(&new, &path));
    if let Err(error) = written {
        drop(std::fs::remove_file(&new));
        return Err(failed(error));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Writes a text of keys where there is no file yet, mode 0600.
///
/// # Errors
/// `Config` when there is a file, or it cannot be made.
pub(super) fn write_out(path: &Path, text: &str) -> Result<()> {
    write_new(path, text, 0o600).map_err(|error| {
        Error::new(Kind::Config, format!("cannot make the file {}", path.display()))
            .source(error)
            .fix("Name a file that is not there yet, in a folder that only you can read: --out FILE.")
    })
}

fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())
}

/// Makes a key file with a fresh key, mode 0600; an existing file is left as it is.
pub(crate) fn make(path: &Path) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let failed = |error: std::io::Error| {
        Error::new(Kind::Config, format!("cannot write the key file {}", path.display())).source(error)
    };
    let mut bytes = Zeroizing::new([0_u8; 32]);
    OsRng
        .try_fill_bytes(&mut *bytes)
        .map_err(|error| Error::new(Kind::Unavailable, "the system gave no random numbers for a key").source(error))?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let text = KeyRing::generate("default", bytes)?;
    write_new(path, &text, 0o600).map_err(failed)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_file_is_private_and_read_back_and_an_open_one_is_refused() {
        let folder = std::env::temp_dir().join(format!("lockgate-keys-{}", std::process::id()));
        let path = folder.join("keys/dev.key");
        assert!(make(&path).unwrap());
        assert!(!make(&path).unwrap(), "a key is never replaced");
        assert!(KeyRing::parse(&read(&path).unwrap()).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::write(folder.join("keys/dev.new"), "left by a kill").unwrap();
        replace(&path, "another text").unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "another text");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(std::fs::read_dir(folder.join("keys")).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(write_out(&path, "x").unwrap_err().kind(), Kind::Config, "no file is overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.how_to_fix().unwrap().contains("chmod 600"));
        assert!(read(&folder).unwrap_err().what().ends_with("is no file"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
