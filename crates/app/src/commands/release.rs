//! `lockgate release`: a table in groups of at least k that look alike, as a Parquet file for whoever may have it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use audit::{Event, Hash, Hex, Name, Program};
use change::{Clock, Error, Kind, Result, TableName};
use futures::TryStreamExt;
use gate::{Counted, Decided, KGate, KReport, Policy, TableStamp};
use lake::{Layer, StoredTable};
use serde::Serialize;
use serve::ParquetFile;

use crate::approvals::Candidate;
use crate::assemble;
use crate::audit::{Auditor, random};
use crate::cli::Release;
use crate::clock::SystemClock;
use crate::named::one;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

/// Beside the rows: what was done. No number in it is of fewer than k.
#[derive(Serialize)]
struct Report {
    table: String,
    version: u64,
    /// The hash of the policy whose `k_gate` made the groups.
    policy: String,
    /// The hash of the policy that the rows were stored under; their table's rules are the same in both.
    stored_under: String,
    k: u32,
    counted_by: Option<String>,
    rows: u64,
    /// `null` when they are few.
    suppressed_rows: Option<u64>,
    levels: Vec<Levels>,
    file: &'static str,
    sha256: Hash,
    released_at: change::Timestamp,
    lockgate: &'static str,
}

#[derive(Serialize)]
struct Levels {
    columns: Vec<(String, String)>,
    groups: u64,
    rows: u64,
}

const ROWS: &str = "rows.parquet";
const REPORT: &str = "release.json";
/// Lockgate's own columns say when and in which transaction a row was changed; they are not released.
const OWN: &str = "_lg_";

pub(crate) async fn run(dir: &Path, options: &Release) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let (table, gate) = gate_of(&policy, &options.table)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    policy.still_claims(clock.now())?;
    let lake = assemble::lake(&project).await?;
    let stored = lake.stored(table, Layer::Current).await?.ok_or_else(|| {
        Error::new(Kind::Contract, format!("{table} is not in the lake yet")).fix("Run: lockgate run")
    })?;
    if stored.checkpoint().copy.as_ref().is_none_or(|copy| copy.finished.is_none()) {
        let what = format!("{table}: its first copy is not finished, and groups would be counted too small");
        return Err(Error::new(Kind::Contract, what).fix("Run: lockgate run"));
    }
    let stamp = stored_under(table, &stored)?;
    policy.check_stored(table, &stamp, clock.now())?;
    let auditor = Auditor::open(&project, clock.clone(), Program::Release).await?;
    let released = match Candidate::allowed(&project, &policy, &auditor) {
        Ok(_) => release(&stored, table, gate, clock.clone(), &options.to).await,
        Err(error) => Err(error),
    };
    let done = released.and_then(|written| {
        let report = written.report(&policy, table, (&stored, &stamp), clock.now());
        // Named only when the log says so: what cannot be recorded is not there.
        auditor.record(Event::Released {
            table: Name::new(table),
            version: report.version,
            rows: report.rows,
            k: report.k,
            policy: Hex::new(&*report.policy)?,
            file: report.sha256,
        })?;
        written.name(&options.to, &report)?;
        print(&options.to, &report);
        Ok(Outcome::Done)
    });
    auditor.close().await?;
    done
}

fn gate_of<'a>(policy: &'a Policy, name: &str) -> Result<(&'a TableName, &'a KGate)> {
    let table = one(policy, name)?;
    let gate = policy.k_gate(table).ok_or_else(|| {
        Error::new(Kind::Config, format!("{table} has no k_gate"))
            .fix("Name its quasi-identifiers in policy.yaml: '*': { k_gate: ... }; without one, use lockgate query.")
    })?;
    Ok((table, gate))
}

/// How the rows were cleared that a table has.
fn stored_under(table: &TableName, stored: &StoredTable) -> Result<TableStamp> {
    serde_json::from_value(stored.stamp().clone()).map_err(|_| {
        Error::new(Kind::Conflict, format!("{table}: the policy stamp in the table cannot be read"))
            .fix("Restore the table to a version that Lockgate wrote.")
    })
}

