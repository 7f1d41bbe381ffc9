use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::PrivatePostgres;
use tokio::process::Command;

use crate::options::Options;
use crate::process::family_cpu;

/// What all figures share: one private server and a folder for lakes. Both are gone when the value is dropped.
pub(crate) struct Stage {
    /// As the command line has them.
    pub(crate) options: Options,
    server: PrivatePostgres,
    folder: Folder,
}

impl Stage {
    /// Starts the server: no fsync, and no checkpoint or vacuum that would fall into one measurement and not into another.
    pub(crate) async fn set(options: &Options) -> Result<Self> {
        let folder = Folder::make(&options.scratch)?;
        let server = PrivatePostgres::with()
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "32GB")
            .setting("checkpoint_timeout", "1h")
            .setting("autovacuum", "off")
            .start()
            .await?;
        Ok(Self { options: options.clone(), server, folder })
    }

    pub(crate) fn server(&self) -> &PrivatePostgres {
        &self.server
    }

    /// CPU time of the private server since its start, all its processes together.
    pub(crate) fn server_cpu(&self) -> Result<Duration> {
        let base = self.server.data_folder();
        let file = base.parent().context("the server's data lies in no folder")?.join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let pid =
            text.lines().next().and_then(|line| line.trim().parse().ok()).context("not the number of a process")?;
        Ok(family_cpu(pid))
    }

    /// A path in the folder for lakes and logs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// One of the server's own programs. A distribution may keep the clients apart from a server that was found elsewhere.
    pub(crate) fn program(&self, name: &str) -> Command {
        let beside = self.server.installed().bin.join(name);
        Command::new(if beside.is_file() { beside } else { PathBuf::from(name) })
    }
}

struct Folder(PathBuf);

impl Folder {
    fn make(inside: &Path) -> Result<Self> {
        let folder = inside.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self(fs::canonicalize(folder)?))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost when it fails: the next `cargo clean` takes it.
        let _gone = fs::remove_dir_all(&self.0);
    }
}
