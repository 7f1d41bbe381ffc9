use std::collections::VecDeque;
use std::sync::Arc;

use change::{Checkpoint, Clock, Error, Event, Kind, Position, Result, Source, SourceStatus};
use pgwire_replication::Lsn;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::config::PostgresConfig;
use super::identity::Resume;
use super::lag::{self, Health};
use super::open;
use super::position::PgPosition;

/// A Postgres database that is being followed: first copies and the slot's stream, in tasks that end when this is dropped.
pub struct PostgresSource {
    source: String,
    /// What is known at open, before anything the tasks hand over.
    first: VecDeque<Event>,
    events: mpsc::Receiver<Result<Event>>,
    confirmed: watch::Sender<Lsn>,
    boundary: watch::Receiver<Lsn>,
    health: Arc<Health>,
    end_at_open: Position,
    _tasks: JoinSet<()>,
}

/// What [`open`] has set up.
pub(crate) struct Opened {
    pub(crate) first: VecDeque<Event>,
    pub(crate) events: mpsc::Receiver<Result<Event>>,
    pub(crate) confirmed: watch::Sender<Lsn>,
    pub(crate) boundary: watch::Receiver<Lsn>,
    pub(crate) health: Arc<Health>,
    pub(crate) end_at_open: PgPosition,
    pub(crate) tasks: JoinSet<()>,
}

impl PostgresSource {
    /// Connects, makes publication and slot if they are missing, and starts reading where the lake's records end.
    ///
    /// Waits for the transactions that are writing when a slot has to be made. Tables that cannot be followed are told as
    /// [`change::TableNotice::Stopped`] and left out. Errors: `Config`, `Auth`, `Unavailable`; `SourceGone` when changes after the
    /// records may be missing.
    pub async fn open(config: &PostgresConfig, resume: &Resume, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut opened = open::open(config, resume, clock).await?;
        let address = super::client::Address::of(config)?;
        let budget = config.wal_budget.clone();
        opened.tasks.spawn(lag::watch(address, config.slot.clone(), budget, Arc::clone(&opened.health)));
        Ok(Self {
            source: config.source.clone(),
            first: opened.first,
            events: opened.events,
            confirmed: opened.confirmed,
            boundary: opened.boundary,
            health: opened.health,
            end_at_open: opened.end_at_open.position(),
            _tasks: opened.tasks,
        })
    }

    /// The end of the database's log when the source was opened: a boundary at or above it means that everything committed before is
    /// handed over. The stream comes to it even if nobody writes.
    pub fn end_at_open(&self) -> &Position {
        &self.end_at_open
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

    fn status(&self) -> SourceStatus {
        self.health.status()
    }
}
