//! One lake table's writer in a task of its own, fed in order.

use std::sync::Arc;

use change::{
    Checkpoint, Clock, CopyProgress, Error, Kind, Position, Result, RowMeta, Share, TableCheckpoint, TableName,
    Timestamp,
};
use gate::{ClearedBatch, ClearedSchema, TableStamp};
use lake::{Commit, Layer, Outcome, StoredRows, TableWriter};
use tokio::sync::mpsc;

/// What a worker is told, in the order of the stream.
pub(crate) enum Command {
    /// Rows to stage. Their share of memory is given back when the last layer has staged them.
    Write(Arc<ClearedBatch>, Share),
    /// Rows to remove, as the changes beside them.
    Remove(Arc<(StoredRows, RowMeta)>, Share),
    /// Changes that the table's own change log has, for the current rows.
    Replay(StoredRows, Share),
    /// Another structure from here on, and the rules of its columns.
    Evolve(Arc<ClearedSchema>, Box<TableStamp>),
    /// Every row is gone from here on.
    Truncate(Truncation),
    /// A first copy begins or goes on.
    CopyStarted(CopyProgress),
    /// Make the staged chunk durable; without a chunk, only that the copy is finished.
    CommitCopy(Option<u32>, CopyProgress),
    /// Make the staged changes durable, through this boundary.
    CommitStream(Checkpoint),
    /// Make the staged changes durable with this checkpoint, whatever the table has now.
    CommitAs(TableCheckpoint),
    /// So many rows of the table are held back, as the commits that follow are to say.
    HoldBack(u64),
    /// Held rows that come in after all, and the number of their release. Nothing is staged when this comes.
    Release(Arc<ClearedBatch>, u64),
}

/// A truncate of the source.
#[derive(Clone, Debug)]
pub(crate) struct Truncation {
    pub(crate) position: Position,
    pub(crate) txid: u64,
    pub(crate) ordinal: u64,
    pub(crate) committed_at: Timestamp,
}

/// What a worker has done.
pub(crate) struct Report {
    pub(crate) table: TableName,
    pub(crate) layer: Layer,
    pub(crate) news: News,
}

/// The news in a [`Report`].
pub(crate) enum News {
    /// A stream commit is durable: the table's version, rows in it, newest source commit time in it.
    Stream { version: Option<u64>, rows: u64, newest: Option<Timestamp> },
    /// A copied chunk, or the end of a copy, is durable.
    Copy { version: Option<u64>, rows: u64, progress: CopyProgress },
    /// A release of held rows is durable.
    Released { version: Option<u64>, rows: u64 },
    /// The worker has ended.
    Failed(Error),
}

