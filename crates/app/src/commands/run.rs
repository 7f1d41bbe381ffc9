//! One shift of `lockgate run`: every source's pipeline, started again after what another start may mend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Program, Reason, RunEnding};
use capture::postgres::{self, Tables};
use change::{Clock, Error, Kind, Result, TableName, TableSchema};
use gate::Policy;
use lake::Lake;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::shifts::Shift;
use crate::approvals::Candidate;
use crate::assemble::{self, Cast, Parts};
use crate::audit::Auditor;
use crate::cli::Run;
use crate::clock::SystemClock;
use crate::erase;
use crate::error_policy::{Action, table_action};
use crate::held::{HeldStore, Witness};
use crate::named::named;
use crate::outcome::{Outcome, lost_task, print_problems, refused};
use crate::pipeline::Ended;
use crate::project::{POLICY_FILE, Project};
use crate::rotation::check_exposed;
use crate::spool::{self, Known};
use crate::status_file::StatusFile;
use crate::turn::Turn;
use crate::view::{self, Style};
use crate::watch::Watch;
use crate::{key_wait, keys, limits};

/// A shift whose start and end are in the audit log: without the log there is none.
pub(super) async fn shift(
    project: Project,
    options: &Run,
    turn: &Turn,
    stop: &CancellationToken,
    file: &Arc<StatusFile>,
) -> Result<Shift> {
    let auditor = Auditor::open(&project, Arc::new(SystemClock::new()), Program::Run).await?;
    let ended = until_asked_for(project, options, &auditor, turn, stop, file).await;
    let ending = match &ended {
        Ok(Shift::GaveWay) => RunEnding::GaveWay,
        Ok(Shift::Ended(Outcome::Done)) => RunEnding::Done,
        Ok(Shift::Ended(Outcome::Unfinished)) => RunEnding::Interrupted,
        Ok(Shift::Ended(Outcome::Held)) => RunEnding::Held,
        Ok(Shift::Ended(Outcome::ToFix)) => RunEnding::Failed(Reason::Config),
        Err(error) => RunEnding::Failed(error.kind().into()),
    };
    let recorded = match auditor.record(Event::RunStopped { ending }) {
        Ok(()) => auditor.close().await,
        Err(error) => Err(error),
    };
    match (ended, recorded) {
        (Err(error), Err(unrecorded)) => {
            tracing::error!(error = %unrecorded, "the end of the run is not in the audit log");
            Err(error)
        }
        (ended, recorded) => ended.and_then(|shift| recorded.map(|()| shift)),
    }
}

/// Runs the project until its end, or until somebody wants to be alone; a run with `--once` goes on to its end.
async fn until_asked_for(
    project: Project,
    options: &Run,
    auditor: &Arc<Auditor>,
    turn: &Turn,
    stop: &CancellationToken,
    file: &Arc<StatusFile>,
) -> Result<Shift> {
    let leave = stop.child_token();
    let mut running = Box::pin(run_project(project, options, auditor, file, Leave { stop, shift: &leave }));
    let who = tokio::select! {
        ended = &mut running => return ended.map(Shift::Ended),
        who = turn.until_asked_for(), if !options.once => who,
        // Its end cannot be recorded either: that is what it ends with.
        () = auditor.refused() => {
            leave.cancel();
            return running.await.map(Shift::Ended);
        }
    };
    tracing::warn!(command = who, "the run gives its turn to the command at its next boundary");
    leave.cancel();
    match running.await {
        ended if stop.is_cancelled() => ended.map(Shift::Ended),
        // It was waiting for something already; so does the next shift.
        Err(error) if table_action(error.kind()) == Action::Retry => {
            tracing::info!(%error, "the shift ended while something was away");
            Ok(Shift::GaveWay)
        }
        ended => ended.map(|_| Shift::GaveWay),
    }
}

/// When a shift ends.
#[derive(Clone, Copy)]
struct Leave<'a> {
    /// The process was told to stop.
    stop: &'a CancellationToken,
    /// That, or somebody wants to be alone.
    shift: &'a CancellationToken,
}

