//! `lockgate status`: what the lake holds, how far behind it is, and what is stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capture::postgres::{self, BudgetLevel, WalBudget, WalPolicy};
use change::{Clock, Error, Kind, Result, TableName};
use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use lake::{Lake, Layer, TableStatus};
use serde::Serialize;

use crate::assemble;
use crate::cli::Status;
use crate::clock::SystemClock;
use crate::held::HeldStore;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::spool;
use crate::watch::Seen;

/// How long the lake may take before the rest is shown without it.
const LAKE_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// So many days before an expert's determination expires that is said.
const CLAIM_DAYS: u16 = 30;

/// One table, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Line {
    table: String,
    rows: u64,
    files: u64,
    bytes: u64,
    version: u64,
    changes_version: Option<u64>,
    /// Seconds since the last commit of the table.
    committed_seconds_ago: Option<f64>,
    copied: bool,
    chunks_done: u64,
    chunks: u64,
    dropped_columns: Vec<String>,
    absent_columns: Vec<String>,
    /// Columns of which stored values may show what is hidden today.
    outdated_columns: Vec<String>,
    /// Values that a transform could not read and replaced by null since the start of the run, by column.
    invalid: BTreeMap<String, u64>,
    /// Rows that are held back.
    held: u64,
    stopped: Option<String>,
    /// Why the lake did not show the table: what it holds is not known.
    unread: Option<String>,
}

/// One source, as `--json` prints it.
#[derive(Debug, Serialize)]
struct SourceLine {
    source: String,
    lag_bytes: Option<u64>,
    retained_bytes: Option<u64>,
    retention_left_bytes: Option<u64>,
    /// How what the source keeps stands to what it should; null when it cannot be asked.
    wal_budget: Option<BudgetLine>,
    /// Bytes that wait on the local disk for the lake.
    spooled_bytes: u64,
    error: Option<String>,
}

/// A source's budget of retained log, as `--json` prints it.
#[derive(Debug, Serialize)]
struct BudgetLine {
    warn_bytes: u64,
    critical_bytes: u64,
    policy: &'static str,
    level: &'static str,
}

impl BudgetLine {
    fn new(budget: &WalBudget, retained_bytes: u64) -> Self {
        Self {
            warn_bytes: budget.warn.0,
            critical_bytes: budget.critical.0,
            policy: match budget.policy {
                WalPolicy::Pause => "pause",
                WalPolicy::Spool => "spool",
                WalPolicy::DropAndRepair => "drop_and_repair",
            },
            level: match budget.level(retained_bytes) {
                BudgetLevel::Within => "within",
                BudgetLevel::Warn => "warn",
                BudgetLevel::Critical => "critical",
            },
        }
    }

