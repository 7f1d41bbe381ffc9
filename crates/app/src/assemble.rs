//! Names every part of a run and puts them together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capture::postgres::{self, ByteSize, CopyConfig, OnUnfit, PostgresConfig, Resume, Secret, WalBudget, WalPolicy};
use change::{Checkpoint, Clock, Error, Kind, Position, Problem, Result, Severity, Source, TableName, TableSchema};
use gate::{EntityFinder, Gate, KeyRing, Policy};
use lake::{Lake, LakeOptions, Layer, WriterOptions};
use tokio_util::sync::CancellationToken;

use crate::batching::Batching;
use crate::cells::CellStore;
use crate::entities;
use crate::error_policy::{Action, table_action};
use crate::feed::Feed;
use crate::folder_id::folder_id;
use crate::held::Witness;
use crate::keys;
use crate::pipeline::Pipeline;
use crate::project::{POLICY_FILE, PROJECT_FILE, Project, SourceEntry, WalBudgetEntry};
use crate::records::{Records, open_where_recorded};
use crate::resent::Resent;
use crate::spool::{Known, Silent, SpoolFolder};
use crate::vault::VaultFile;
use crate::watch::Watch;
use crate::workers::{Shared, Workers};

/// Opens the project's lake.
///
/// # Errors
/// Those of the lake, and of secret references among its options.
pub(crate) async fn lake(project: &Project) -> Result<Arc<Lake>> {
    let options = LakeOptions { store: project.lake_options()?.into_iter().collect() };
    Lake::open(&project.lake_url(), options).await.map(Arc::new)
}

/// A source's configuration for the connector, with its secrets resolved.
pub(crate) fn postgres_config(project: &Project, name: &str, entry: &SourceEntry) -> Result<PostgresConfig> {
    let section = &entry.postgres;
    let password = section
        .password
        .as_ref()
        .map(|reference| {
            reference.resolve(&project.dir).map_err(|error| error.context(format!("sources.{name}.postgres.password")))
        })
        .transpose()?;
    let file = |path: &Option<PathBuf>| path.as_ref().map(|path| project.dir.join(path));
    Ok(PostgresConfig {
        source: name.to_owned(),
        url: section.url.clone(),
        password: password.map(|secret| Secret::new(secret.reveal())),
        slot: section.slot.clone().unwrap_or_else(|| format!("lockgate_{}", name.to_lowercase())),
        publication: section.publication.clone(),
        tables: entry.tables.clone(),
        kept: Vec::new(),
        sslrootcert: file(&section.sslrootcert),
        sslcert: file(&section.sslcert),
        sslkey: file(&section.sslkey),
        wal_budget: wal_budget(&section.wal_budget),
        copy: CopyConfig { parallel: section.copy_parallel, ..CopyConfig::default() },
        on_unfit: if section.unfit_to_null { OnUnfit::Null } else { OnUnfit::Halt },
    })
}

fn wal_budget(entry: &WalBudgetEntry) -> WalBudget {
    let usual = WalBudget::default();
    let policy = match entry.policy.as_deref() {
        Some("pause") => WalPolicy::Pause,
        Some("drop_and_repair") => WalPolicy::DropAndRepair,
        _ => WalPolicy::Spool,
    };
    let bytes = |said: Option<u64>, usual| said.map_or(usual, ByteSize);
    WalBudget { warn: bytes(entry.warn, usual.warn), critical: bytes(entry.critical, usual.critical), policy }
}

/// Bytes, unless `spool_max` says otherwise.
const SPOOL_MAX: u64 = 20 << 30;

/// The most that the spool of a source may take on the local disk, in bytes.
pub(crate) fn spool_limit(project: &Project, source: &str) -> u64 {
    project.file.sources.get(source).and_then(|entry| entry.postgres.wal_budget.spool_max).unwrap_or(SPOOL_MAX)
}

