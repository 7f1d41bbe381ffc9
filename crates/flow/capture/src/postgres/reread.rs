//! Reading tables again beside a stream, or in place of one that was lost, to compare them with what was made of them.
//!
//! Chunks and short transactions are those of the first copy (see [`super::copy`]), and so is the seam to the stream: whatever is read after
//! the new slot was made is at least as new as the slot's first boundary, and the stream says everything above it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use change::{
    ChangeBatch, Checkpoint, Clock, CopyProgress, Error, FreshStart, Kind, Position, Result, TableName, TableSchema,
};
use tokio::sync::mpsc;

use super::catalog::CatalogTable;
use super::client::{Address, Session};
use super::config::PostgresConfig;
use super::copy::plan::{Plan, Range};
use super::copy::read::{ChunkRead, Outcome, leaves};
use super::copy::snapshot::wait_for_writers;
use super::describe::named;
use super::identity::{Recorded, Resume, StreamIdentity};
use super::measure::{self, end_of_log};
use super::position::PgPosition;
use super::publication::{self, Publication, Step};
use super::room::Room;
use super::server::Server;
use super::slot::{self, SlotVerdict};
use super::standing;
use super::table::PgTable;
use super::walsender;

/// A database whose tables are read again.
pub struct Reread {
    config: PostgresConfig,
    address: Address,
    session: Session,
    server: Server,
    clock: Arc<dyn Clock>,
    tables: BTreeMap<TableName, (PgTable, Arc<TableSchema>)>,
}

/// What is seen of the slot from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Somebody streams from it.
    pub active: bool,
    /// Bytes of log between what it has confirmed and the end of the log.
    pub confirmed_bytes: u64,
}

/// Connects and reads the catalog. Tables that cannot be followed are left out.
///
/// # Errors
/// `Config`, `Auth` and `Unavailable` as for any connection.
pub async fn reread(config: PostgresConfig, clock: Arc<dyn Clock>) -> Result<Reread> {
    let address = Address::of(&config)?;
    let session = address.connect("compare").await?;
    let server = Server::read(&address, &session).await?;
    server.check()?;
    let mut reread = Reread { config, address, session, server, clock, tables: BTreeMap::new() };
    reread.read_catalog().await?;
    Ok(reread)
}

impl Reread {
    /// The table's structure as the stream has it; `None` when it cannot be followed.
    pub fn schema(&self, table: &TableName) -> Option<&Arc<TableSchema>> {
        self.tables.get(table).map(|(_, schema)| schema)
    }

    /// The slot; `None` when there is none.
    pub async fn slot(&self) -> Result<Option<SlotView>> {
        let end = end_of_log(&self.address, &self.session).await?;
        let state = slot::read(&self.address, &self.session, &self.config.slot).await?;
        Ok(state.map(|state| SlotView {
            active: state.active,
            confirmed_bytes: measure::lag_of(&state, end).confirmed_bytes,
        }))
    }

    /// Whether the slot has confirmed everything at or below `position`: then every table of the lake has it.
    pub async fn has_confirmed(&self, position: &Position) -> Result<bool> {
        let wanted = PgPosition::parse(position)?.lsn;
        let state = slot::read(&self.address, &self.session, &self.config.slot).await?;
        Ok(state.and_then(|state| state.confirmed).is_some_and(|confirmed| confirmed >= wanted))
    }

    /// Whether the publication is there.
    pub async fn is_published(&self) -> Result<bool> {
        Ok(publication::head(&self.address, &self.session, self.config.publication()).await?.is_some())
    }

    /// The end of the database's log now, in the epoch of `like`. A stream comes to it even if nobody writes.
    pub async fn end_of_log(&self, like: &Position) -> Result<Position> {
        let end = end_of_log(&self.address, &self.session).await?;
        measure::nudge(&self.address, &self.session).await?;
        Ok(PgPosition::boundary(PgPosition::parse(like)?.epoch, end).position())
    }

