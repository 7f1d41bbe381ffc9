use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sandbox::claims::SOURCE;
use tokio::process::Command;
use tokio::time::Instant;

use crate::process::{Finished, Running, timed};
use crate::stage::Stage;
use crate::workplace::{Workplace, remove};

/// A fixed key, so that two runs of a figure do the same work. It guards nobody: the people are made up. The format is `KeyRing::parse`'s.
const KEY_FILE: &str = "lockgate-keys 1\ntenant bench\n\
    epoch 1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 9cfca3b4\ncurrent 1\n";

/// A project folder and the program that works on it.
pub(crate) struct Project {
    program: PathBuf,
    work: Workplace,
    log: PathBuf,
}

/// What `lockgate init` proposes.
pub(crate) struct Proposed {
    /// The text of its `policy.yaml`.
    pub(crate) policy: String,
    /// From its start to its end.
    pub(crate) took: Duration,
}

/// When a commit is due: the first bound that is reached.
#[derive(Clone, Copy)]
pub(crate) struct CommitRule {
    pub(crate) max_seconds: f64,
    pub(crate) max_rows: u64,
}

/// The text of a `lockgate.yaml` that reads tables of the schema `public` from `url`.
pub(crate) fn lockgate_yaml(url: &str, slot: &str, tables: &[&str], commit: CommitRule) -> String {
    let tables: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
    format!(
        "lake: ./lake\n\
         sources:\n\
         \x20 {SOURCE}:\n\
         \x20   postgres:\n\
         \x20     url: {url}\n\
         \x20     slot: {slot}\n\
         \x20   tables: [{}]\n\
         commit: {{ max_seconds: {}, max_rows: {} }}\n",
        tables.join(", "),
        commit.max_seconds,
        commit.max_rows
    )
}

impl Project {
    /// An empty project folder of this name; a former one is removed.
    pub(crate) fn make(stage: &Stage, name: &str, lockgate_yaml: &str, policy_yaml: &str) -> Result<Self> {
        let program = fs::canonicalize(&stage.options.lockgate).with_context(|| {
            format!(
                "{}: no program here; `cargo x build` makes it, --limits-only does without",
                stage.options.lockgate.display()
            )
        })?;
        let project =
            Self { program, work: Workplace::make(stage.path(name))?, log: stage.path(&format!("{name}.log")) };
        fs::create_dir_all(project.dir().join("keys"))?;
        let key = project.dir().join("keys/dev.key");
        fs::write(&key, KEY_FILE)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        project.set(lockgate_yaml)?;
        fs::write(project.dir().join("policy.yaml"), policy_yaml)?;
        Ok(project)
    }

    /// Replaces the engineers' file.
    pub(crate) fn set(&self, lockgate_yaml: &str) -> Result<()> {
        fs::write(self.dir().join("lockgate.yaml"), lockgate_yaml).context("the project folder cannot be written")
    }

    /// Replaces the privacy officer's file.
    pub(crate) fn review(&self, policy_yaml: &str) -> Result<()> {
        fs::write(self.dir().join("policy.yaml"), policy_yaml).context("the project folder cannot be written")
    }

    /// What `init` makes of a table, in a folder of its own that is removed again.
    pub(crate) async fn proposed(stage: &Stage, name: &str, url: &str, table: &str) -> Result<Proposed> {
        let dir = stage.path(name);
        remove(&dir)?;
        fs::create_dir_all(&dir)?;
        let program = fs::canonicalize(&stage.options.lockgate)?;
        let mut command = Command::new(program);
        command.arg("--dir").arg(&dir).args(["init", "--name", SOURCE, "--from", url, "--tables", table]);
        let started = Instant::now();
        let output = command.output().await?;
        let took = started.elapsed();
        ensure!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr).trim());
        let policy = fs::read_to_string(dir.join("policy.yaml")).context("init wrote no policy.yaml")?;
        remove(&dir)?;
        Ok(Proposed { policy, took })
    }

    /// Starts to copy or catch up; it ends by itself.
    pub(crate) fn start_once(&self) -> Result<Running> {
        Running::start(self.command().args(["run", "--once"]), &self.log)
    }

    /// What the last start has printed so far.
    pub(crate) fn said(&self) -> Result<String> {
        fs::read_to_string(&self.log).context("the log of a run cannot be read")
    }

    /// Copies or catches up, and ends.
    pub(crate) async fn run_once(&self) -> Result<Finished> {
        timed(self.command().args(["run", "--once"]), &self.log).await
    }

    /// Erases the persons with these identifiers, which never stand on a command line.
    pub(crate) async fn erase(&self, subject: &str, ids: &[u64], purge: &str) -> Result<Finished> {
        let file = self.dir().join("erase.txt");
        fs::write(&file, ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        let mut command = self.command();
        command.args(["erase", "--subject", subject, "--purge", purge, "--ids"]).arg(&file);
        timed(&mut command, &self.log).await
    }

    /// Gives the keys a new epoch.
    pub(crate) async fn rotate_keys(&self) -> Result<()> {
        timed(self.command().args(["keys", "rotate"]), &self.log).await.map(drop)
    }

    /// Brings what is stored under the policy and the keys of now.
    pub(crate) async fn remask(&self) -> Result<Finished> {
        timed(self.command().arg("remask"), &self.log).await
    }

    /// Follows the source until it is stopped.
    pub(crate) fn start(&self) -> Result<Running> {
        Running::start(self.command().arg("run"), &self.log)
    }

    /// Rows of a current table, by Lockgate's own reader.
    pub(crate) async fn count(&self, table: &str) -> Result<u64> {
        let sql = format!("SELECT count(*) AS n FROM {SOURCE}.public.{table}");
        let output = self.command().args(["query", "--format", "csv", &sql]).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "counting {table}: {}", String::from_utf8_lossy(&output.stderr).trim());
        text.lines().last().and_then(|line| line.trim().parse().ok()).with_context(|| format!("not a count: {text}"))
    }

    /// The folder of a table in the lake; `claims__changes` is the change log of `claims`.
    pub(crate) fn table(&self, table: &str) -> PathBuf {
        self.dir().join("lake").join(SOURCE).join("public").join(table)
    }

    /// The project folder, which can be kept and gone back to.
    pub(crate) fn work(&self) -> &Workplace {
        &self.work
    }

    /// Keeps a copy of the whole folder at its present state.
    pub(crate) async fn save(&self) -> Result<()> {
        self.work.save().await
    }

    /// Goes back to the state of the last [`Project::save`].
    pub(crate) async fn restore(&self) -> Result<()> {
        self.work.restore().await
    }

    /// Removes the lake and all state, so that the next run begins with a first copy.
    pub(crate) fn empty(&self) -> Result<()> {
        remove(&self.dir().join("lake"))?;
        remove(&self.dir().join(".lockgate"))
    }

    /// Removes everything.
    pub(crate) fn clear(&self) -> Result<()> {
        self.work.clear()
    }

    fn dir(&self) -> &Path {
        self.work.dir()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--dir").arg(self.dir());
        command
    }
}
