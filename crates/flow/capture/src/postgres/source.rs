use std::collections::VecDeque;
use std::sync::Arc;

use change::{Checkpoint, Clock, Error, Event, Kind, Position, Result, Source, StatusReader};
use pgwire_replication::Lsn;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::client::Address;
use super::config::PostgresConfig;
use super::identity::Resume;
use super::measure::{self, Health, Watched, WatchedTables};
use super::position::PgPosition;
use super::start;

/// A Postgres database that is being followed: first copies and the slot's stream, in tasks that end when this is dropped.
pub struct PostgresSource {
    source: String,
    address: Address,
    /// The epoch at open.
    epoch: u32,
    /// What is known at open, before anything the tasks hand over.
    first: VecDeque<Event>,
    events: mpsc::Receiver<Result<Event>>,
    confirmed: watch::Sender<Lsn>,
    boundary: watch::Receiver<Lsn>,
    health: Arc<Health>,
    _tasks: JoinSet<()>,
}

/// What [`start::start`] has set up.
pub(crate) struct Opened {
    pub(crate) address: Address,
    pub(crate) epoch: u32,
    pub(crate) version: u32,
    pub(crate) watched: WatchedTables,
    pub(crate) out: mpsc::Sender<Result<Event>>,
    pub(crate) first: VecDeque<Event>,
    pub(crate) events: mpsc::Receiver<Result<Event>>,
    pub(crate) confirmed: watch::Sender<Lsn>,
    pub(crate) boundary: watch::Receiver<Lsn>,
    pub(crate) health: Arc<Health>,
    /// The task that reads the stream.
    pub(crate) follower: AbortHandle,
    pub(crate) tasks: JoinSet<()>,
}

/// Connects, makes publication and slot if they are missing, and starts reading where the lake's records end.
///
/// Waits for the transactions that are writing when a slot has to be made. Tables that cannot be followed are told as
/// [`change::TableNotice::Stopped`] and left out. Errors: `Config`, `Auth`, `Unavailable`; `SourceGone` when changes after the
/// records may be missing.
pub async fn open(config: PostgresConfig, resume: Resume, clock: Arc<dyn Clock>) -> Result<PostgresSource> {
    let mut opened = start::start(&config, &resume, clock).await?;
    let watched = Watched {
        address: opened.address.clone(),
        publication: config.publication().to_string(),
        slot: config.slot,
        version: opened.version,
        budget: config.wal_budget,
        health: Arc::clone(&opened.health),
        tables: opened.watched,
        follower: opened.follower,
        out: opened.out,
    };
    opened.tasks.spawn(measure::watch(watched));
    Ok(PostgresSource {
        source: config.source,
        address: opened.address,
        epoch: opened.epoch,
        first: opened.first,
        events: opened.events,
        confirmed: opened.confirmed,
        boundary: opened.boundary,
        health: opened.health,
        _tasks: opened.tasks,
    })
}

impl PostgresSource {
    /// The end of the database's log now: a boundary at or above it means that everything committed before is handed over. The stream
    /// comes to it even if nobody writes.
    pub async fn end_of_log(&self) -> Result<Position> {
        let session = self.address.connect("end of log").await?;
        let end = measure::end_to_reach(&self.address, &session).await?;
        Ok(PgPosition::boundary(self.epoch, end).position())
    }
}

impl Source for PostgresSource {
    async fn next(&mut self) -> Result<Event> {
        if let Some(event) = self.first.pop_front() {
            return Ok(event);
        }
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::new(Kind::Bug, format!("the tasks of {} ended without saying why", self.source))),
        }
    }

    async fn confirm(&mut self, durable: &Checkpoint) -> Result<()> {
        let lsn = PgPosition::parse(&durable.through)?.lsn;
        if durable.stream != self.source || lsn > *self.boundary.borrow() {
            let what = format!("{}: a position was confirmed that was never handed over: {lsn}", self.source);
            return Err(Error::new(Kind::Bug, what));
        }
        self.confirmed.send_if_modified(|confirmed| {
            let rises = lsn > *confirmed;
            *confirmed = lsn.max(*confirmed);
            rises
        });
        Ok(())
    }

    fn status(&self) -> StatusReader {
        let health = Arc::clone(&self.health);
        Arc::new(move || health.status())
    }
}