    /// Why a run could not go on from what was recorded; `None` when it could.
    ///
    /// # Errors
    /// Everything but that changes may be missing.
    pub async fn trouble(&self, resume: &Resume) -> Result<Option<Error>> {
        match self.can_go_on(resume).await {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == Kind::SourceGone => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    async fn can_go_on(&self, resume: &Resume) -> Result<()> {
        let recorded = Recorded::of(resume)?;
        let Some(highest) = recorded.highest else { return Ok(()) };
        let name = self.config.publication();
        let Some(found) = publication::read(&self.address, &self.session, name, self.server.version).await? else {
            return Err(publication::gone(name));
        };
        for progress in resume.tables.values().filter_map(|table| table.copy.as_ref()) {
            let plan = Plan::read(progress)?;
            if let Some(error) = plan.of().and_then(|of| publication::gap(name, of, Some(&found.head))) {
                return Err(error);
            }
        }
        for step in publication::steps(name, Some(&found), &self.followable(Some(&found)).await?) {
            if let Step::Refuse(refusal) = step {
                return Err(refusal.error(true));
            }
        }
        let state = slot::read(&self.address, &self.session, &self.config.slot).await?;
        slot::judge(&self.config.slot, self.address.database(), state.as_ref(), Some(highest.lsn))?;
        let reached = recorded.highest.max(recorded.seen).map_or(highest.lsn, |reached| reached.lsn);
        let before = recorded.identity.as_ref().map(|identity| (identity, reached));
        walsender::identify(&self.address, &self.config.slot, before).await.map(|_| ())
    }

    /// Whether the slot may be made anew; changes nothing.
    ///
    /// # Errors
    /// `Config` when somebody reads the slot, when it is not ours, and when the server is another one than that of the records
    /// and `elsewhere` does not allow it.
    pub async fn may_start_anew(&self, resume: &Resume, elsewhere: bool) -> Result<()> {
        let identity = walsender::identify(&self.address, &self.config.slot, None).await?;
        let moved = |before: StreamIdentity| {
            (&before.system, &before.database) != (&identity.system, &identity.database) && !elsewhere
        };
        if Recorded::of(resume)?.identity.is_some_and(moved) {
            let what = format!("{} is not the database that the lake was made from", self.address.place());
            return Err(Error::new(Kind::Config, what)
                .fix("Correct the source's `url`. If this is the same data on another server, say so with --force."));
        }
        let name = &self.config.slot;
        let Some(state) = slot::read(&self.address, &self.session, name).await? else { return Ok(()) };
        match slot::judge(name, self.address.database(), Some(&state), None) {
            Err(error) if error.kind() != Kind::SourceGone => Err(error),
            _ if state.active => Err(slot_in_use(name)),
            _ => Ok(()),
        }
    }

    /// Makes the publication whole and the slot anew; waits for the transactions that are writing. What comes out lies above everything that
    /// `resume` has recorded.
    ///
    /// # Errors
    /// `Config` when somebody reads the slot.
    pub async fn start_anew(&mut self, resume: &Resume) -> Result<FreshStart> {
        let identity = walsender::identify(&self.address, &self.config.slot, None).await?;
        self.publish().await?;
        let name = &self.config.slot;
        if !slot::drop_unused(&self.address, &self.session, name).await? {
            return Err(slot_in_use(name));
        }
        wait_for_writers(&self.address, &self.session).await?;
        let low = slot::create(&self.address, &self.session, name, self.server.version).await?;
        // A commit below LOW is in the log before other sessions see it.
        wait_for_writers(&self.address, &self.session).await?;
        self.read_catalog().await?;
        let epoch = Recorded::of(resume)?.epoch();
        Ok(FreshStart {
            found_at: PgPosition::boundary(epoch + 1, low).position(),
            stream: Checkpoint {
                stream: self.config.source.clone(),
                through: PgPosition::boundary(epoch + 2, low).position(),
                identity: identity.to_string(),
            },
        })
    }

    /// Whether the slot still stands where it was made, so that a repair that was interrupted may go on.
    pub async fn is_still(&self, start: &FreshStart) -> Result<bool> {
        let low = PgPosition::parse(&start.stream.through)?.lsn;
        let state = slot::read(&self.address, &self.session, &self.config.slot).await?;
        let verdict = slot::judge(&self.config.slot, self.address.database(), state.as_ref(), Some(low));
        let identity = walsender::identify(&self.address, &self.config.slot, None).await?;
        let same = identity.to_string() == start.stream.identity;
        Ok(same && matches!(verdict, Ok(SlotVerdict::Follow { confirmed }) if confirmed == low))
    }

    /// How the table is cut into chunks of about `chunk_rows` rows, at `low`.
    pub async fn plan(&self, table: &TableName, low: &Position, chunk_rows: u64) -> Result<CopyProgress> {
        let table = self.table(table)?;
        let name = self.config.publication();
        let found = standing::find(&self.address, &self.session, name, self.server.version, &[table.oid]).await?;
        let standing = found.into_values().find_map(|found| found.standing).ok_or_else(|| {
            Error::new(Kind::SourceGone, format!("{}: the publication {name} does not have it", table.table))
                .fix("Start again: it is put back, and the table is compared with the database.")
        })?;
        let leaves = leaves(&self.address, &self.session, table, chunk_rows).await?;
        Plan::new(standing, leaves).begin(low.clone())
    }

    /// Whether a plan that was made earlier still cuts the table: the publication has had it all the time, and its rows lie in the same files.
    /// What has come behind its last block since was written after `low` of then.
    pub async fn still_fits(&self, table: &TableName, earlier: &CopyProgress) -> Result<bool> {
        let now = self.plan(table, &earlier.low, 1).await?;
        let (earlier, now) = (Plan::read(earlier)?, Plan::read(&now)?);
        Ok(earlier.of() == now.of() && earlier.still_fits(now.leaves()))
    }

    /// Reads one chunk of a plan in short transactions, `parts` of them. When `out` is closed, the one that goes on is the last.
    ///
    /// # Errors
    /// `Unavailable` when the connection broke, or the table was rewritten since it was planned; `Data` for values that cannot be read.
    pub async fn chunk(
        &self,
        table: &TableName,
        progress: &CopyProgress,
        (chunk, parts): (u32, u32),
        out: mpsc::Sender<ChangeBatch>,
    ) -> Result<()> {
        let table = self.table(table)?;
        let Some(range) = Plan::read(progress)?.range(chunk) else { return Ok(()) };
        for range in range.parts(parts) {
            if out.is_closed() {
                break;
            }
            self.part(table, (range, chunk), &progress.low, &out).await?;
        }
        Ok(())
    }

    async fn part(
        &self,
        table: &PgTable,
        (range, chunk): (Range, u32),
        low: &Position,
        out: &mpsc::Sender<ChangeBatch>,
    ) -> Result<()> {
        let read = ChunkRead {
            address: &self.address,
            table,
            range,
            chunk,
            low,
            snapshot: None,
            on_unfit: self.config.on_unfit,
            room: &Room::new(),
        };
        let hand_over = |batch| {
            let out = out.clone();
            async move {
                // When nobody listens any more, the rest of the transaction is passed over: it has to come to its end.
                drop(out.send(batch).await);
                Ok(())
            }
        };
        match read.run(&self.session, self.clock.as_ref(), hand_over).await? {
            Outcome::Read => Ok(()),
            Outcome::Rewritten => {
                let what = format!("{}: its rows were rewritten while it was compared", table.table);
                Err(Error::new(Kind::Unavailable, what).fix("Start again."))
            }
        }
    }

    fn table(&self, name: &TableName) -> Result<&PgTable> {
        let found = self.tables.get(name).map(|(table, _)| table);
        found.ok_or_else(|| Error::new(Kind::Bug, format!("{name}: it was not looked up")))
    }

    async fn publish(&self) -> Result<()> {
        let name = self.config.publication();
        let before = publication::read(&self.address, &self.session, name, self.server.version).await?;
        let tables = self.followable(before.as_ref()).await?;
        for step in publication::steps(name, before.as_ref(), &tables) {
            match step {
                Step::Run { sql } => publication::run(&self.address, &self.session, &sql).await?,
                Step::Refuse(refusal) => return Err(refusal.error(false)),
            }
        }
        Ok(())
    }

    /// The tables that can be followed, with the columns that are published.
    async fn followable(&self, published: Option<&Publication>) -> Result<Vec<CatalogTable>> {
        let found = named(&self.address, &self.session, &self.config).await?;
        let tables = found.iter().map(|table| table.as_published(published));
        let fit = |table: &CatalogTable| table.refused.is_none() && table.is_readable() && table.table.schema().is_ok();
        Ok(tables.filter(fit).collect())
    }

    /// The tables with the columns that are published.
    async fn read_catalog(&mut self) -> Result<()> {
        let name = self.config.publication();
        let published = publication::read(&self.address, &self.session, name, self.server.version).await?;
        self.tables.clear();
        for found in self.followable(published.as_ref()).await? {
            let schema = found.table.schema()?;
            self.tables.insert(found.table.table.clone(), (found.table, schema));
        }
        Ok(())
    }
}

fn slot_in_use(name: &str) -> Error {
    Error::new(Kind::Config, format!("somebody reads the replication slot {name}"))
        .fix("Stop `lockgate run`, or whoever reads it (pg_stat_replication), and start the repair again.")
}

/// The position of the change with this number, from 1, among those that stand at `base`.
///
/// # Errors
/// `SourceGone` when `base` is not a position of this connector.
pub fn numbered(base: &Position, number: u64) -> Result<Position> {
    Ok(PgPosition { ordinal: number, ..PgPosition::parse(base)? }.position())
}

/// The number that [`numbered`] gave a position; 0 when it does not stand at `base`.
///
/// # Errors
/// `SourceGone` when one of the two is not a position of this connector.
pub fn number_of(base: &Position, position: &Position) -> Result<u64> {
    let (base, position) = (PgPosition::parse(base)?, PgPosition::parse(position)?);
    Ok(if (base.epoch, base.lsn) == (position.epoch, position.lsn) { position.ordinal } else { 0 })
}
