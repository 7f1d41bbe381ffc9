use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::account::run;

/// A certificate authority of one server's own, and what it has signed.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes the authority in `folder`, which must be readable by the caller. Needs the program `openssl`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        run(openssl(folder)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=Lockgate sandbox CA", "-keyout", "ca.key", "-out", "ca.pem"])
            .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]))
        .context("a certificate authority cannot be made; `apt-get install openssl` if it is missing")?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The authority's certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs a certificate for `name` (a server's host or a client's role) and returns the paths of certificate and key.
    pub(super) fn sign(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let file = |ending: &str| format!("{name}.{ending}");
        fs::write(self.folder.join(file("ext")), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
        run(openssl(&self.folder)
            .args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", &format!("/CN={name}"), "-keyout", &file("key"), "-out", &file("csr")]))?;
        run(openssl(&self.folder)
            .args(["x509", "-req", "-in", &file("csr"), "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"])
            .args(["-days", "2", "-extfile", &file("ext"), "-out", &file("pem")]))?;
        Ok((self.folder.join(file("pem")), self.folder.join(file("key"))))
    }
}

fn openssl(folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder);
    command
}
