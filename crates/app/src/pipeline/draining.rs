//! What waits in the spool goes into the lake, before anything of the source: see [`crate::spool`].

use change::{Checkpoint, Error, Event, Kind, Position, Result, TableName};
use gate::ClearedBatch;

use super::{Pipeline, Progress};
use crate::resent::Resent;
use crate::spool::Entry;
use crate::worker::Truncation;

impl Pipeline {
    /// Whether the spool has more, and more is wanted: a run that was told to stop leaves at the next boundary.
    pub(super) fn drains(&self, progress: &Progress) -> bool {
        let leaves = progress.leaving_since.is_some() && progress.boundary.is_some();
        !leaves && self.has_more(progress)
    }

    /// At its last boundary the spool has no more.
    fn has_more(&self, progress: &Progress) -> bool {
        let last = self.spool.as_ref().map(|spool| &spool.through().through);
        last.is_some_and(|last| progress.boundary.as_ref().is_none_or(|boundary| boundary.through < *last))
    }

    /// The boundary at which everything that has come is committed, whether that is due or not.
    pub(super) fn last_boundary(&self) -> Option<&Position> {
        self.spool.as_ref().map(|spool| &spool.through().through).or(self.until.as_ref())
    }

    /// One entry of the spool, in the direction of the data.
    pub(super) async fn drain(&mut self, progress: &mut Progress) -> Result<()> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        let structure = |table: &TableName| progress.gates.get(table).map(|gates| gates.newest.schema().clone());
        match spool.next(structure)? {
            Some(Entry::Rows(rows)) => self.admit(rows, progress).await,
            // They wait for the next run, and so does the spool.
            Some(Entry::Unread(table, _)) if progress.stopped.contains_key(&table) => Ok(()),
            Some(Entry::Unread(table, why)) => self.hold_table(table, Err(why), progress),
            Some(Entry::Structure(schema)) => self.take(Event::SchemaChanged { schema }, progress).await,
            Some(Entry::Boundary(boundary)) => self.take(Event::Boundary(boundary), progress).await,
            Some(Entry::Truncated(table, Truncation { position, txid, ordinal, committed_at })) => {
                self.take(Event::Truncated { table, position, txid, ordinal, committed_at }, progress).await
            }
            Some(Entry::Begin(..)) => Ok(()),
            None => Err(Error::new(Kind::Bug, "the spool ended before its last boundary")),
        }
    }

    /// Once everything of the spool is durable in the lake and recorded there, it goes, and the source goes on. While a table is stopped it
    /// stays: that table's rows are nowhere else.
    pub(super) async fn finish_draining(&mut self, progress: &mut Progress) -> Result<()> {
        let settled = progress.pending.is_empty() && progress.round.is_none();
        if self.has_more(progress) || !settled {
            return Ok(());
        }
        let Some(spool) = self.spool.take() else { return Ok(()) };
        let through = spool.through().clone();
        self.resent = Resent::through(through.through.clone());
        if !progress.stopped.is_empty() {
            tracing::warn!(source = through.stream, "a table is stopped: the spool stays for the next run");
            return Ok(());
        }
        self.lake.put_stream_checkpoint(&through).await?;
        progress.durable = Some(through.clone());
        spool.finish()?;
        self.watch.spool(&through.stream, |seen| seen.drained += 1);
        tracing::info!(source = through.stream, "everything that waited in the spool is in the lake");
        Ok(())
    }

    /// Whether a run that only drains has nothing more to do.
    pub(super) fn has_drained(&self) -> bool {
        self.only_drains && self.spool.is_none()
    }

    /// Tells the source what is durable; what comes out of the spool it has forgotten already.
    pub(super) async fn confirm(&mut self, durable: Checkpoint) -> Result<()> {
        match &mut self.spool {
            Some(spool) => spool.forget(&durable.through),
            // Only the spool has handed it over: the source is not there yet.
            None if self.resent.covers(&durable.through) => Ok(()),
            None => {
                self.feed.confirm(durable).await;
                Ok(())
            }
        }
    }

    /// Rows that have passed the gate before.
    async fn admit(&mut self, rows: ClearedBatch, progress: &mut Progress) -> Result<()> {
        progress.boundary = None;
        progress.pending.add(rows.len() as u64, self.clock.monotonic());
        self.workers.write(rows, None).await
    }
}