    /// What is said beside the source when it is not within.
    fn said(&self) -> String {
        match self.level {
            "within" => String::new(),
            "warn" => format!("; that is much, critical from {} on", HumanBytes(self.critical_bytes)),
            _ => format!("; that is over its budget of {}, policy: {}", HumanBytes(self.critical_bytes), self.policy),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    lake: String,
    /// Why the lake cannot be read; null when it can.
    lake_error: Option<String>,
    #[serde(skip)]
    lake_is_away: bool,
    sources: Vec<SourceLine>,
    tables: Vec<Line>,
    /// Until when the expert's determination holds, when that is soon or over; null when not.
    claim_holds_through: Option<String>,
    /// Whether a run is going on.
    running: bool,
    /// What the run waits for; null when it reads.
    waits: Option<String>,
    /// Seconds since the last run said something; null before the first.
    run_seconds_ago: Option<f64>,
    last_error: Option<String>,
    /// The exit code of the last run when its last error ended it; null while one is going on.
    last_exit_code: Option<u8>,
}

pub(crate) async fn run(dir: &Path, options: &Status) -> Result<Outcome> {
    let project = match Project::read(dir) {
        Ok(project) => project,
        Err(problems) => return refused(&problems),
    };
    let report = report(&project).await?;
    if options.json {
        print_json(&report)?;
    } else {
        print_tables(&report);
    }
    Ok(outcome(&report))
}

/// What is known to be wrong counts before what could not be asked.
fn outcome(report: &Report) -> Outcome {
    let any_table = |is: fn(&Line) -> bool| report.tables.iter().any(is);
    let broken = report.lake_error.is_some() && !report.lake_is_away;
    match broken || report.sources.iter().any(|source| source.error.is_some()) || report.last_exit_code == Some(1) {
        true => Outcome::ToFix,
        false if any_table(|line| line.stopped.is_some()) || report.last_exit_code == Some(3) => Outcome::Held,
        false if report.lake_is_away || any_table(|line| line.unread.is_some()) => Outcome::Unfinished,
        false => Outcome::Done,
    }
}

async fn report(project: &Project) -> Result<Report> {
    let lake = assemble::lake(project).await?;
    let seen = Seen::load(&project.state_dir());
    let now = SystemClock::new().now();
    let read = tokio::time::timeout(LAKE_ANSWERS_WITHIN, lines(&lake, seen.as_ref(), now)).await;
    let read = read.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the lake does not answer")));
    let lake_error = read.as_ref().err().map(ToString::to_string);
    let lake_is_away = read.as_ref().is_err_and(|error| error.kind() == Kind::Unavailable);
    let (mut tables, mut unread) =
        read.unwrap_or_else(|_| (Vec::new(), stopped_in_run(seen.as_ref()).into_values().collect()));
    let held =
        HeldStore::existing(&project.state_dir())?.map_or_else(|| Ok(BTreeMap::new()), |store| store.counts())?;
    let held: BTreeMap<String, u64> = held.into_iter().map(|(table, rows)| (table.to_string(), rows)).collect();
    for line in tables.iter_mut().chain(&mut unread) {
        line.held = held.get(&line.table).copied().unwrap_or_default();
    }
    let mut sources = Vec::new();
    for (name, entry) in &project.file.sources {
        let config = assemble::postgres_config(project, name, entry);
        let budget = config.as_ref().map(|config| config.wal_budget.clone()).unwrap_or_default();
        let lag = match config {
            Ok(config) => postgres::lag(&config).await.and_then(|lag| match lag {
                // Before the first run there is none.
                None if lake_error.is_none()
                    && tables.iter().all(|line| !line.table.starts_with(&format!("{name}."))) =>
                {
                    Ok(None)
                }
                Some(lag) => Ok(Some(lag)),
                None => Err(Error::new(Kind::SourceGone, format!("the replication slot {} is missing", config.slot))
                    .fix("`lockgate run` says what to do: without the slot, changes may have been lost.")),
            }),
            Err(error) => Err(error),
        };
        let asked = lag.as_ref().ok().copied().flatten();
        sources.push(SourceLine {
            source: name.clone(),
            lag_bytes: asked.map(|lag| lag.confirmed_bytes),
            retained_bytes: asked.map(|lag| lag.retained_bytes),
            retention_left_bytes: asked.and_then(|lag| lag.retention_left_bytes),
            wal_budget: asked.map(|lag| BudgetLine::new(&budget, lag.retained_bytes)),
            spooled_bytes: spool::bytes(&project.state_dir(), name),
            error: lag.err().map(|error| error.to_string()),
        });
    }
    Ok(Report {
        lake: project.lake_url(),
        lake_error,
        lake_is_away,
        sources,
        tables: unread.into_iter().chain(tables).collect(),
        // What is wrong with a policy that cannot be read is for `check` to say.
        claim_holds_through: project.policy().ok().and_then(|policy| policy.expires_within(CLAIM_DAYS, now)),
        running: seen.as_ref().is_some_and(|seen| seen.is_alive(now)),
        waits: seen.as_ref().filter(|seen| seen.is_alive(now)).and_then(|seen| seen.idle.clone()),
        run_seconds_ago: seen.as_ref().map(|seen| (now - seen.at) as f64 / 1e6),
        last_exit_code: seen.as_ref().filter(|seen| seen.ended).and_then(|seen| seen.exit_code),
        last_error: seen.and_then(|seen| seen.last_error),
    })
}

/// The tables that the run says are stopped.
fn stopped_in_run(seen: Option<&Seen>) -> BTreeMap<String, Line> {
    let stopped = seen.into_iter().flat_map(|seen| &seen.tables).filter(|(_, last)| last.stopped.is_some());
    let line = |table: &String, stopped| Line { table: table.clone(), stopped, ..Line::default() };
    stopped.map(|(table, last)| (table.clone(), line(table, last.stopped.clone()))).collect()
}

/// The tables of the lake, and those that are stopped without being there or cannot be read.
async fn lines(lake: &Arc<Lake>, seen: Option<&Seen>, now: change::Timestamp) -> Result<(Vec<Line>, Vec<Line>)> {
    let mut unread = stopped_in_run(seen);
    let mut found: BTreeMap<TableName, BTreeMap<Layer, TableStatus>> = BTreeMap::new();
    for table in lake.tables().await? {
        match lake.status(&table.name, table.layer).await {
            Ok(status) => drop(found.entry(table.name).or_default().insert(table.layer, status)),
            Err(error) => {
                let line = unread.entry(table.name.to_string()).or_default();
                line.table = table.name.to_string();
                match error.kind() {
                    Kind::Unavailable => line.unread = Some(error.to_string()),
                    _ => line.stopped = Some(error.to_string()),
                }
            }
        }
    }
    let line = |(name, mut layers): (TableName, BTreeMap<Layer, TableStatus>)| {
        let changes_version = layers.get(&Layer::Changes).map(|status| status.version);
        let status = layers.remove(&Layer::Current)?;
        let table = name.to_string();
        let last = seen.and_then(|seen| seen.tables.get(&table));
        let copy = status.checkpoint.copy.as_ref();
        let outdated = status.stamp.iter().flat_map(|stamp| stamp.outdated(now));
        Some(Line {
            outdated_columns: outdated.map(str::to_owned).collect(),
            rows: status.rows,
            files: status.files,
            bytes: status.bytes,
            version: status.version,
            changes_version,
            committed_seconds_ago: status.committed_at.map(|at| (now - at) as f64 / 1e6),
            copied: copy.is_some_and(|copy| copy.finished.is_some()),
            chunks_done: copy.map_or(0, |copy| copy.done.len()),
            chunks: copy.map_or(0, |copy| u64::from(copy.chunks)),
            dropped_columns: last.map(|last| last.dropped_columns.clone()).unwrap_or_default(),
            absent_columns: last.map(|last| last.absent_columns.clone()).unwrap_or_default(),
            invalid: last.map(|last| last.invalid.clone()).unwrap_or_default(),
            held: 0,
            stopped: unread.get(&table).and_then(|line| line.stopped.clone()),
            unread: unread.get(&table).and_then(|line| line.unread.clone()),
            table,
        })
    };
    let tables: Vec<Line> = found.into_iter().filter_map(line).collect();
    unread.retain(|table, _| tables.iter().all(|line| line.table != *table));
    Ok((tables, unread.into_values().collect()))
}

#[allow(clippy::print_stdout)]
fn print_json(report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| change::Error::new(change::Kind::Bug, "the status is not JSON").source(error))?;
    println!("{text}");
    Ok(())
}

fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s ago"),
        s if s < 7200.0 => format!("{:.0} min ago", s / 60.0),
        s => format!("{:.0} h ago", s / 3600.0),
    }
}

