//! `lockgate remask`: what is stored already, under a policy that has become stricter; from the lake alone. Most of it is done beside a run,
//! which stands aside for the switch only.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use audit::{Event, Program};
use change::{Problem, Result, TableName};
use indicatif::HumanBytes;

use crate::alone::{Alone, alone};
use crate::approvals::{self, Candidate};
use crate::audit::Auditor;
use crate::cli::Remask;
use crate::named::named;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::remasking::{self, Remasking, Switched, is_of_one_table};
use crate::rotation::seal_anew;
use crate::turn::{Turn, Work};

/// So much of data files may be left to be written while the run stands aside.
const LITTLE_BYTES: u64 = 16 << 20;
/// How often it is said how far the staging is.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub(crate) async fn run(dir: &Path, options: &Remask) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    named(&policy, &options.tables)?;
    let state_dir = project.state_dir();
    let _only = remasking::only_one(&state_dir)?;
    // What is refused is refused before hours of staging.
    approvals::check(&project, &policy, Program::Remask).await?;
    if let Err(problems) = stage(dir, &state_dir, options).await? {
        return refused(&problems);
    }
    let Alone { project, policy, turn } = match alone(dir, Work::Remask).await? {
        Ok(alone) => alone,
        Err(problems) => return refused(&problems),
    };
    let tables = named(&policy, &options.tables)?;
    let remasking = Remasking::open(project, &policy).await?;
    let auditor = Auditor::open(&remasking.project, remasking.clock.clone(), Program::Remask).await?;
    let candidate = Candidate::allowed(&remasking.project, &policy, &auditor);
    let done = match candidate.and_then(|candidate| candidate.put_in_force(&remasking.project, &auditor)) {
        Ok(()) => switch(&remasking, &auditor, &tables, turn).await,
        Err(error) => Err(error),
    };
    auditor.close().await?;
    done
}

/// Writes beside a run what the switch will need, until little is left of it. Whoever wants to be alone goes before: files, policy and keys may
/// be others afterwards.
async fn stage(dir: &Path, state_dir: &Path, options: &Remask) -> Result<std::result::Result<(), Vec<Problem>>> {
    let mut before = u64::MAX;
    loop {
        let turn = Turn::beside_runs(state_dir).await?;
        let (project, policy) = match Project::with_policy(dir) {
            Ok(read) => read,
            Err(problems) => return Ok(Err(problems)),
        };
        let tables = named(&policy, &options.tables)?;
        let remasking = Remasking::open(project, &policy).await?;
        let Some(bytes) = pass(&remasking, &tables, &turn).await? else { continue };
        // What has come meanwhile is less than what was there, unless it comes faster than it can be written.
        if bytes <= LITTLE_BYTES || bytes > before / 2 {
            return Ok(Ok(()));
        }
        before = bytes;
    }
}

/// Stages every data file that there is; returns the bytes that it found to do, `None` when somebody else wants to be alone. A table that
/// cannot be remasked is passed over: the switch says why.
async fn pass(remasking: &Remasking, tables: &BTreeSet<TableName>, turn: &Turn) -> Result<Option<u64>> {
    let (mut bytes, mut said_at) = (0, remasking.clock.monotonic());
    for table in tables {
        // Boxed: it holds a file's rows.
        match Box::pin(stage_table(remasking, table, turn, &mut said_at)).await {
            Ok(Some(found)) => bytes += found,
            Ok(None) => return Ok(None),
            Err(error) if is_of_one_table(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

#[allow(clippy::print_stderr)]
async fn stage_table(
    remasking: &Remasking,
    table: &TableName,
    turn: &Turn,
    said_at: &mut Duration,
) -> Result<Option<u64>> {
    let mut bytes = 0;
    for strict in remasking.strict(table).await?.into_iter().flatten() {
        let mut staging = remasking.lake.staging(&strict, remasking.clock.now()).await?;
        bytes += staging.left().bytes;
        while staging.stage_one(remasking.clock.now()).await? {
            if turn.asked_for()?.is_some() {
                staging.save().await?;
                return Ok(None);
            }
            let now = remasking.clock.monotonic();
            if now.saturating_sub(*said_at) >= SAY_EVERY {
                let left = staging.left();
                let done = left.files_in_all - left.files;
                let bytes = HumanBytes(left.bytes);
                eprintln!("{table}: {done} of {} files are staged, {bytes} left", left.files_in_all);
                *said_at = now;
            }
        }
        staging.save().await?;
    }
    Ok(Some(bytes))
}

/// Switches the tables, gives the turn back, and removes what was.
#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn switch(remasking: &Remasking, auditor: &Auditor, tables: &BTreeSet<TableName>, turn: Turn) -> Result<Outcome> {
    let (mut switched, mut refusals, mut failed): (Vec<Switched>, _, _) = (Vec::new(), 0, None);
    for table in tables {
        match remasking.switch(table).await {
            Ok(Some(done)) => switched.push(done),
            Ok(None) => println!("{table}: nothing to do"),
            Err(error) if is_of_one_table(&error) => {
                refusals += 1;
                eprintln!("{table}: {error}");
            }
            Err(error) => {
                failed = Some(error.context(table));
                break;
            }
        }
    }
    if let (Some(keys), None) = (&remasking.keys, &failed) {
        let records = seal_anew(&remasking.project, &remasking.lake, keys, &remasking.vault).await?;
        if records > 0 {
            auditor.record(Event::SealedAnew { epoch: keys.current_epoch(), records })?;
            println!("{records} sealed records moved to key epoch {}", keys.current_epoch());
        }
    }
    // What no version names any more is nobody's: the run may go on.
    drop(turn);
    for table in switched {
        let receipt = remasking.finish(table, auditor).await?;
        println!(
            "{}: {} as the policy wants it now; {} objects of older versions removed; {} of {} files were written before the switch",
            receipt.table,
            receipt.columns.join(", "),
            receipt.objects_removed,
            receipt.files_staged,
            receipt.files,
        );
    }
    match failed {
        Some(error) => Err(error),
        None if refusals > 0 => Ok(Outcome::Held),
        None => Ok(Outcome::Done),
    }
}