/// Everything that is wrong with the project and can be seen without a network.
pub(crate) fn offline_problems(project: &Project) -> Vec<Problem> {
    let mut problems = project.file.roles.notes();
    let place = project.lake_options().and_then(|options| lake::check_place(&project.lake_url(), options));
    if let Err(error) = place {
        problems.push(as_problem(PROJECT_FILE, Some(project.file.lake_line), &error));
    }
    for (name, entry) in &project.file.sources {
        match postgres_config(project, name, entry) {
            Ok(config) => problems.extend(config.problems_by_field().into_iter().map(|(field, problem)| Problem {
                file: PROJECT_FILE.into(),
                line: Some(entry.line_of(field)),
                ..problem
            })),
            // A secret that cannot be resolved: the password is the only one.
            Err(error) => problems.push(as_problem(PROJECT_FILE, Some(entry.line_of("password")), &error)),
        }
        if let Some(policy) = &entry.postgres.wal_budget.policy
            && !["pause", "spool", "drop_and_repair"].contains(&policy.as_str())
        {
            problems.push(Problem {
                severity: Severity::Error,
                file: PROJECT_FILE.into(),
                line: Some(entry.line_of("wal_budget.policy")),
                what: format!("wal_budget.policy `{policy}` is not known"),
                fix: "Write `policy: pause`, `policy: spool` or `policy: drop_and_repair`.".into(),
            });
        }
    }
    match project.policy() {
        Ok(policy) => {
            for table in policy.tables().filter(|table| !project.file.sources.contains_key(&table.source)) {
                let known: Vec<&str> = project.file.sources.keys().map(String::as_str).collect();
                problems.push(Problem {
                    severity: Severity::Error,
                    file: POLICY_FILE.into(),
                    line: None,
                    what: format!("{table}: lockgate.yaml has no source `{}`", table.source),
                    fix: format!("Write one of: {}.", known.join(", ")),
                });
            }
            for (name, entry) in &project.file.sources {
                let spools = entry.postgres.wal_budget.policy.as_deref() == Some("spool");
                if spools && policy.keys().is_none() {
                    problems.push(Problem {
                        severity: Severity::Error,
                        file: PROJECT_FILE.into(),
                        line: Some(entry.line_of("wal_budget.policy")),
                        what: format!("{name}: a spool is sealed, and policy.yaml names no keys to seal it with"),
                        fix: "Write `keys: file:./keys/dev.key` into policy.yaml, or `policy: pause` here.".into(),
                    });
                }
            }
            if let Err(error) = keys::check(policy.keys(), &project.dir) {
                problems.push(as_problem(POLICY_FILE, None, &error));
            }
        }
        Err(found) => problems.extend(found),
    }
    problems
}

/// An error as a problem of a file.
pub(crate) fn as_problem(file: &str, line: Option<u64>, error: &Error) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.into(),
        line,
        what: error.to_string().lines().next().unwrap_or_default().to_owned(),
        fix: error.how_to_fix().unwrap_or_default().to_owned(),
    }
}

/// What every run of a project shares.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) project: Project,
    pub(crate) lake: Arc<Lake>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Arc<Watch>,
    /// Where it is written down that held rows are too old.
    pub(crate) witness: Option<Witness>,
}

impl Parts {
    /// The same with the lake opened anew: the secrets among its options are read again.
    ///
    /// # Errors
    /// As [`lake`].
    pub(crate) async fn with_lake_anew(&self) -> Result<Self> {
        Ok(Self { lake: lake(&self.project).await?, ..self.clone() })
    }
}

/// Tells the policy which columns the sources have dropped: those that the lake's tables once had.
///
/// # Errors
/// `Unavailable` and the like of the lake. A table that cannot be read is no error here: it stops when it is opened, and no other one does.
pub(crate) async fn drop_at_source(policy: &mut Policy, tables: &[Arc<TableSchema>], lake: &Lake) -> Result<()> {
    for schema in tables {
        if policy.missing(schema).is_empty() {
            continue;
        }
        match lake.stored(&schema.table, Layer::Current).await {
            Ok(None) => {}
            Ok(Some(stored)) => match serde_json::from_value(stored.stamp().clone()) {
                Ok(stamp) => policy.drop_at_source(schema, &stamp),
                Err(_) => policy.drop_unasked(schema),
            },
            Err(error) if table_action(error.kind()) == Action::Retry => return Err(error),
            Err(_) => policy.drop_unasked(schema),
        }
    }
    Ok(())
}

