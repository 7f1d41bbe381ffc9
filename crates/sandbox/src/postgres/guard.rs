use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::account::Account;

/// A small process that outlives this one, however this one ends: once the pipe to it closes, it stops the server and removes the
/// folder. The kernel closes the pipe even after `kill -9`.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Watches over the server whose programs are in `bin` and whose files are all in `folder`.
    pub(super) fn start(account: Account, bin: &Path, folder: &Path) -> Result<Self> {
        let script = r#"cat > /dev/null
            "$1/pg_ctl" -D "$2/data" -m immediate -w stop
            cd /
            rm -rf "$2""#;
        let child = account
            .command("sh", folder)
            .args(["-c", script, "lockgate-guard"])
            .args([bin, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("sh cannot be started")?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // `wait` closes the pipe first. It fails only when the process is already gone, and then there is nothing to wait for.
        let _gone = self.0.wait();
    }
}
