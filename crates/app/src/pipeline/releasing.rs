//! Held rows come in after all: see [`crate::held`].

use change::{ChangeBatch, CopyProgress, Position, Result, TableName};

use super::{Pipeline, Progress};
use crate::workers::Workers;

impl Pipeline {
    /// A first copy begins or goes on.
    pub(super) async fn begin_copy(
        &mut self,
        table: TableName,
        copy: CopyProgress,
        progress: &mut Progress,
    ) -> Result<()> {
        self.watch.table(&table, |seen| seen.copying(&copy));
        let Some(gates) = progress.gates.get(&table) else { return Ok(()) };
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.copy_begins(&gates.newest, &copy)
        {
            return self.hold_table(table, Err(error), progress);
        }
        progress.copies.insert(table.clone(), Workers::LAYERS);
        self.workers.start_copy(&table, &copy).await?;
        if progress.unclaimed.remove(&table) {
            // This copy reads what is below its LOW, and the stream does not bring it: nothing may be confirmed as long as the lake could still
            // take another process's copy with a lower one.
            self.workers.touch(&table);
            progress.pending.add(0, self.clock.monotonic());
        }
        Ok(())
    }

    /// At a boundary with no commit in flight: releases that were begun and whose boundary has come, and new ones.
    pub(super) async fn release_held(&mut self, progress: &mut Progress) -> Result<()> {
        let Some(boundary) = progress.boundary.clone() else { return Ok(()) };
        if progress.round.is_some() || !progress.releases.is_empty() || self.spool.is_some() {
            return Ok(());
        }
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        for table in keeper.resumable(&boundary) {
            self.resume_release(&table, progress).await?;
        }
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        let mut begun = Vec::new();
        while begun.is_empty() {
            let tables = keeper.releasable(&boundary)?;
            if tables.is_empty() {
                break;
            }
            for table in tables {
                let Some(gates) = progress.gates.get(&table).filter(|_| !progress.releases.contains_key(&table)) else {
                    continue;
                };
                if let Some(release) = keeper.release(&gates.newest, &boundary)? {
                    self.workers.touch(&table);
                    begun.push(release);
                }
            }
        }
        // When nothing of a table is held any more, others may write it: they are to know that, though nothing follows.
        if !self.tell_held().await? && begun.is_empty() {
            return Ok(());
        }
        self.commit(progress).await?;
        for (release, batch) in begun {
            self.workers.release(batch, release.number).await?;
            progress.releases.insert(release.table.clone(), Workers::LAYERS);
            if let Some(keeper) = &mut self.keeper {
                keeper.sent(&release);
            }
        }
        Ok(())
    }

    /// Lets the commits that follow say how many rows are held back; whether of a table none are any more. Each commit that goes by a held row says so:
    /// another project folder must not go on behind it.
    pub(super) async fn tell_held(&mut self) -> Result<bool> {
        let Some(keeper) = &mut self.keeper else { return Ok(false) };
        let news = keeper.news()?;
        // A table that is stopped says so when it is opened again.
        let news: Vec<_> = news.into_iter().filter(|(table, _)| self.workers.is_open(table)).collect();
        for (table, rows) in &news {
            self.workers.hold_back(table, *rows).await?;
            self.workers.touch(table);
        }
        Ok(news.iter().any(|(_, rows)| *rows == 0))
    }

    /// A streamed batch that crosses the boundary of an interrupted release is cut there; what is left is to be cleared.
    pub(super) async fn cut_at_release(
        &mut self,
        batch: ChangeBatch,
        progress: &mut Progress,
    ) -> Result<Option<ChangeBatch>> {
        let streamed = matches!(batch.origin(), change::Origin::Stream);
        let Some(through) = self.keeper.as_ref().and_then(|keeper| keeper.crossing(&batch)).filter(|_| streamed) else {
            return Ok(Some(batch));
        };
        let table = batch.schema().table.clone();
        let (below, above) = batch.split(&through);
        if !below.is_empty() {
            self.clear_whole(below, progress).await?;
        }
        self.resume_release(&table, progress).await?;
        Ok((!above.is_empty()).then_some(above))
    }

    /// Sends an interrupted release to the table that lacks it, at the place in the stream where the other has it.
    async fn resume_release(&mut self, table: &TableName, progress: &mut Progress) -> Result<()> {
        let (Some(keeper), Some(gates)) = (&mut self.keeper, progress.gates.get(table)) else { return Ok(()) };
        match keeper.resume(&gates.newest) {
            Ok(None) => Ok(()),
            Ok(Some((release, batch))) => {
                keeper.sent(&release);
                self.workers.commit_table(table, &release.boundary).await?;
                self.workers.release(batch, release.number).await?;
                progress.releases.insert(table.clone(), Workers::LAYERS);
                Ok(())
            }
            Err(error) => self.hold_table(table.clone(), Err(error), progress),
        }
    }

    /// One of the two tables has a release.
    pub(super) fn settle_release(&mut self, table: &TableName, progress: &mut Progress) -> Result<()> {
        let Some(missing) = progress.releases.get_mut(table) else { return Ok(()) };
        *missing = missing.saturating_sub(1);
        if *missing > 0 {
            return Ok(());
        }
        progress.releases.remove(table);
        self.keeper.as_mut().map_or(Ok(()), |keeper| keeper.released(table))
    }

    /// A round of commits is durable: what was held back at or below it cannot be sent again.
    pub(super) fn forget_held(&mut self, through: &Position, progress: &Progress) -> Result<()> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        for table in &progress.committing {
            if !progress.stopped.contains_key(table) {
                keeper.durable(table, through)?;
            }
        }
        Ok(())
    }
}