/// By table, the columns that its publication leaves out and the policy reads, with commas between them.
pub(crate) fn withheld<'a>(
    policy: &'a Policy,
    withheld: &'a BTreeMap<TableName, Vec<String>>,
) -> impl Iterator<Item = (&'a TableName, String)> {
    withheld.iter().filter_map(|(table, columns)| {
        let read = columns.iter().filter(|column| policy.reads(table, column));
        let read = read.map(String::as_str).collect::<Vec<_>>().join(", ");
        (!read.is_empty()).then_some((table, read))
    })
}

/// Meets the policy with the tables of the sources, except those that are `left_out`. `model` is the one of the policy, if it names one.
///
/// # Errors
/// All problems of the policy at once.
pub(crate) fn compile(
    policy: &Policy,
    keys: Option<KeyRing>,
    model: Option<Arc<dyn EntityFinder>>,
    project: &Project,
    left_out: &BTreeSet<TableName>,
    tables: &[Arc<TableSchema>],
    clock: &Arc<dyn Clock>,
) -> std::result::Result<Gate, Vec<Problem>> {
    let one = |error: Error| vec![as_problem(POLICY_FILE, None, &error)];
    let vault = VaultFile::open(&project.state_dir(), keys.clone()).map_err(one)?;
    let cells = match policy.encrypts_cells() {
        true => Some(CellStore::open(&project.state_dir(), keys.clone()).map_err(one)?),
        false => None,
    };
    let gate = policy.compile_without(left_out, tables, keys, Some(Arc::new(vault)), clock.clone())?;
    let gate = match model {
        Some(model) => gate.with_entities(model).map_err(one)?,
        None => gate,
    };
    match cells {
        Some(cells) => gate.with_cell_keys(Arc::new(cells)).map_err(one),
        None => Ok(gate),
    }
}

/// The policy's model, if it names one.
///
/// # Errors
/// What is wrong with it, at its line.
pub(crate) fn model(policy: &Policy, project: &Project) -> std::result::Result<Option<Arc<dyn EntityFinder>>, Problem> {
    let line = policy.model().map(|model| model.line);
    entities::load(policy, &project.dir).map_err(|error| as_problem(POLICY_FILE, line, &error))
}

/// Which tables of one source take part in a run.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    /// Those that are followed.
    pub(crate) followed: Vec<TableName>,
    /// Those that are stopped from the start, and why.
    pub(crate) refused: BTreeMap<TableName, String>,
    /// Those that are left for another run: the source must keep its log for them.
    pub(crate) left: Vec<TableName>,
}

/// Puts one source's run together: reads what the lake has of it, opens the source there, starts reading.
///
/// # Errors
/// Those of the source and of the lake.
pub(crate) async fn pipeline(
    parts: &Parts,
    name: &str,
    cast: &Cast,
    once: bool,
    known: &Known,
    stop: CancellationToken,
) -> Result<Pipeline> {
    let config = source_config(parts, name, cast)?;
    let state_dir = parts.project.state_dir();
    let waiting = SpoolFolder::waiting(&state_dir, name, &parts.gate)?;
    let means = Means { known: known.clone(), ..Means::of(parts)? };
    // The records have been read when this is called.
    let open = |resume| {
        let config = without(&config, known);
        async { postgres::open(config?, resume, parts.clock.clone()).await }
    };
    let source = means.open(name, waiting.as_ref(), open).await?;
    let mut refused = cast.refused.clone();
    for (table, why) in known.unreadable() {
        if refused.contains_key(&table) {
            continue;
        }
        tracing::error!(%table, why, "the table is stopped; the source keeps its changes until it is mended");
        parts.watch.table(&table, |seen| seen.stopped = Some(why.clone()));
        known.stops(&table);
        refused.insert(table, why);
    }
    parts.watch.follow(name, source.status());
    let until = if once { Some(source.end_of_log().await?) } else { None };
    let pipeline = means.pipeline(source, until, stop).holding(&state_dir, parts.witness.clone())?.draining(waiting);
    Ok(Pipeline { refused, holds_back: !cast.left.is_empty(), ..pipeline })
}

