use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use change::{Error, Event, Kind, Result, SourceStatus, StreamLag, TableName, TableNotice};
use pgwire_replication::Lsn;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::apply::TableFlags;
use super::client::{Address, Session};
use super::config::{BudgetLevel, WalBudget, WalPolicy};
use super::failure;
use super::publication;
use super::slot::{self, SlotState};
use super::standing::{self, Fate, Standing};
use super::stream::PAUSE_MAX;

/// How often the slot is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(3);

/// How long the server may take to answer all questions of one measurement. They are trivial.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Measurements in a row that find nobody on the slot while the stream is taken for connected, before it is taken up again.
const UNHEARD: u32 = 2;

/// What the source's tasks say to each other: what it says of itself, and which connections to give up.
///
/// A peer that vanished behind a device that still answers for it is not noticed by reading: nothing comes, and nothing breaks.
#[derive(Default)]
pub(crate) struct Health {
    status: Mutex<SourceStatus>,
    stream: watch::Sender<()>,
    copies: watch::Sender<()>,
}

impl Health {
    /// Changes when the stream's connection is known to be dead.
    pub(crate) fn stream_severed(&self) -> watch::Receiver<()> {
        self.stream.subscribe()
    }

    /// Changes when the connections that were open so far are known to be dead.
    pub(crate) fn copies_severed(&self) -> watch::Receiver<()> {
        self.copies.subscribe()
    }

    fn sever_stream(&self) {
        self.stream.send_replace(());
    }

    fn sever_all(&self) {
        self.copies.send_replace(());
        self.sever_stream();
    }

    pub(crate) fn status(&self) -> SourceStatus {
        self.lock().clone()
    }

    /// Why nothing is read; `None` when something is.
    pub(crate) fn set_idle(&self, why: Option<String>) {
        self.lock().idle = why;
    }

    fn set_lag(&self, lag: StreamLag) {
        self.lock().lag = lag;
    }

    fn lock(&self) -> MutexGuard<'_, SourceStatus> {
        // A status is plain data: whatever a panicking task left of it is still one.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lag of a slot when the server's log ends at `end`.
pub(crate) fn lag_of(slot: &SlotState, end: Lsn) -> StreamLag {
    let behind = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| end.as_u64().saturating_sub(lsn.as_u64()));
    StreamLag {
        confirmed_bytes: behind(slot.confirmed),
        retained_bytes: behind(slot.restart),
        retention_left_bytes: slot.safe_wal_size.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
    }
}

/// What is looked at from beside the stream.
pub(crate) struct Watched {
    pub(crate) address: Address,
    pub(crate) slot: String,
    pub(crate) publication: String,
    /// The server's.
    pub(crate) version: u32,
    pub(crate) budget: WalBudget,
    pub(crate) health: Arc<Health>,
    pub(crate) tables: WatchedTables,
    /// The task that reads the stream: it holds the slot.
    pub(crate) follower: AbortHandle,
    pub(crate) out: mpsc::Sender<Result<Event>>,
}

/// The followed tables by oid. The stream does not say when one is dropped, renamed or published no more.
pub(crate) type WatchedTables = BTreeMap<u32, WatchedTable>;

/// A followed table as it was at open.
pub(crate) struct WatchedTable {
    name: TableName,
    standing: Standing,
    /// The oids that its rows lie under; partitions that are attached join.
    parts: BTreeSet<u32>,
    flags: Arc<TableFlags>,
    dropped: bool,
}

impl WatchedTable {
    pub(crate) fn new(name: TableName, standing: Standing, parts: BTreeSet<u32>, flags: Arc<TableFlags>) -> Self {
        Self { name, standing, parts, flags, dropped: false }
    }
}

