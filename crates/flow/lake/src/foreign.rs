//! What other programs have committed to a table of ours.

use std::collections::BTreeSet;

use change::{Error, Kind, Result};
use deltalake::DeltaTable;
use deltalake::kernel::Add;
use serde_json::Value;

use crate::failure::Explain;
use crate::log::{TableLog, add_of};
use crate::{offload, protocol};

/// A commit of somebody else, as far as it matters to us.
#[derive(Default)]
struct Entry {
    ours: bool,
    operation: String,
    /// It changes rows, and does not only arrange them in other files.
    changes_rows: bool,
}

/// Whether we may go on behind the commits that others have made since our last one.
///
/// Files that were only arranged anew, added columns and properties are taken over. `Conflict` when the table's rows are not those of our
/// last commit (a restore to it is fine): the checkpoint would promise rows that are not there; and when that cannot be told, because the log
/// was cleaned of our last commit. Who `mends` the rows takes them as they are. `Conflict` in any case when a table feature is switched on that
/// we do not know how to write.
pub(crate) async fn check(log: &TableLog, mends: bool) -> Result<()> {
    let (mut operations, mut changed) = (Vec::new(), false);
    for version in (0..=log.version).rev() {
        let doing = || format!("{}: cannot read commit {version}", log.table);
        // A log that was cleaned begins with a checkpoint, which our record came out of.
        let Some(bytes) = log.store.read_commit_entry(version).await.explain(doing)? else {
            return if operations.is_empty() || mends { Ok(()) } else { Err(unknown_rows(log, &operations)) };
        };
        let entry = Entry::read(&bytes);
        if entry.ours {
            return if changed && !mends { same_rows(log, version, &operations).await } else { Ok(()) };
        }
        if operations.is_empty() {
            check_features(log)?;
        }
        changed |= entry.changes_rows;
        tracing::info!(table = %log.table, version, operation = entry.operation, "another program has committed to the table");
        operations.push(entry.operation);
    }
    Ok(())
}

/// Whether rows of the table are held back in another project folder than this one: what would be written behind them, a release there would turn
/// back. Who `mends` writes what the source has of them now, so that they stand for nothing any more.
pub(crate) fn check_held_back(log: &TableLog, folder: Option<&str>, mends: bool) -> Result<()> {
    let rows = log.record.held_back_rows();
    if mends || rows == 0 || !log.record.is_from_elsewhere(folder) {
        return Ok(());
    }
    let what = format!(
        "{}: {rows} rows of it are held back in another project folder, and nothing may pass them by",
        log.table
    );
    Err(Error::new(Kind::Conflict, what).fix(
        "Run there, or bring its .lockgate along; to release or drop them, do it there and run once more there. When that folder is lost: lockgate repair --force, which writes what the source has of them now.",
    ))
}

impl Entry {
    fn read(bytes: &[u8]) -> Self {
        let mut entry = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // What cannot be read counts as a change.
            let action: Value = serde_json::from_slice(line).unwrap_or_else(|_| serde_json::json!({ "add": {} }));
            if let Some(info) = action.get("commitInfo") {
                entry.ours = info.get("lockgate").is_some_and(Value::is_object);
                entry.operation = info.get("operation").and_then(Value::as_str).unwrap_or("unnamed").to_owned();
            }
            for file in ["add", "remove"].into_iter().filter_map(|kind| action.get(kind)) {
                entry.changes_rows |= file.get("dataChange").and_then(Value::as_bool).unwrap_or(true);
            }
        }
        entry
    }
}

/// Features that a table of ours has, and those that ask nothing of writers like us.
const KNOWN: [&str; 7] = [
    "deletionVectors",
    "domainMetadata",
    "timestampNtz",
    "vacuumProtocolCheck",
    "v2Checkpoint",
    "appendOnly",
    "invariants",
];

fn check_features(log: &TableLog) -> Result<()> {
    let features = protocol::writer_features(&log.protocol, &log.table)?;
    let strange: Vec<&str> = features.iter().map(String::as_str).filter(|name| !KNOWN.contains(name)).collect();
    if strange.is_empty() {
        return Ok(());
    }
    let what = format!("{}: another program switched on what Lockgate cannot write: {}", log.table, strange.join(", "));
    Err(Error::new(Kind::Conflict, what)
        .fix("Drop the table's features again, or take both folders of the table out of the lake, so that it is copied anew."))
}

fn unknown_rows(log: &TableLog, operations: &[String]) -> Error {
    let operations = operations.join(", ");
    let what = format!(
        "{}: other programs have committed to the table ({operations}), and its log does not have our last commit any more, so that it cannot be told whether they changed rows",
        log.table
    );
    Error::new(Kind::Conflict, what).fix("Stop the run and mend the table: lockgate repair --force")
}

async fn same_rows(log: &TableLog, ours: u64, operations: &[String]) -> Result<()> {
    let doing = || format!("{}: cannot read version {ours}", log.table);
    let mut then = DeltaTable::new(log.store.clone());
    offload::outside(then.load_version(ours)).await.explain(doing)?;
    let before: BTreeSet<_> =
        then.snapshot().explain(doing)?.log_data().iter().map(|view| of(&add_of(&view))).collect();
    if before == log.files.values().map(|file| of(&file.add)).collect() {
        return Ok(());
    }
    let operations = operations.join(", ");
    let what =
        format!("{}: another program has changed the table's rows since version {ours} ({operations})", log.table);
    Err(Error::new(Kind::Conflict, what).fix(format!(
        "Restore the table to version {ours}, the last that Lockgate wrote, or stop the run and mend the table: lockgate repair --force",
    )))
}

/// What makes rows: a file, and which of its rows are gone.
fn of(add: &Add) -> (String, Option<(String, Option<i32>, i64)>) {
    let vector = add.deletion_vector.as_ref();
    (add.path.clone(), vector.map(|vector| (vector.path_or_inline_dv.clone(), vector.offset, vector.cardinality)))
}
