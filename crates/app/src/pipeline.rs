//! The loop: a source's events through the gate into the lake, and back to the source only what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use change::{
    ChangeBatch, Checkpoint, Clock, CopyProgress, Error, Event, Kind, Position, Result, TableName, TableNotice,
};
use gate::{Cleared, Gate, TableGate};
use lake::{Lake, Layer};
use tokio_util::sync::CancellationToken;

use crate::batching::{Batching, Pending};
use crate::error_policy::{Action, table_action};
use crate::feed::Feed;
use crate::held::{Keeper, Witness};
use crate::long_work::letting_others_on;
use crate::resent::Resent;
use crate::spool::{self, Known, SpoolFolder};
use crate::watch::Watch;
use crate::worker::{News, Report, Truncation};
use crate::workers::Workers;

mod draining;
mod opening;
mod releasing;

use opening::Openings;
pub(crate) use opening::check_renamed;

/// Everything that one run of one source is made of.
pub struct Pipeline {
    pub(crate) feed: Feed,
    pub(crate) gate: Arc<Gate>,
    pub(crate) workers: Workers,
    pub(crate) lake: Arc<Lake>,
    pub(crate) batching: Batching,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Arc<Watch>,
    /// Leave once everything at or below this is durable; `None` to go on until told to stop.
    pub(crate) until: Option<Position>,
    pub(crate) stop: CancellationToken,
    /// Tables that are stopped from the start, and why.
    pub(crate) refused: BTreeMap<TableName, String>,
    /// Nothing may be confirmed: tables that are left for another run need the source's log.
    pub(crate) holds_back: bool,
    /// Keeps rows that the gate holds; without it their unreadable values become null.
    pub(crate) keeper: Option<Keeper>,
    /// What waits since the lake was away: it comes before anything of the source.
    pub(crate) spool: Option<spool::Reader>,
    /// It ends when the spool is empty, or stays for a table that is stopped.
    pub(crate) only_drains: bool,
    /// The source sends again what has come out of the spool.
    pub(crate) resent: Resent,
    /// What another look at the lake's records would find.
    pub(crate) known: Known,
}

/// How far the run is.
#[derive(Default)]
struct Progress {
    gates: BTreeMap<TableName, Gates>,
    /// Tables whose lake tables are being opened.
    openings: Openings,
    /// Rows that are cleared a few at a time, because a model looks at their texts; nothing else is taken before.
    in_hand: Option<Box<ChangeBatch>>,
    /// Tables of which another process may begin the first copy as well, until something of ours is committed.
    unclaimed: BTreeSet<TableName>,
    /// First copies that are not finished in every layer, begun or not, with the reports still missing.
    copies: BTreeMap<TableName, usize>,
    /// Tables that the source has dropped, for the end of the run: nothing of theirs can come any more.
    dropped: BTreeMap<TableName, String>,
    /// Why tables are stopped: nothing after their stop may be confirmed.
    stopped: BTreeMap<TableName, String>,
    pending: Pending,
    /// The last boundary, while nothing was handed over after it.
    boundary: Option<Checkpoint>,
    /// The commit in flight: its boundary and the lake tables whose reports are still missing.
    round: Option<(Checkpoint, BTreeSet<(TableName, Layer)>)>,
    /// The tables of the commit in flight.
    committing: BTreeSet<TableName>,
    /// Releases of held rows that are on their way, with the reports still missing.
    releases: BTreeMap<TableName, usize>,
    durable: Option<Checkpoint>,
    recorded_at: Option<Duration>,
    /// When the run was told to stop.
    leaving_since: Option<Duration>,
}

/// The gates of one table.
struct Gates {
    /// For the stream: of the structure that was announced last.
    newest: TableGate,
    /// For a first copy whose plan knows another structure than the stream has come to.
    copy: Option<TableGate>,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was durable, or a run without end was told to stop.
    Done,
    /// It was told to stop before it had caught up.
    Interrupted,
    /// Some tables are stopped; the others were served.
    TablesStopped(BTreeMap<TableName, String>),
}