/// Measures the slot and looks at the tables, again and again; a task of its own.
pub(crate) async fn watch(mut watched: Watched) {
    let mut session: Option<Session> = None;
    let mut last = BudgetLevel::Within;
    let (mut silent, mut unheard) = (false, 0);
    loop {
        let before = session.is_some();
        let looked = match tokio::time::timeout(ANSWERS_WITHIN, measured(&mut watched, &mut session)).await {
            Ok(looked) => looked,
            Err(_) => {
                silent |= before;
                Err(failure::silent(&watched.address))
            }
        };
        match looked {
            Ok(Looked { gone: Some(error), .. }) => {
                // The receiver only goes away with the source itself.
                drop(watched.out.send(Err(error)).await);
                return;
            }
            Ok(Looked { lag, in_use, news, gone: None }) => {
                let Watched { slot, budget, health, out, .. } = &watched;
                if std::mem::take(&mut silent) {
                    tracing::warn!(
                        slot,
                        "a connection to the source was silent and a new one answers: all are made anew"
                    );
                    health.sever_all();
                }
                unheard = if in_use || health.status().idle.is_some() { 0 } else { unheard + 1 };
                if unheard == UNHEARD {
                    health.sever_stream();
                }
                for (table, notice) in news {
                    if out.send(Ok(Event::Notice { table, notice })).await.is_err() {
                        return;
                    }
                }
                if let Some(lag) = lag {
                    health.set_lag(lag);
                    let now = budget.level(lag.retained_bytes);
                    if now == BudgetLevel::Critical && budget.policy == WalPolicy::DropAndRepair {
                        let error = give_up(&watched, &mut session, lag.retained_bytes).await;
                        drop(watched.out.send(Err(error)).await);
                        return;
                    }
                    if now != last {
                        report(slot, now, &lag, budget);
                        last = now;
                    }
                }
            }
            // A server that shuts down waits until its log readers have confirmed everything, and ours may have to wait for the lake.
            Err(error) if failure::is_stopping(&error) && watched.health.status().idle.is_none() => {
                let slot = &watched.slot;
                tracing::warn!(slot, "the server is stopping: its log is not read until it is back");
                watched.health.sever_all();
            }
            // The stream itself reports a server that is away; here the old figures stay.
            Err(error) => tracing::debug!(%error, "the slot could not be measured"),
        }
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

/// The first pause before it is tried again to drop the slot: its walsender needs a moment to notice that nobody listens.
const DROP_AGAIN: Duration = Duration::from_millis(200);
/// How often it is said that the slot cannot be dropped.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The tries of something that is tried until it succeeds.
struct Tries {
    pause: Duration,
    /// Since it was last said that it fails; `None` before.
    silent: Option<Duration>,
}

impl Tries {
    /// Another one failed: how long to wait, and whether to say so.
    fn failed(&mut self) -> (Duration, bool) {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        let say = self.silent.is_none_or(|silent| silent >= SAID_EVERY);
        self.silent = Some(self.silent.filter(|_| !say).unwrap_or_default() + pause);
        (pause, say)
    }
}

/// Drops the slot, however long that takes: the server's disk goes before the stream. What the run ends with; `Auth` when this user may not.
async fn give_up(watched: &Watched, session: &mut Option<Session>, retained: u64) -> Error {
    let Watched { address, slot, budget, follower, health, .. } = watched;
    // A lake that is away makes the reader wait with the slot in its hands.
    follower.abort();
    health.set_idle(Some("over its budget: the slot is being dropped".into()));
    let mut tries = Tries { pause: DROP_AGAIN, silent: None };
    loop {
        let tried = tokio::time::timeout(ANSWERS_WITHIN, dropped(address, slot, session)).await;
        let error = match tried.unwrap_or_else(|_| Err(failure::silent(address))) {
            Ok(true) => break,
            Ok(false) => "somebody reads it".to_owned(),
            Err(error) if error.kind() == Kind::Auth => {
                return error.context(format!("the slot {slot} is over its budget and cannot be dropped"));
            }
            Err(error) => error.to_string(),
        };
        let (pause, say) = tries.failed();
        if say {
            tracing::error!(slot, error, "the slot is over its budget and cannot be dropped yet");
        }
        tokio::time::sleep(pause).await;
    }
    let critical = budget.critical.0;
    let what = format!(
        "the source kept {retained} bytes of log for the replication slot {slot}, and its budget is {critical}: the slot was dropped, as \
         `wal_budget.policy: drop_and_repair` says. The source's disk is safe; changes are missing from the lake from here on"
    );
    Error::new(Kind::SourceGone, what)
        .fix("Mend what kept the lake from following, then run: lockgate repair. It makes a new slot and writes only what differs.")
}

/// Whether the slot is gone now. A walsender of ours that still holds it is ended.
async fn dropped(address: &Address, slot: &str, session: &mut Option<Session>) -> Result<bool> {
    let open = match session.take().filter(|session| !session.client.is_closed()) {
        Some(open) => open,
        None => address.connect("monitor").await?,
    };
    let holder = slot::read(address, &open, slot).await?.and_then(|state| state.active_pid);
    if let Some(pid) = holder {
        let ended = open.client.execute("select pg_terminate_backend($1)", &[&pid]).await;
        ended.map_err(|e| failure::asking(address, "ending the walsender", e))?;
    }
    let done = slot::drop_unused(address, &open, slot).await?;
    *session = Some(open);
    Ok(done)
}

fn report(slot: &str, level: BudgetLevel, lag: &StreamLag, budget: &WalBudget) {
    let bytes = lag.retained_bytes;
    match level {
        BudgetLevel::Within => tracing::info!(slot, bytes, "the source's retained log is within its budget again"),
        BudgetLevel::Warn => tracing::warn!(slot, bytes, budget = budget.warn.0, "the source keeps much log for us"),
        BudgetLevel::Critical => tracing::error!(
            slot,
            bytes,
            budget = budget.critical.0,
            "the source keeps more log for us than its budget allows: find out why nothing is confirmed; `wal_budget.policy` says what is done about it"
        ),
    }
}

/// What a look beside the stream found.
struct Looked {
    /// `None` when there is no slot.
    lag: Option<StreamLag>,
    /// Whether somebody reads the slot.
    in_use: bool,
    /// Of the tables, since the last time.
    news: Vec<(TableName, TableNotice)>,
    /// The publication is not there any more, is another one, or was altered.
    gone: Option<Error>,
}

async fn measured(watched: &mut Watched, session: &mut Option<Session>) -> Result<Looked> {
    let address = &watched.address;
    let open = match session.take().filter(|session| !session.client.is_closed()) {
        Some(open) => open,
        None => address.connect("monitor").await?,
    };
    let end = end_of_log(address, &open).await?;
    let state = slot::read(address, &open, &watched.slot).await?;
    let in_use = state.as_ref().is_some_and(|state| state.active);
    let lag = state.map(|state| lag_of(&state, end));
    let gone = lost_publication(watched, &open).await?;
    let news = if gone.is_none() { news_of_tables(watched, &open).await? } else { Vec::new() };
    *session = Some(open);
    Ok(Looked { lag, in_use, news, gone })
}

/// What became of the publication; `None` when it is as it was found at open.
async fn lost_publication(watched: &Watched, session: &Session) -> Result<Option<Error>> {
    let Watched { address, publication: name, tables, .. } = watched;
    let Some(before) = tables.values().next().map(|table| &table.standing) else { return Ok(None) };
    Ok(publication::gap(name, before, publication::head(address, session, name).await?.as_ref()))
}

/// What became of the tables since the last time; those that are lost are stopped and looked at no more.
async fn news_of_tables(watched: &mut Watched, session: &Session) -> Result<Vec<(TableName, TableNotice)>> {
    let Watched { address, publication, version, tables, .. } = watched;
    tables.retain(|_, table| !table.flags.stopped.load(Ordering::Acquire));
    let oids: Vec<u32> = tables.keys().copied().collect();
    let found = standing::find(address, session, publication, *version, &oids).await?;
    let names = tables.iter().filter(|(oid, _)| !found.contains_key(oid)).map(|(_, table)| &table.name);
    let namesakes = standing::present(address, session, names).await?;
    let mut news = Vec::new();
    for (oid, table) in tables {
        let namesake = namesakes.contains(&table.name);
        let now = found.get(oid);
        let error = match standing::fate(&table.name, &table.standing, &table.parts, now, namesake) {
            Fate::Same => {
                table.parts.extend(now.iter().flat_map(|now| &now.parts));
                continue;
            }
            Fate::Dropped => {
                // Told once; from now on its name is looked for.
                if !std::mem::replace(&mut table.dropped, true) {
                    news.push((table.name.clone(), TableNotice::Dropped));
                }
                continue;
            }
            Fate::Lost(why) => standing::lost(&table.name, why),
            Fate::Shrunk => standing::shrunk(&table.name),
        };
        table.flags.stopped.store(true, Ordering::Release);
        news.push((table.name.clone(), TableNotice::Stopped(error)));
    }
    Ok(news)
}

/// The position at which the server writes its next log record.
pub(crate) async fn end_of_log(address: &Address, session: &Session) -> Result<Lsn> {
    let row = session
        .client
        .query_one("select pg_current_wal_insert_lsn()::text", &[])
        .await
        .map_err(|e| failure::asking(address, "reading the position of the log", e))?;
    Lsn::parse(row.get(0)).map_err(|_| failure::ended(address))
}

/// As [`end_of_log`], for a stream that then comes to it even if nobody writes. It is sent what is on the disk; what is not yet (of transactions that do
/// not wait for it, above all) may stay so for long, unless a transaction with a number follows, after which it gets there within `wal_writer_delay`.
pub(crate) async fn end_to_reach(address: &Address, session: &Session) -> Result<Lsn> {
    let end = end_of_log(address, session).await?;
    let asked = session.client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await;
    let row = asked.map_err(|e| failure::asking(address, "reading the position of the log", e))?;
    if Lsn::parse(row.get(0)).map_err(|_| failure::ended(address))? < end {
        let done = session.client.batch_execute("select pg_current_xact_id()").await;
        done.map_err(|e| failure::asking(address, "writing the log out", e))?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_dropped_is_tried_ever_more_seldom_and_said_once_a_minute() {
        let mut tries = Tries { pause: DROP_AGAIN, silent: None };
        let (mut waited, mut said, mut count) = (Duration::ZERO, Vec::new(), 0);
        while waited < Duration::from_secs(600) {
            let (pause, say) = tries.failed();
            said.extend(say.then_some(waited));
            waited += pause;
            count += 1;
        }
        assert!(count < 60 && tries.pause == PAUSE_MAX, "{count} tries in ten minutes");
        assert_eq!((said[0], said.len()), (Duration::ZERO, 10));
        assert!(said.windows(2).all(|two| two[1] - two[0] >= SAID_EVERY));
    }

    #[test]
    fn lag_is_counted_from_the_end_of_the_log() {
        let slot = SlotState {
            confirmed: Some(Lsn::from_u64(900)),
            restart: Some(Lsn::from_u64(400)),
            safe_wal_size: Some(-5),
            ..SlotState::default()
        };
        let expected = StreamLag { confirmed_bytes: 100, retained_bytes: 600, retention_left_bytes: Some(0) };
        assert_eq!(lag_of(&slot, Lsn::from_u64(1000)), expected);
        assert_eq!(lag_of(&SlotState::default(), Lsn::from_u64(1000)), StreamLag::default());
    }
}
