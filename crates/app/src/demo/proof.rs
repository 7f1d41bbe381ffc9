//! What the demo claims, counted again at the end by other means than those that did the work.

mod ask;
mod latency;
mod leaks;
mod log;
mod print;
mod rows;
mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use change::Result;
use sandbox::claims::{Canary, Table, policy_yaml};
use serve::Session;

use super::runner::Runner;
use super::stage::{Stage, refused};
use super::{PATIENCE, Story};
use crate::assemble;
use crate::project::Project;
use latency::Latency;
use leaks::Leaks;
use log::LogProof;
use rows::RowsProof;
use sample::Sample;

/// The slot of the fresh copy.
const FRESH_SLOT: &str = "lockgate_proof";

/// Everything that was found.
pub(crate) struct Proof {
    rows: Vec<(Table, RowsProof, LogProof)>,
    leaks: Leaks,
    latency: Latency,
    samples: Vec<Sample>,
}

/// Collects the proof; the source must have come to rest and all of it must be in the lake.
pub(crate) async fn collect(stage: &Stage, story: &Story) -> Result<Proof> {
    let lake = session(&stage.dir).await?;
    let fresh_dir = fresh_copy(stage).await?;
    let fresh = session(&fresh_dir).await?;
    let mut rows = Vec::new();
    for (table, loaded) in &stage.loaded {
        let tally = story.live.tally().tables.get(table).copied().unwrap_or_default();
        let same = rows::compare(*table, stage, &lake, &fresh).await?;
        let counted = log::compare(*table, *loaded, &tally, &lake).await?;
        rows.push((*table, same, counted));
    }
    let samples = sample::take(stage, &lake).await?;
    fs::remove_dir_all(&fresh_dir).map_err(|error| {
        change::Error::new(change::Kind::Unavailable, "the proof's fresh copy could not be removed").source(error)
    })?;
    let canaries: Vec<Canary> =
        stage.data.canaries().into_iter().chain(story.live.canaries().iter().cloned()).collect();
    // What the server keeps in memory is written out, so that the search can show that it finds what is there.
    stage.client.batch_execute("CHECKPOINT").await.map_err(refused)?;
    Ok(Proof {
        rows,
        leaks: leaks::search(canaries, stage.dir.clone(), stage.server.data_folder()).await?,
        latency: latency::measure(stage.lake(), story.live_since, story.killed_at..story.back_at).await?,
        samples,
    })
}

impl Proof {
    /// Whether nothing was lost, doubled or leaked.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|(_, rows, log)| rows.holds() && log.holds()) && self.leaks.holds()
    }
}

/// Copies the source as it is now with the same keys and policy into a lake of its own. That run reads tables, not the log, and has met
/// no kill: whatever the live run lost or doubled makes the two lakes differ.
async fn fresh_copy(stage: &Stage) -> Result<PathBuf> {
    let dir = stage.dir.join(".proof");
    let policy = policy_yaml().replace("file:./keys/", "file:../keys/");
    stage.write_project(&dir, FRESH_SLOT, &policy)?;
    Runner::start(&dir, &["--once"])?.end(PATIENCE).await?;
    stage.client.execute("SELECT pg_drop_replication_slot($1)", &[&FRESH_SLOT]).await.map_err(refused)?;
    Ok(dir)
}

async fn session(dir: &Path) -> Result<Session> {
    let project = Project::read(dir).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        change::Error::new(change::Kind::Bug, format!("the demo wrote a wrong project: {}", all.join("; ")))
    })?;
    Session::open(assemble::lake(&project).await?, None, BTreeSet::new()).await
}
