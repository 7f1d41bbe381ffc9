use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::stage::Stage;

/// A script beside this program that prints one JSON object.
#[derive(Clone, Copy)]
pub(crate) enum Script {
    /// delta-rs MERGE into a plain copy of a table.
    Merge,
    /// What plain Parquet files of a table's rows cost.
    Parquet,
    /// What the commit logs and files of tables say of freshness.
    Freshness,
    /// What an outside reader reads from tables, as one number each.
    Digest,
    /// Debezium's embedded engine, into a Delta table or to nowhere.
    Debezium,
    /// dlt, into a Delta table.
    Dlt,
    /// Which peers are installed.
    Installed,
    /// Whether a table holds the rows of the source.
    Parity,
    /// Whether a table of events holds each once.
    Events,
}

impl Script {
    fn text(self) -> &'static str {
        match self {
            Script::Merge => include_str!("../peers/merge.py"),
            Script::Parquet => include_str!("../peers/parquet.py"),
            Script::Freshness => include_str!("../peers/freshness.py"),
            Script::Digest => include_str!("../peers/digest.py"),
            Script::Debezium => include_str!("../peers/debezium.py"),
            Script::Dlt => include_str!("../peers/dlt_load.py"),
            Script::Installed => include_str!("../peers/installed.py"),
            Script::Parity => include_str!("../peers/parity.py"),
            Script::Events => include_str!("../peers/events.py"),
        }
    }
}

/// Whether the Python for the scripts is there.
pub(crate) fn has_python(stage: &Stage) -> bool {
    stage.options.python.is_file()
}

/// Runs a script and returns what it printed.
pub(crate) async fn run(stage: &Stage, script: Script, paths: &[&Path], arguments: &[String]) -> Result<Value> {
    let mut command = command(&stage.options.python, script);
    command.args(paths).args(arguments);
    answer(&mut command).await
}

/// A script for this Python; its arguments are still to be added.
pub(crate) fn command(python: &Path, script: Script) -> Command {
    let mut command = Command::new(python);
    command.arg("-c").arg(script.text());
    command
}

/// Runs a script with its arguments and returns what it printed.
pub(crate) async fn answer(command: &mut Command) -> Result<Value> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} cannot be started", command.as_std().get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "a script failed: {}", said.lines().last().unwrap_or("it said nothing"));
    serde_json::from_slice(&output.stdout).context("a script printed no JSON")
}

/// A number of what a script printed.
pub(crate) fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("the script printed no `{name}`"))
}
