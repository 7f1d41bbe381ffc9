//! `lockgate held`: the rows that the gate held back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use audit::{Event, HeldAction, Name, Program};
use change::{Clock, Error, Kind, Result, TableName};
use chrono::DateTime;
use comfy_table::{ContentArrangement, Table, presets};
use gate::{Cleared, Policy, Sealed, Standing, TableStamp};
use lake::{LakeTable, Layer};
use serde::Serialize;

use crate::assemble;
use crate::audit::Auditor;
use crate::cli::{Chosen, Held};
use crate::clock::SystemClock;
use crate::held::{Choice, HeldLine, HeldStore, expire, has_expired};
use crate::keys;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

/// How long the lake may take before a row is shown without it.
const LAKE_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

pub(crate) async fn run(dir: &Path, command: &Held) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let store = HeldStore::open(&project.state_dir())?;
    expire_old(&project, &store, policy.held_days()).await?;
    let (action, chosen) = match command {
        Held::List { json } => return list(&store, *json),
        Held::Show { id } => (HeldAction::Shown, Chosen { ids: vec![*id], all: false }),
        Held::Release(chosen) => (HeldAction::Released, chosen.clone()),
        Held::Drop(chosen) => (HeldAction::Dropped, chosen.clone()),
    };
    let auditor = recorded(&project, &store, action, &chosen).await?;
    let done = match command {
        Held::Show { id } => show(&project, &policy, &store, *id).await,
        Held::Drop(chosen) => drop_rows(&store, chosen),
        Held::List { .. } | Held::Release(_) => release(&store, &chosen),
    };
    auditor.close().await?;
    done
}

/// Erases what has been held for too long, once the audit log says so.
async fn expire_old(project: &Project, store: &HeldStore, days: u32) -> Result<()> {
    let clock = SystemClock::new();
    if !has_expired(store, days, clock.now())? {
        return Ok(());
    }
    let auditor = Auditor::open(project, Arc::new(SystemClock::new()), Program::Held).await?;
    let expired = expire(store, days, clock.now(), Some(&auditor.witness()));
    auditor.close().await?;
    expired.map(|_| ())
}

/// Nobody sees held rows or decides about them unless the audit log says so first.
async fn recorded(project: &Project, store: &HeldStore, action: HeldAction, chosen: &Chosen) -> Result<Arc<Auditor>> {
    let lines = store.lines()?;
    let choice = choice(&lines, chosen)?;
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines.iter().filter(|line| choice.takes(line.id)) {
        *rows.entry(line.table.to_string()).or_default() += 1;
    }
    let auditor = Auditor::open(project, Arc::new(SystemClock::new()), Program::Held).await?;
    for (table, rows) in rows {
        auditor.record(Event::HeldDecided { action, table: Name::new(&table), rows })?;
    }
    Ok(auditor)
}

/// A held row, as `--json` prints it.
#[derive(Serialize)]
struct Printed {
    id: i64,
    table: String,
    position: String,
    op: String,
    column: Option<String>,
    transform: Option<String>,
    committed_at: String,
    held_at: String,
    policy_hash: String,
    state: String,
    refused: Option<String>,
}

impl Printed {
    fn of(line: &HeldLine) -> Self {
        let (column, transform) = line.unreadable.clone().unzip();
        Self {
            id: line.id,
            table: line.table.to_string(),
            position: line.position.to_hex(),
            op: line.op.clone(),
            column,
            transform,
            committed_at: time(line.committed_at),
            held_at: time(line.held_at),
            policy_hash: line.policy.clone(),
            state: line.state.clone(),
            refused: line.refused.clone(),
        }
    }
}

#[allow(clippy::print_stdout)]
fn list(store: &HeldStore, json: bool) -> Result<Outcome> {
    let lines = store.lines()?;
    if json {
        let printed: Vec<Printed> = lines.iter().map(Printed::of).collect();
        let text = serde_json::to_string_pretty(&printed)
            .map_err(|error| Error::new(Kind::Bug, "the list is not JSON").source(error))?;
        println!("{text}");
        return Ok(Outcome::Done);
    }
    if lines.is_empty() {
        println!("no row is held");
        return Ok(Outcome::Done);
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["id", "table", "op", "committed", "held", "why", "state"]);
    let mut held = BTreeSet::new();
    for line in &lines {
        let waits = line.keys.iter().any(|key| held.contains(&(&line.table, *key)));
        let state = match line.state.as_str() {
            "held" => "held",
            "released" if waits => "released, waits for an earlier change of its key",
            _ => "goes in at the next boundary",
        };
        if waits || line.state == "held" {
            held.extend(line.keys.iter().map(|key| (&line.table, *key)));
        }
        table.add_row([
            line.id.to_string(),
            line.table.to_string(),
            line.op.clone(),
            time(line.committed_at),
            time(line.held_at),
            why(line),
            line.refused.as_ref().map_or(state.to_owned(), |why| format!("{state} again: {why}")),
        ]);
    }
    println!("{table}");
    println!("next: lockgate held show ID; then lockgate held release ID, or drop ID");
    Ok(Outcome::Done)
}

fn why(line: &HeldLine) -> String {
    match &line.unreadable {
        Some((column, transform)) => format!("{column}: `{transform}` cannot read the value"),
        None => "an earlier change of its key is held".into(),
    }
}