async fn run_project(
    project: Project,
    options: &Run,
    auditor: &Arc<Auditor>,
    file: &Arc<StatusFile>,
    leave: Leave<'_>,
) -> Result<Outcome> {
    let run = ForRun {
        patience: (!options.once).then_some((leave.shift, &**file)),
        witness: Some(auditor.witness()),
        auditor: Some(auditor),
    };
    let (parts, company) = match gather_for(project, &options.tables, run).await? {
        Ok(gathered) => gathered,
        Err(outcome) => return Ok(outcome),
    };
    auditor.run_started(&parts.project, parts.gate.stamp(), company.schemas.len())?;
    company.show(&parts.watch);
    let style = Style::fitting(options.json);
    let seen_all = CancellationToken::new();
    let view = view::show(parts.watch.clone(), style, file.clone(), parts.clock.clone(), seen_all.clone());
    let view = tokio::spawn(view);
    let record = auditor.clone().observe(parts.watch.clone(), parts.gate.stamp().clone(), seen_all.clone());
    let record = tokio::spawn(record);
    let outcome = run_sources(&parts, company, options.once, leave.shift).await;
    // Without `stop` it goes on after somebody else's turn.
    let gives_way = outcome.is_ok() && leave.shift.is_cancelled() && !leave.stop.is_cancelled();
    parts.watch.all(|seen| seen.ended = !gives_way);
    seen_all.cancel();
    view.await.map_err(lost_task)?;
    record.await.map_err(lost_task)?;
    let ending = outcome?;
    if gives_way {
        return Ok(Outcome::Done);
    }
    if style != Style::Json {
        say_what_next(&parts, &ending, options.once);
    }
    let held_rows = HeldStore::existing(&parts.project.state_dir())?.map_or(Ok(0), |store| store.count())?;
    if held_rows > 0 {
        say_held(held_rows);
    }
    Ok(match ending {
        Ending { held, .. } if !held.is_empty() => Outcome::Held,
        Ending { interrupted: true, .. } => Outcome::Unfinished,
        _ if held_rows > 0 && options.once => Outcome::Held,
        _ => Outcome::Done,
    })
}

/// Reads and checks the project, looks at its sources, and opens its lake; what is wrong was printed when it is an outcome.
pub(crate) async fn gather(
    project: Project,
    only: &[String],
) -> Result<std::result::Result<(Arc<Parts>, Company), Outcome>> {
    gather_for(project, only, ForRun::default()).await
}

/// As [`gather`], for a command that writes: the policy must be one that may come into force, and does.
pub(crate) async fn gather_to_write(
    project: Project,
    only: &[String],
    auditor: &Auditor,
) -> Result<std::result::Result<(Arc<Parts>, Company), Outcome>> {
    gather_for(project, only, ForRun { auditor: Some(auditor), ..ForRun::default() }).await
}

/// What a run has that a look at the sources has not.
#[derive(Default)]
struct ForRun<'a> {
    /// Waits for keys until this is cancelled, and says so there.
    patience: Option<(&'a CancellationToken, &'a StatusFile)>,
    witness: Option<Witness>,
    /// Knows which policy is in force, and who has approved the next one.
    auditor: Option<&'a Auditor>,
}

