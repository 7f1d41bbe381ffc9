//! `lockgate policy`: the policy in words, what a change of it means, and the policy on made-up values.

use std::path::Path;
use std::sync::Arc;

use change::{Error, Kind, Problem, Result};
use comfy_table::{ContentArrangement, Table, presets};
use gate::{Difference, Effect, Explanation, Policy, Rehearsed, Treatment};

use crate::cli;
use crate::clock::SystemClock;
use crate::named::named;
use crate::outcome::{Outcome, refused};
use crate::project::POLICY_FILE;

mod approve;
mod grants;

pub(crate) async fn run(dir: &Path, command: &cli::Policy) -> Result<Outcome> {
    let project = dir.join(POLICY_FILE);
    match command {
        cli::Policy::Explain { tables } => with(&project, |policy| {
            let mut explanation = policy.explain();
            let tables = named(policy, tables)?;
            explanation.columns.retain(|column| tables.contains(&column.table));
            print_explanation(&explanation);
            Ok(Outcome::Done)
        }),
        cli::Policy::Test { tables } => with(&project, |policy| {
            let mut rehearsed = policy.rehearse(Arc::new(SystemClock::new()))?;
            let tables = named(policy, tables)?;
            rehearsed.retain(|rule| tables.contains(&rule.table));
            print_rehearsed(&rehearsed);
            Ok(Outcome::Done)
        }),
        cli::Policy::Diff { old, new } => with(old, |old| {
            with(new.as_deref().unwrap_or(&project), |new| {
                print_differences(&old.changes_to(new));
                Ok(Outcome::Done)
            })
        }),
        cli::Policy::Grants { source } => grants::run(dir, source.as_deref()).await,
        cli::Policy::Approve { hash } => approve::run(dir, hash.as_deref()).await,
    }
}

/// Reads a policy and goes on with it, or prints everything that is wrong with it.
fn with(path: &Path, then: impl FnOnce(&Policy) -> Result<Outcome>) -> Result<Outcome> {
    match read(path)? {
        Ok(policy) => then(&policy),
        Err(problems) => refused(&problems),
    }
}

fn read(path: &Path) -> Result<std::result::Result<Policy, Vec<Problem>>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Kind::Config, format!("{} cannot be read", path.display()))
            .source(error)
            .fix("Name the project folder with --dir, or the policy's file.")
    })?;
    Ok(Policy::parse(&text, &path.display().to_string()))
}

fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

#[allow(clippy::print_stdout)]
fn print_explanation(explanation: &Explanation) {
    println!("claims {}; the rules could carry {}", explanation.claimed, explanation.claimable);
    if let Some(paperwork) = explanation.paperwork {
        println!("{paperwork}");
    }
    println!("policy {}, ZIP table {}", explanation.policy_hash, explanation.zip3_table);
    if let Some((folder, sha256)) = &explanation.model {
        println!("model {folder}, SHA-256 {sha256}");
    }
    println!("keys: {}", explanation.keys.as_deref().unwrap_or("none"));
    for (domain, users) in &explanation.domains {
        println!("  domain {domain}: {}", users.join(", "));
    }
    let mut last = None;
    let mut columns = table(["column", "rule", "stored", "why", "unreadable"]);
    for (table, gate) in &explanation.releases {
        println!("{table} is released in groups: {gate}");
    }
    for column in &explanation.columns {
        if last.replace(&column.table).is_some_and(|last| *last != column.table) {
            println!("{columns}");
            columns = table(["column", "rule", "stored", "why", "unreadable"]);
        }
        if columns.is_empty() {
            println!("\n{}", column.table);
        }
        let rule = column.transform.split_once("json_paths(").map_or(column.transform.as_str(), |_| "json_paths");
        columns.add_row([&column.column, rule, &column.stored, &column.why, column.unreadable]);
    }
    if !columns.is_empty() {
        println!("{columns}");
    }
    println!("\nthe 18 classes of 45 CFR 164.514(b)(2)(i)");
    let mut classes = table(["class", "what", "treated"]);
    for class in &explanation.coverage {
        let treated: Vec<String> =
            class.columns.iter().map(|(treatment, columns)| treated(*treatment, columns)).collect();
        let treated = if treated.is_empty() { "no column seems to hold it".to_owned() } else { treated.join("\n") };
        classes.add_row([class.letter.to_string(), class.title.to_owned(), treated]);
    }
    println!("{classes}");
    println!(
        "a column that is not named here is not stored; one that identifies rows stops its table at a value that cannot be read"
    );
}

/// How many columns are treated so; those that are shown by name, for somebody has to answer for them.
fn treated(treatment: Treatment, columns: &[String]) -> String {
    let count = columns.len();
    match treatment {
        Treatment::Removed => format!("{count} removed"),
        Treatment::Sealed => format!("{count} encrypted"),
        Treatment::Code => format!("{count} by random code"),
        Treatment::Token => format!("{count} by a key"),
        Treatment::Coarse => format!("{count} made coarse"),
        Treatment::Shown => format!("SHOWN: {}", columns.join(", ")),
    }
}

#[allow(clippy::print_stdout)]
fn print_differences(differences: &[Difference]) {
    if differences.is_empty() {
        println!("the two policies do the same");
        return;
    }
    let mut lines = table(["effect", "where", "before", "after", "why"]);
    for difference in differences {
        lines.add_row([
            effect(difference.effect),
            &difference.place,
            &difference.before,
            &difference.after,
            &difference.why,
        ]);
    }
    println!("{lines}");
    let count = |effect| differences.iter().filter(|difference| difference.effect == effect).count();
    let (loosens, alters, tightens) = (count(Effect::Loosens), count(Effect::Alters), count(Effect::Tightens));
    println!("{loosens} loosen, {alters} alter, {tightens} tighten");
    if loosens > 0 {
        println!(
            "loosening: two people should approve it (lockgate policy approve); rows already in the lake lack what was not stored until they are copied again"
        );
    }
    if tightens > 0 {
        println!(
            "tightening: rows already in the lake keep what they show until they are remasked (lockgate remask), or copied again and the old files purged"
        );
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Loosens => "LOOSENS",
        Effect::Alters => "alters",
        Effect::Tightens => "tightens",
    }
}

#[allow(clippy::print_stdout)]
fn print_rehearsed(rehearsed: &[Rehearsed]) {
    println!("made-up values, made-up keys: the tokens of a run are others");
    let mut last = None;
    let mut lines = table(["column", "rule", "before", "after"]);
    for rule in rehearsed {
        if last.replace(&rule.table).is_some_and(|last| *last != rule.table) {
            println!("{lines}");
            lines = table(["column", "rule", "before", "after"]);
        }
        if lines.is_empty() {
            println!("\n{}", rule.table);
        }
        for (row, (before, after)) in rule.values.iter().enumerate() {
            let (column, transform) = if row == 0 { (rule.column.as_str(), rule.transform.as_str()) } else { ("", "") };
            let transform = transform.split_once("json_paths(").map_or(transform, |_| "json_paths");
            lines.add_row([column, transform, before, after.as_deref().unwrap_or("(not stored)")]);
        }
    }
    if !lines.is_empty() {
        println!("{lines}");
    }
}
