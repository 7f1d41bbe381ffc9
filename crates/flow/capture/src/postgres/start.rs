use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use change::{Clock, CopyProgress, Error, Event, Identity, Kind, Position, Result, TableCheckpoint, TableNotice};
use pgwire_replication::Lsn;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::apply::{Followed, TableFlags, Tables};
use super::catalog::{self, CatalogTable};
use super::client::{Address, Session};
use super::config::PostgresConfig;
use super::copy::plan::{Leaf, Plan};
use super::copy::read::leaves;
use super::copy::run::{Copies, Job};
use super::copy::settle::Base;
use super::copy::snapshot::{Snapshot, wait_for_writers};
use super::identity::{Recorded, Resume};
use super::measure::{Health, WatchedTable, WatchedTables, end_of_log};
use super::position::PgPosition;
use super::publication::{self, Head, Publication, Step};
use super::room::Room;
use super::server::Server;
use super::slot::{self, SlotVerdict};
use super::source::Opened;
use super::standing::{self, Standing};
use super::stream::{Follower, Progress};
use super::walsender::{self, Link, Start};

/// Events that wait for the loop. The memory of their rows is bounded by the [`Room`].
const EVENTS_AHEAD: usize = 4;

/// What opening works with.
struct Opening<'a> {
    config: &'a PostgresConfig,
    resume: &'a Resume,
    address: Address,
    session: Session,
    server: Server,
    recorded: Recorded,
    first: VecDeque<Event>,
}

/// A table that is published now.
struct Published {
    catalog: CatalogTable,
    standing: Standing,
    /// The oids that its rows lie under.
    parts: BTreeSet<u32>,
    /// Whether it was published when we came.
    before: bool,
}

/// A table with what is known of its first copy.
struct Planned {
    catalog: CatalogTable,
    standing: Standing,
    parts: BTreeSet<u32>,
    copy: Copy,
}

/// What the tasks of an open source have to do.
struct Work {
    tables: Tables,
    jobs: Vec<Job>,
    watched: WatchedTables,
}

/// What a table's first copy needs.
enum Copy {
    /// It is whole.
    Whole(CopyProgress),
    /// It goes on.
    GoesOn(CopyProgress),
    /// It begins, or begins anew when something was copied before.
    Begins { anew: bool },
}

/// Does the work of [`super::open`](super::open()) but for the measuring.
pub(crate) async fn start(config: &PostgresConfig, resume: &Resume, clock: Arc<dyn Clock>) -> Result<Opened> {
    let address = Address::of(config)?;
    let session = address.connect("setup").await?;
    let server = Server::read(&address, &session).await?;
    server.check()?;
    let recorded = Recorded::of(resume)?;
    let mut opening = Opening { config, resume, address, session, server, recorded, first: VecDeque::new() };
    let before = opening.publication().await?;
    let tables = opening.tables(before.as_ref()).await?;
    let published = opening.publish(tables, before).await?;
    let confirmed = opening.slot().await?;
    let link = opening.link(confirmed).await?;
    let epoch = opening.recorded.epoch();
    let planned = opening.plan_copies(published, confirmed).await?;
    let work = opening.jobs(planned, epoch).await?;
    Ok(opening.spawn(work, link, confirmed, epoch, clock))
}

