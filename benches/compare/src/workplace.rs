use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// A folder in which a program works, and a copy of it at an earlier state.
pub(crate) struct Workplace {
    dir: PathBuf,
}

impl Workplace {
    /// An empty folder; a former one is removed.
    pub(crate) fn make(dir: PathBuf) -> Result<Self> {
        let work = Self { dir };
        work.clear()?;
        fs::create_dir_all(&work.dir).with_context(|| format!("{} cannot be made", work.dir.display()))?;
        Ok(work)
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps a copy of the whole folder at its present state.
    pub(crate) async fn save(&self) -> Result<()> {
        remove(&self.saved())?;
        copy_folder(&self.dir, &self.saved()).await
    }

    /// Goes back to the state of the last [`Workplace::save`].
    pub(crate) async fn restore(&self) -> Result<()> {
        remove(&self.dir)?;
        copy_folder(&self.saved(), &self.dir).await
    }

    /// Removes everything.
    pub(crate) fn clear(&self) -> Result<()> {
        remove(&self.dir)?;
        remove(&self.saved())
    }

    fn saved(&self) -> PathBuf {
        self.dir.with_extension("saved")
    }
}

/// Removes a folder; does nothing when there is none.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

async fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status().await?;
    ensure!(status.success(), "{} cannot be copied", from.display());
    Ok(())
}
