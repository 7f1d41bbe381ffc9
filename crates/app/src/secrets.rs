//! Secrets by reference: `${env:NAME}` and `${file:PATH}`. A literal secret in a configuration file is refused.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use change::{Error, Kind, Result};
use zeroize::Zeroizing;

/// A resolved secret, zeroed when it is dropped. It has no `Display`, and its `Debug` shows nothing.
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself, for the client that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A place where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// An environment variable.
    Env(String),
    /// A file, relative to the project folder; a final line break is not part of the secret.
    File(String),
}

impl Reference {
    /// Reads `${env:NAME}` or `${file:PATH}`; anything else is an error whose text does not repeat the input, which may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Config, "a secret must be a reference, not the secret itself")
                .fix("Write ${env:NAME} or ${file:PATH}.")
        };
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
        match inner.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            Some((manager @ ("vault" | "aws" | "azure" | "gcp"), _)) => {
                Err(Error::new(Kind::Config, format!("secrets from {manager} are not supported by this version"))
                    .fix("Let the manager write the secret to a file or an environment variable, and refer to that."))
            }
            _ => Err(wrong()),
        }
    }

    /// Fetches the secret.
    ///
    /// # Errors
    /// `Config` when the variable is not set or the file cannot be read.
    pub(crate) fn resolve(&self, project: &Path) -> Result<Secret> {
        match self {
            Self::Env(name) => std::env::var(name).map(|text| Secret(Zeroizing::new(text))).map_err(|_| {
                Error::new(Kind::Config, format!("the environment variable {name} is not set"))
                    .fix(format!("Set it: export {name}=..."))
            }),
            Self::File(path) => {
                let path = project.join(path);
                let mut text = read(&path).map_err(|error| {
                    Error::new(Kind::Config, format!("cannot read the secret file {}", path.display()))
                        .source(error)
                        .fix("Make the file readable for the user that runs Lockgate.")
                })?;
                let end = text.trim_end_matches(['\r', '\n']).len();
                text.truncate(end);
                Ok(Secret(text))
            }
        }
    }
}

/// Room for a file that has no length of its own, such as a pipe.
const ROOM_BYTES: u64 = 8192;

/// Reads a file of secrets into one buffer, which is zeroed when it is dropped, also when the file is not text.
///
/// # Errors
/// Those of the file.
pub(crate) fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut file = File::open(path)?;
    // A buffer that grows leaves a copy behind.
    let room = file.metadata()?.len().max(ROOM_BYTES) + 1;
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(room).unwrap_or(usize::MAX)));
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// As [`read`], without blanks and line breaks around.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_trimmed(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = read(path)?;
    let end = text.trim_end().len();
    text.truncate(end);
    let start = text.len() - text.trim_start().len();
    text.drain(..start);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_are_taken_and_a_literal_is_never_repeated() {
        assert_eq!(Reference::parse("${env:PW}").unwrap(), Reference::Env("PW".into()));
        assert_eq!(Reference::parse("${file:./pw}").unwrap(), Reference::File("./pw".into()));
        for literal in ["hunter2", "${env:}", "${hunter2}", "$env:hunter2"] {
            let error = Reference::parse(literal).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
            assert!(error.how_to_fix().unwrap().contains("${env:NAME}"));
        }
    }

    fn zeroed_on_drop<T: zeroize::ZeroizeOnDrop>(_: &T) {}

    #[test]
    fn a_secret_file_is_read_into_one_buffer_that_is_zeroed_and_trimmed_in_place() {
        let dir = std::env::temp_dir().join(format!("lockgate-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for length in [0, 7, 20_000] {
            let path = dir.join("secret");
            std::fs::write(&path, format!("{}\r\n", "s".repeat(length))).unwrap();
            let room = read(&path).unwrap().capacity();
            assert!(room > length + 2);
            let Secret(text) = Reference::File("secret".into()).resolve(&dir).unwrap();
            zeroed_on_drop(&text);
            assert_eq!((text.len(), text.capacity()), (length, room));
            std::fs::write(&path, format!(" \t{}\n ", "s".repeat(length))).unwrap();
            assert_eq!(read_trimmed(&path).unwrap().len(), length);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
