//! `repair`: what differs is written, as changes of the gap.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use arrow::array::BooleanArray;
use capture::postgres::{self, Reread};
use change::{Checkpoint, Clock, FreshStart, Op, Origin, Result, RowMeta, RowMetaBuilder, TableCheckpoint, TableName};
use futures::TryStreamExt;
use gate::ClearedBatch;
use lake::{Lake, Layer, StoredRows};

use super::differences::{Difference, differences};
use super::fingerprint::Print;
use super::progress::Progress;
use super::runs::Runs;
use super::sides::Sides;
use crate::workers::Workers;

/// What a repair of one table has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    /// Rows of the source that were compared.
    pub(crate) compared: u64,
}

/// Rows of the lake whose fingerprints go to the disk together, at most.
const RUN_ROWS: u64 = 1 << 18;
/// Time between two words on how far a table is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Writes one table's differences.
struct Mender<'a> {
    table: &'a TableName,
    workers: &'a mut Workers,
    start: &'a FreshStart,
    clock: &'a dyn Clock,
    /// What the table has recorded of its copy.
    before: &'a TableCheckpoint,
    /// The number of the last change.
    number: u64,
    /// Changes that are not committed.
    waiting: u64,
    mended: Mended,
}

/// Where rows differ, by chunk, on disk: a table of which every row differs is mended in the same memory.
struct Found {
    inserts: Runs,
    updates: Runs,
    /// By chunk, and whether the lake lacks the row.
    waiting: BTreeMap<(u32, bool), Vec<Print>>,
    rows_waiting: u64,
}

/// Says how far a table is.
pub(crate) struct Teller<'a> {
    clock: &'a dyn Clock,
    say: &'a (dyn Fn(&str) + Sync),
    said: Duration,
}

/// Compares a table with its source and writes what differs; then it stands where the new stream begins. `None` when the source has rows that
/// the rules hold back: only a copy can hold them.
///
/// `before` is what the lake had recorded of the table, `number` the number of the last change that an earlier try has written, `progress` what it
/// has seen of the source. At most `rows_max` rows are looked at at a time.
///
/// # Errors
/// Those of the source and of the lake. What was seen and written stays: another try goes on from there.
pub(crate) async fn mend(
    (sides, progress, rows_max): (&Sides<'_>, &mut Progress, u64),
    reader: &Reread,
    workers: &mut Workers,
    (start, before, number): (&FreshStart, &TableCheckpoint, u64),
    mut teller: Teller<'_>,
) -> Result<Option<Mended>> {
    let table = &sides.gate.schema().table;
    let clock = teller.clock;
    read_source(sides, progress, &mut teller).await?;
    let mut mender = Mender { table, workers, start, clock, before, number, waiting: 0, mended: Mended::default() };
    if !sides.withheld() {
        let found = mender.compare(sides, progress, rows_max).await?;
        mender.write_all(sides, progress, &found, &mut teller).await?;
    }
    if sides.withheld() {
        return Ok(None);
    }
    mender.mended.compared = progress.source.rows();
    let mut copy = sides.plan().clone();
    (0..copy.chunks).for_each(|chunk| copy.done.insert(chunk));
    copy.finished = Some(reader.end_of_log(&start.stream.through).await?);
    let done = TableCheckpoint { stream: Some(start.stream.clone()), copy: Some(copy), ..before.clone() };
    mender.workers.commit_as(table, &done).await?;
    Ok(Some(mender.mended))
}

/// Reads the chunks of the source that were not read before. Each counts from when its fingerprints are on the disk.
async fn read_source(sides: &Sides<'_>, progress: &mut Progress, teller: &mut Teller<'_>) -> Result<()> {
    let chunks = sides.plan().chunks;
    let before = progress.source.numbers().len();
    if before > 0 {
        (teller.say)(&format!("goes on: {before} of {chunks} ranges were read before"));
    }
    for chunk in 0..chunks {
        if progress.source.has(chunk) {
            continue;
        }
        let mut prints = Vec::new();
        sides
            .chunk(chunk, async |_, more| {
                prints.extend(more);
                Ok(())
            })
            .await?;
        if sides.withheld() {
            break;
        }
        progress.source.put(chunk, prints)?;
        teller.tell(|| format!("{} of {chunks} ranges are read", progress.source.numbers().len()));
    }
    Ok(())
}

impl<'a> Teller<'a> {
    /// Says it by `say`.
    pub(crate) fn new(clock: &'a dyn Clock, say: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self { clock, say, said: clock.monotonic() }
    }

    fn tell(&mut self, what: impl Fn() -> String) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.said) >= SAY_EVERY {
            self.said = now;
            (self.say)(&what());
        }
    }
}

