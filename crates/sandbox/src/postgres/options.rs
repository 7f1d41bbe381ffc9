use std::path::PathBuf;

use anyhow::Result;

use super::PrivatePostgres;

/// How a [`PrivatePostgres`] is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) bin: Option<PathBuf>,
    pub(super) major: Option<u32>,
    pub(super) folder: Option<PathBuf>,
    pub(super) settings: Vec<(String, String)>,
    pub(super) hba: Vec<String>,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) durable: bool,
}

impl Options {
    /// The newest server that is installed, `wal_level = logical`, no password, no TLS, and no fsync.
    pub fn new() -> Self {
        Self::default()
    }

    /// The programs of this folder instead of the newest that is installed.
    #[must_use]
    pub fn bin(mut self, bin: impl Into<PathBuf>) -> Self {
        self.bin = Some(bin.into());
        self
    }

    /// The newest server of this major version.
    #[must_use]
    pub fn major(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// Makes the private folder in this one, which must exist, instead of the system's folder for temporary files.
    #[must_use]
    pub fn inside(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// A line of `postgresql.conf`; a later one wins over an earlier one and over our own.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A line of `pg_hba.conf`, before our own: the first that fits a connection decides.
    #[must_use]
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.hba.push(line.into());
        self
    }

    /// SCRAM for connections over TCP; the superuser has this password. The Unix socket needs none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// TLS with a certificate from a certificate authority that is made for this server.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// fsync and full-page writes as in production: for figures, not for tests.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Makes the data folder and starts the server; returns once it answers. Fails when no server is installed or it does not come up.
    pub async fn start(self) -> Result<PrivatePostgres> {
        PrivatePostgres::make(self).await
    }
}
