use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use change::{ChangeBatch, Checkpoint, CopyProgress, Error, Event, Kind, Position, Result, TableName, TableNotice};
use futures::FutureExt;
use pgwire_replication::{Lsn, ReplicationEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::apply::{Applied, Followed, Tables, Transaction};
use super::client::Address;
use super::copy::settle::Next;
use super::failure;
use super::identity::StreamIdentity;
use super::measure::{Health, end_to_reach};
use super::pgoutput::{self, Message, OldTuple, POSTGRES_EPOCH_US, Relation};
use super::position::PgPosition;
use super::room::Room;
use super::slot::{self, SlotState};
use super::toast;
use super::walsender::{self, Link, Start};

mod progress;

use progress::AppliedTo;
pub(crate) use progress::Progress;

/// Rows at which what was decoded is handed over.
const ROWS_MAX: usize = 8192;
/// Bytes at which what was decoded is handed over, whatever the size of a transaction.
const BYTES_MAX: usize = 8 << 20;
/// How long a row waits for others before it is handed over.
const ROW_WAIT: Duration = Duration::from_millis(50);
/// How often an idle stream says how far it is.
const IDLE_BOUNDARY: Duration = Duration::from_millis(200);
/// Log messages read in a row before timers and confirmations are looked at.
const DRAIN: usize = 512;
/// The pauses between reconnects grow to this.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long reconnects go on before the loop is told.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// What to do when a table's rows cannot be read beside the stream.
const READ_AGAIN: &str = "Make the table readable again and start: its copy goes on.";

/// Reads the slot's stream, reconnects, and hands events over; a task of its own until the receiver is dropped.
pub(crate) struct Follower {
    pub(crate) address: Address,
    pub(crate) source: String,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) identity: StreamIdentity,
    pub(crate) epoch: u32,
    pub(crate) tables: Tables,
    pub(crate) out: mpsc::Sender<Result<Event>>,
    /// Shared with the first copies.
    pub(crate) room: Room,
    /// What the loop has made durable.
    pub(crate) confirmed: watch::Receiver<Lsn>,
    /// The last boundary that was handed over.
    pub(crate) boundary: watch::Sender<Lsn>,
    /// First copies of which every chunk was handed over, by the tables' oids.
    pub(crate) read: mpsc::Receiver<(u32, CopyProgress)>,
    pub(crate) health: Arc<Health>,
    pub(crate) progress: Progress,
}

/// Why a connection was left without an error.
enum Left {
    /// Nobody listens any more.
    ByListener,
}