impl Found {
    fn new(progress: &Progress) -> Result<Self> {
        let [inserts, updates] = [progress.scratch("inserts")?, progress.scratch("updates")?];
        Ok(Self { inserts, updates, waiting: BTreeMap::new(), rows_waiting: 0 })
    }

    fn add(&mut self, chunk: u32, op: Op, of: Print) {
        self.waiting.entry((chunk, op == Op::Insert)).or_default().push(of);
        self.rows_waiting += 1;
    }

    fn flush(&mut self) -> Result<()> {
        self.rows_waiting = 0;
        for ((chunk, lacks), prints) in std::mem::take(&mut self.waiting) {
            let runs = if lacks { &mut self.inserts } else { &mut self.updates };
            runs.put(chunk, prints)?;
        }
        Ok(())
    }

    fn chunks(&self) -> BTreeSet<u32> {
        self.inserts.numbers().into_iter().chain(self.updates.numbers()).collect()
    }

    /// What is to be written of a chunk, by key: how, and the sum of what the lake has.
    fn of(&self, chunk: u32) -> Result<HashMap<u128, (Op, u128)>> {
        let of = |op, prints: Vec<Print>| prints.into_iter().map(move |print| (print.key, (op, print.row)));
        let inserts = of(Op::Insert, self.inserts.under(chunk)?);
        Ok(inserts.chain(of(Op::Update, self.updates.under(chunk)?)).collect())
    }
}

/// Brings the current rows to where the change log is, when an earlier try was killed between its two commits. Gives the number of the last
/// change that was written.
///
/// # Errors
/// Those of the lake.
pub(crate) async fn level(lake: &Lake, workers: &mut Workers, table: &TableName, start: &FreshStart) -> Result<u64> {
    let reached = async |layer| -> Result<Option<TableCheckpoint>> {
        let checkpoint = lake.checkpoint(table, layer).await?;
        Ok(checkpoint.filter(|at| at.stream.as_ref().is_some_and(|stream| stream.through > start.found_at)))
    };
    let Some(log) = reached(Layer::Changes).await? else { return Ok(0) };
    let through = log.stream.as_ref().map(|stream| &stream.through);
    let current = reached(Layer::Current).await?.and_then(|current| current.stream);
    if current.as_ref().map(|stream| &stream.through) < through
        && let Some(logged) = lake.stored(table, Layer::Changes).await?
    {
        let below = current.map_or_else(|| start.found_at.clone(), |stream| stream.through);
        let mut rows = logged.scan();
        while let Some(batch) = rows.try_next().await? {
            let found = |position: Option<&[u8]>| position.is_some_and(|at| at > below.as_bytes());
            let keep: BooleanArray = batch.positions()?.iter().map(|position| Some(found(position))).collect();
            if keep.true_count() > 0 {
                workers.replay(table, batch.chosen(&keep)?).await?;
            }
        }
        workers.commit_as(table, &log).await?;
    }
    through.map_or(Ok(0), |through| postgres::number_of(&start.found_at, through))
}

