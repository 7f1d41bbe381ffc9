//! Secrets by reference: `${env:NAME}` and `${file:PATH}`. A literal secret in a configuration file is refused.

use std::fmt;
use std::path::Path;

use change::{Error, Kind, Result};

/// A resolved secret. It has no `Display`, and its `Debug` shows nothing.
#[derive(Clone)]
pub(crate) struct Secret(String);

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
            Self::Env(name) => std::env::var(name).map(Secret).map_err(|_| {
                Error::new(Kind::Config, format!("the environment variable {name} is not set"))
                    .fix(format!("Set it: export {name}=..."))
            }),
            Self::File(path) => {
                let path = project.join(path);
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Error::new(Kind::Config, format!("cannot read the secret file {}", path.display()))
                        .source(error)
                        .fix("Make the file readable for the user that runs Lockgate.")
                })?;
                Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
        }
    }
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
}