impl Follower {
    /// Follows until nobody listens, or until an error that the loop has to decide on, which is then the last event.
    pub(crate) async fn run(mut self, first: Link) {
        let mut link = Some(first);
        let mut pause = Duration::from_millis(100);
        let mut broken_since: Option<Instant> = None;
        loop {
            let connected = match link.take() {
                Some(link) => Ok(link),
                None => self.reconnect().await,
            };
            let outcome = match connected {
                Ok(link) => {
                    self.health.set_idle(None);
                    let before = self.progress.reached;
                    let outcome = self.follow(link).await;
                    if self.progress.reached > before {
                        (pause, broken_since) = (Duration::from_millis(100), None);
                    }
                    outcome
                }
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(Left::ByListener) => return,
                Err(error) => error,
            };
            let since = *broken_since.get_or_insert_with(Instant::now);
            let for_the_loop = self.progress.displaced || error.kind() != Kind::Unavailable;
            if for_the_loop || since.elapsed() > GIVE_UP_AFTER {
                // The receiver only goes away with the source itself.
                drop(self.out.send(Err(error)).await);
                return;
            }
            tracing::warn!(source = %self.source, %error, "the stream broke and is taken up again");
            self.health.set_idle(Some(error.what().to_string()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.out.closed() => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn reconnect(&mut self) -> Result<Link> {
        // The commit itself of what was applied has to be in the history.
        let highest = self.progress.reached.max(Lsn::from_u64(self.progress.applied.lsn.as_u64() + 1));
        let from = *self.boundary.borrow();
        let durable = *self.confirmed.borrow();
        let start = Start {
            slot: &self.slot,
            publication: &self.publication,
            from,
            durable,
            before: Some((&self.identity, highest)),
        };
        let link = match walsender::start(&self.address, start).await {
            Err(error) if error.kind() == Kind::SourceGone => return Err(self.invalidated().await.unwrap_or(error)),
            link => link?,
        };
        self.same_slot().await?;
        if link.new_timeline {
            self.tables.look_again();
        }
        self.identity = link.identity.clone();
        // A transaction that was cut off is sent again from its begin.
        self.progress.transaction = None;
        Ok(link)
    }

    async fn slot_state(&mut self) -> Result<Option<SlotState>> {
        // What was open before may be as dead as the stream.
        self.progress.side = None;
        self.connect_aside().await?;
        let Some(session) = &self.progress.side else { return Ok(None) };
        slot::read(&self.address, session, &self.slot).await
    }

    /// Why the server refuses to start, when it is because it has given the slot up.
    async fn invalidated(&mut self) -> Option<Error> {
        let state = self.slot_state().await.ok()??;
        state.invalid()?;
        slot::judge(&self.slot, self.address.database(), Some(&state), None).err()
    }

    /// Whether the slot still holds all that was not handed over: the server would go on from a later point without a word.
    async fn same_slot(&mut self) -> Result<()> {
        let state = self.slot_state().await?;
        let reached = *self.boundary.borrow();
        slot::judge(&self.slot, self.address.database(), state.as_ref(), Some(reached)).map(drop).map_err(|error| {
            self.progress.displaced = true;
            Error::new(Kind::Unavailable, error.what())
                .fix("Nothing yet: all is opened again, which shows whether anything is missing.")
        })
    }

    async fn follow(&mut self, mut link: Link) -> Result<Left> {
        let client = &mut link.client;
        let mut severed = self.health.stream_severed();
        client.update_applied_lsn(*self.confirmed.borrow_and_update());
        loop {
            let due = self.progress.due.filter(|_| self.progress.open().is_none());
            let received = tokio::select! {
                biased;
                changed = self.confirmed.changed() => {
                    if changed.is_err() {
                        return Ok(Left::ByListener);
                    }
                    client.update_applied_lsn(*self.confirmed.borrow_and_update());
                    continue;
                }
                () = self.out.closed() => return Ok(Left::ByListener),
                Some((oid, progress)) = self.read.recv() => {
                    self.tables.settle(oid, progress);
                    self.settle().await?;
                    continue;
                }
                _ = severed.changed() => return Err(failure::silent(&self.address)),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.hand_over().await?;
                    continue;
                }
                received = client.recv() => received,
            };
            let mut next = Some(received);
            let mut left = DRAIN;
            while let Some(received) = next.take() {
                let event = received.map_err(|e| failure::following(&self.address, &self.publication, &e))?;
                self.take(event.ok_or_else(|| failure::ended(&self.address))?).await?;
                left -= 1;
                if left > 0 && !self.overdue() {
                    next = client.recv().now_or_never();
                }
            }
        }
    }

    fn overdue(&self) -> bool {
        self.progress.open().is_none() && self.progress.due.is_some_and(|due| due <= Instant::now())
    }

    async fn take(&mut self, event: ReplicationEvent) -> Result<()> {
        match event {
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
                self.progress.transaction = Some(Transaction {
                    lsn: final_lsn,
                    txid: u64::from(xid),
                    committed_at: commit_time_micros.saturating_add(POSTGRES_EPOCH_US),
                    message: 0,
                    ordinal: 0,
                });
                Ok(())
            }
            ReplicationEvent::XLogData { data, .. } => self.message(data).await,
            ReplicationEvent::Commit { end_lsn, .. } => {
                self.progress.transaction = None;
                self.progress.reached = self.progress.reached.max(end_lsn);
                if self.is_full() || self.tables.settling(self.progress.reached).is_some() {
                    return self.hand_over().await;
                }
                self.await_more(if self.tables.rows > 0 { ROW_WAIT } else { IDLE_BOUNDARY });
                Ok(())
            }
            // Between transactions everything below the server's position has been sent; within one it says nothing.
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                if self.progress.transaction.is_none() && wal_end > self.progress.reached {
                    self.progress.reached = wal_end;
                    if self.tables.settling(wal_end).is_some() {
                        return self.hand_over().await;
                    }
                    self.await_more(IDLE_BOUNDARY);
                }
                Ok(())
            }
            // A message of the application; its transaction, if it has one, ends like any other.
            ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. } => Ok(()),
        }
    }

    fn await_more(&mut self, wait: Duration) {
        let due = Instant::now() + wait;
        self.progress.due = Some(self.progress.due.map_or(due, |before| before.min(due)));
    }

    fn is_full(&self) -> bool {
        self.tables.rows >= ROWS_MAX || self.tables.bytes >= BYTES_MAX
    }

    async fn message(&mut self, data: Bytes) -> Result<()> {
        self.room.wait(data.len()).await;
        self.decode(&data).await?;
        // A large row is not held twice while it waits.
        drop(data);
        if self.is_full() { self.hand_over().await } else { Ok(()) }
    }