/// A source's configuration without the tables whose records cannot be read.
///
/// # Errors
/// `Data` when no table is left.
fn without(config: &PostgresConfig, known: &Known) -> Result<PostgresConfig> {
    let unreadable = known.unreadable();
    let names: Vec<String> = unreadable.keys().map(written).collect();
    let (kept, tables): (Vec<String>, Vec<String>) =
        config.tables.iter().cloned().partition(|table| names.contains(table));
    match unreadable.into_iter().next().filter(|_| tables.is_empty()) {
        Some((table, why)) => Err(Error::new(Kind::Data, format!("{table}: {why}"))),
        None => Ok(PostgresConfig { tables, kept: [config.kept.clone(), kept].concat(), ..config.clone() }),
    }
}

/// A table's name as the connector's configuration has it.
fn written(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.table)
}

/// Brings what waits in the spool of a source that is gone into the lake: it is nowhere else, and a repair compares the lake with the source.
///
/// # Errors
/// Those of the spool and of the lake.
pub(crate) async fn drain(
    parts: &Parts,
    name: &str,
    cast: &Cast,
    known: &Known,
    stop: CancellationToken,
) -> Result<()> {
    let state_dir = parts.project.state_dir();
    let Some(waiting) = SpoolFolder::waiting(&state_dir, name, &parts.gate)? else { return Ok(()) };
    tracing::warn!(source = name, "the source is gone: what waits in the spool is brought into the lake first");
    let means = Means { known: known.clone(), ..Means::of(parts)? };
    let pipeline = means.pipeline(Silent, None, stop).holding(&state_dir, parts.witness.clone())?;
    let pipeline = Pipeline { refused: cast.refused.clone(), only_drains: true, ..pipeline.draining(Some(waiting)) };
    pipeline.run().await.map(|_| ())
}

/// A source's configuration with the tables that are followed.
pub(crate) fn source_config(parts: &Parts, name: &str, cast: &Cast) -> Result<PostgresConfig> {
    let entry = parts.project.file.sources.get(name);
    let entry = entry.ok_or_else(|| Error::new(Kind::Bug, format!("there is no source {name}")))?;
    let mut config = postgres_config(&parts.project, name, entry)?;
    config.tables = cast.followed.iter().map(written).collect();
    config.kept = cast.refused.keys().chain(&cast.left).map(written).collect();
    config.copy.slow = cast.followed.iter().filter(|table| parts.gate.asks_model(table)).cloned().collect();
    Ok(config)
}

/// What a run of any source is made of beside the source.
pub struct Means {
    /// Where the tables are.
    pub lake: Arc<Lake>,
    /// What every row passes.
    pub gate: Arc<Gate>,
    /// All time that the run knows, but for tokio's timers.
    pub clock: Arc<dyn Clock>,
    /// Where the run shows what it does.
    pub watch: Arc<Watch>,
    /// The folder of the key indexes, on a local disk.
    pub index_dir: PathBuf,
    /// What tells the project folder from another one that may write the same lake.
    pub folder_id: String,
    /// Any text that differs from one boot of the machine to the next.
    pub boot: Option<String>,
    /// When a commit is due.
    pub batching: Batching,
    /// What was learned of the lake's records.
    pub known: Known,
    /// Where it is written down that held rows are too old.
    pub witness: Option<Witness>,
}