/// How often an idle stream's position is written to the lake before it is confirmed.
const RECORD_EVERY: Duration = Duration::from_secs(10);
/// Rows of which a model reads the texts at a time: some seconds of one core when each is a page.
const ROWS_WITH_MODEL: usize = 16;
/// How long a run that was told to stop waits for a boundary.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

impl Pipeline {
    /// Keeps the rows that the gate holds in a folder; without it their unreadable values become null. `witness` is told before rows that
    /// were held for too long are erased.
    ///
    /// # Errors
    /// Those of the store of held rows, and of the witness.
    pub fn holding(self, state_dir: &Path, witness: Option<Witness>) -> Result<Self> {
        let keeper = Keeper::open(state_dir, &self.gate, self.clock.clone(), witness)?;
        Ok(Self { keeper, ..self })
    }

    /// Takes what waits in a spool before anything of the source.
    pub fn draining(self, waiting: Option<SpoolFolder>) -> Self {
        Self { spool: waiting.and_then(spool::Reader::new), ..self }
    }

    /// Runs until told to stop, until caught up, or until an error that another start may mend.
    ///
    /// # Errors
    /// Those of the source and of the lake that end a run; [`crate::table_action`] says what to do about each.
    pub async fn run(mut self) -> Result<Ended> {
        let mut progress = Progress { stopped: std::mem::take(&mut self.refused), ..Progress::default() };
        let mut outcome = self.turn(&mut progress).await;
        if let (Ok(()), Some(durable)) = (&outcome, progress.durable.as_ref().filter(|_| self.may_confirm(&progress))) {
            // The table that has recorded the most may be taken out of the lake before the next start.
            outcome = self.lake.put_stream_checkpoint(durable).await;
        }
        let interrupted = self.until.is_some() && !self.caught_up(&progress);
        self.workers.close().await;
        self.feed.close().await;
        outcome?;
        if interrupted {
            return Ok(Ended::Interrupted);
        }
        progress.stopped.append(&mut progress.dropped);
        if progress.stopped.is_empty() { Ok(Ended::Done) } else { Ok(Ended::TablesStopped(progress.stopped)) }
    }

