//! Keys that a cloud's key manager unwraps: the file lies in the project, and one call at start opens it.

use std::path::{Path, PathBuf};

use change::{Error, Kind, Result};
use reqwest::StatusCode;
use zeroize::Zeroizing;

use self::aws::AwsKms;
use self::azure::KeyVault;
use self::gcp::CloudKms;
use super::http::{self, Reply};
use super::wrapped::{self, FileKey, Unnamed, Wrapped};

mod aws;
mod aws_credentials;
mod azure;
mod azure_identity;
mod gcp;
mod jwt;

/// A key of a manager, and the file that it wraps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CloudKey {
    manager: Manager,
    key: String,
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Aws,
    Azure,
    Gcp,
}

/// What is asked of a manager.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// The file's key, out of what the manager made of it.
    Unwrap(&'a [u8]),
    /// The file's key, to be wrapped.
    Wrap(&'a FileKey),
}

/// A manager with everything that asking takes.
enum Desk {
    Aws(AwsKms),
    Azure(KeyVault),
    Gcp(CloudKms),
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws-kms",
            Self::Azure => "azure-kv",
            Self::Gcp => "gcp-kms",
        }
    }
}

impl CloudKey {
    /// `KEY#FILE` of `aws-kms`, `azure-kv` or `gcp-kms`; `None` when it is none of these, or the manager can have no such key.
    pub(super) fn parse(manager: &str, text: &str) -> Option<Self> {
        let (key, file) = text.rsplit_once('#')?;
        let (manager, known) = match manager {
            "aws-kms" => (Manager::Aws, aws::is_key(key)),
            "azure-kv" => (Manager::Azure, azure::is_key(key)),
            "gcp-kms" => (Manager::Gcp, gcp::is_key(key)),
            _ => return None,
        };
        (known && !file.is_empty()).then(|| Self { manager, key: key.to_owned(), file: file.into() })
    }

    /// What is wrong that can be seen without the manager.
    ///
    /// # Errors
    /// `Privacy` for the file, `Config` for what says who asks.
    pub(super) fn check(&self, project: &Path) -> Result<()> {
        self.desk(project)?;
        Wrapped::read(&project.join(&self.file), self.manager.name()).map(|_| ())
    }

    /// The text of the key file, by one call.
    ///
    /// # Errors
    /// As [`CloudKey::check`]; `Auth`, `Config`, `Privacy` and `Unavailable` by what the manager answers.
    pub(super) fn fetch(&self, project: &Path) -> Result<Zeroizing<String>> {
        let path = project.join(&self.file);
        let wrapped = Wrapped::read(&path, self.manager.name())?;
        let key = self.ask(project, Ask::Unwrap(wrapped.key()), wrapped.tenant())?;
        wrapped.open(&key).map_err(|error| error.context(path.display()))
    }

    /// Wraps the text of a key file into a file without its name yet, and opens that again before it says that it is done.
    ///
    /// # Errors
    /// As [`CloudKey::fetch`]; the file that has the name stays.
    pub(super) fn wrap(&self, project: &Path, text: &str, tenant: &str) -> Result<Unnamed> {
        let file_key = wrapped::file_key()?;
        let key = self.ask(project, Ask::Wrap(&file_key), tenant)?;
        let wrapped = Wrapped::seal(self.manager.name(), key.to_vec(), &file_key, text)?;
        let unnamed = wrapped.write(&project.join(&self.file))?;
        let written = Wrapped::read(unnamed.beside(), self.manager.name())?;
        let opened = self.ask(project, Ask::Unwrap(written.key()), written.tenant())?;
        match written.open(&opened)?.as_str() == text {
            true => Ok(unnamed),
            false => Err(Error::new(Kind::Bug, "a wrapped key file does not open as what it was")),
        }
    }

    fn desk(&self, project: &Path) -> Result<Desk> {
        Ok(match self.manager {
            Manager::Aws => Desk::Aws(AwsKms::from_environment(&self.key, project)?),
            Manager::Azure => Desk::Azure(KeyVault::from_environment(&self.key, project)?),
            Manager::Gcp => Desk::Gcp(CloudKms::from_environment(&self.key, project)?),
        })
    }

    fn ask(&self, project: &Path, ask: Ask<'_>, tenant: &str) -> Result<Zeroizing<Vec<u8>>> {
        let desk = self.desk(project)?;
        http::aside(async || {
            http::patiently(async || match &desk {
                Desk::Aws(kms) => kms.ask(ask, tenant).await,
                Desk::Azure(vault) => vault.ask(ask).await,
                Desk::Gcp(kms) => kms.ask(ask, tenant).await,
            })
            .await
        })
    }
}

/// Why a manager does not do what it is asked.
enum Refusal {
    /// Who asks is not known, or may not.
    Denied,
    Absent,
    Disabled,
    /// The key did not wrap this file.
    OtherKey,
    Busy,
    Redirect,
    Other,
}

impl Refusal {
    /// By the status alone, where a manager's answer says nothing more.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied,
            StatusCode::NOT_FOUND => Self::Absent,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Busy,
            status if status.is_server_error() => Self::Busy,
            status if status.is_redirection() => Self::Redirect,
            _ => Self::Other,
        }
    }

    /// What is said of it. The server's own words are left out: they can quote what was sent.
    fn error(self, who: &str, status: StatusCode, right: &str) -> Error {
        let (kind, what, fix) = match self {
            Self::Denied => (
                Kind::Auth,
                "whoever asks may not use the key".to_owned(),
                format!("Look who asks (credentials, role, their end), and give them {right}."),
            ),
            Self::Absent => (
                Kind::Config,
                "there is no such key".to_owned(),
                "Correct `keys` in policy.yaml: account or project, region, name, version.".to_owned(),
            ),
            Self::Disabled => (
                Kind::Privacy,
                "the key is disabled, or waits to be deleted".to_owned(),
                "Enable it at the manager. Nothing passes without keys.".to_owned(),
            ),
            Self::OtherKey => (
                Kind::Privacy,
                "the file was not wrapped by this key, or for another tenant, or is damaged".to_owned(),
                "Restore it from where you keep keys, or name the key that wrapped it.".to_owned(),
            ),
            Self::Busy => (
                Kind::Unavailable,
                format!("the server is busy or unwell: it answered {status}"),
                "Wait until it is well. Nothing passes without keys.".to_owned(),
            ),
            Self::Redirect => (
                Kind::Config,
                format!("the server answered {status}, and redirects are not followed"),
                "Look whether the address is the manager's own.".to_owned(),
            ),
            Self::Other => (
                Kind::Privacy,
                format!("the server refused with {status}"),
                "Look whether the key is one that encrypts and decrypts, and the file is the one that it wrapped."
                    .to_owned(),
            ),
        };
        Error::new(kind, format!("{who}: {what}")).fix(fix)
    }
}

/// What a manager says in JSON, where it is well.
fn json<T: serde::de::DeserializeOwned>(who: &str, reply: &Reply) -> Result<T> {
    serde_json::from_slice(&reply.body).map_err(|_| strange(who))
}

fn strange(who: &str) -> Error {
    Error::new(Kind::Config, format!("{who}: the answer is not one of this manager"))
        .fix("Look whether the address is the manager's own.")
}
