//! Two databases that differ in nothing but what identifies people leave the same traces outside the columns that are made of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::util::display::array_value_to_string;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::project::files;
use super::plant::{self, Plan};
use super::watched::Watch;

/// Columns that are made of what identifies people, and those that say when and where in the log a change was.
const DEPENDENT: [&str; 16] = [
    "mrn",
    "number",
    "ssn",
    "email",
    "born",
    "zip",
    "seen",
    "account",
    "scan",
    "guid",
    "doc",
    "who",
    "_lg_position",
    "_lg_committed_at",
    "_lg_txid",
    "_lg_date",
];

/// Files of tokens and years differ a little: no more than this share, and as many bytes, of the larger one.
const SIZE_SHARE: f64 = 0.05;
const SIZE_BYTES: u64 = 512;

/// What a run leaves that must not depend on people.
#[derive(Debug, PartialEq)]
struct Traces {
    /// For each lake table, the independent cells of every row of every file in the order of the log, and how many files that are.
    rows: BTreeMap<String, Vec<String>>,
    files: BTreeMap<String, usize>,
    /// Log lines without times, numbers and names of files, sorted: tasks take turns.
    log: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_differ_in_people_only_leave_the_same_traces() {
    let (first, first_sizes, first_tokens) = traces("same-a", &Plan { seed: 5 }).await;
    let (second, second_sizes, second_tokens) = traces("same-b", &Plan { seed: 6 }).await;
    assert!(first.rows.values().map(Vec::len).sum::<usize>() > 40, "too few rows to tell");
    assert!(first.log.len() > 3, "too few log lines to tell: {:?}", first.log);
    assert_eq!(first, second);
    // The test of the test: what is made of people does differ.
    assert_ne!(first_tokens, second_tokens);
    assert_eq!(first_sizes.keys().collect::<Vec<_>>(), second_sizes.keys().collect::<Vec<_>>());
    for (table, (one, other)) in first_sizes.iter().map(|(table, size)| (table, (*size, second_sizes[table]))) {
        let allowed = SIZE_BYTES + (SIZE_SHARE * one.max(other) as f64) as u64;
        println!("{table}: {one} and {other} bytes");
        assert!(one.abs_diff(other) <= allowed, "{table}: {one} and {other} bytes of data");
    }
}

async fn traces(name: &str, plan: &Plan) -> (Traces, BTreeMap<String, u64>, Vec<String>) {
    let policy = plant::POLICY.split_once("  db.public.kept").unwrap().0;
    let project = plant::project(name, &plan.setup(), &plant::TABLES[..2], policy).await;
    // One commit for each run: how time is cut into commits is no trace of a person.
    project.write_lockgate_yaml("{ max_seconds: 3600, max_rows: 1000000 }");
    let mut log = Vec::new();
    for changes in [vec![], plan.changes()] {
        for change in changes {
            project.database.batch_execute(&change).await.unwrap();
        }
        let arguments = ["--log", "trace", "run", "--once"];
        let watched = Watch::start(project.command(&arguments), &project.dir).end().await;
        let said = String::from_utf8(watched.stderr).unwrap();
        assert_eq!(watched.code, Some(0), "{said}");
        // How often the progress is told hangs on the time that a run takes.
        let is_progress = |line: &&str| ["following ", "copying "].iter().any(|begin| line.starts_with(begin));
        log.extend(said.lines().filter(|line| !is_progress(line)).map(without_chance));
    }
    log.sort();
    let (mut traces, mut sizes, mut tokens) =
        (Traces { rows: BTreeMap::new(), files: BTreeMap::new(), log }, BTreeMap::new(), Vec::new());
    for table in ["person", "person__changes", "visit", "visit__changes"] {
        let folder = project.lake_table(table);
        traces.files.insert(table.into(), files(&folder).len());
        let data = added(&folder);
        sizes.insert(table.to_owned(), data.iter().map(|file| file.metadata().unwrap().len()).sum());
        for file in data {
            let (rows, dependent) = cells(&file);
            traces.rows.entry(table.into()).or_default().extend(rows);
            tokens.extend(dependent);
        }
    }
    project.end().await;
    (traces, sizes, tokens)
}

/// Every file that a commit added, in the order of commits.
fn added(table: &Path) -> Vec<std::path::PathBuf> {
    let mut commits: Vec<_> = files(&table.join("_delta_log"))
        .into_iter()
        .filter(|file| file.extension().is_some_and(|is| is == "json"))
        .collect();
    commits.sort();
    let mut added = Vec::new();
    for commit in commits {
        for line in std::fs::read_to_string(commit).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                added.push(table.join(path));
            }
        }
    }
    added.retain(|file| file.exists());
    // A deletion vector adds its file again.
    let mut seen = std::collections::BTreeSet::new();
    added.retain(|file| seen.insert(file.clone()));
    added
}

/// The rows of a file: the independent cells of each, and the others.
fn cells(file: &Path) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let (mut independent, mut dependent) = (String::new(), String::new());
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let cells = if DEPENDENT.contains(&field.name().as_str()) { &mut dependent } else { &mut independent };
                cells.push_str(&format!("{}={} ", field.name(), array_value_to_string(column, row).unwrap()));
            }
            rows.push(independent);
            others.push(dependent);
        }
    }
    (rows, others)
}

/// A log line without what differs between two runs on the same data: times, numbers, ports, names of files.
fn without_chance(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.contains("lockgate-e2e-"));
    let words = words.map(|word| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if digits > 0 { "#".to_owned() } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}