#[allow(clippy::print_stdout)]
fn print_tables(report: &Report) {
    println!("lake: {}", report.lake);
    if let Some(error) = &report.lake_error {
        println!("lake not reached: {error}");
    }
    match (report.running, &report.waits, report.run_seconds_ago) {
        (true, Some(what), _) => println!("run: going on, reads nothing: {what}"),
        (true, None, _) => println!("run: going on"),
        (false, _, Some(seconds)) => println!("run: none since {}", ago(seconds)),
        (false, _, None) => println!("run: none yet; start it: lockgate run"),
    }
    for source in &report.sources {
        match (&source.error, source.lag_bytes, source.retained_bytes) {
            (Some(error), ..) => println!("source {}: not reached: {error}", source.source),
            (None, None, _) => println!("source {}: no slot yet; the first run makes it", source.source),
            (None, lag, retained) => println!(
                "source {}: {} behind, keeps {} of log{}{}",
                source.source,
                HumanBytes(lag.unwrap_or_default()),
                HumanBytes(retained.unwrap_or_default()),
                source.retention_left_bytes.map(|left| format!(", {} left", HumanBytes(left))).unwrap_or_default(),
                source.wal_budget.as_ref().map(BudgetLine::said).unwrap_or_default(),
            ),
        }
        if source.spooled_bytes > 0 {
            let bytes = HumanBytes(source.spooled_bytes);
            println!("source {}: {bytes} wait in the spool for the lake", source.source);
        }
    }
    if let Some(day) = &report.claim_holds_through {
        println!(
            "the expert's determination holds through {day}, and no run writes after that: have it renewed, or claim less"
        );
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "table",
        "rows",
        "files",
        "size",
        "version",
        "committed",
        "state",
    ]);
    for line in &report.tables {
        let state = match (line.copied, &line.stopped, &line.unread) {
            (_, Some(_), _) => "STOPPED".to_owned(),
            (_, None, Some(_)) => "not known".to_owned(),
            (false, None, None) => format!("copying {}/{}", line.chunks_done, line.chunks),
            (true, None, None) if report.running => "following".to_owned(),
            (true, None, None) => "not running".to_owned(),
        };
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let committed = line.committed_seconds_ago.map(ago).unwrap_or_default();
        table.add_row([
            Cell::new(&line.table),
            right(HumanCount(line.rows).to_string()),
            right(line.files.to_string()),
            right(HumanBytes(line.bytes).to_string()),
            right(line.version.to_string()),
            right(committed),
            Cell::new(state),
        ]);
    }
    println!("{table}");
    report.tables.iter().for_each(print_notes);
    if let Some(error) = &report.last_error {
        println!("last error of the run: {error}");
    }
}

