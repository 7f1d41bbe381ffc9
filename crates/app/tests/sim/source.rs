//! The scripted source: hands a database's history over as the Postgres connector does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capture::postgres::Resume;
use change::{
    Checkpoint, ChunkSet, CopyProgress, Error, Event, Identity, Kind, Op, Position, Result, Source, SourceStatus,
    StatusReader, TableCheckpoint,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::batches::{Batches, copied};
use crate::history::{Change, What};
use crate::judge::Judge;
use crate::mutation::Mutation;
use crate::rests::Rests;
use crate::script::{BIG, Heap, Row, SOURCE, Script, Shape, cell, parts, position};
use crate::world::World;

/// The database server: what outlives the process that reads it.
pub(crate) struct Server {
    pub(crate) script: Arc<Script>,
    /// What the slot has confirmed; `None` before it is made.
    slot: Mutex<Option<u64>>,
    /// The log's end is never below this: making a snapshot writes to the log.
    floor: Mutex<u64>,
    plans: Mutex<u64>,
}

impl Server {
    pub(crate) fn new(script: Arc<Script>) -> Self {
        Self { script, slot: Mutex::default(), floor: Mutex::default(), plans: Mutex::default() }
    }

    /// The end of the log at this time. Idle servers write a little now and then.
    pub(crate) fn end_of_log(&self, now: i64) -> u64 {
        let committed = self.script.committed(now);
        let Some(last) = committed.checked_sub(1).map(|last| &self.script.log[last]) else { return 500 };
        let idle = ((now - last.at) / 50_000).clamp(0, 400) as u64;
        let next = self.script.log.get(committed).map_or(u64::MAX, |next| next.lsn);
        (last.end + idle).max(*self.floor.lock().unwrap()).min(next)
    }

    fn snapshot(&self, now: i64) -> u64 {
        let at = self.end_of_log(now) + 1;
        *self.floor.lock().unwrap() = at;
        at
    }
}

/// A first copy that is being made.
struct Copying {
    table: usize,
    progress: Option<CopyProgress>,
    low: u64,
    /// The structure that the catalog had at open.
    shape: Shape,
    /// The state of the database that all chunks see; `None` when each sees the newest.
    snapshot: Option<usize>,
    ready: VecDeque<Event>,
}

/// One connection to the database.
pub(crate) struct ScriptedSource {
    server: Arc<Server>,
    world: Arc<World>,
    judge: Arc<Mutex<Judge>>,
    mutation: Option<Mutation>,
    /// Whether another process reads the database too.
    rivals: bool,
    rests: Rests,
    random: StdRng,
    first: VecDeque<Event>,
    stream: VecDeque<Event>,
    /// The share of events that are of copies.
    copy_share: f64,
    copies: Vec<Copying>,
    batches: Batches,
    /// The next transaction of the stream.
    next: usize,
    boundary: u64,
    /// Below this a table's changes were visible to its copy.
    from: Vec<u64>,
    /// Whether the lake has the rows that a table's updates build upon.
    bases: Vec<Base>,
    /// When the connection breaks for good.
    breaks_at: Option<i64>,
}

/// How much of a table's first copy is behind the stream.
enum Base {
    Copying,
    /// Every chunk is handed over, and the stream has to pass the end of the log as it was after values were last read again.
    Settling {
        progress: CopyProgress,
        all_below: u64,
        through: u64,
        read: bool,
    },
    Whole,
}

/// How a table's copy stands at open.
enum Copy {
    Whole,
    GoesOn(CopyProgress),
    Begins { anew: bool },
}

/// Opens the source where the lake's records end.
///
/// # Errors
/// `SourceGone` when the slot is ahead of everything that was recorded: then the process has confirmed what it had not made durable.
pub(crate) fn open(
    server: &Arc<Server>,
    world: &Arc<World>,
    judge: &Arc<Mutex<Judge>>,
    resume: &Resume,
    seed: u64,
    mutation: Option<Mutation>,
    (rivals, rests): (bool, &Rests),
) -> Result<ScriptedSource> {
    let now = world.clock.micros();
    let confirmed = server.slot_for(resume, now)?;
    // Whoever waits for the log's end as it is now makes the server write a little more.
    server.snapshot(now);
    let mut random = StdRng::seed_from_u64(seed);
    if random.random_bool(0.1) {
        judge.lock().unwrap().rewrite(random.random_range(0..server.script.tables.len()));
    }
    let script = &server.script;
    let committed = script.committed(now);
    let mut source = ScriptedSource {
        server: server.clone(),
        world: world.clone(),
        judge: judge.clone(),
        first: VecDeque::new(),
        stream: VecDeque::new(),
        copy_share: random.random_range(0.01..0.6),
        copies: Vec::new(),
        batches: Batches::new(script, committed, random.random_range(4..60), mutation == Some(Mutation::WrongOrder)),
        next: script.log.partition_point(|transaction| transaction.lsn < confirmed),
        boundary: confirmed,
        from: Vec::new(),
        bases: Vec::new(),
        breaks_at: random.random_bool(0.1).then(|| now + random.random_range(0..30_000_000)),
        mutation,
        rivals,
        rests: rests.clone(),
        random,
    };
    if source.mutation == Some(Mutation::ResumesOffByOne) && confirmed > 1_000 {
        source.next += 1;
    }
    source.plan(resume, now, committed, confirmed);
    Ok(source)
}

impl Server {
    fn slot_for(&self, resume: &Resume, now: i64) -> Result<u64> {
        let streams = resume.tables.values().filter_map(|table: &TableCheckpoint| table.stream.as_ref());
        let lows = resume.tables.values().filter_map(|table| table.copy.as_ref()).map(|copy| &copy.low);
        let highest = streams.chain(&resume.stream).map(|checkpoint| &checkpoint.through).chain(lows).max();
        let highest = highest.map(|highest| parts(highest).0);
        let end = self.end_of_log(now);
        let slot = *self.slot.lock().unwrap().get_or_insert(end);
        match highest {
            Some(highest) if slot > highest => Err(Error::new(
                Kind::SourceGone,
                format!("the slot is at {slot} and the lake only at {highest}: more was confirmed than made durable"),
            )),
            _ => Ok(slot),
        }
    }
}

impl ScriptedSource {
    /// What every table's first copy needs, and what is said of it at once.
    fn plan(&mut self, resume: &Resume, now: i64, committed: usize, confirmed: u64) {
        let server = self.server.clone();
        let copies: Vec<Copy> = server
            .script
            .tables
            .iter()
            .enumerate()
            .map(|(number, table)| {
                let keyed = matches!(table.identity, Identity::Key(_));
                let stored = resume.tables.get(&table.name);
                let from =
                    stored.and_then(|stored| stored.stream.as_ref()).map_or(0, |stream| parts(&stream.through).0);
                let recorded = resume.stream.as_ref().map_or(0, |stream| parts(&stream.through).0);
                let ends_by = |finished: &Position| !keyed || parts(finished).0 <= from.max(confirmed).max(recorded);
                match stored.and_then(|stored| stored.copy.clone()) {
                    // A table that the lake has and knows no copy of holds rows of the stream since a LOW that nobody knows.
                    None => Copy::Begins { anew: resume.tables.contains_key(&table.name) },
                    Some(progress) if progress.finished.as_ref().is_some_and(ends_by) => Copy::Whole,
                    // What it settled by is streamed again.
                    Some(progress) if progress.finished.is_some() => {
                        self.world.count("copies: settled again");
                        Copy::GoesOn(CopyProgress { finished: None, ..progress })
                    }
                    Some(progress) if keyed && self.judge.lock().unwrap().fits(number, &progress) => {
                        Copy::GoesOn(progress)
                    }
                    Some(_) => Copy::Begins { anew: true },
                }
            })
            .collect();
        let keyless = |(table, copy): (usize, &Copy)| {
            matches!(copy, Copy::Begins { .. }) && !matches!(server.script.tables[table].identity, Identity::Key(_))
        };
        let snapshot = copies.iter().enumerate().any(keyless).then(|| server.snapshot(now));
        let low = server.end_of_log(now);
        let mut started = Vec::new();
        for (table, copy) in copies.into_iter().enumerate() {
            let (heap, shape) = server.script.table_after(committed, table);
            let own = snapshot.filter(|_| !matches!(server.script.tables[table].identity, Identity::Key(_)));
            self.first.push_back(Event::SchemaChanged { schema: server.script.tables[table].schema(shape) });
            let (mut from, mut base) = (0, Base::Copying);
            let copying = |low: u64, progress: Option<CopyProgress>| Copying {
                table,
                progress,
                low,
                shape,
                snapshot: own.map(|_| committed),
                ready: VecDeque::new(),
            };
            match copy {
                Copy::Whole => {
                    let stored =
                        resume.tables[&server.script.tables[table].name].copy.clone().unwrap_or_else(|| unreachable!());
                    base = Base::Whole;
                    from = parts(&stored.low).0;
                }
                Copy::GoesOn(progress) => {
                    from = parts(&progress.low).0;
                    started.push(Event::CopyStarted {
                        table: server.script.tables[table].name.clone(),
                        progress: progress.clone(),
                    });
                    self.copies.push(copying(from, Some(progress)));
                }
                Copy::Begins { anew } => {
                    from = from.max(own.unwrap_or(low));
                    self.judge.lock().unwrap().begins(table, from, self.rivals);
                    let mut job = copying(from, None);
                    if anew {
                        let progress = self.plan_copy(table, &heap, from);
                        started.push(Event::CopyStarted {
                            table: server.script.tables[table].name.clone(),
                            progress: progress.clone(),
                        });
                        job.progress = Some(progress);
                    }
                    self.copies.push(job);
                }
            }
            self.from.push(from);
            self.bases.push(base);
        }
        self.first.extend(started);
    }

    fn plan_copy(&mut self, table: usize, heap: &Heap, low: u64) -> CopyProgress {
        let step = self.random.random_range(2..30);
        let mut plans = self.server.plans.lock().unwrap();
        *plans += 1;
        CopyProgress {
            low: position(low, 0),
            plan: format!("{} {step} {} {}", *plans, heap.len(), self.judge.lock().unwrap().rewrites(table)),
            chunks: heap.len().div_ceil(step) as u32,
            done: ChunkSet::default(),
            finished: None,
        }
    }

    /// The next event of one of the copies.
    fn copy_step(&mut self, at: usize) -> Option<Event> {
        if let Some(event) = self.copies[at].ready.pop_front() {
            return Some(event);
        }
        let now = self.world.clock.micros();
        let committed = self.server.script.committed(now);
        let (table, low) = (self.copies[at].table, self.copies[at].low);
        let seen = self.copies[at].snapshot.unwrap_or(committed);
        let name = self.server.script.tables[table].name.clone();
        let (heap, now_shaped) = self.server.script.table_after(seen, table);
        let shape = self.copies[at].shape;
        if !now_shaped.still_answers(shape) {
            // The statement that reads a chunk fails.
            self.breaks_at = Some(now);
            return None;
        }
        let Some(mut progress) = self.copies[at].progress.clone() else {
            let progress = self.plan_copy(table, &heap, low);
            self.copies[at].progress = Some(progress.clone());
            return Some(Event::CopyStarted { table: name, progress });
        };
        let step: usize = progress.plan.split(' ').nth(1).and_then(|step| step.parse().ok()).unwrap_or(1);
        let bound: usize = progress.plan.split(' ').nth(2).and_then(|bound| bound.parse().ok()).unwrap_or(0);
        let Some(chunk) = (0..progress.chunks).find(|chunk| !progress.done.contains(*chunk)) else {
            let end = self.server.end_of_log(now);
            self.copies.remove(at);
            if matches!(self.server.script.tables[table].identity, Identity::Key(_)) {
                self.bases[table] = Base::Settling { progress, all_below: end, through: end, read: false };
                return None;
            }
            self.bases[table] = Base::Whole;
            progress.finished = Some(position(end, 0));
            return Some(Event::CopyDone { table: name, progress });
        };
        let first = chunk as usize * step;
        let places = first..(first + step).min(bound).min(heap.len()).max(first.min(heap.len()));
        let places = places.start.min(heap.len())..places.end;
        let rows: Vec<Row> =
            heap[places].iter().flatten().map(|row| row.iter().take(shape.columns).cloned().collect()).collect();
        self.judge.lock().unwrap().delivered(table, &progress, chunk, &rows);
        let size = self.random.random_range(1..20);
        for (number, rows) in rows.chunks(size).enumerate() {
            let batch = copied(
                &self.server.script.tables[table],
                shape,
                chunk,
                low,
                crate::clock::START + now,
                number * size,
                rows,
            );
            self.copies[at].ready.push_back(Event::Changes(batch));
        }
        progress.done.insert(chunk);
        self.copies[at].progress = Some(progress.clone());
        self.copies[at].ready.push_back(Event::ChunkDone { table: name, chunk, progress });
        self.copies[at].ready.pop_front()
    }

    /// Takes transactions of the stream, and hands over what was decoded with the boundary behind it.
    fn stream_step(&mut self, committed: usize) {
        let last = (self.next + self.random.random_range(0..4)).min(committed - 1);
        for transaction in self.next..=last {
            for mut change in self.server.script.changes(transaction) {
                if change.lsn < self.from[change.table] {
                    continue;
                }
                self.fill_gap(&mut change, committed);
                let before = transaction.checked_sub(1).map_or(0, |before| self.server.script.log[before].end);
                let Self { batches, boundary, stream, .. } = self;
                batches.take(&change, || boundary_at(boundary, before), stream);
            }
        }
        self.next = last + 1;
        self.batches.hand_over(&mut self.stream);
        self.settle(self.server.script.log[last].end);
        self.reach_boundary(self.server.script.log[last].end);
    }

    /// While a table's copy is unfinished, values that the log leaves out are read from the database.
    fn fill_gap(&mut self, change: &mut Change, committed: usize) {
        let What::Row { op, row, unsent } = &mut change.what else { return };
        let lacks = match &mut self.bases[change.table] {
            Base::Copying => true,
            // An insert without all values is the second half of a changed key.
            Base::Settling { all_below, read, .. } if *unsent && (change.lsn < *all_below || *op == Op::Insert) => {
                *read = true;
                true
            }
            Base::Settling { .. } | Base::Whole => false,
        };
        if !*unsent || !lacks {
            return;
        }
        let (heap, _) = self.server.script.table_after(committed, change.table);
        if let Some(found) = heap.iter().flatten().find(|found| found[0] == row[0]) {
            row[BIG] = cell(found, BIG);
            *unsent = false;
        }
    }

    /// Copies whose end the stream has come to.
    fn settle(&mut self, reached: u64) {
        let now = self.world.clock.micros();
        for (table, base) in self.bases.iter_mut().enumerate() {
            let Base::Settling { progress, through, read, .. } = base else { continue };
            if reached >= *through && *read {
                (*through, *read) = (self.server.end_of_log(now), false);
                self.world.count("copies: looked at the log's end again");
            }
            if reached >= *through {
                let progress = CopyProgress { finished: Some(position(*through, 0)), ..progress.clone() };
                *base = Base::Whole;
                let table = self.server.script.tables[table].name.clone();
                self.stream.push_back(Event::CopyDone { table, progress });
            }
        }
    }

    fn reach_boundary(&mut self, lsn: u64) {
        self.stream.extend(boundary_at(&mut self.boundary, lsn));
    }

    /// What can be handed over now.
    fn ready(&mut self) -> Option<Event> {
        if let Some(event) = self.first.pop_front() {
            return Some(event);
        }
        let now = self.world.clock.micros();
        if !self.copies.is_empty() && self.random.random_bool(self.copy_share) {
            let at = self.random.random_range(0..self.copies.len());
            return self.copy_step(at);
        }
        if self.stream.is_empty() {
            let committed = self.server.script.committed(now);
            if self.next < committed {
                self.stream_step(committed);
            } else if self.random.random_bool(0.3) {
                let end = self.server.end_of_log(now);
                self.settle(end);
                self.reach_boundary(end);
            }
        }
        self.stream.pop_front()
    }
}

impl Source for ScriptedSource {
    async fn next(&mut self) -> Result<Event> {
        loop {
            // All waiting is before any change of state, so that a call may be given up.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.rests.over(&self.world).await;
            if self.world.is_dead() || self.world.step() {
                std::future::pending::<()>().await;
            }
            if self.breaks_at.is_some_and(|at| at <= self.world.clock.micros()) {
                self.world.count("source: connection lost for good");
                return Err(Error::new(Kind::Unavailable, "the database does not answer"));
            }
            if let Some(event) = self.ready() {
                if let Event::Truncated { table, position, .. } = &event {
                    let number = self.server.script.tables.iter().position(|known| known.name == *table);
                    number
                        .into_iter()
                        .for_each(|table| self.judge.lock().unwrap().reset(table, position.clone(), false));
                }
                self.world.trace("event", &told(&event));
                return Ok(event);
            }
            let pause = self.random.random_range(5..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn confirm(&mut self, durable: &Checkpoint) -> Result<()> {
        self.rests.over(&self.world).await;
        if self.world.is_dead() || self.world.step() {
            std::future::pending::<()>().await;
        }
        let lsn = parts(&durable.through).0;
        self.world.trace("confirm", &lsn.to_string());
        self.world.count("confirmations");
        let through = match self.mutation {
            Some(Mutation::ConfirmsEarly) => self.boundary,
            _ => lsn,
        };
        self.judge.lock().unwrap().confirmed(&position(through, 0), &durable.through);
        let mut slot = self.server.slot.lock().unwrap();
        *slot = (*slot).max(Some(through));
        Ok(())
    }

    fn status(&self) -> StatusReader {
        Arc::new(SourceStatus::default)
    }
}

/// The boundary behind the end of a transaction, unless it was handed over before.
fn boundary_at(last: &mut u64, lsn: u64) -> Option<Event> {
    (lsn > *last).then(|| {
        *last = lsn;
        let checkpoint = Checkpoint { stream: SOURCE.into(), through: position(lsn, 0), identity: "simulated".into() };
        Event::Boundary(checkpoint)
    })
}

/// An event for the trace.
fn told(event: &Event) -> String {
    match event {
        Event::Changes(batch) => {
            format!("{} {:?} rows {}", batch.schema().table, batch.origin(), batch.len())
        }
        Event::SchemaChanged { schema } => format!("{} columns {}", schema.table, schema.columns.len()),
        Event::Boundary(checkpoint) => format!("boundary {}", parts(&checkpoint.through).0),
        Event::Truncated { table, position, .. } => format!("{table} truncated {:?}", parts(position)),
        Event::CopyStarted { table, progress } => format!("{table} copy {progress:?}"),
        Event::ChunkDone { table, chunk, .. } => format!("{table} chunk {chunk} done"),
        Event::CopyDone { table, progress } => format!("{table} copied {:?}", progress.finished),
        other => format!("{other:?}"),
    }
}

/// Positions by hand, for messages.
pub(crate) fn shown(position: &Position) -> String {
    let (lsn, ordinal) = parts(position);
    format!("{lsn}/{ordinal}")
}