async fn gather_for(
    project: Project,
    only: &[String],
    ForRun { patience, witness, auditor }: ForRun<'_>,
) -> Result<std::result::Result<(Arc<Parts>, Company), Outcome>> {
    let offline = assemble::offline_problems(&project);
    if print_problems(&offline) {
        return Ok(Err(Outcome::ToFix));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut policy = match project.policy() {
        Ok(policy) => policy,
        Err(problems) => return refused(&problems).map(Err),
    };
    let named = named(&policy, only)?;
    let allowed = auditor.map(|auditor| Candidate::allowed(&project, &policy, auditor)).transpose()?;
    // Before the sources are looked at: what was seen of them would be old after a long wait.
    let keys = match patience {
        Some((stop, file)) => key_wait::keys(&project, &policy, stop, file).await,
        None => keys::load(policy.keys(), &project.dir),
    };
    let keys = match keys {
        // Starting again may help, and a service does that.
        Err(error) if error.kind() == Kind::Unavailable => return Err(error),
        Err(error) => return refused(&[assemble::as_problem(POLICY_FILE, None, &error)]).map(Err),
        Ok(keys) => keys,
    };
    let lake = assemble::lake(&project).await?;
    let company = cast(&project, &mut policy, &named, &lake).await?;
    if company.sources.values().all(|cast| cast.followed.is_empty()) {
        return nothing_to_do(&company).map(Err);
    }
    limits::check_open_files(company.sources.values().map(|cast| cast.followed.len()).sum())?;
    let model = match assemble::model(&policy, &project) {
        Ok(model) => model,
        Err(problem) => return refused(&[problem]).map(Err),
    };
    let (left_out, schemas) = (&company.left_out, &company.schemas);
    let gate = match assemble::compile(&policy, keys.clone(), model, &project, left_out, schemas, &clock) {
        Ok(gate) => gate,
        Err(problems) => return refused(&problems).map(Err),
    };
    print_problems(gate.notes());
    if witness.is_some() {
        // It will write.
        lake.check_at_rest().await?;
    }
    if let Some(keys) = &keys {
        check_exposed(&lake, keys).await?;
    }
    let gate = gate.suppressing(erase::suppressed(&project, &policy, &lake).await?)?;
    if let (Some(candidate), Some(auditor)) = (allowed, auditor) {
        candidate.put_in_force(&project, auditor)?;
    }
    let parts = Parts { lake, gate: Arc::new(gate), clock, watch: Arc::default(), project, witness };
    Ok(Ok((Arc::new(parts), company)))
}

/// Who takes part in a run.
#[derive(Default)]
pub(crate) struct Company {
    pub(crate) sources: BTreeMap<String, Cast>,
    /// The tables that take part, as they are now.
    schemas: Vec<Arc<TableSchema>>,
    /// Tables with rules that do not take part.
    left_out: BTreeSet<TableName>,
    /// Tables with rules that the sources do not have.
    pub(crate) missing: BTreeMap<TableName, String>,
}

impl Company {
    fn stopped(&self) -> impl Iterator<Item = (&TableName, &String)> {
        self.sources.values().flat_map(|cast| &cast.refused).chain(&self.missing)
    }

    fn show(&self, watch: &Watch) {
        for (table, why) in self.stopped() {
            tracing::error!(%table, why, "the table is stopped from the start");
            watch.table(table, |seen| seen.stopped = Some(why.clone()));
        }
    }
}

/// Looks at the sources and decides for each named table whether it takes part. One that cannot be followed does not hold up the
/// others.
async fn cast(project: &Project, policy: &mut Policy, named: &BTreeSet<TableName>, lake: &Lake) -> Result<Company> {
    let mut company = Company::default();
    for (name, entry) in &project.file.sources {
        let config = assemble::postgres_config(project, name, entry)?;
        let Tables { followable, refused, withheld } =
            postgres::tables(&config).await.map_err(|error| error.context(name))?;
        assemble::drop_at_source(policy, &followable, lake).await?;
        for (table, columns) in assemble::withheld(policy, &withheld) {
            tracing::warn!(%table, columns, "the publication leaves out columns that the policy reads: nothing of them comes into the lake");
        }
        let mut cast = Cast::default();
        for table in policy.tables().filter(|table| table.source == *name) {
            if !named.contains(table) {
                cast.left.push(table.clone());
                company.left_out.insert(table.clone());
                continue;
            }
            match judge(table, policy, &followable, &refused) {
                Verdict::Follow(schema) => {
                    cast.followed.push(table.clone());
                    company.schemas.push(schema);
                    continue;
                }
                Verdict::Refuse(why) => drop(cast.refused.insert(table.clone(), why)),
                Verdict::Missing(why) => drop(company.missing.insert(table.clone(), why)),
            }
            company.left_out.insert(table.clone());
        }
        for schema in followable.iter().filter(|schema| policy.tables().all(|table| *table != schema.table)) {
            tracing::info!(table = %schema.table, "not captured: policy.yaml has no rules for it");
        }
        company.sources.insert(name.clone(), cast);
    }
    Ok(company)
}

enum Verdict {
    Follow(Arc<TableSchema>),
    /// It is there and cannot be followed: its changes must not be forgotten.
    Refuse(String),
    /// There is nothing that could change.
    Missing(String),
}

fn judge(
    table: &TableName,
    policy: &Policy,
    followable: &[Arc<TableSchema>],
    refused: &[(TableName, Error)],
) -> Verdict {
    if let Some((_, why)) = refused.iter().find(|(name, _)| name == table) {
        return Verdict::Refuse(why.to_string());
    }
    let Some(schema) = followable.iter().find(|schema| schema.table == *table) else {
        return Verdict::Missing(
            "the source has no such table, or `tables` in lockgate.yaml does not name it\n  fix: Correct the name, or take its rules out of policy.yaml. What the lake holds of it stays.".into(),
        );
    };
    match policy.table_problems(schema).as_slice() {
        [] => Verdict::Follow(schema.clone()),
        problems => Verdict::Refuse(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[allow(clippy::print_stderr)]
fn nothing_to_do(company: &Company) -> Result<Outcome> {
    for (table, why) in company.stopped() {
        eprintln!("{table} cannot be followed: {why}");
    }
    Err(Error::new(Kind::Config, "no table can be followed").fix(
        "Mend what is said above, or let `lockgate init` propose rules; `lockgate check --connect` says the rest.",
    ))
}

/// How all sources together ended.
#[derive(Default)]
struct Ending {
    held: BTreeMap<TableName, String>,
    interrupted: bool,
}

async fn run_sources(parts: &Arc<Parts>, company: Company, once: bool, stop: &CancellationToken) -> Result<Ending> {
    let mut running = JoinSet::new();
    let mut ending = Ending { held: company.missing, interrupted: false };
    for (name, cast) in company.sources {
        if cast.followed.is_empty() {
            ending.held.extend(cast.refused);
            continue;
        }
        running.spawn(supervise(parts.clone(), name, cast, once, stop.clone()));
    }
    let mut failed = None;
    while let Some(ended) = running.join_next().await {
        match ended.map_err(lost_task)? {
            Ok(Ended::Done) => {}
            Ok(Ended::Interrupted) => ending.interrupted = true,
            Ok(Ended::TablesStopped(tables)) => ending.held.extend(tables),
            // One source's failure ends the others at their next boundary, so that nothing half-done is left.
            Err(error) => {
                parts.watch.all(|seen| seen.last_error = Some(error.to_string()));
                stop.cancel();
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(ending), Err)
}

/// Pauses between starts grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Starts of a run with `--once` that may fail in a row.
const TRIES_ONCE: u32 = 5;

/// Why a pipeline ended.
enum Failed {
    /// Another start may help.
    Now(Error),
    /// Something that has let this run in refuses it: a secret was probably rotated, and what refers to it is read anew for the next start.
    Refused(Error),
    ForGood(Error),
}

/// Starts a source's pipeline, again and again while that may help: it always goes on from the last durable boundary.
async fn supervise(
    mut parts: Arc<Parts>,
    name: String,
    cast: Cast,
    once: bool,
    stop: CancellationToken,
) -> Result<Ended> {
    let (mut pause, mut tries) = (PAUSES.0, 0);
    let known = Known::default();
    loop {
        let commits = parts.watch.seen(0).commits;
        let (error, refused) = match start(&parts, &name, &cast, once, &known, &stop).await {
            Ok(ended) => return Ok(ended),
            Err(Failed::ForGood(error)) => return Err(error.context(&name)),
            Err(Failed::Refused(error)) => (error, true),
            Err(Failed::Now(error)) => (error, false),
        };
        if parts.watch.seen(0).commits > commits {
            (pause, tries) = (PAUSES.0, 0);
        }
        tries += 1;
        if once && tries >= TRIES_ONCE {
            return Err(error.context(&name));
        }
        tracing::warn!(source = %name, %error, pause_ms = pause.as_millis() as u64, "the run starts over from the last durable boundary");
        parts.watch.all(|seen| seen.last_error = Some(error.to_string()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Err(error.context(&name)),
        }
        pause = (pause * 2).min(PAUSES.1);
        if refused {
            match parts.with_lake_anew().await {
                Ok(anew) => parts = Arc::new(anew),
                Err(error) => {
                    tracing::error!(source = %name, %error, "the lake cannot be opened with the secrets of now")
                }
            }
            continue;
        }
        if once {
            continue;
        }
        match spool::bridge(&parts, &name, &cast, &known, &stop).await {
            Ok(false) => {}
            Ok(true) => (pause, tries) = (PAUSES.0, 0),
            // The run is tried again all the same: it says what is wrong with the lake.
            Err(error) => {
                tracing::error!(source = %name, %error, "the spool cannot be filled any further: the source keeps its log");
                parts.watch.all(|seen| seen.last_error = Some(error.to_string()));
            }
        }
    }
}

/// Opens a source and runs its pipeline.
async fn start(
    parts: &Parts,
    name: &str,
    cast: &Cast,
    once: bool,
    known: &Known,
    stop: &CancellationToken,
) -> std::result::Result<Ended, Failed> {
    let opened = tokio::select! {
        opened = assemble::pipeline(parts, name, cast, once, known, stop.clone()) => opened,
        // Opening may wait for every transaction that writes; nothing is under way in the lake meanwhile.
        () = stop.cancelled() => return Ok(if once { Ended::Interrupted } else { Ended::Done }),
    };
    let ended = match opened {
        Ok(pipeline) => pipeline.run().await,
        Err(error) => Err(error),
    };
    let error = match ended {
        Ok(ended) => return Ok(ended),
        Err(error) if error.kind() == Kind::SourceGone => {
            match Box::pin(assemble::drain(parts, name, cast, known, stop.clone())).await {
                Ok(()) => error,
                // The lake is away: both are tried again.
                Err(undrained) => undrained,
            }
        }
        Err(error) => error,
    };
    Err(match table_action(error.kind()) {
        Action::Retry => Failed::Now(error),
        // A run with `--once` ends, as the next one does.
        _ if error.kind() == Kind::Auth && known.was_let_in() && !once => Failed::Refused(error),
        _ => Failed::ForGood(error),
    })
}

#[allow(clippy::print_stderr)]
fn say_held(rows: u64) {
    eprintln!("{rows} rows are held back, with values that their transforms cannot read\n  fix: lockgate held list");
}

#[allow(clippy::print_stderr)]
fn say_what_next(parts: &Parts, ending: &Ending, once: bool) {
    for (table, why) in &ending.held {
        eprintln!("{table} is stopped: {why}");
    }
    let seen = parts.watch.seen(0);
    let durable: u64 = seen.tables.values().map(|table| table.rows_durable).sum();
    let mut served = parts.gate.policy().tables().filter(|table| parts.gate.captures(table));
    let served = served.find(|table| !ending.held.contains_key(*table));
    let done = match (ending.interrupted, once) {
        (true, _) => "interrupted before it had caught up; the next run goes on from here",
        (false, _) if served.is_none() => "every table is stopped",
        (false, true) => "caught up",
        (false, false) => "stopped at a boundary",
    };
    eprintln!("{done}: {durable} rows in {} commits are durable in {}", seen.commits, parts.project.lake_url());
    if ending.interrupted {
        eprintln!("next: lockgate run");
    } else if let Some(table) = served {
        eprintln!("next: lockgate query {}", shell_quoted(&format!("SELECT count(*) FROM {}", sql_name(table))));
    } else {
        eprintln!("next: mend what is said above, then lockgate run");
    }
}

/// A table's name as `lockgate query` reads it: parts that are not lower-case letters, digits and `_` in double quotes.
fn sql_name(table: &TableName) -> String {
    let part = |name: &str| match name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    };
    [&table.source, &table.schema, &table.table].map(|name| part(name)).join(".")
}

fn shell_quoted(text: &str) -> String {
    if text.contains('"') { format!("'{}'", text.replace('\'', "'\\''")) } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_can_be_pasted_whatever_the_names() {
        assert_eq!(sql_name(&TableName::new("db", "public", "claims")), "db.public.claims");
        let mixed = sql_name(&TableName::new("db", "public", "Member Contact"));
        assert_eq!(mixed, "db.public.\"Member Contact\"");
        assert_eq!(shell_quoted(&mixed), "'db.public.\"Member Contact\"'");
    }
}
