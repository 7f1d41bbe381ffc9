//! `lockgate run`: every source's pipeline, started again after what another start may mend.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capture::postgres;
use change::{Clock, Error, Kind, Result, TableName, TableSchema};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::assemble::{self, Parts};
use crate::cli::Run;
use crate::clock::SystemClock;
use crate::error_policy::{Action, table_action};
use crate::outcome::{Outcome, lost_task, print_problems, refused};
use crate::pipeline::Ended;
use crate::project::Project;
use crate::view::{self, Style};

pub(crate) async fn run(dir: &Path, options: &Run) -> Result<Outcome> {
    let project = match Project::read(dir) {
        Ok(project) => project,
        Err(problems) => return refused(&problems),
    };
    let offline = assemble::offline_problems(&project);
    if print_problems(&offline) {
        return Ok(Outcome::ToFix);
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let tables = describe(&project, &options.tables).await?;
    let schemas: Vec<Arc<TableSchema>> = tables.values().flatten().cloned().collect();
    let gate = match assemble::compile(&project, &schemas, &clock) {
        Ok(gate) => gate,
        Err(problems) => return refused(&problems),
    };
    print_problems(gate.notes());
    let lake = assemble::lake(&project).await?;
    let parts = Arc::new(Parts { lake, gate: Arc::new(gate), clock, watch: Arc::default(), project });
    let style = Style::fitting(options.json);
    let (stop, seen_all) = (stop_on_signals()?, CancellationToken::new());
    let view = tokio::spawn(view::show(
        parts.watch.clone(),
        style,
        parts.project.state_dir(),
        parts.clock.clone(),
        seen_all.clone(),
    ));
    let outcome = run_sources(&parts, &tables, options.once, &stop).await;
    seen_all.cancel();
    view.await.map_err(lost_task)?;
    let held = outcome?;
    if style != Style::Json {
        say_what_next(&parts, &held, options.once);
    }
    Ok(if held.is_empty() { Outcome::Done } else { Outcome::Held })
}

/// The tables of every source, as they are now and as the command line narrows them.
async fn describe(project: &Project, only: &[String]) -> Result<BTreeMap<String, Vec<Arc<TableSchema>>>> {
    let mut found = BTreeMap::new();
    for (name, entry) in &project.file.sources {
        let config = assemble::postgres_config(project, name, entry)?;
        let mut schemas = postgres::tables(&config).await.map_err(|error| error.context(name))?;
        schemas.retain(|schema| {
            only.is_empty()
                || only.iter().any(|table| *table == format!("{}.{}", schema.table.schema, schema.table.table))
        });
        found.insert(name.clone(), schemas);
    }
    if !only.is_empty() && found.values().all(Vec::is_empty) {
        return Err(Error::new(Kind::Config, "no source has a table that --table names")
            .fix("Write it as schema.table: public.claims."));
    }
    Ok(found)
}

async fn run_sources(
    parts: &Arc<Parts>,
    tables: &BTreeMap<String, Vec<Arc<TableSchema>>>,
    once: bool,
    stop: &CancellationToken,
) -> Result<BTreeMap<TableName, String>> {
    let mut running = JoinSet::new();
    for (name, schemas) in tables {
        let captured: Vec<TableName> =
            schemas.iter().map(|schema| schema.table.clone()).filter(|table| parts.gate.captures(table)).collect();
        running.spawn(supervise(parts.clone(), name.clone(), captured, once, stop.clone()));
    }
    let mut held = BTreeMap::new();
    let mut failed = None;
    while let Some(ended) = running.join_next().await {
        match ended.map_err(lost_task)? {
            Ok(Ended::Done) => {}
            Ok(Ended::TablesStopped(tables)) => held.extend(tables),
            // One source's failure ends the others at their next boundary, so that nothing half-done is left.
            Err(error) => {
                stop.cancel();
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(held), Err)
}

/// Pauses between starts grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Starts of a run with `--once` that may fail in a row.
const TRIES_ONCE: u32 = 5;

/// Starts a source's pipeline, again and again while that may help: it always goes on from the last durable boundary.
async fn supervise(
    parts: Arc<Parts>,
    name: String,
    tables: Vec<TableName>,
    once: bool,
    stop: CancellationToken,
) -> Result<Ended> {
    if tables.is_empty() {
        return Err(Error::new(Kind::Config, format!("source {name}: no table has rules in policy.yaml"))
            .fix("Add rules; `lockgate init` proposes them."));
    }
    let (mut pause, mut tries) = (PAUSES.0, 0);
    loop {
        let commits = parts.watch.seen(0).commits;
        let ended = match assemble::pipeline(&parts, &name, &tables, once, stop.clone()).await {
            Ok(pipeline) => pipeline.run().await,
            Err(error) => Err(error),
        };
        let error = match ended {
            Ok(ended) => return Ok(ended),
            Err(error) if table_action(error.kind()) != Action::Retry => return Err(error.context(&name)),
            Err(error) => error,
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
    }
}

/// SIGTERM and SIGINT commit what is complete and leave.
fn stop_on_signals() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| Error::new(Kind::Unavailable, "the system gave no signal handler").source(error))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    // Detached: it only waits for a signal and lives as long as the process.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

#[allow(clippy::print_stderr)]
fn say_what_next(parts: &Parts, held: &BTreeMap<TableName, String>, once: bool) {
    for (table, why) in held {
        eprintln!("{table} is stopped: {why}");
    }
    let seen = parts.watch.seen(0);
    let durable: u64 = seen.tables.values().map(|table| table.rows_durable).sum();
    let done = if once { "caught up" } else { "stopped at a boundary" };
    eprintln!("{done}: {durable} rows in {} commits are durable in {}", seen.commits, parts.project.lake_url());
    if let Some(table) = parts.gate.policy().tables().next() {
        eprintln!("next: lockgate query \"SELECT count(*) FROM {table}\"");
    }
}