    async fn decode(&mut self, data: &[u8]) -> Result<()> {
        match pgoutput::parse(data, false)? {
            Message::Relation(relation) => self.announced(relation).await,
            Message::Truncate { relations, .. } => match self.next_message()? {
                Some(transaction) => self.truncated(&relations, transaction).await,
                None => Ok(()),
            },
            message @ (Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. }) => {
                match self.next_message()? {
                    Some(transaction) => self.row(message, transaction).await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Counts a message of the open transaction; `None` when it was applied before the connection broke.
    fn next_message(&mut self) -> Result<Option<Transaction>> {
        let applied = self.progress.applied;
        let transaction = self
            .progress
            .transaction
            .as_mut()
            .ok_or_else(|| Error::new(Kind::Data, "the stream carries a change outside of a transaction"))?;
        transaction.message += 1;
        if (transaction.lsn, transaction.message) > (applied.lsn, applied.message) {
            return Ok(Some(*transaction));
        }
        if (transaction.lsn, transaction.message) == (applied.lsn, applied.message) {
            transaction.ordinal = applied.ordinal;
        }
        Ok(None)
    }

    /// Notes that the open transaction's last message became `rows` rows.
    fn applied(&mut self, rows: u64) {
        if let Some(transaction) = &mut self.progress.transaction {
            transaction.ordinal += rows;
            let Transaction { lsn, message, ordinal, .. } = *transaction;
            self.progress.applied = AppliedTo { lsn, message, ordinal };
        }
    }

    async fn row(&mut self, message: Message<'_>, transaction: Transaction) -> Result<()> {
        let at = transaction.at(self.epoch);
        let whole = self.without_gaps(&message, &transaction).await?;
        let applied = match &whole {
            Some(bytes) => self.tables.apply(&pgoutput::parse(bytes, false)?, &at),
            None => self.tables.apply(&message, &at),
        };
        match applied {
            Applied::Rows(rows) => self.applied(rows),
            Applied::Stopped(table, error) => {
                self.applied(1);
                self.send(stopped(table, error)).await?;
            }
        }
        Ok(())
    }

    async fn without_gaps(&mut self, message: &Message<'_>, transaction: &Transaction) -> Result<Option<Vec<u8>>> {
        let Message::Update { relation, old, new, .. } = message else { return Ok(None) };
        // The whole old row has them.
        let has_gaps =
            new.cells().any(|cell| cell == pgoutput::Cell::Unchanged) && !matches!(old, Some(OldTuple::Full(_)));
        let key_changes = matches!(old, Some(OldTuple::Key(_)));
        let lacks = |table: &Followed| table.base.lacks(transaction.lsn, key_changes);
        if !has_gaps || !self.tables.get(*relation).is_some_and(lacks) {
            return Ok(None);
        }
        self.connect_aside().await?;
        let filled = match (self.tables.get(*relation), &self.progress.side) {
            (Some(table), Some(session)) => toast::filled(&self.address, session, table, message).await,
            _ => Ok(None),
        };
        if let Some(table) = self.tables.get_mut(*relation) {
            table.base.was_read();
        }
        match filled {
            Err(error) if error.kind() != Kind::Unavailable => {
                let own = Error::new(Kind::Contract, error.what()).fix(error.how_to_fix().unwrap_or(READ_AGAIN));
                if let Applied::Stopped(table, error) = self.tables.stop(*relation, own) {
                    self.send(stopped(table, error)).await?;
                }
                Ok(None)
            }
            filled => filled,
        }
    }

    async fn announced(&mut self, relation: Relation) -> Result<()> {
        if !self.tables.is_news(&relation) {
            return Ok(());
        }
        // What is whole can be committed before the structure changes. What the open transaction has of other tables does not matter to it.
        let begun = self.hand_over_whole().await?;
        let (own, others): (Vec<_>, Vec<_>) = begun.into_iter().partition(|(oid, _)| *oid == relation.oid);
        self.hand_over_begun(own).await?;
        let announced = self.follow_announcement(relation).await;
        self.hand_over_begun(others).await?;
        announced
    }

    async fn follow_announcement(&mut self, relation: Relation) -> Result<()> {
        self.connect_aside().await?;
        let Some(session) = &self.progress.side else { return Ok(()) };
        let oid = relation.oid;
        match self.tables.announce(&self.address, session, &self.source, relation).await {
            Ok(None) => Ok(()),
            Ok(Some(schema)) => self.send(Event::SchemaChanged { schema }).await,
            Err(error) if matches!(error.kind(), Kind::Contract | Kind::Data) => match self.tables.stop(oid, error) {
                Applied::Stopped(table, error) => self.send(stopped(table, error)).await,
                Applied::Rows(_) => Ok(()),
            },
            Err(error) => Err(error),
        }
    }

    /// Goes on with copies of which every chunk was handed over. What was decoded must have been handed over.
    async fn settle(&mut self) -> Result<()> {
        let reached = self.progress.reached;
        while let Some((oid, next)) = self.tables.settling(reached) {
            match next {
                Next::Wait => {}
                Next::Look => {
                    self.connect_aside().await?;
                    let Some(session) = &self.progress.side else { return Ok(()) };
                    let end = end_to_reach(&self.address, session).await?;
                    if let Some(table) = self.tables.get_mut(oid) {
                        table.base.look(end);
                    }
                }
                Next::Finished(end) => {
                    let finished = Some(PgPosition::boundary(self.epoch, end).position());
                    if let Some((table, progress)) = self.tables.finish(oid) {
                        self.send(Event::CopyDone { table, progress: CopyProgress { finished, ..progress } }).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn connect_aside(&mut self) -> Result<()> {
        if self.progress.side.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.progress.side = Some(self.address.connect("stream catalog").await?);
        }
        Ok(())
    }

    async fn truncated(&mut self, relations: &[u32], transaction: Transaction) -> Result<()> {
        self.hand_over().await?;
        let mut rows = 0;
        for oid in relations {
            let mut at = transaction.at(self.epoch);
            at.ordinal += rows;
            rows += 1;
            let Some(table) = self.tables.get(*oid) else { continue };
            if table.flags.stopped.load(Ordering::Acquire) || transaction.lsn < table.from {
                continue;
            }
            let position = PgPosition { epoch: self.epoch, lsn: transaction.lsn, ordinal: at.ordinal }.position();
            let event = Event::Truncated {
                table: table.name().clone(),
                position,
                txid: at.txid,
                ordinal: at.ordinal,
                committed_at: at.committed_at,
            };
            self.send(event).await?;
        }
        self.applied(rows);
        self.progress.begun = Some(transaction.lsn);
        Ok(())
    }

    /// Hands over what was decoded, with a boundary behind what is whole.
    async fn hand_over(&mut self) -> Result<()> {
        let begun = self.hand_over_whole().await?;
        self.hand_over_begun(begun).await
    }

    /// Hands over the rows of transactions whose end has come, and the boundary behind them; gives back those of the open one.
    async fn hand_over_whole(&mut self) -> Result<Vec<(u32, ChangeBatch)>> {
        let open = self.progress.open();
        let last_whole = open.map(|lsn| PgPosition { epoch: self.epoch, lsn, ordinal: 0 }.position());
        let mut begun = Vec::new();
        for (oid, batch) in self.tables.take() {
            let whole = match (batch, &last_whole) {
                (Ok(batch), Some(last)) => {
                    let (whole, rest) = batch.split(last);
                    begun.push((oid, rest));
                    Ok(whole)
                }
                (batch, _) => batch,
            };
            match whole {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => self.send(Event::Changes(self.room.admit(batch).await)).await?,
                Err(error) => {
                    if let Applied::Stopped(table, error) = self.tables.stop(oid, error) {
                        self.send(stopped(table, error)).await?;
                    }
                }
            }
        }
        if open.is_some() && open == self.progress.begun {
            return Ok(begun);
        }
        self.progress.due = None;
        if open.is_none() {
            self.settle().await?;
        }
        let reached = self.progress.reached;
        if reached > *self.boundary.borrow() {
            self.send(Event::Boundary(self.checkpoint(reached))).await?;
            self.boundary.send_replace(reached);
        }
        Ok(begun)
    }

    /// Hands over rows of the open transaction: there is no boundary before its end any more.
    async fn hand_over_begun(&mut self, begun: Vec<(u32, ChangeBatch)>) -> Result<()> {
        for (_, batch) in begun.into_iter().filter(|(_, batch)| !batch.is_empty()) {
            self.progress.begun = self.progress.open();
            self.send(Event::Changes(self.room.admit(batch).await)).await?;
        }
        Ok(())
    }

    fn checkpoint(&self, lsn: Lsn) -> Checkpoint {
        let through: Position = PgPosition::boundary(self.epoch, lsn).position();
        Checkpoint { stream: self.source.clone(), through, identity: self.identity.to_string() }
    }

    async fn send(&self, event: Event) -> Result<()> {
        // Only reached when the source was dropped in this moment; `follow` sees the closed channel and leaves.
        if self.out.send(Ok(event)).await.is_err() {
            tracing::debug!("nobody listens to the stream any more");
        }
        Ok(())
    }
}

fn stopped(table: TableName, error: Error) -> Event {
    Event::Notice { table, notice: TableNotice::Stopped(error) }
}