/// Owns a [`TableWriter`] until its queue closes.
pub(crate) struct Worker {
    pub(crate) table: TableName,
    pub(crate) layer: Layer,
    pub(crate) writer: TableWriter,
    pub(crate) stamp: TableStamp,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Tries of one commit before the run starts over from the last durable boundary.
const COMMIT_TRIES: u32 = 4;

impl Worker {
    /// Works until the queue closes or an error ends it.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            let mut presses = false;
            match self.obey(command).await {
                Ok(None) => {}
                Ok(Some(news)) => {
                    presses = self.writer.upkeep_presses();
                    self.report(news);
                }
                Err(error) => {
                    let context = format!("{} ({})", self.table, self.layer);
                    return self.report(News::Failed(error.context(context)));
                }
            }
            if (presses || commands.is_empty())
                && let Err(error) = self.writer.maintain().await
            {
                // Upkeep can wait; what is committed is whole without it.
                tracing::warn!(table = %self.table, layer = %self.layer, %error, "maintenance failed and will be tried again");
            }
        }
        if let Err(error) = self.writer.close() {
            tracing::warn!(table = %self.table, layer = %self.layer, %error, "the key index will be built anew at the next start");
        }
    }

    fn report(&self, news: News) {
        // The loop only stops listening when it ends.
        drop(self.reports.send(Report { table: self.table.clone(), layer: self.layer, news }));
    }

    async fn obey(&mut self, command: Command) -> Result<Option<News>> {
        match command {
            Command::Write(batch, share) => {
                self.writer.write(&batch).await?;
                drop(share);
                Ok(None)
            }
            Command::Remove(removed, share) => {
                let (stored, meta) = &*removed;
                self.writer.remove(stored, meta).await?;
                drop(share);
                Ok(None)
            }
            Command::Replay(logged, share) => {
                self.writer.replay(&logged).await?;
                drop(share);
                Ok(None)
            }
            Command::Evolve(schema, stamp) => {
                self.writer.evolve(&schema).await?;
                self.stamp.evolve(*stamp);
                Ok(None)
            }
            Command::Truncate(at) => {
                self.writer.truncate(&at.position, at.txid, at.ordinal, at.committed_at).await?;
                Ok(None)
            }
            Command::CopyStarted(progress) => self.start_copy(progress).await.map(|()| None),
            Command::CommitCopy(chunk, progress) => self.commit_copy(chunk, progress).await.map(Some),
            Command::CommitStream(checkpoint) => self.commit_stream(checkpoint).await.map(Some),
            Command::CommitAs(checkpoint) => {
                // Each layer has its own releases.
                let checkpoint = TableCheckpoint { released: self.writer.checkpoint().released, ..checkpoint };
                let (version, rows, newest) = self.commit(checkpoint, true, false).await?;
                Ok(Some(News::Stream { version, rows, newest }))
            }
            Command::HoldBack(rows) => {
                self.writer.set_held_back(rows);
                Ok(None)
            }
            Command::Release(batch, number) => self.release(&batch, number).await.map(Some),
        }
    }

    /// A copy under another plan than the stored one starts over: what was copied under the old plan is removed first.
    ///
    /// So does one of which nothing was stored, when the table has rows of the stream from before LOW: they came beside a copy that
    /// ended before its first chunk, and what followed them below LOW is not sent any more.
    ///
    /// One that was finished, and whose source has to find another end, is unfinished until then.
    async fn start_copy(&mut self, progress: CopyProgress) -> Result<()> {
        let TableCheckpoint { stream, copy, .. } = self.writer.checkpoint();
        let void = match copy {
            Some(stored) => stored.plan != progress.plan || stored.low != progress.low,
            None => stream.as_ref().is_some_and(|stream| stream.through < progress.low),
        };
        if !void {
            let reopened = copy.as_ref().is_some_and(|stored| stored.finished.is_some()) && progress.finished.is_none();
            if !reopened {
                return Ok(());
            }
            let copy = copy.clone().map(|stored| CopyProgress { finished: None, ..stored });
            let checkpoint = TableCheckpoint { copy, ..self.writer.checkpoint().clone() };
            return self.commit(checkpoint, false, true).await.map(|_| ());
        }
        tracing::info!(table = %self.table, layer = %self.layer, "the copy starts over");
        self.writer.truncate(&progress.low, 0, 0, self.clock.now()).await?;
        let fresh = CopyProgress { done: change::ChunkSet::default(), finished: None, ..progress };
        let checkpoint = TableCheckpoint { copy: Some(fresh), ..self.writer.checkpoint().clone() };
        self.commit(checkpoint, true, false).await.map(|_| ())
    }

    async fn commit_copy(&mut self, chunk: Option<u32>, progress: CopyProgress) -> Result<News> {
        let stored = self.writer.checkpoint().copy.clone();
        let mut own = CopyProgress { done: stored.map(|stored| stored.done).unwrap_or_default(), ..progress };
        if let Some(chunk) = chunk {
            own.done.insert(chunk);
        }
        if !own.is_read() {
            own.finished = None;
        }
        let checkpoint = TableCheckpoint { copy: Some(own.clone()), ..self.writer.checkpoint().clone() };
        let (version, rows, _) = self.commit(checkpoint, false, true).await?;
        Ok(News::Copy { version, rows, progress: own })
    }

    async fn commit_stream(&mut self, stream: Checkpoint) -> Result<News> {
        // What is sent again after a start may end at boundaries that the table is beyond; its checkpoint never goes back.
        let stored = self.writer.checkpoint();
        let beyond = stored.stream.as_ref().filter(|stored| stored.through >= stream.through).cloned();
        let checkpoint = TableCheckpoint { stream: Some(beyond.unwrap_or(stream)), ..stored.clone() };
        let (version, rows, newest) = self.commit(checkpoint, true, false).await?;
        Ok(News::Stream { version, rows, newest })
    }

    /// Rows and number in one commit of their own, so that a release that is sent again is passed over.
    async fn release(&mut self, batch: &Arc<ClearedBatch>, number: u64) -> Result<News> {
        if self.writer.checkpoint().released >= number {
            return Ok(News::Released { version: None, rows: 0 });
        }
        self.writer.write(batch).await?;
        let checkpoint = TableCheckpoint { released: number, ..self.writer.checkpoint().clone() };
        let (version, rows, _) = self.commit(checkpoint, true, false).await?;
        Ok(News::Released { version, rows })
    }

    async fn commit(
        &mut self,
        checkpoint: TableCheckpoint,
        stream: bool,
        copy: bool,
    ) -> Result<(Option<u64>, u64, Option<Timestamp>)> {
        let stamp = serde_json::to_value(&self.stamp)
            .map_err(|error| Error::new(Kind::Bug, "the policy's stamp is not JSON").source(error))?;
        let mut pause = std::time::Duration::from_millis(100);
        for _ in 1..COMMIT_TRIES {
            let request = Commit { checkpoint: checkpoint.clone(), stream, copy, stamp: stamp.clone() };
            match self.writer.commit(request).await? {
                Outcome::Done(done) => return Ok((Some(done.version), done.rows, done.newest)),
                Outcome::Nothing => return Ok((None, 0, None)),
                Outcome::Conflicted(error) => return Err(error),
                Outcome::Retryable(error) => {
                    tracing::warn!(table = %self.table, layer = %self.layer, %error, "the commit will be tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 4;
                }
            }
        }
        Err(Error::new(Kind::Unavailable, "the lake did not take the commit")
            .fix("Look at the object store; Lockgate goes on by itself when it answers."))
    }
}