    async fn turn(&mut self, progress: &mut Progress) -> Result<()> {
        loop {
            self.gate.still_claims(self.clock.now())?;
            self.release_held(progress).await?;
            if progress.ready(&self.batching, self.clock.monotonic(), self.last_boundary()) {
                self.commit(progress).await?;
            }
            self.finish_draining(progress).await?;
            if self.until.as_ref().is_some_and(|until| progress.reached_and_unconfirmed(until)) {
                // The source may have nothing more to say.
                self.confirm_idle(progress).await?;
            }
            if self.finished(progress) {
                return Ok(());
            }
            let drains = progress.openings.is_empty() && self.drains(progress);
            let takes = progress.openings.have_room() && self.spool.is_none() && progress.in_hand.is_none();
            let patience = progress.patience(&self.batching, self.clock.monotonic());
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if progress.leaving_since.is_none() => {
                    progress.leaving_since = Some(self.clock.monotonic());
                }
                report = self.workers.report() => self.settle(report?, progress).await?,
                Some(opened) = progress.openings.next() => self.enter(opened, progress).await?,
                () = std::future::ready(()), if drains => self.drain(progress).await?,
                () = std::future::ready(()), if progress.in_hand.is_some() => self.clear_some(progress).await?,
                event = self.feed.next(), if takes => {
                    if let Some(event) = self.resent.pass(event?) {
                        self.take_in_turn(event, progress).await?;
                    }
                }
                () = tokio::time::sleep(patience) => {}
            }
        }
    }

    /// One event, in the direction of the data.
    async fn take(&mut self, event: Event, progress: &mut Progress) -> Result<()> {
        match event {
            Event::Changes(batch) => self.clear(batch, progress).await,
            Event::SchemaChanged { schema } => self.restructure(schema, progress).await,
            Event::Truncated { table, position, txid, ordinal, committed_at } => {
                progress.boundary = None;
                if let Some(keeper) = &mut self.keeper {
                    keeper.truncated(&table, &position)?;
                }
                if progress.gates.contains_key(&table) {
                    progress.pending.add(1, self.clock.monotonic());
                    self.workers.truncate(&table, Truncation { position, txid, ordinal, committed_at }).await?;
                }
                Ok(())
            }
            Event::CopyStarted { table, progress: copy } => self.begin_copy(table, copy, progress).await,
            Event::ChunkDone { table, chunk, progress: copy } => {
                self.tell_held().await?;
                self.workers.commit_copy(&table, Some(chunk), &copy).await
            }
            Event::CopyDone { table, progress: copy } => self.workers.commit_copy(&table, None, &copy).await,
            Event::Notice { table, notice: TableNotice::Stopped(error) } => {
                self.stop_table(table, &error, progress);
                Ok(())
            }
            Event::Notice { table, notice: TableNotice::Dropped } => {
                tracing::warn!(%table, "the source dropped the table; what the lake holds of it stays");
                let why =
                    "dropped at the source\n  fix: Take its rules out of policy.yaml; what the lake holds of it stays.";
                self.watch.table(&table, |seen| seen.stopped = Some(why.into()));
                progress.dropped.insert(table, why.into());
                Ok(())
            }
            Event::Suspect(suspect) => {
                let error = Error::new(
                    Kind::SourceGone,
                    format!("part of the table cannot be known from the log: {}", suspect.why),
                )
                .fix("Copy the table again: remove its folders from the lake and start.");
                self.stop_table(suspect.table, &error, progress);
                Ok(())
            }
            Event::Boundary(checkpoint) => {
                progress.boundary = Some(checkpoint);
                self.confirm_idle(progress).await
            }
        }
    }

    /// Raw rows in, cleared rows out to the lake.
    async fn clear(&mut self, batch: ChangeBatch, progress: &mut Progress) -> Result<()> {
        if matches!(batch.origin(), change::Origin::Stream) {
            progress.boundary = None;
        }
        if let Some(batch) = self.cut_at_release(batch, progress).await? {
            match self.gate.asks_model(&batch.schema().table) {
                true => progress.in_hand = Some(Box::new(batch)),
                false => self.clear_whole(batch, progress).await?,
            }
        }
        Ok(())
    }

    /// The next rows that are in hand. What came before them is committed meanwhile, and who wants to leave does not wait for all of them.
    async fn clear_some(&mut self, progress: &mut Progress) -> Result<()> {
        let Some(mut batch) = progress.in_hand.take() else { return Ok(()) };
        let some = batch.take_first(ROWS_WITH_MODEL);
        progress.in_hand = Some(batch).filter(|left| !left.is_empty());
        self.clear_whole(some, progress).await
    }

    async fn clear_whole(&mut self, mut batch: ChangeBatch, progress: &mut Progress) -> Result<()> {
        let table = batch.schema().table.clone();
        let streamed = matches!(batch.origin(), change::Origin::Stream);
        let Some(gates) = progress.gates.get_mut(&table) else { return Ok(()) };
        let rows = batch.len() as u64;
        let share = batch.take_share();
        let clear = || gates.clear(batch, &self.gate, self.keeper.as_mut());
        match letting_others_on(self.gate.asks_model(&table), clear) {
            Ok(cleared) if cleared.batch.is_empty() && !streamed => Ok(()),
            Ok(cleared) => {
                self.watch.table(&table, |seen| seen.cleared(rows, &cleared.invalid));
                if streamed {
                    progress.pending.add(rows, self.clock.monotonic());
                }
                self.workers.write(cleared.batch, share).await
            }
            Err(error) => self.hold_table(table, Err(error), progress),
        }
    }

    /// Begins the one commit that may be in flight; reading goes on meanwhile.
    async fn commit(&mut self, progress: &mut Progress) -> Result<()> {
        let Some(boundary) = progress.boundary.clone() else { return Ok(()) };
        self.tell_held().await?;
        let missing = self.workers.commit_stream(&boundary).await?;
        progress.pending = Pending::default();
        progress.committing = missing.iter().map(|(table, _)| table.clone()).collect();
        progress.round = (!missing.is_empty()).then_some((boundary, missing));
        Ok(())
    }

    /// What a worker has made durable; when the whole round is, the source may forget it.
    async fn settle(&mut self, report: Report, progress: &mut Progress) -> Result<()> {
        let Report { table, layer, news } = report;
        let now = self.clock.now();
        match news {
            // The layer that did not fail may still answer what it was told before.
            News::Stream { .. } | News::Copy { .. } | News::Released { .. }
                if progress.stopped.contains_key(&table) => {}
            News::Stream { version, rows, newest } => {
                self.watch.all(|seen| seen.commits += u64::from(version.is_some()));
                self.watch.table(&table, |seen| seen.committed(layer == Layer::Current, version, rows, newest, now));
                progress.answered(&table, layer);
            }
            News::Copy { version, rows, progress: copy } => {
                self.watch.all(|seen| seen.commits += u64::from(version.is_some()));
                self.watch.table(&table, |seen| {
                    seen.committed(layer == Layer::Current, version, rows, None, now);
                    if layer == Layer::Current {
                        seen.copying(&copy);
                    }
                });
                // Whoever leaves before the end of a copy is confirmed has to find another one at the next start.
                if let (Some(until), Some(end)) = (&mut self.until, &copy.finished)
                    && *until < *end
                {
                    *until = end.clone();
                }
                progress.copied(&table, &copy);
                if copy.finished.is_some() && !progress.copies.contains_key(&table) {
                    self.known.copied(&table, &copy);
                }
                if let (Some(keeper), false) = (&mut self.keeper, progress.copies.contains_key(&table)) {
                    keeper.copy_ends(&table)?;
                }
            }
            News::Released { version, rows } => {
                self.watch.all(|seen| seen.commits += u64::from(version.is_some()));
                self.watch.table(&table, |seen| seen.committed(layer == Layer::Current, version, rows, None, now));
                self.settle_release(&table, progress)?;
            }
            News::Failed(error) => self.hold_table(table, Err(error), progress)?,
        }
        if let Some((durable, _)) = progress.round.take_if(|(_, missing)| missing.is_empty()) {
            self.forget_held(&durable.through, progress)?;
            progress.durable = Some(durable.clone());
            if self.may_confirm(progress) {
                self.known.durable(&durable);
                self.confirm(durable).await?;
            }
        }
        Ok(())
    }

    /// An idle database: nothing is pending, so the boundary is durable as it stands. It is recorded in the lake first, so that a slot
    /// that was confirmed beyond every record can only be a lost or recreated one.
    async fn confirm_idle(&mut self, progress: &mut Progress) -> Result<()> {
        let Some(boundary) = &progress.boundary else { return Ok(()) };
        let settled = progress.pending.is_empty() && progress.round.is_none() && self.spool.is_none();
        if !settled || !self.may_confirm(progress) {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let urgent = self.until.as_ref().is_some_and(|until| boundary.through >= *until);
        if urgent || progress.recorded_at.is_none_or(|at| now.saturating_sub(at) >= RECORD_EVERY) {
            self.lake.put_stream_checkpoint(boundary).await?;
            progress.recorded_at = Some(now);
            progress.durable = Some(boundary.clone());
            self.known.durable(boundary);
            self.feed.confirm(boundary.clone()).await;
        }
        Ok(())
    }

    /// Applies the error policy to one table: stop it and go on, or end the run.
    fn hold_table(&mut self, table: TableName, outcome: Result<()>, progress: &mut Progress) -> Result<()> {
        let Err(error) = outcome else { return Ok(()) };
        if table_action(error.kind()) != Action::StopTable {
            return Err(error);
        }
        self.stop_table(table, &error, progress);
        Ok(())
    }

    fn stop_table(&mut self, table: TableName, error: &Error, progress: &mut Progress) {
        tracing::error!(%table, %error, "the table is stopped; the source keeps its changes until it is mended");
        self.watch.table(&table, |seen| {
            seen.stopped = Some(error.to_string());
            seen.stopped_by = Some(error.kind().into());
        });
        self.known.stops(&table);
        progress.gates.remove(&table);
        progress.copies.remove(&table);
        progress.releases.remove(&table);
        progress.stopped.insert(table.clone(), error.to_string());
        self.workers.stop(&table);
        for layer in [Layer::Changes, Layer::Current] {
            progress.answered(&table, layer);
        }
    }

    fn may_confirm(&self, progress: &Progress) -> bool {
        progress.stopped.is_empty() && !self.holds_back
    }

    fn finished(&self, progress: &Progress) -> bool {
        let settled = progress.pending.is_empty() && progress.round.is_none() && progress.releases.is_empty();
        // In the middle of a transaction nothing can be committed: its end is awaited for a while, then its rows are left to the next run.
        let stopping = progress.leaving_since.is_some_and(|since| {
            settled && progress.boundary.is_some() || self.clock.monotonic().saturating_sub(since) >= LEAVE_WITHIN
        });
        stopping || settled && progress.openings.is_empty() && (self.caught_up(progress) || self.has_drained())
    }

    fn caught_up(&self, progress: &Progress) -> bool {
        self.until.as_ref().is_some_and(|until| {
            let through = progress.durable.as_ref().is_some_and(|durable| durable.through >= *until)
                || (!self.may_confirm(progress)
                    && progress.boundary.as_ref().is_some_and(|boundary| boundary.through >= *until));
            let owed = self.keeper.as_ref().is_some_and(|keeper| keeper.is_owed(until));
            through && progress.copies.is_empty() && !owed
        })
    }
}

