use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Whose processes the server's are. Postgres refuses to run as root, so root lends it an ordinary account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    /// The caller's own account, or for root that of `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd cannot be read")?;
        match ["postgres", "nobody"].iter().find_map(|name| ids(&passwd, name)) {
            Some(ids) => Ok(Self(Some(ids))),
            None => bail!("Postgres refuses to run as root and there is no account `postgres` or `nobody`; make one"),
        }
    }

    /// A command that runs `program` as this account in `folder`, in a process group of its own so that a Ctrl-C at the terminal does
    /// not reach it, and with none of the caller's Postgres settings.
    pub(super) fn command(self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).stdin(Stdio::null()).process_group(0).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.0 {
            // Supplementary groups of root are dropped by the standard library when the user is set.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes `path` this account's, for nobody else to read.
    pub(super) fn own(self, path: &Path) -> Result<()> {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .and_then(|()| self.0.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid))))
            .with_context(|| format!("{}: cannot be given to the account that runs Postgres", path.display()))
    }
}

/// Runs a command to its end and fails with what it printed unless it succeeds.
pub(super) fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

fn ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
