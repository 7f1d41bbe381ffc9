//! The lake side of a run: two workers for every source table, and how much memory may wait for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use change::{
    Checkpoint, Clock, CopyProgress, Error, Kind, Position, Result, RowMeta, Share, TableCheckpoint, TableName,
};
use gate::{ClearedBatch, ClearedSchema, PolicyStamp, TableGate, TableStamp};
use lake::{Lake, Layer, StoredRows, TableWriter, WriterOptions};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::worker::{Command, News, Report, Truncation, Worker};

/// Rows that wait for the workers without a share of memory of their own, in all tables together.
const WAITING_KIB: u32 = 64 * 1024;
/// Commands that wait for one worker.
const COMMANDS_AHEAD: usize = 32;

/// What every worker needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) lake: Arc<Lake>,
    pub(crate) options: WriterOptions,
    pub(crate) stamp: PolicyStamp,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The stamp of what is cleared, when its rows may stand beside those of a table with the stamp `stored`; and that stamp.
///
/// # Errors
/// `Privacy` when they may not: rows of two keys, two vaults or two rules do not mean the same.
pub(crate) fn joined(stamp: TableStamp, stored: &serde_json::Value) -> Result<(TableStamp, Option<TableStamp>)> {
    if stored.is_null() {
        return Ok((stamp, None));
    }
    let stored: TableStamp = serde_json::from_value(stored.clone()).map_err(|_| {
        Error::new(Kind::Conflict, "the policy stamp in the table cannot be read")
            .fix("Restore the table to a version that Lockgate wrote.")
    })?;
    Ok((stamp.after(&stored)?, Some(stored)))
}

impl Shared {
    async fn writers(self, schema: Arc<ClearedSchema>, stamp: TableStamp) -> Result<Writers> {
        let mut layers = Vec::with_capacity(Workers::LAYERS);
        for layer in [Layer::Changes, Layer::Current] {
            let writer = self.lake.writer(&schema, layer, self.options.clone()).await?;
            let stamp = stamp_after(stamp.clone(), &schema.table, writer.stamp())?;
            layers.push((layer, writer, stamp));
        }
        Ok(Writers { schema, layers })
    }
}

/// The stamp of the commits that follow. Refuses to mix rows of two keys, two vaults or two rules in one table.
fn stamp_after(stamp: TableStamp, table: &TableName, stored: &serde_json::Value) -> Result<TableStamp> {
    let (stamp, Some(stored)) = joined(stamp.clone(), stored)? else { return Ok(stamp) };
    for column in stamp.rules.iter().filter(|(name, rule)| *rule != "drop" && is_new(name, &stored)).map(|rule| rule.0)
    {
        tracing::warn!(%table, %column, "the column is stored from here on; rows from before have null until they change");
    }
    Ok(stamp)
}

/// Whether a column was not stored so far. A table without rules in its stamp is of an older release, which did not write them.
fn is_new(column: &str, stored: &TableStamp) -> bool {
    !stored.rules.is_empty() && stored.rules.get(column).is_none_or(|rule| rule == "drop")
}

/// The open lake tables of a table, for which nobody works yet.
pub(crate) struct Writers {
    schema: Arc<ClearedSchema>,
    layers: Vec<(Layer, TableWriter, TableStamp)>,
}

/// What was found in the lake tables of a table that was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opened {
    /// It still has to be copied.
    pub(crate) uncopied: bool,
    /// Its lake tables that were there before.
    pub(crate) there: BTreeSet<Layer>,
    /// One of them has nothing recorded of a copy: another process may have begun one, and write it first.
    pub(crate) unclaimed: bool,
    /// The number of the last release of held rows in each lake table.
    pub(crate) released: [u64; Workers::LAYERS],
    /// How many of its rows are held back, as both lake tables say.
    pub(crate) held_back: Option<u64>,
    /// Another project folder was the last to write one of its lake tables, which has the stream through there.
    pub(crate) elsewhere: Option<Position>,
    /// Each of its lake tables has the stream through there, or further.
    pub(crate) through: Option<Position>,
    /// One of its lake tables has the stream through there.
    pub(crate) reached: Option<Position>,
}