impl Opening<'_> {
    /// The publication as it was left; `None` when it is to be made.
    async fn publication(&self) -> Result<Option<Publication>> {
        let name = self.config.publication();
        let found = publication::read(&self.address, &self.session, name, self.server.version).await?;
        match &found {
            None if self.recorded.highest.is_some() => Err(publication::gone(name)),
            _ => Ok(found),
        }
    }

    /// The tables that are named and can be followed, with the columns that are published; the others are told as stopped.
    async fn tables(&mut self, published: Option<&Publication>) -> Result<Vec<CatalogTable>> {
        let patterns = &self.config.tables;
        let wanted = |schema: &str, table: &str| catalog::is_wanted(patterns, schema, table);
        let found = catalog::tables(&self.address, &self.session, &self.config.source, wanted).await?;
        if found.is_empty() {
            let what = format!("no table of {} is named by `tables`", self.address.place());
            return Err(
                Error::new(Kind::Config, what).fix("Check the names, and that they are written as schema.table.")
            );
        }
        let mut kept = Vec::new();
        for table in found {
            let table = table.as_published(published);
            let unreadable = table.table.schema().err();
            let error = if let Some(refusal) = &table.refused {
                Some(Error::new(Kind::Contract, &refusal.what).fix(&refusal.fix))
            } else {
                table.unreadable(self.address.user()).or(unreadable)
            };
            match error {
                Some(error) => {
                    let notice = TableNotice::Stopped(error);
                    self.first.push_back(Event::Notice { table: table.table.table.clone(), notice });
                }
                None => kept.push(table),
            }
        }
        Ok(kept)
    }

    /// Makes or completes the publication.
    async fn publish(&mut self, tables: Vec<CatalogTable>, before: Option<Publication>) -> Result<Vec<Published>> {
        let name = self.config.publication();
        if let Some(before) = &before {
            self.same_publication(&before.head, &tables)?;
        }
        self.leave_unwanted(name, &tables).await?;
        if tables.is_empty() {
            return Err(Error::new(Kind::Config, "none of the tables that `tables` names can be followed")
                .fix("Run `lockgate check --connect`: it gives the reason and the statement that mends it for each."));
        }
        for step in publication::steps(name, before.as_ref(), &tables) {
            match step {
                Step::Run { sql } => publication::run(&self.address, &self.session, &sql).await?,
                Step::Refuse(refusal) => return Err(refusal.error(self.recorded.highest.is_some())),
            }
        }
        let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
        let mut found = standing::find(&self.address, &self.session, name, self.server.version, &oids).await?;
        let known = before.as_ref().map(|before| before.head.version);
        let before = before.unwrap_or_default();
        let same = |standing: &Standing| known.is_none_or(|version| standing.version == Some(version));
        let published = tables.into_iter().map(|catalog| {
            let oid = catalog.table.oid;
            let found = found.remove(&oid).and_then(|found| Some((found.standing?, found.parts)));
            let (standing, parts) = found.filter(|(standing, _)| same(standing)).ok_or_else(|| {
                let what = format!("{}: the publication was altered while it was set up", catalog.table.table);
                Error::new(Kind::Unavailable, what).fix("Nothing, if it has the table; it is tried again.")
            })?;
            Ok(Published { catalog, standing, parts, before: before.tables.contains(&oid) })
        });
        published.collect()
    }

    /// Tables that were copied and that neither `tables` nor `kept` names any more leave the publication.
    async fn leave_unwanted(&self, name: &str, followed: &[CatalogTable]) -> Result<()> {
        let mut left = Vec::new();
        for (table, recorded) in &self.resume.tables {
            let named = |tables: &[String]| catalog::is_wanted(tables, &table.schema, &table.table);
            let wanted = named(&self.config.tables) || named(&self.config.kept);
            let Some(progress) = recorded.copy.as_ref().filter(|_| !wanted) else { continue };
            let of = Plan::read(progress)?.of().map(|of| of.table);
            // One that has another name now may be followed by that.
            left.extend(of.filter(|oid| followed.iter().all(|followed| followed.table.oid != *oid)));
        }
        if left.is_empty() { Ok(()) } else { publication::leave(&self.address, &self.session, name, &left).await }
    }

    /// Whether everything since the tables were copied was published by this publication.
    fn same_publication(&self, found: &Head, tables: &[CatalogTable]) -> Result<()> {
        let stored = tables.iter().filter_map(|table| self.resume.tables.get(&table.table.table)?.copy.as_ref());
        for progress in stored {
            let gap = |of: &Standing| publication::gap(self.config.publication(), of, Some(found));
            if let Some(error) = Plan::read(progress)?.of().and_then(gap) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the slot if it is missing and may be; its confirmed position.
    async fn slot(&self) -> Result<Lsn> {
        let name = &self.config.slot;
        let state = slot::read(&self.address, &self.session, name).await?;
        let highest = self.recorded.highest.map(|highest| highest.lsn);
        match slot::judge(name, self.address.database(), state.as_ref(), highest)? {
            SlotVerdict::Create => slot::create(&self.address, &self.session, name, self.server.version).await,
            SlotVerdict::Follow { confirmed } => Ok(confirmed),
        }
    }

    async fn link(&self, confirmed: Lsn) -> Result<Link> {
        let highest = self.recorded.highest.max(self.recorded.seen).map_or(Lsn::ZERO, |position| position.lsn);
        let start = Start {
            slot: &self.config.slot,
            publication: self.config.publication(),
            from: confirmed,
            durable: confirmed,
            before: self.recorded.identity.as_ref().map(|identity| (identity, highest)),
        };
        walsender::start(&self.address, start).await
    }

    /// What every table's first copy needs.
    async fn plan_copies(&self, tables: Vec<Published>, confirmed: Lsn) -> Result<Vec<Planned>> {
        // Everything at or below the record is durable, even if the server has not heard of it.
        let recorded_through = self.resume.stream.as_ref().map(|stream| stream.through.clone());
        let confirmed = PgPosition::boundary(self.recorded.epoch(), confirmed).position();
        let from = &recorded_through.map_or(confirmed.clone(), |recorded| recorded.max(confirmed));
        let mut planned = Vec::new();
        for Published { catalog, standing, parts, before } in tables {
            let recorded = self.resume.tables.get(&catalog.table.table);
            let stored = recorded.and_then(|table| table.copy.clone());
            let plan = stored.as_ref().map(Plan::read).transpose()?;
            let copy = match stored.zip(plan) {
                // The lake may hold rows that were streamed beside a copy that ended before its first chunk: they are void.
                None => Copy::Begins { anew: recorded.is_some() },
                // While it was not published, or another table had its name, its changes were not streamed.
                Some((_, plan)) if !plan.of().map_or(before, |of| standing.continues(of)) => {
                    Copy::Begins { anew: true }
                }
                // The rows that left with a partition are not in the log.
                Some((_, plan)) if plan.has_lost(&parts) => Copy::Begins { anew: true },
                Some((progress, _)) if is_whole(&catalog, &progress, recorded, from) => Copy::Whole(progress),
                // What it settled by is streamed again.
                Some((progress, _)) if progress.finished.is_some() => {
                    Copy::GoesOn(CopyProgress { finished: None, ..progress })
                }
                Some((progress, plan)) => {
                    let keyed = matches!(catalog.table.identity, Identity::Key(_));
                    let now = self.leaves(&catalog.table).await?;
                    let fits = keyed && (progress.is_read() || plan.still_fits(&now));
                    if fits { Copy::GoesOn(progress) } else { Copy::Begins { anew: true } }
                }
            };
            planned.push(Planned { catalog, standing, parts, copy });
        }
        Ok(planned)
    }

    /// The followed tables, and the copies to make. Says what is known of each table.
    async fn jobs(&mut self, planned: Vec<Planned>, epoch: u32) -> Result<Work> {
        let begins = |planned: &Planned| matches!(planned.copy, Copy::Begins { .. });
        let keyless = |planned: &Planned| begins(planned) && planned.catalog.table.identity == Identity::WholeRow;
        let snapshot = if planned.iter().any(keyless) {
            Some(Arc::new(Snapshot::export(&self.address, &self.config.slot).await?))
        } else {
            None
        };
        let low = PgPosition::boundary(epoch, end_of_log(&self.address, &self.session).await?);
        if planned.iter().any(|planned| matches!(planned.copy, Copy::Begins { anew: true })) {
            wait_for_writers(&self.address, &self.session).await?;
        }
        let (mut tables, mut jobs) = (Tables::new(self.config.on_unfit), Vec::new());
        let (mut started, mut watched) = (Vec::new(), WatchedTables::new());
        for Planned { catalog, standing, parts, copy } in planned {
            let whole = matches!(copy, Copy::Whole(_));
            let table = catalog.table.clone();
            let own = snapshot.as_ref().filter(|_| table.identity == Identity::WholeRow);
            let (from, job) = match copy {
                Copy::Whole(progress) => (PgPosition::parse(&progress.low)?, None),
                Copy::GoesOn(progress) => {
                    let low = PgPosition::parse(&progress.low)?;
                    let started_now = Event::CopyStarted { table: table.table.clone(), progress: progress.clone() };
                    started.push(started_now);
                    (low, Some((low, Some(progress), None)))
                }
                Copy::Begins { anew } => {
                    let low = own.map_or(low, |snapshot| PgPosition::boundary(epoch, snapshot.at));
                    let progress =
                        if anew { Some(self.plan_anew(&table, &standing, low, &mut started).await?) } else { None };
                    (low, Some((low, progress, own.cloned())))
                }
            };
            let flags = Arc::new(TableFlags { stopped: AtomicBool::new(false) });
            let watch = WatchedTable::new(table.table.clone(), standing.clone(), parts, Arc::clone(&flags));
            watched.insert(table.oid, watch);
            let base = if whole { Base::Whole } else { Base::Copying };
            let followed = Followed::new(catalog, from.lsn, base, Arc::clone(&flags))?;
            self.first.push_back(Event::SchemaChanged { schema: Arc::clone(&followed.schema) });
            tables.add(followed);
            if let Some((low, progress, snapshot)) = job {
                jobs.push(Job { table, standing, flags, low, progress, snapshot });
            }
        }
        self.first.extend(started);
        Ok(Work { tables, jobs, watched })
    }

    /// How much of a table there is to read, in chunks.
    async fn leaves(&self, table: &super::table::PgTable) -> Result<Vec<Leaf>> {
        leaves(&self.address, &self.session, table, self.config.copy.chunk_rows_of(&table.table)).await
    }

    /// A copy that begins anew is announced before anything is streamed, because it voids what the table holds.
    async fn plan_anew(
        &self,
        table: &super::table::PgTable,
        standing: &Standing,
        low: PgPosition,
        started: &mut Vec<Event>,
    ) -> Result<CopyProgress> {
        let leaves = self.leaves(table).await?;
        let progress = Plan::new(standing.clone(), leaves).begin(low.position())?;
        started.push(Event::CopyStarted { table: table.table.clone(), progress: progress.clone() });
        Ok(progress)
    }

    fn spawn(self, work: Work, link: Link, confirmed: Lsn, epoch: u32, clock: Arc<dyn Clock>) -> Opened {
        let Work { tables, jobs, watched } = work;
        let (out, events) = mpsc::channel(EVENTS_AHEAD);
        let room = Room::new();
        let (read_in, read) = mpsc::channel(EVENTS_AHEAD);
        let (confirmed_in, confirmed_out) = watch::channel(confirmed);
        let (boundary_in, boundary) = watch::channel(confirmed);
        let health = Arc::new(Health::default());
        let for_watch = out.clone();
        let mut tasks = JoinSet::new();
        let follower = Follower {
            address: self.address.clone(),
            source: self.config.source.clone(),
            slot: self.config.slot.clone(),
            publication: self.config.publication().to_string(),
            identity: link.identity.clone(),
            epoch,
            tables,
            out: out.clone(),
            room: room.clone(),
            confirmed: confirmed_out,
            boundary: boundary_in,
            read,
            health: Arc::clone(&health),
            progress: Progress::from(confirmed),
        };
        let follower = tasks.spawn(follower.run(link));
        let copies = Copies {
            address: self.address.clone(),
            clock,
            copy: self.config.copy.clone(),
            on_unfit: self.config.on_unfit,
            out,
            room,
            read: read_in,
            health: Arc::clone(&health),
        };
        if !jobs.is_empty() {
            tasks.spawn(copies.run(jobs));
        }
        Opened {
            address: self.address,
            epoch,
            version: self.server.version,
            watched,
            out: for_watch,
            first: self.first,
            events,
            confirmed: confirmed_in,
            boundary,
            health,
            follower,
            tasks,
        }
    }
}

/// Whether a copy that the lake has as finished stays so when the stream goes on from `from`. An update of a time before its end that is
/// sent again is filled again, from a later state of the database: then another end has to be found.
fn is_whole(
    catalog: &CatalogTable,
    progress: &CopyProgress,
    recorded: Option<&TableCheckpoint>,
    from: &Position,
) -> bool {
    let through = recorded.and_then(|table| table.stream.as_ref()).map(|stream| &stream.through);
    let from = through.map_or(from, |through| through.max(from));
    let keyed = matches!(catalog.table.identity, Identity::Key(_));
    progress.finished.as_ref().is_some_and(|finished| !keyed || from >= finished)
}