impl Means {
    /// What a project's runs and repairs write with.
    ///
    /// # Errors
    /// `Full` when the state folder cannot be written.
    pub(crate) fn of(parts: &Parts) -> Result<Self> {
        let commit = &parts.project.file.commit;
        Ok(Self {
            lake: parts.lake.clone(),
            gate: parts.gate.clone(),
            clock: parts.clock.clone(),
            watch: parts.watch.clone(),
            index_dir: parts.project.state_dir().join("index"),
            folder_id: folder_id(&parts.project.state_dir())?,
            boot: boot_id(),
            batching: Batching { max_age: Duration::from_secs_f64(commit.max_seconds), max_rows: commit.max_rows },
            known: Known::default(),
            witness: parts.witness.clone(),
        })
    }

    /// The lake side: no table is open yet.
    pub(crate) fn workers(&self) -> Workers {
        self.workers_with(|options| options)
    }

    /// The lake side of a repair, which takes rows that other programs have changed as they are.
    pub(crate) fn mending_workers(&self) -> Workers {
        self.workers_with(WriterOptions::mending)
    }

    fn workers_with(&self, options: impl FnOnce(WriterOptions) -> WriterOptions) -> Workers {
        let written = WriterOptions::new(self.clock.clone(), self.index_dir.clone(), self.boot.clone());
        Workers::new(Shared {
            lake: self.lake.clone(),
            options: options(written.of_folder(self.folder_id.clone())),
            stamp: self.gate.stamp().clone(),
            clock: self.clock.clone(),
        })
    }

    /// Opens a source where the lake's records end, or where the spool does, which has more.
    ///
    /// A process that is about to leave may record and confirm more between our look at the records and our look at the source. Then the
    /// source seems to have forgotten too much, and the records are read again.
    ///
    /// # Errors
    /// Those of the lake and of `open`; `Unavailable` while somebody else goes on recording.
    pub async fn open<S, F: Future<Output = Result<S>>>(
        &self,
        source: &str,
        spool: Option<&SpoolFolder>,
        open: impl Fn(Resume) -> F,
    ) -> Result<S> {
        let spooled = spool.and_then(SpoolFolder::through);
        open_where_recorded(&self.lake, source, |mut records: Records| {
            // What waits in the spool has been confirmed, and is in no table yet.
            let behind = |recorded: &Checkpoint| spooled.is_some_and(|spooled| recorded.through < spooled.through);
            let resume = &mut records.common;
            if resume.stream.as_ref().is_none_or(behind) {
                resume.stream = spooled.cloned().or(resume.stream.take());
            }
            let resume = resume.clone();
            self.known.read(records);
            open(resume)
        })
        .await
    }

    /// One run over an open source, which begins to be read at once: until everything at or below `until` is durable, or until `stop`.
    pub fn pipeline<S: Source + 'static>(
        &self,
        source: S,
        until: Option<Position>,
        stop: CancellationToken,
    ) -> Pipeline {
        Pipeline {
            feed: Feed::start(source),
            gate: self.gate.clone(),
            workers: self.workers(),
            lake: self.lake.clone(),
            batching: self.batching,
            clock: self.clock.clone(),
            watch: self.watch.clone(),
            until,
            stop,
            refused: BTreeMap::new(),
            holds_back: false,
            keeper: None,
            spool: None,
            only_drains: false,
            resent: Resent::default(),
            known: self.known.clone(),
        }
    }
}

/// Differs from one boot of the machine to the next; `None` where the system does not tell.
fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::ProjectFile;

    #[test]
    fn what_a_wal_budget_does_not_say_is_as_without_one() {
        let text = "lake: ./lake\nsources:\n  db:\n    postgres: { url: postgresql://u@h/d, wal_budget: { policy: pause } }\n    tables: [public.*]\n";
        let file = ProjectFile::parse(text).unwrap();
        let usual = WalBudget::default();
        let budget = wal_budget(&file.sources["db"].postgres.wal_budget);
        assert_eq!(budget, WalBudget { policy: WalPolicy::Pause, ..usual.clone() });
        let entry = WalBudgetEntry { critical: Some(8 << 30), ..WalBudgetEntry::default() };
        assert_eq!(wal_budget(&entry), WalBudget { critical: ByteSize(8 << 30), ..usual });
    }
}