/// The workers of a run.
pub(crate) struct Workers {
    shared: Shared,
    /// For each table its change log, then its current rows.
    queues: BTreeMap<TableName, Vec<mpsc::Sender<Command>>>,
    /// Tables with changes that are staged and not yet told to be committed.
    dirty: BTreeSet<TableName>,
    reports_in: mpsc::UnboundedSender<Report>,
    reports: mpsc::UnboundedReceiver<Report>,
    waiting: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Workers {
    /// No worker yet.
    pub(crate) fn new(shared: Shared) -> Self {
        // Bounded by the commands: every report answers one.
        #[allow(clippy::disallowed_methods)]
        let (reports_in, reports) = mpsc::unbounded_channel();
        Self {
            shared,
            queues: BTreeMap::new(),
            dirty: BTreeSet::new(),
            reports_in,
            reports,
            waiting: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            tasks: JoinSet::new(),
        }
    }

    /// The number of lake tables behind one source table.
    pub(crate) const LAYERS: usize = 2;

    /// Whether a table's lake tables are open.
    pub(crate) fn is_open(&self, table: &TableName) -> bool {
        self.queues.contains_key(table)
    }

    /// Makes or opens the lake tables of a table, for [`Workers::enter`]. Several tables may be opened at a time.
    ///
    /// # Errors
    /// Those of the lake; `Privacy` when the rows that are stored were cleared by other means.
    pub(crate) fn writers(&self, gate: &TableGate) -> impl Future<Output = Result<Writers>> + Send + use<> {
        self.shared.clone().writers(gate.schema().clone(), TableStamp::of(&self.shared.stamp, gate))
    }

    /// Takes over the writers of a table; tells what was found in it.
    pub(crate) fn enter(&mut self, Writers { schema, layers }: Writers) -> Opened {
        let mut opened =
            Opened { held_back: layers.first().map(|(_, writer, _)| writer.held_back()), ..Opened::default() };
        let mut through = Vec::with_capacity(Self::LAYERS);
        let mut queues = Vec::with_capacity(Self::LAYERS);
        for (number, (layer, writer, stamp)) in layers.into_iter().enumerate() {
            let checkpoint = writer.checkpoint();
            opened.uncopied |= checkpoint.copy.as_ref().is_none_or(|copy| copy.finished.is_none());
            if writer.was_there() {
                opened.there.insert(layer);
                opened.unclaimed |= checkpoint.copy.is_none();
            }
            opened.released[number] = checkpoint.released;
            opened.held_back = opened.held_back.filter(|rows| *rows == writer.held_back());
            let streamed = checkpoint.stream.as_ref().map(|stream| stream.through.clone());
            if writer.was_elsewhere() {
                opened.elsewhere = opened.elsewhere.max(Some(streamed.clone().unwrap_or_default()));
            }
            through.push(streamed);
            let (queue, commands) = mpsc::channel(COMMANDS_AHEAD);
            let worker = Worker {
                table: schema.table.clone(),
                layer,
                writer,
                stamp,
                reports: self.reports_in.clone(),
                clock: self.shared.clock.clone(),
            };
            self.tasks.spawn(worker.run(commands));
            queues.push(queue);
        }
        // None comes before any position.
        opened.reached = through.iter().max().cloned().flatten();
        opened.through = through.into_iter().min().flatten();
        self.queues.insert(schema.table.clone(), queues);
        opened
    }

    /// Gives a table that is open another structure.
    pub(crate) async fn evolve(&self, gate: &TableGate) -> Result<()> {
        let schema = gate.schema().clone();
        let evolve = || Command::Evolve(schema.clone(), Box::new(TableStamp::of(&self.shared.stamp, gate)));
        self.tell(&schema.table, evolve).await
    }

    /// Stages rows in both layers. They keep the share of memory that they came with until both have; without one, waits while too much
    /// memory waits already.
    pub(crate) async fn write(&mut self, batch: ClearedBatch, share: Option<Share>) -> Result<()> {
        let share = match share {
            Some(share) => share,
            None => self.memory(batch.rows().get_array_memory_size()).await?,
        };
        let batch = Arc::new(batch);
        let table = batch.schema().table.clone();
        if matches!(batch.origin(), change::Origin::Stream) {
            self.dirty.insert(table.clone());
        }
        self.tell(&table, || Command::Write(batch.clone(), share.clone())).await
    }

    /// Removes rows that the current table has, as the changes of `meta`.
    pub(crate) async fn remove(&mut self, table: &TableName, stored: StoredRows, meta: RowMeta) -> Result<()> {
        let share = self.memory(stored.rows().get_array_memory_size()).await?;
        let removed = Arc::new((stored, meta));
        self.tell(table, || Command::Remove(removed.clone(), share.clone())).await
    }

    /// Stages changes that the table's log has and its current rows lack.
    pub(crate) async fn replay(&mut self, table: &TableName, logged: StoredRows) -> Result<()> {
        let share = self.memory(logged.rows().get_array_memory_size()).await?;
        if let Some(queue) = self.queues.get(table).and_then(|queues| queues.last()) {
            // A worker that has ended has reported why.
            drop(queue.send(Command::Replay(logged, share)).await);
        }
        Ok(())
    }

    /// Commits a table with this checkpoint and waits until it has: the change log first, so that it is never behind the current rows.
    ///
    /// # Errors
    /// Those of the lake.
    pub(crate) async fn commit_as(&mut self, table: &TableName, checkpoint: &TableCheckpoint) -> Result<()> {
        for layer in 0..Self::LAYERS {
            let queue = self.queues.get(table).and_then(|queues| queues.get(layer)).cloned();
            let Some(queue) = queue else { return Err(Error::new(Kind::Bug, format!("{table}: it is not open"))) };
            // A worker that has ended has reported why.
            drop(queue.send(Command::CommitAs(checkpoint.clone())).await);
            if let News::Failed(error) = self.report().await?.news {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether a table has changes that are staged and not yet told to be committed.
    pub(crate) fn waits(&self, table: &TableName) -> bool {
        self.dirty.contains(table)
    }

    /// Makes both layers of a table commit at the next boundary, also when nothing is staged.
    pub(crate) fn touch(&mut self, table: &TableName) {
        self.dirty.insert(table.clone());
    }

    /// Lets the commits that follow say how many rows of a table are held back.
    pub(crate) async fn hold_back(&self, table: &TableName, rows: u64) -> Result<()> {
        self.tell(table, || Command::HoldBack(rows)).await
    }

    /// Lets held rows in, in both layers; answered by [`Self::LAYERS`] reports. A commit of the stream must have been told just before.
    pub(crate) async fn release(&mut self, batch: ClearedBatch, number: u64) -> Result<()> {
        let table = batch.schema().table.clone();
        let batch = Arc::new(batch);
        self.tell(&table, || Command::Release(batch.clone(), number)).await
    }

    /// Commits one table that has staged changes, or none.
    pub(crate) async fn commit_table(&mut self, table: &TableName, through: &Checkpoint) -> Result<()> {
        self.dirty.remove(table);
        self.tell(table, || Command::CommitStream(through.clone())).await
    }

    /// Removes every row in both layers.
    pub(crate) async fn truncate(&mut self, table: &TableName, truncation: Truncation) -> Result<()> {
        self.dirty.insert(table.clone());
        self.tell(table, || Command::Truncate(truncation.clone())).await
    }

    /// Begins or goes on with a copy.
    pub(crate) async fn start_copy(&mut self, table: &TableName, progress: &CopyProgress) -> Result<()> {
        self.tell(table, || Command::CopyStarted(progress.clone())).await
    }

    /// Commits a copied chunk, or the end of the copy; answered by [`Self::LAYERS`] reports.
    pub(crate) async fn commit_copy(
        &mut self,
        table: &TableName,
        chunk: Option<u32>,
        progress: &CopyProgress,
    ) -> Result<()> {
        self.tell(table, || Command::CommitCopy(chunk, progress.clone())).await
    }

    /// Commits every table that has staged changes; returns the lake tables that will report.
    pub(crate) async fn commit_stream(&mut self, through: &Checkpoint) -> Result<BTreeSet<(TableName, Layer)>> {
        let mut reports = BTreeSet::new();
        for table in std::mem::take(&mut self.dirty) {
            self.tell(&table, || Command::CommitStream(through.clone())).await?;
            reports.extend([Layer::Changes, Layer::Current].map(|layer| (table.clone(), layer)));
        }
        Ok(reports)
    }

    /// Lets a table's workers end; what they have staged and not committed is given up.
    pub(crate) fn stop(&mut self, table: &TableName) {
        self.queues.remove(table);
        self.dirty.remove(table);
    }

    /// The next report; cancel-safe.
    ///
    /// # Errors
    /// `Bug` when a worker ended without a report.
    pub(crate) async fn report(&mut self) -> Result<Report> {
        loop {
            tokio::select! {
                biased;
                Some(report) = self.reports.recv() => return Ok(report),
                Some(ended) = self.tasks.join_next() => if ended.is_err() {
                    return Err(Error::new(Kind::Bug, "the worker of a table broke down; what it printed says where"));
                },
            }
        }
    }

    /// Ends all workers once their queues are empty.
    pub(crate) async fn close(mut self) {
        self.queues.clear();
        while let Some(ended) = self.tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("the worker of a table broke down; what it printed says where");
            }
        }
    }

    async fn memory(&self, bytes: usize) -> Result<Share> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, WAITING_KIB);
        self.waiting.clone().acquire_many_owned(kib).await.map(Share::new).map_err(|_| closed())
    }

    async fn tell(&self, table: &TableName, command: impl Fn() -> Command) -> Result<()> {
        for queue in self.queues.get(table).into_iter().flatten() {
            // A worker that has ended has reported why; the loop will read it.
            if queue.send(command()).await.is_err() {
                tracing::debug!(%table, "the table's worker has ended");
            }
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(Kind::Bug, "the memory budget was closed while the run goes on")
}
