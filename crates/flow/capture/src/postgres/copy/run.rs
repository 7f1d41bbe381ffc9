use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use change::{Clock, CopyProgress, Error, Event, Kind, Result, TableNotice};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::plan::Plan;
use super::read::{ChunkRead, Outcome, leaves};
use super::snapshot::{Snapshot, wait_for_writers};
use crate::postgres::apply::TableFlags;
use crate::postgres::client::{Address, Session};
use crate::postgres::config::CopyConfig;
use crate::postgres::failure;
use crate::postgres::measure::Health;
use crate::postgres::position::PgPosition;
use crate::postgres::room::Room;
use crate::postgres::standing::Standing;
use crate::postgres::table::PgTable;
use crate::postgres::types::OnUnfit;

/// Tries of a chunk of which nothing was handed over yet.
const TRIES: u32 = 6;

/// A copy that has to be made or finished.
pub(crate) struct Job {
    pub(crate) table: PgTable,
    pub(crate) standing: Standing,
    pub(crate) flags: Arc<TableFlags>,
    pub(crate) low: PgPosition,
    /// The plan and what of it is done; `None` when the plan is still to be made.
    pub(crate) progress: Option<CopyProgress>,
    /// The snapshot that all chunks are read under, for a table without key.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
}

impl Job {
    /// Whether every chunk was read before this process came.
    fn is_read(&self) -> bool {
        self.progress.as_ref().is_some_and(CopyProgress::is_read)
    }
}

/// What all copies of one source share.
pub(crate) struct Copies {
    pub(crate) address: Address,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) copy: CopyConfig,
    pub(crate) on_unfit: OnUnfit,
    pub(crate) out: mpsc::Sender<Result<Event>>,
    pub(crate) room: Room,
    /// Takes copies of which every chunk was handed over, by the tables' oids.
    pub(crate) read: mpsc::Sender<(u32, CopyProgress)>,
    pub(crate) health: Arc<Health>,
}

impl Copies {
    /// Makes all copies, some at a time; ends when all are done, or with an error that the loop has to decide on as its last event.
    pub(crate) async fn run(self, jobs: Vec<Job>) {
        let copies = Arc::new(self);
        if let Err(error) = copies.prepare(&jobs).await {
            return copies.fail(error).await;
        }
        let places = Arc::new(Semaphore::new(copies.copy.parallel));
        let mut running = JoinSet::new();
        for job in jobs {
            let (copies, places) = (Arc::clone(&copies), Arc::clone(&places));
            running.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire_owned().await;
                copies.table(job).await
            });
        }
        while let Some(ended) = running.join_next().await {
            let outcome = match ended {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::new(Kind::Bug, "a copy ended without saying why")),
            };
            if let Err(error) = outcome {
                return copies.fail(error).await;
            }
        }
    }

    /// Waits once for all jobs that read under snapshots of their own.
    async fn prepare(&self, jobs: &[Job]) -> Result<()> {
        if jobs.iter().any(|job| job.snapshot.is_none() && !job.is_read()) {
            let session = self.address.connect("copy").await?;
            wait_for_writers(&self.address, &session).await?;
        }
        Ok(())
    }

    async fn fail(&self, error: Error) {
        self.send(Err(error)).await;
    }

    async fn send(&self, event: Result<Event>) {
        // Only when the source was dropped in this moment, which ends this task too.
        if self.out.send(event).await.is_err() {
            tracing::debug!("nobody listens to the copy any more");
        }
    }

    async fn table(&self, job: Job) -> Result<()> {
        match self.copy(&job).await {
            Err(error) if matches!(error.kind(), Kind::Data | Kind::Contract | Kind::Auth | Kind::Full) => {
                job.flags.stopped.store(true, Ordering::Release);
                let notice = TableNotice::Stopped(error);
                self.send(Ok(Event::Notice { table: job.table.table.clone(), notice })).await;
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn copy(&self, job: &Job) -> Result<()> {
        let mut session = self.address.connect("copy").await?;
        let table = &job.table.table;
        let mut progress = match &job.progress {
            Some(progress) => progress.clone(),
            None => {
                let progress = self.plan(job, &session).await?;
                self.send(Ok(Event::CopyStarted { table: table.clone(), progress: progress.clone() })).await;
                progress
            }
        };
        let plan = Plan::read(&progress)?;
        for chunk in 0..progress.chunks {
            if progress.done.contains(chunk) {
                continue;
            }
            if job.flags.stopped.load(Ordering::Acquire) {
                return Ok(());
            }
            self.chunk(job, &plan, chunk, &mut session).await?;
            progress.done.insert(chunk);
            self.send(Ok(Event::ChunkDone { table: table.clone(), chunk, progress: progress.clone() })).await;
        }
        // Only when the source was dropped in this moment, which ends this task too.
        if self.read.send((job.table.oid, progress)).await.is_err() {
            tracing::debug!("nobody follows the stream any more");
        }
        Ok(())
    }

    /// Plans after LOW was fixed, which the plan's upper bound relies on.
    pub(crate) async fn plan(&self, job: &Job, session: &Session) -> Result<CopyProgress> {
        let leaves = leaves(&self.address, session, &job.table, self.copy.chunk_rows_of(&job.table.table)).await?;
        Plan::new(job.standing.clone(), leaves).begin(job.low.position())
    }

    /// Reads one chunk, again after a lost connection as long as nothing of it was handed over.
    async fn chunk(&self, job: &Job, plan: &Plan, chunk: u32, session: &mut Session) -> Result<()> {
        let Some(range) = plan.range(chunk) else { return Ok(()) };
        let read = ChunkRead {
            address: &self.address,
            table: &job.table,
            range,
            chunk,
            low: &job.low.position(),
            snapshot: job.snapshot.as_ref().map(|snapshot| snapshot.name.as_str()),
            on_unfit: self.on_unfit,
            room: &self.room,
        };
        let mut pause = Duration::from_millis(200);
        for _ in 1..TRIES {
            let mut handed_over = false;
            let hand_over = |batch| {
                handed_over = true;
                async move {
                    self.send(Ok(Event::Changes(batch))).await;
                    Ok(())
                }
            };
            let mut severed = self.health.copies_severed();
            let outcome = tokio::select! {
                outcome = read.run(session, self.clock.as_ref(), hand_over) => outcome,
                _ = severed.changed() => Err(failure::silent(&self.address)),
            };
            match outcome {
                Ok(Outcome::Read) => return Ok(()),
                Ok(Outcome::Rewritten) => {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!("{}: its rows were rewritten while it was copied", job.table.table),
                    )
                    .fix("Nothing: its copy starts over."));
                }
                Err(error) if error.kind() == Kind::Unavailable && !handed_over => {
                    tracing::warn!(table = %job.table.table, chunk, %error, "a chunk is read again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    if let Ok(again) = self.address.connect("copy").await {
                        *session = again;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Unavailable, format!("{}: chunk {chunk} could not be read", job.table.table)))
    }
}
