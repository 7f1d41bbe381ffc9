//! `lockgate run` goes in shifts. When a command has to be alone, the run ends its shift at a boundary, waits until the command has ended,
//! and begins the next one as a new start would: project folder, policy, keys, erased persons and structures are read anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use change::{Clock, Error, Kind, Result};
use tokio_util::sync::CancellationToken;

use super::run;
use crate::cli::Run;
use crate::clock::SystemClock;
use crate::error_policy::{Action, exit_code, table_action};
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::status_file::StatusFile;
use crate::turn::{self, Turn};
use crate::watch::Seen;

/// How a shift ended.
#[derive(Debug)]
pub(super) enum Shift {
    /// Something has to be alone; the run goes on after it.
    GaveWay,
    /// And the run with it.
    Ended(Outcome),
}

/// Pauses between tries to begin another shift grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

pub(crate) async fn run(dir: &Path, options: &Run) -> Result<Outcome> {
    let project = match Project::read(dir) {
        Ok(project) => project,
        Err(problems) => return refused(&problems),
    };
    let (state_dir, stop) = (project.state_dir(), stop_on_signals()?);
    let file = Arc::new(StatusFile::open(&state_dir)?);
    if !file.is_ours()? {
        say_second(&file);
    }
    let ended = shifts(dir, &state_dir, options, &stop, &file).await;
    if let Err(error) = &ended {
        has_ended(&file, Some((error.to_string(), exit_code(error.kind()))));
    }
    ended
}

/// A run is going on in the folder already.
fn say_second(file: &StatusFile) {
    let process = file.writer().map(|id| format!(" (process {id})")).unwrap_or_default();
    tracing::warn!(
        "a run is going on in this project folder{process}: this one takes over what that one lets go of, and lockgate status is about that one until it ends"
    );
}

async fn shifts(
    dir: &Path,
    state_dir: &Path,
    options: &Run,
    stop: &CancellationToken,
    file: &Arc<StatusFile>,
) -> Result<Outcome> {
    let (mut gave_way, mut pause) = (false, PAUSES.0);
    loop {
        let Some(turn) = take_turn(state_dir, options, stop, file).await? else {
            has_ended(file, None);
            return Ok(Outcome::Done);
        };
        // Only now: what was alone until now may have changed it.
        let ended = match Project::read(dir) {
            Ok(project) => run::shift(project, options, &turn, stop, file).await,
            Err(problems) => refused(&problems).map(Shift::Ended),
        };
        drop(turn);
        match ended {
            Ok(Shift::GaveWay) => (gave_way, pause) = (true, PAUSES.0),
            Ok(Shift::Ended(outcome)) => {
                if let (true, Outcome::ToFix) = (gave_way, outcome) {
                    let what = "the project folder has to be mended; lockgate check says how";
                    has_ended(file, Some((what.into(), exit_code(Kind::Config))));
                }
                return Ok(outcome);
            }
            // A run that goes on waits for these, and it was going on.
            Err(error) if gave_way && table_action(error.kind()) == Action::Retry => {
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "the run does not get going again yet");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return Err(error),
                    failed = says(file, error.to_string()) => return Err(failed),
                }
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The turn of a run: at once, or after what is alone; `None` when the run is told to stop before. A run with `--once` does not wait.
async fn take_turn(
    state_dir: &Path,
    options: &Run,
    stop: &CancellationToken,
    file: &StatusFile,
) -> Result<Option<Turn>> {
    if let Some(turn) = Turn::beside_others(state_dir)? {
        return Ok(Some(turn));
    }
    let who = turn::waited_for(state_dir);
    if options.once {
        let what = format!("`{who}` works alone on the tables of {}", state_dir.display());
        return Err(Error::new(Kind::Unavailable, what).fix("Wait for it to end, then start again."));
    }
    tracing::warn!(command = who, "the run waits until the command has ended");
    let turn = tokio::select! {
        turn = Turn::after_others(state_dir) => turn?,
        () = stop.cancelled() => return Ok(None),
        failed = says(file, format!("waits until `{who}` has ended")) => return Err(failed),
    };
    tracing::warn!(command = who, "the command has ended: the run goes on");
    Ok(Some(turn))
}

/// Says in the status file, again and again, what the run waits for; ends only by failing.
async fn says(file: &StatusFile, idle: String) -> Error {
    let seen = Seen { ended: false, exit_code: None, idle: Some(idle), ..file.load() };
    seen.keep_saving(file, &SystemClock::new()).await
}

/// So that `lockgate status` can say why nothing runs: the error and the exit code of a run that ended by one.
fn has_ended(file: &StatusFile, why: Option<(String, u8)>) {
    let before = file.load();
    let (error, exit_code) = why.unzip();
    let last_error = error.or(before.last_error.clone());
    let seen = Seen { ended: true, exit_code, idle: None, last_error, at: SystemClock::new().now(), ..before };
    if let Err(unsaved) = file.save(&seen) {
        tracing::warn!(error = %unsaved, "the status file was not written");
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
