use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use change::{ChangeBatch, Checkpoint, Clock, Error, Event, Kind, Result, TableName, TableNotice};
use gate::{Gate, TableGate};
use tokio_util::sync::CancellationToken;

use super::writer::Writer;
use super::{Entry, Known};
use crate::feed::Feed;
use crate::held::Keeper;
use crate::pipeline::check_renamed;
use crate::resent::Resent;
use crate::watch::Watch;
use crate::worker::Truncation;
use crate::workers::Opened;

/// One filling of a spool: a source's events through the gate onto the local disk, and back to the source what is safe there.
pub(crate) struct Fill {
    pub(crate) feed: Feed,
    pub(crate) gate: Arc<Gate>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) writer: Writer,
    pub(crate) known: Known,
    pub(crate) watch: Arc<Watch>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How far a filling is.
struct Progress {
    gates: BTreeMap<TableName, TableGate>,
    resent: Resent,
    /// The last boundary, while nothing was handed over after it.
    boundary: Option<Checkpoint>,
    /// Tables with rows since the last synchronisation.
    touched: BTreeSet<TableName>,
    synced_at: Duration,
    synced_size: u64,
}

/// What is written is made safe, and then confirmed, after so long or so many bytes.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const SYNC_BYTES: u64 = 16 << 20;
/// How long the end of a transaction is waited for when the filling is to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

impl Fill {
    /// Fills until `enough` and a boundary have come.
    ///
    /// # Errors
    /// Those of the source; `Full` at the limit; those that would stop a table, which needs the source's log then.
    pub(crate) async fn run(mut self, enough: CancellationToken) -> Result<()> {
        let now = self.clock.monotonic();
        let resent = self.writer.through().map(|through| Resent::through(through.through.clone())).unwrap_or_default();
        let mut progress = Progress {
            gates: BTreeMap::new(),
            resent,
            boundary: None,
            touched: BTreeSet::new(),
            synced_at: now,
            synced_size: self.writer.size(),
        };
        let outcome = self.turn(&mut progress, enough).await;
        self.feed.close().await;
        outcome
    }

    async fn turn(&mut self, progress: &mut Progress, enough: CancellationToken) -> Result<()> {
        let mut leaving_since: Option<Duration> = None;
        loop {
            let now = self.clock.monotonic();
            let due = now.saturating_sub(progress.synced_at) >= SYNC_EVERY
                || self.writer.size().saturating_sub(progress.synced_size) >= SYNC_BYTES;
            if (due || leaving_since.is_some())
                && let Some(boundary) = progress.boundary.take()
            {
                self.sync(boundary, progress).await?;
            }
            if let Some(since) = leaving_since
                && (progress.touched.is_empty() || now.saturating_sub(since) >= LEAVE_WITHIN)
            {
                return Ok(());
            }
            tokio::select! {
                biased;
                // A source that always has more must not keep the end from being seen.
                () = enough.cancelled(), if leaving_since.is_none() => leaving_since = Some(now),
                event = self.feed.next() => {
                    if let Some(event) = progress.resent.pass(event?) {
                        self.take(event, progress).await?;
                    }
                }
                () = tokio::time::sleep(SYNC_EVERY) => {}
            }
        }
    }

    async fn take(&mut self, event: Event, progress: &mut Progress) -> Result<()> {
        match event {
            Event::Changes(batch) => {
                progress.boundary = None;
                self.clear(batch, progress)
            }
            Event::SchemaChanged { schema } => {
                // Whoever drains commits there, so that rows wait under one structure only.
                if let Some(boundary) = progress.boundary.take_if(|_| progress.touched.contains(&schema.table)) {
                    self.sync(boundary, progress).await?;
                }
                let gate = self.gate.table(&schema)?;
                check_renamed(progress.gates.get(&schema.table), &gate)?;
                if let (Some(keeper), false) = (&mut self.keeper, progress.gates.contains_key(&schema.table)) {
                    let reached = self.known.reached(&schema.table);
                    keeper.open_table(&gate, &Opened { reached, ..Opened::default() })?;
                }
                progress.gates.insert(schema.table.clone(), gate);
                self.writer.append(Entry::Structure(schema))
            }
            Event::Truncated { table, position, txid, ordinal, committed_at } => {
                progress.boundary = None;
                if let Some(keeper) = &mut self.keeper {
                    keeper.truncated(&table, &position)?;
                }
                progress.touched.insert(table.clone());
                self.writer.append(Entry::Truncated(table, Truncation { position, txid, ordinal, committed_at }))
            }
            Event::Boundary(boundary) => {
                progress.boundary = Some(boundary);
                Ok(())
            }
            Event::CopyStarted { table, .. } | Event::ChunkDone { table, .. } | Event::CopyDone { table, .. } => {
                Err(needs_log(&table, "it is copied for the first time"))
            }
            Event::Notice { table, notice: TableNotice::Stopped(error) } => Err(error.context(table)),
            // The next run finds it missing, and says so.
            Event::Notice { notice: TableNotice::Dropped, .. } => Ok(()),
            Event::Suspect(suspect) => Err(needs_log(&suspect.table, &suspect.why)),
        }
    }

    fn clear(&mut self, batch: ChangeBatch, progress: &mut Progress) -> Result<()> {
        let table = batch.schema().table.clone();
        let Some(gate) = progress.gates.get(&table) else { return Ok(()) };
        let rows = batch.len() as u64;
        let cleared = match &mut self.keeper {
            Some(keeper) => keeper.clear(gate, batch)?,
            None => gate.clear(batch)?,
        };
        self.watch.table(&table, |seen| seen.cleared(rows, &cleared.invalid));
        progress.touched.insert(table);
        // Also when every row is held back: then the table is beyond them once this is drained.
        self.writer.append(Entry::Rows(cleared.batch))
    }

    /// What was written through a boundary is made safe; then the source may forget it.
    async fn sync(&mut self, boundary: Checkpoint, progress: &mut Progress) -> Result<()> {
        self.writer.sync(boundary.clone())?;
        for table in std::mem::take(&mut progress.touched) {
            if let Some(keeper) = &mut self.keeper {
                keeper.durable(&table, &boundary.through)?;
            }
        }
        (progress.synced_at, progress.synced_size) = (self.clock.monotonic(), self.writer.size());
        self.known.durable(&boundary);
        self.feed.confirm(boundary).await;
        Ok(())
    }
}

fn needs_log(table: &TableName, why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("{table}: {why}, so the source has to keep its log until the lake is back"))
        .fix("Bring the lake back.")
}
