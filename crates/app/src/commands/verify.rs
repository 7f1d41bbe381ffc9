//! `lockgate verify`: the lake beside its sources.

use std::path::Path;

use capture::postgres::{self, Reread};
use change::{Error, Kind, Result, TableName};
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use lake::Layer;
use serde::Serialize;

use super::run::gather;
use crate::assemble::{self, Cast, Parts};
use crate::cli::Verify;
use crate::held::HeldStore;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::repair::{self, Limits, Sides, Verdict};
use crate::workers::joined;

/// One table, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Line {
    table: String,
    equal: bool,
    #[serde(flatten)]
    verdict: Verdict,
    /// The lake's version that was compared.
    version: Option<u64>,
    /// What could not be compared in full.
    notes: Vec<String>,
    /// Why the table could not be compared at all.
    error: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    tables: Vec<Line>,
    notes: Vec<String>,
}

pub(crate) async fn run(dir: &Path, options: &Verify) -> Result<Outcome> {
    let project = match Project::read(dir) {
        Ok(project) => project,
        Err(problems) => return refused(&problems),
    };
    let (parts, company) = match gather(project, &options.tables).await? {
        Ok(gathered) => gathered,
        Err(outcome) => return Ok(outcome),
    };
    let mut report = Report::default();
    for (table, why) in &company.missing {
        report.tables.push(unread(table, why.clone()));
    }
    for (name, cast) in &company.sources {
        source(&parts, name, cast, options, &mut report).await.map_err(|error| error.context(name))?;
    }
    if options.json {
        print_json(&report)?
    } else {
        print(&report)
    }
    Ok(if report.tables.iter().all(|line| line.equal) { Outcome::Done } else { Outcome::ToFix })
}

async fn source(parts: &Parts, name: &str, cast: &Cast, options: &Verify, report: &mut Report) -> Result<()> {
    for (table, why) in &cast.refused {
        report.tables.push(unread(table, why.clone()));
    }
    if cast.followed.is_empty() {
        return Ok(());
    }
    let reader = postgres::reread(assemble::source_config(parts, name, cast)?, parts.clock.clone()).await?;
    let running = match reader.slot().await? {
        Some(slot) if slot.active => true,
        Some(slot) if slot.confirmed_bytes == 0 => false,
        Some(slot) => {
            let behind = HumanBytes(slot.confirmed_bytes);
            report.notes.push(format!(
                "{name}: no run is going on, and {behind} of the source's log are not in the lake yet; changes among them count as differences"
            ));
            false
        }
        None => {
            report.notes.push(format!("{name}: its replication slot is gone; `lockgate repair` mends what differs"));
            false
        }
    };
    for table in &cast.followed {
        let line = match compare(parts, &reader, table, options, running).await {
            Ok(line) => line,
            Err(error) if error.kind() == Kind::Unavailable => return Err(error),
            Err(error) => unread(table, error.to_string()),
        };
        report.tables.push(line);
    }
    Ok(())
}

fn unread(table: &TableName, why: String) -> Line {
    let verdict = Verdict::default();
    Line { table: table.to_string(), equal: false, verdict, version: None, notes: Vec::new(), error: Some(why) }
}

async fn compare(parts: &Parts, reader: &Reread, table: &TableName, options: &Verify, running: bool) -> Result<Line> {
    let not_yet = |what: &str| Err(Error::new(Kind::Contract, what).fix("Run: lockgate run"));
    let stored = parts.lake.stored(table, Layer::Current).await?;
    let Some(stored) = stored else { return not_yet("it is not in the lake yet") };
    let Some(copy) = stored.checkpoint().copy.as_ref().filter(|copy| copy.finished.is_some()) else {
        return not_yet("its first copy is not finished");
    };
    let low = stored.checkpoint().stream.as_ref().map_or_else(|| copy.low.clone(), |stream| stream.through.clone());
    let Some(schema) = reader.schema(table) else { return not_yet("the source does not show it any more") };
    let gate = parts.gate.table(schema)?;
    joined(gate::TableStamp::of(parts.gate.stamp(), &gate), stored.stamp())?;
    let version = Some(stored.version());
    let limits =
        Limits::new((options.limits.rate, options.limits.memory), parts.gate.asks_model(table), parts.clock.clone());
    let mut sides = Sides::new(reader, &gate, stored, &limits, &low).await?;
    let mut notes = sides.notes();
    notes.extend(held(parts, table)?);
    let verdict = repair::verify(&mut sides, reader, &parts.lake, running).await?;
    Ok(Line { table: table.to_string(), equal: verdict.is_equal(), verdict, version, notes, error: None })
}

/// Rows of the table that wait outside the lake, in words.
fn held(parts: &Parts, table: &TableName) -> Result<Option<String>> {
    let Some(store) = HeldStore::existing(&parts.project.state_dir())? else { return Ok(None) };
    let rows = store.counts()?.remove(table);
    Ok(rows.map(|rows| {
        format!(
            "{rows} rows are held back (lockgate held list), and what they would write counts as missing or different"
        )
    }))
}

#[allow(clippy::print_stdout)]
fn print_json(report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::new(Kind::Bug, "report").source(error))?;
    println!("{text}");
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(report: &Report) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["table", "source", "lake", "missing", "surplus", "different", "undecided", ""]);
    for line in &report.tables {
        let Verdict { source, lake, missing, surplus, different, undecided } = line.verdict;
        let mut cells = vec![Cell::new(&line.table)];
        let numbers = [source, lake, missing, surplus, different, undecided];
        cells.extend(numbers.map(|number| match line.error {
            None => Cell::new(HumanCount(number)).set_alignment(CellAlignment::Right),
            Some(_) => Cell::new("-").set_alignment(CellAlignment::Right),
        }));
        cells.push(Cell::new(match (&line.error, line.equal) {
            (Some(_), _) => "not compared",
            (None, true) => "equal",
            (None, false) => "differs",
        }));
        table.add_row(cells);
    }
    println!("{table}");
    for line in &report.tables {
        for note in line.notes.iter().chain(&line.error) {
            println!("{}: {note}", line.table);
        }
    }
    for note in &report.notes {
        println!("{note}");
    }
}