/// Counts the table, then writes it: one version of it, read twice.
async fn release(
    stored: &StoredTable,
    table: &TableName,
    gate: &KGate,
    clock: Arc<dyn Clock>,
    to: &Path,
) -> Result<Written> {
    let columns = stored.columns();
    let ours: Vec<usize> =
        (0..columns.fields().len()).filter(|at| !columns.field(*at).name().starts_with(OWN)).collect();
    let project = |rows: &RecordBatch| {
        rows.project(&ours).map_err(|_| Error::new(Kind::Bug, format!("{table}: columns could not be chosen")))
    };
    let schema = Schema::new(ours.iter().map(|at| columns.field(*at).clone()).collect::<Vec<_>>());
    let mut counting = gate.counting(table, &schema, clock)?;
    let mut rows = stored.scan();
    while let Some(batch) = rows.try_next().await? {
        counting.add(&project(batch.rows())?)?;
    }
    let decided: Decided = counting.decide();
    let path = unnamed(to)?;
    let file = File::create_new(&path).map_err(|error| unwritable(&path, error))?;
    let mut out = ParquetFile::create(BufWriter::new(file), decided.schema(&schema))?;
    let (mut rows, mut released) = (stored.scan(), 0);
    while let Some(batch) = rows.try_next().await? {
        let batch = decided.apply(&project(batch.rows())?)?;
        released += batch.num_rows() as u64;
        out.write(&batch)?;
    }
    out.finish()?;
    let bytes = std::fs::read(&path).map_err(|error| unwritable(&path, error))?;
    Ok(Written { path, rows: released, groups: decided.report().clone(), sha256: Hash::of(&[&bytes]) })
}

/// A release that is whole and has no name yet.
struct Written {
    path: PathBuf,
    rows: u64,
    groups: KReport,
    sha256: Hash,
}

impl Written {
    fn report(
        &self,
        policy: &Policy,
        table: &TableName,
        (stored, stamp): (&StoredTable, &TableStamp),
        now: change::Timestamp,
    ) -> Report {
        let levels = self.groups.released.iter().map(|level| Levels {
            columns: level.levels.clone(),
            groups: level.groups,
            rows: level.rows,
        });
        Report {
            table: table.to_string(),
            version: stored.version(),
            policy: policy.explain().policy_hash,
            stored_under: stamp.policy.policy_hash.clone(),
            k: self.groups.k,
            counted_by: self.groups.counted_by.clone(),
            rows: self.rows,
            suppressed_rows: match self.groups.suppressed_rows {
                Counted::Exactly(rows) => Some(rows),
                Counted::Few => None,
            },
            levels: levels.collect(),
            file: ROWS,
            sha256: self.sha256,
            released_at: now,
            lockgate: env!("CARGO_PKG_VERSION"),
        }
    }

    fn name(self, to: &Path, report: &Report) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(report).map_err(|_| Error::new(Kind::Bug, "a release's report is not JSON"))?;
        let (rows, report) = (to.join(ROWS), to.join(REPORT));
        std::fs::write(&report, text).map_err(|error| unwritable(&report, error))?;
        std::fs::rename(&self.path, &rows).map_err(|error| unwritable(&rows, error))
    }
}

#[allow(clippy::print_stdout)]
fn print(to: &Path, report: &Report) {
    for level in &report.levels {
        let columns: Vec<String> = level.columns.iter().map(|(column, shown)| format!("{column} {shown}")).collect();
        println!("{} rows in {} groups: {}", level.rows, level.groups, columns.join(", "));
    }
    let left_out = report.suppressed_rows.map_or_else(|| "a few".to_owned(), |rows| rows.to_string());
    println!(
        "{} rows released, {left_out} left out, in groups of at least {}: {}",
        report.rows,
        report.k,
        to.display()
    );
}

/// Where rows are written until they are whole: in a folder that is empty or made for them.
fn unnamed(to: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(to).map_err(|error| unwritable(to, error))?;
    let mut entries = std::fs::read_dir(to).map_err(|error| unwritable(to, error))?;
    if entries.next().is_some() {
        return Err(Error::new(Kind::Config, format!("{} is not empty", to.display()))
            .fix("Name a new folder: two releases of a table beside each other tell more than one."));
    }
    Ok(to.join(format!(".{}", Hex::of(&random::<8>()?).as_str())))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Full, format!("cannot write {}", path.display()))
        .source(error)
        .fix("Free space there, or name another folder.")
}
