use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::claims::{TABLE, Transport, policy_of_claim_lines};
use crate::contest::history::{CURSOR, History, KEY, MARKED};
use crate::follower::COMMIT;
use crate::lockgate::{Project, lockgate_yaml};
use crate::peers::{self, Script};
use crate::process::Running;
use crate::stage::Stage;
use crate::wide::keeping;
use crate::workplace::Workplace;

/// Before it every row's cursor is null, after it stand the rows that the backlog has inserted or updated.
const SINCE: &str = "2026-01-01T00:00:00+00:00";

/// One of those that take the same history.
pub(super) struct Contender {
    pub(super) name: String,
    /// What it reads the backlog from; `None` when it asks the table itself.
    pub(super) slot: Option<String>,
    /// What it leaves behind.
    pub(super) result: Outcome,
    way: Way,
}

/// What a contender leaves behind, and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A table of the current rows in clear.
    Rows(PathBuf),
    /// A table of the current rows of which only the kept columns can be compared, and a table of events.
    Masked(PathBuf, PathBuf),
    /// The same with all columns kept.
    Kept(PathBuf, PathBuf),
    /// A table of events.
    Events(PathBuf),
    /// Nothing.
    Nothing,
}

enum Way {
    Lockgate(Project),
    Script { script: Script, python: PathBuf, work: Workplace, settings: Value },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The first copy of so many rows.
    Copy(u64),
    /// Everything since, up to a mark; so many events have happened.
    Follow { mark: String, events: u64 },
}

impl Contender {
    /// Lockgate under the plan's policy, or with every column kept as its peers keep them.
    pub(super) fn lockgate(stage: &Stage, history: &History, masked: bool) -> Result<Self> {
        let policy = policy_of_claim_lines()?;
        let (slot, policy) = if masked { ("peer_masked", policy) } else { ("peer_kept", keeping(&policy)?) };
        let yaml = lockgate_yaml(&history.source.url(stage, Transport::Tcp), slot, &[TABLE], COMMIT);
        let project = Project::make(stage, slot, &yaml, &policy)?;
        let (rows, log) = (project.table(TABLE), project.table(&format!("{TABLE}__changes")));
        Ok(Self {
            name: if masked { "Lockgate, 12 of 25 columns masked" } else { "Lockgate, every column kept" }.to_owned(),
            slot: Some(slot.to_owned()),
            result: if masked { Outcome::Masked(rows, log) } else { Outcome::Kept(rows, log) },
            way: Way::Lockgate(project),
        })
    }

    /// Debezium's engine with one of the script's sinks.
    pub(super) fn debezium(stage: &Stage, history: &History, version: &str, sink: &str) -> Result<Self> {
        let slot = format!("peer_{sink}");
        let work = Workplace::make(stage.path(&slot))?;
        let table = work.dir().join("table");
        let (into, result) = match sink {
            "current" => ("delta-rs MERGE", Outcome::Rows(table)),
            "log" => ("a log of events in Delta", Outcome::Events(table)),
            _ => ("nowhere", Outcome::Nothing),
        };
        let settings = json!({
            "folder": work.dir(), "sink": sink, "host": "127.0.0.1", "port": stage.server().port(),
            "database": history.source.database, "table": format!("public.{TABLE}"), "slot": slot,
            "columns": history.columns, "key": KEY,
        });
        Ok(Self {
            name: format!("Debezium {version} to {into}"),
            slot: Some(slot),
            result,
            way: Way::script(stage, Script::Debezium, work, settings),
        })
    }

    /// dlt with its own reader of SQL tables.
    pub(super) fn dlt(stage: &Stage, history: &History, version: &str) -> Result<Self> {
        let work = Workplace::make(stage.path("peer_dlt"))?;
        let settings = json!({
            "folder": work.dir(), "url": history.source.url(stage, Transport::Tcp).replacen("postgresql:", "postgresql+psycopg2:", 1),
            "table": format!("public.{TABLE}"), "key": KEY, "cursor": CURSOR,
        });
        Ok(Self {
            name: format!("dlt {version}, by a cursor column"),
            slot: None,
            result: Outcome::Rows(work.dir().join("out/lake").join(TABLE)),
            way: Way::script(stage, Script::Dlt, work, settings),
        })
    }

    /// Starts to work on a task; it ends by itself.
    pub(super) fn start(&self, stage: &Stage, task: &Task) -> Result<Running> {
        let (script, python, work, settings) = match &self.way {
            Way::Lockgate(project) => return project.start_once(),
            Way::Script { script, python, work, settings } => (*script, python, work, settings),
        };
        let mut settings = settings.clone();
        let (until, since) = match (task, &self.result) {
            (Task::Copy(rows), _) => (json!({ "rows": rows }), Value::Null),
            // What throws events away does not look into them.
            (Task::Follow { events, .. }, Outcome::Nothing) => (json!({ "rows": events }), json!(SINCE)),
            (Task::Follow { mark, .. }, _) => (json!({ MARKED: mark }), json!(SINCE)),
        };
        settings["until"] = until;
        settings["since"] = since;
        let mut command = peers::command(python, script);
        command.arg(settings.to_string()).current_dir(work.dir());
        Running::start(
            &mut command,
            &stage.path(&format!("{}.log", work.dir().file_name().context("no name")?.display())),
        )
    }

    /// Its folder, with everything that it has and knows.
    pub(super) fn work(&self) -> &Workplace {
        match &self.way {
            Way::Lockgate(project) => project.work(),
            Way::Script { work, .. } => work,
        }
    }

    /// Whether it is ours, of which nothing is forgiven.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.way, Way::Lockgate(_))
    }

    /// The table whose commits tell how far it is.
    pub(super) fn table(&self) -> Option<&Path> {
        match &self.result {
            Outcome::Rows(table) | Outcome::Masked(table, _) | Outcome::Kept(table, _) | Outcome::Events(table) => {
                Some(table)
            }
            Outcome::Nothing => None,
        }
    }
}

impl Way {
    fn script(stage: &Stage, script: Script, work: Workplace, settings: Value) -> Self {
        Way::Script { script, python: stage.options.peers_python.clone(), work, settings }
    }
}