impl Gates {
    /// Clears a batch by the gate of its structure.
    fn clear(&mut self, batch: ChangeBatch, gate: &Gate, keeper: Option<&mut Keeper>) -> Result<Cleared> {
        let clear = |gate: &TableGate, batch| match keeper {
            Some(keeper) => keeper.clear(gate, batch),
            None => gate.clear(batch),
        };
        let copied = matches!(batch.origin(), change::Origin::Copy { .. });
        if !copied || self.newest.reads(batch.schema()) {
            return clear(&self.newest, batch);
        }
        let own = match self.copy.take().filter(|own| own.reads(batch.schema())) {
            Some(own) => own,
            None => gate.table(batch.schema())?,
        };
        clear(self.copy.insert(own), batch)
    }
}

impl Progress {
    /// A commit may begin: at a boundary, none in flight, and due (or the last one, when leaving or caught up).
    fn ready(&self, batching: &Batching, now: Duration, until: Option<&Position>) -> bool {
        let Some(boundary) = &self.boundary else { return false };
        let last = self.leaving_since.is_some() || until.is_some_and(|until| boundary.through >= *until);
        let due = self.pending.is_due(batching, now) || (last && !self.pending.is_empty());
        self.round.is_none() && self.releases.is_empty() && due
    }

    /// How long the loop may wait for an event or a report before it looks at the time again.
    fn patience(&self, batching: &Batching, now: Duration) -> Duration {
        let idle = self.boundary.is_some() && self.round.is_none() && self.releases.is_empty();
        let commit_at = self.pending.due_at(batching).filter(|_| idle);
        let leave_at = self.leaving_since.map(|since| since + LEAVE_WITHIN);
        let next = [commit_at, leave_at].into_iter().flatten().min();
        next.map_or(RECORD_EVERY, |at| at.saturating_sub(now))
    }

    /// The last boundary that is waited for has come, and was not confirmed because something was in flight.
    fn reached_and_unconfirmed(&self, until: &Position) -> bool {
        let durable = self.durable.as_ref().is_some_and(|durable| durable.through >= *until);
        !durable && self.releases.is_empty() && self.boundary.as_ref().is_some_and(|last| last.through >= *until)
    }

    fn answered(&mut self, table: &TableName, layer: Layer) {
        if let Some((_, missing)) = &mut self.round {
            missing.remove(&(table.clone(), layer));
        }
    }

    fn copied(&mut self, table: &TableName, copy: &CopyProgress) {
        if copy.finished.is_none() {
            return;
        }
        if let Some(missing) = self.copies.get_mut(table) {
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                self.copies.remove(table);
            }
        }
    }
}