/// What has to be said of a table beside its line.
#[allow(clippy::print_stdout)]
fn print_notes(line: &Line) {
    if let Some(why) = &line.stopped {
        println!("{} is stopped: {why}", line.table);
    }
    if let Some(why) = &line.unread {
        println!("{} was not read: {why}", line.table);
    }
    if !line.absent_columns.is_empty() {
        let columns = line.absent_columns.join(", ");
        println!("{}: null from now on, because the source does not have them any more: {columns}", line.table);
    }
    if !line.outdated_columns.is_empty() {
        let columns = line.outdated_columns.join(", ");
        println!(
            "{}: made in an earlier or unknown year, or by an older ZIP table; lockgate remask: {columns}",
            line.table
        );
    }
    for (column, count) in &line.invalid {
        println!("{}.{column}: {count} values that its transform could not read became null", line.table);
    }
    if line.held > 0 {
        println!("{}: {} rows are held back; lockgate held list", line.table, line.held);
    }
    if !line.dropped_columns.is_empty() {
        println!("{}: not stored, because no rule names them: {}", line.table, line.dropped_columns.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tables: Vec<Line>) -> Report {
        Report {
            lake: String::new(),
            lake_error: None,
            lake_is_away: false,
            sources: Vec::new(),
            tables,
            claim_holds_through: None,
            running: true,
            waits: None,
            run_seconds_ago: None,
            last_error: None,
            last_exit_code: None,
        }
    }

    #[test]
    fn what_could_not_be_asked_is_not_stopped_and_worth_another_try() {
        let why = || Some("why".to_owned());
        let (stopped, unread) =
            (|| Line { stopped: why(), ..Line::default() }, || Line { unread: why(), ..Line::default() });
        assert_eq!(outcome(&report(vec![Line::default()])), Outcome::Done);
        assert_eq!(outcome(&report(vec![unread()])), Outcome::Unfinished);
        assert_eq!(outcome(&report(vec![unread(), stopped()])), Outcome::Held);
        let of_lake = |lake_is_away| outcome(&Report { lake_error: why(), lake_is_away, ..report(Vec::new()) });
        assert_eq!([of_lake(true), of_lake(false)], [Outcome::Unfinished, Outcome::ToFix]);
        let ended = |code| outcome(&Report { last_exit_code: Some(code), ..report(vec![unread()]) });
        assert_eq!([ended(1), ended(3), ended(4)], [Outcome::ToFix, Outcome::Held, Outcome::Unfinished]);
    }
}