/// The row as the policy lets it in; what is not in the lake's columns is not shown. Of a table with a `k_gate`, only which columns cannot
/// be read: one row is no group. The policy is of now and the row of then: only where the lake says that a name still stands for the same
/// column, under the same rule, is its value shown.
#[allow(clippy::print_stdout)]
async fn show(project: &Project, policy: &Policy, store: &HeldStore, id: i64) -> Result<Outcome> {
    let lines = store.lines()?;
    let line = find(&lines, id)?;
    let record = store.record(id)?.ok_or_else(|| unknown(id))?;
    let sealed = Sealed { table: &line.table, position: &line.position, keys: &line.keys, record: &record };
    let keys = keys::load(policy.keys(), &project.dir)?.ok_or_else(|| {
        Error::new(Kind::Privacy, "held rows cannot be opened without their key")
            .fix("Name the key file in `keys` of policy.yaml.")
    })?;
    let structure = sealed.structure(&keys)?;
    let left_out: BTreeSet<_> = policy.tables().filter(|table| **table != line.table).cloned().collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (then, tables) = (policy.of_then(&structure), std::slice::from_ref(&structure));
    let model = match assemble::model(policy, project) {
        Ok(model) => model,
        Err(problem) => return refused(&[problem]),
    };
    let gate = match assemble::compile(&then, Some(keys), model, project, &left_out, tables, &clock) {
        Ok(gate) => gate,
        Err(problems) => return refused(&problems),
    };
    let gate = gate.table(&structure)?;
    let cleared = gate.preview(&sealed)?;
    println!("{}, {} committed {}, held {}", line.table, line.op, time(line.committed_at), time(line.held_at));
    println!("{}", why(line));
    if policy.k_gate(&line.table).is_some() {
        for (column, _) in &cleared.invalid {
            println!("  {column}: (cannot be read)");
        }
        println!("{} has a k_gate: its values are not shown", line.table);
        return Ok(Outcome::Done);
    }
    let stored = stored(project, &line.table).await;
    print_values(&cleared, |column| gate.standing(column, stored.as_ref()))
}

/// How the lake's rows of a table were cleared; `None`, and why, when that cannot be known now.
#[allow(clippy::print_stderr)]
async fn stored(project: &Project, table: &TableName) -> Option<TableStamp> {
    let asked = async {
        let table = LakeTable::new(table.clone(), Layer::Current)?;
        assemble::lake(project).await?.stamp(&table).await
    };
    let answer = tokio::time::timeout(LAKE_ANSWERS_WITHIN, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the lake does not answer")));
    answer.unwrap_or_else(|error| {
        eprintln!("what the lake stores of {table} is not known: {error}");
        None
    })
}

#[allow(clippy::print_stdout)]
fn print_values(cleared: &Cleared, standing: impl Fn(usize) -> Standing) -> Result<Outcome> {
    let mut hides = false;
    let rows = cleared.batch.rows();
    let unfit = |_| Error::new(Kind::Bug, "a cleared value cannot be shown");
    let options = FormatOptions::default().with_null("null");
    for (number, column) in cleared.batch.schema().columns.iter().enumerate() {
        let formatter = ArrayFormatter::try_new(rows.column(number), &options).map_err(unfit)?;
        let standing = standing(number);
        for row in 0..rows.num_rows() {
            let value = formatter.value(row).try_to_string().map_err(unfit)?;
            let invalid = cleared.invalid.iter().any(|(name, _)| *name == column.name) && value == "null";
            let value = match (cleared.batch.unsent().is_unsent(number, row), invalid, standing) {
                (_, _, Standing::Renamed) => "(renamed since)".to_owned(),
                (true, _, _) => "(as it is in the lake)".to_owned(),
                (_, true, _) => "(cannot be read)".to_owned(),
                (_, _, Standing::Unknown) => {
                    hides = true;
                    "(not shown)".to_owned()
                }
                _ => value,
            };
            println!("  {}: {value}", column.name);
        }
    }
    if hides {
        println!(
            "not shown: what the lake does not store, as far as it could be asked, in the same column by the same rule"
        );
    }
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout)]
fn release(store: &HeldStore, chosen: &Chosen) -> Result<Outcome> {
    let lines = store.lines()?;
    let choice = choice(&lines, chosen)?;
    let marked = store.mark(&choice)?;
    println!("{marked} rows are marked; `lockgate run` takes them in at its next boundary");
    let mut held = BTreeSet::new();
    for line in &lines {
        let behind = line.keys.iter().any(|key| held.contains(&(&line.table, *key)));
        if line.state == "held" && !choice.takes(line.id) || behind {
            held.extend(line.keys.iter().map(|key| (&line.table, *key)));
        }
        if behind && choice.takes(line.id) {
            println!("{} waits: an earlier change of its key is still held", line.id);
        }
    }
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout)]
fn drop_rows(store: &HeldStore, chosen: &Chosen) -> Result<Outcome> {
    let (gone, on_their_way) = store.discard(&choice(&store.lines()?, chosen)?)?;
    println!("{gone} rows are dropped");
    if on_their_way > 0 {
        println!("{on_their_way} were released before, and are on their way into the lake");
    }
    Ok(Outcome::Done)
}

fn choice(lines: &[HeldLine], chosen: &Chosen) -> Result<Choice> {
    if chosen.all {
        return Ok(Choice::All);
    }
    for id in &chosen.ids {
        find(lines, *id)?;
    }
    Ok(Choice::These(chosen.ids.clone()))
}

fn find(lines: &[HeldLine], id: i64) -> Result<&HeldLine> {
    lines.iter().find(|line| line.id == id).ok_or_else(|| unknown(id))
}

fn unknown(id: i64) -> Error {
    Error::new(Kind::Config, format!("no row {id} is held")).fix("`lockgate held list` prints the numbers.")
}

fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .map_or_else(|| "?".into(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