impl Mender<'_> {
    /// Finds what is to be written, and removes what is to go. The lake is read as it is now; one part of all keys is looked at after the other.
    async fn compare(&mut self, sides: &Sides<'_>, progress: &mut Progress, rows_max: u64) -> Result<Found> {
        let mut lake = lake_in(sides, progress, rows_max).await?;
        let mut found = Found::new(progress)?;
        let mut gone = HashSet::new();
        let parts = lake.rows().max(progress.source.rows()).div_ceil(rows_max.max(1)).max(1);
        for part in 1..=parts {
            let bound = (part < parts).then(|| ((u128::from(part) << 64) / u128::from(parts)) << 64);
            let stored = lake.below(bound)?.into_iter().map(|(_, print)| print).collect();
            differences(stored, progress.source.below(bound)?, |difference| match difference {
                Difference::Write { chunk, op, of } => found.add(chunk, op, of),
                Difference::Gone(key) => drop(gone.insert(key)),
            });
            if found.rows_waiting >= rows_max {
                found.flush()?;
            }
            if gone.len() as u64 >= rows_max || part == parts {
                self.remove_all(sides, &gone).await?;
                gone.clear();
            }
        }
        found.flush()?;
        Ok(found)
    }

    async fn remove_all(&mut self, sides: &Sides<'_>, gone: &HashSet<u128>) -> Result<()> {
        if !gone.is_empty() {
            sides.lake(async |rows, prints| self.remove(&rows, &prints, gone).await).await?;
        }
        if self.waiting > 0 { self.commit().await } else { Ok(()) }
    }

    /// Reads the chunks that have something to write once more, and writes it. What is seen of them now takes the place of what was seen before,
    /// so that another try finds it equal.
    async fn write_all(
        &mut self,
        sides: &Sides<'_>,
        progress: &mut Progress,
        found: &Found,
        teller: &mut Teller<'_>,
    ) -> Result<()> {
        let chunks = found.chunks();
        for (number, chunk) in (1..).zip(&chunks) {
            let mut wanted = found.of(*chunk)?;
            let mut seen = Vec::new();
            sides
                .chunk(*chunk, async |rows, prints| {
                    self.write(&rows, &prints, &mut wanted).await?;
                    seen.extend(prints);
                    Ok(())
                })
                .await?;
            if sides.withheld() {
                break;
            }
            if self.waiting > 0 {
                self.commit().await?;
            }
            progress.source.renew(*chunk, seen)?;
            teller.tell(|| format!("{number} of {} ranges that differ are written", chunks.len()));
        }
        Ok(())
    }

    /// Writes the rows that were found to differ and that the lake does not have as they are now.
    async fn write(
        &mut self,
        rows: &ClearedBatch,
        prints: &[Print],
        wanted: &mut HashMap<u128, (Op, u128)>,
    ) -> Result<()> {
        let mut ops = Vec::new();
        let mut keep = Vec::with_capacity(prints.len());
        for print in prints {
            let differing = wanted.get_mut(&print.key);
            let differing = differing.filter(|(op, stored)| *op == Op::Insert || *stored != print.row);
            keep.push(differing.is_some());
            // A row that moves may be seen twice.
            ops.extend(differing.map(|known| std::mem::replace(known, (Op::Update, print.row)).0));
        }
        if ops.is_empty() {
            return Ok(());
        }
        let inserted = ops.iter().filter(|op| **op == Op::Insert).count() as u64;
        self.mended.inserted += inserted;
        self.mended.updated += ops.len() as u64 - inserted;
        let meta = self.changes(ops)?;
        self.workers.write(rows.chosen(&BooleanArray::from(keep), Origin::Stream, meta)?, None).await
    }

    /// Removes the rows that the source does not have.
    async fn remove(&mut self, rows: &StoredRows, prints: &[Print], gone: &HashSet<u128>) -> Result<()> {
        let keep: BooleanArray = prints.iter().map(|print| Some(gone.contains(&print.key))).collect();
        let count = keep.true_count();
        if count == 0 {
            return Ok(());
        }
        self.mended.deleted += count as u64;
        let meta = self.changes(vec![Op::Delete; count])?;
        self.workers.remove(self.table, rows.chosen(&keep)?, meta).await
    }

    /// What is known of the next changes, one for each op.
    fn changes(&mut self, ops: Vec<Op>) -> Result<RowMeta> {
        let now = self.clock.now();
        let mut meta = RowMetaBuilder::default();
        for op in ops {
            self.number += 1;
            let position = postgres::numbered(&self.start.found_at, self.number)?;
            meta.push(op, position.as_bytes(), now, 0, self.number);
        }
        self.waiting += meta.len() as u64;
        Ok(meta.finish())
    }

    /// Commits what was found so far. The table stands between the old stream and the new one then.
    async fn commit(&mut self) -> Result<()> {
        let through = postgres::numbered(&self.start.found_at, self.number)?;
        let stream = Some(Checkpoint { through, ..self.start.stream.clone() });
        self.workers.commit_as(self.table, &TableCheckpoint { stream, ..self.before.clone() }).await?;
        self.waiting = 0;
        Ok(())
    }
}

/// The fingerprints of the lake's rows.
async fn lake_in(sides: &Sides<'_>, progress: &Progress, rows_max: u64) -> Result<Runs> {
    let mut runs = progress.scratch("lake")?;
    let (mut number, mut waiting) = (0, Vec::new());
    sides
        .lake(async |_, prints| {
            waiting.extend(prints);
            if waiting.len() as u64 >= rows_max.min(RUN_ROWS) {
                number += 1;
                runs.put(number, std::mem::take(&mut waiting))?;
            }
            Ok(())
        })
        .await?;
    runs.put(number + 1, waiting)?;
    Ok(runs)
}
