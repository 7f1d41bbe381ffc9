//! `repair`: what differs is written, as changes of the gap.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use capture::postgres::{self, Reread};
use change::{Checkpoint, Clock, FreshStart, Op, Origin, Result, RowMeta, RowMetaBuilder, TableCheckpoint, TableName};
use futures::TryStreamExt;
use gate::ClearedBatch;
use lake::{Lake, Layer, StoredRows};

use super::fingerprint::Print;
use super::sides::{Reading, Sides};
use super::tally::{Part, Sum};
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

/// What the lake has of a key, and what of it was seen in the source.
#[derive(Clone, Copy, Default)]
struct Known {
    lake: Sum,
    in_source: bool,
}

/// Compares a table with its source and writes what differs; then it stands where the new stream begins. `None` when the source has rows that
/// the rules hold back: only a copy can hold them.
///
/// `before` is what the lake had recorded of the table, `number` the number of the last change that an earlier try has written.
///
/// # Errors
/// Those of the source and of the lake. What was written stays: another try finds it equal.
pub(crate) async fn mend(
    sides: &Sides<'_>,
    reader: &Reread,
    workers: &mut Workers,
    (start, before, number): (&FreshStart, &TableCheckpoint, u64),
    clock: &Arc<dyn Clock>,
) -> Result<Option<Mended>> {
    let table = &sides.gate.schema().table;
    let mut mender =
        Mender { table, workers, start, clock: clock.as_ref(), before, number, waiting: 0, mended: Mended::default() };
    let survey = sides.survey().await?;
    for part in &survey.parts {
        if !sides.withheld() {
            mender.part(sides, part).await?;
        }
    }
    if sides.withheld() {
        return Ok(None);
    }
    if let Some((source, _)) = survey.rows {
        mender.mended.compared = source;
    }
    let mut copy = sides.plan().clone();
    (0..copy.chunks).for_each(|chunk| copy.done.insert(chunk));
    copy.finished = Some(reader.end_of_log(&start.stream.through).await?);
    let done = TableCheckpoint { stream: Some(start.stream.clone()), copy: Some(copy), ..before.clone() };
    mender.workers.commit_as(table, &done).await?;
    Ok(Some(mender.mended))
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
    async fn part(&mut self, sides: &Sides<'_>, part: &Part) -> Result<()> {
        let mut known: HashMap<u128, Known> = HashMap::new();
        sides
            .lake(async |_, prints| {
                for print in prints.iter().filter(|print| part.holds(print.key)) {
                    known.entry(print.key).or_default().lake.add(print.row);
                }
                Ok(())
            })
            .await?;
        sides
            .source(async |reading| match reading {
                Reading::Rows(rows, prints) => {
                    self.mended.compared += rows.len() as u64;
                    self.write(&rows, &prints, part, &mut known).await
                }
                Reading::ChunkEnd if self.waiting > 0 => self.commit().await,
                Reading::ChunkEnd => Ok(()),
            })
            .await?;
        if sides.withheld() {
            return Ok(());
        }
        known.retain(|_, known| !known.in_source);
        if !known.is_empty() {
            sides.lake(async |rows, prints| self.remove(&rows, &prints, &known).await).await?;
        }
        if self.waiting > 0 { self.commit().await } else { Ok(()) }
    }

    /// Writes the rows that the lake does not have as they are.
    async fn write(
        &mut self,
        rows: &ClearedBatch,
        prints: &[Print],
        part: &Part,
        known: &mut HashMap<u128, Known>,
    ) -> Result<()> {
        let mut ops = Vec::new();
        let mut keep = Vec::with_capacity(prints.len());
        for print in prints {
            let op = part.holds(print.key).then(|| judge(print, known)).flatten();
            keep.push(op.is_some());
            ops.extend(op);
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
    async fn remove(&mut self, rows: &StoredRows, prints: &[Print], gone: &HashMap<u128, Known>) -> Result<()> {
        let keep: BooleanArray = prints.iter().map(|print| Some(gone.contains_key(&print.key))).collect();
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

/// What has to be written for a row of the source; notes that its key is there.
fn judge(print: &Print, known: &mut HashMap<u128, Known>) -> Option<Op> {
    let Some(known) = known.get_mut(&print.key) else { return Some(Op::Insert) };
    known.in_source = true;
    let mut alone = Sum::default();
    alone.add(print.row);
    (known.lake != alone).then_some(Op::Update)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_when_the_lake_lacks_it_or_has_it_otherwise_or_twice() {
        let mut known: HashMap<u128, Known> = HashMap::new();
        for (key, row) in [(1, 10), (2, 20), (3, 30), (3, 30)] {
            known.entry(key).or_default().lake.add(row);
        }
        let mut op = |key, row| judge(&Print { key, row }, &mut known);
        assert_eq!(op(1, 10), None);
        assert_eq!(op(2, 21), Some(Op::Update));
        assert_eq!(op(3, 30), Some(Op::Update));
        assert_eq!(op(4, 40), Some(Op::Insert));
        assert!(known.values().all(|known| known.in_source));
    }
}
