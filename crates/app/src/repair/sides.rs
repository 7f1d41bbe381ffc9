//! The two sides of a table, read as fingerprints.

use std::sync::atomic::{AtomicBool, Ordering};

use capture::postgres::Reread;
use change::{CopyProgress, Position, Result};
use futures::TryStreamExt;
use gate::{Cleared, ClearedBatch, TableGate};
use lake::{StoredRows, StoredTable};
use tokio::sync::mpsc;

use super::Limits;
use super::fingerprint::{Fingerprints, Print, seed};
use super::progress::Progress;
use super::tally::{Part, Tally};
use crate::long_work::letting_others_on;

/// Batches of the source that wait to be cleared.
const BATCHES_AHEAD: usize = 2;

/// A table's rows in the source and in the lake.
pub(crate) struct Sides<'a> {
    reader: &'a Reread,
    pub(crate) gate: &'a TableGate,
    pub(crate) stored: StoredTable,
    prints: Fingerprints,
    limits: &'a Limits,
    plan: CopyProgress,
    /// Transactions in which a chunk of the plan is read.
    parts: u32,
    /// Reading the source ends at rows that the rules hold back.
    writes: bool,
    withheld: AtomicBool,
}

/// What has to be looked at row by row.
pub(crate) struct Survey {
    pub(crate) parts: Vec<Part>,
    /// Rows in the source and in the lake, when they were counted; a single part that holds everything counts them itself.
    pub(crate) rows: Option<(u64, u64)>,
}

impl<'a> Sides<'a> {
    /// Plans the reading; `low` is what copied rows are marked with.
    ///
    /// # Errors
    /// Those of the source; `Contract` when the sides have different keys.
    pub(crate) async fn new(
        reader: &'a Reread,
        gate: &'a TableGate,
        stored: StoredTable,
        limits: &'a Limits,
        low: &Position,
    ) -> Result<Self> {
        let prints = Fingerprints::new(gate, &stored, seed()?)?;
        let plan = reader.plan(&gate.schema().table, low, limits.transaction_rows()).await?;
        let (writes, withheld) = (false, AtomicBool::new(false));
        Ok(Self { reader, gate, stored, prints, limits, plan, parts: 1, writes, withheld })
    }

    /// The sides for somebody who writes what is read, as the comparison was begun: reading ends at rows that the rules hold back, see
    /// [`Sides::withheld`].
    ///
    /// # Errors
    /// `Contract` when the sides have different keys.
    pub(crate) fn begun(
        (reader, gate): (&'a Reread, &'a TableGate),
        stored: StoredTable,
        limits: &'a Limits,
        progress: &Progress,
    ) -> Result<Self> {
        let prints = Fingerprints::new(gate, &stored, progress.seed())?;
        let (plan, parts) = (progress.plan().clone(), limits.parts());
        Ok(Self { reader, gate, stored, prints, limits, plan, parts, writes: true, withheld: AtomicBool::new(false) })
    }

    /// Whether reading ended at rows that the rules hold back.
    pub(crate) fn withheld(&self) -> bool {
        self.withheld.load(Ordering::Relaxed)
    }

    /// The same sides as they are now: the lake's newest version, and the source in its present size.
    pub(crate) async fn anew(&mut self, stored: StoredTable) -> Result<()> {
        self.stored = stored;
        let (table, rows) = (&self.gate.schema().table, self.limits.transaction_rows());
        self.plan = self.reader.plan(table, &self.plan.low, rows).await?;
        Ok(())
    }

    /// How the source is read.
    pub(crate) fn plan(&self) -> &CopyProgress {
        &self.plan
    }

    /// What cannot be compared in full, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let columns = &self.prints.not_stored;
        let missing = (!columns.is_empty())
            .then(|| format!("not compared, as the lake does not have them yet: {}", columns.join(", ")));
        missing.into_iter().collect()
    }

    /// Everything in one part when it is small; else the buckets of keys that differ, found by reading both sides once.
    pub(crate) async fn survey(&self) -> Result<Survey> {
        let about = u64::from(self.plan.chunks).saturating_mul(self.limits.transaction_rows());
        if self.stored.rows().max(about) <= self.limits.rows_max() {
            return Ok(Survey { parts: vec![Part::All], rows: None });
        }
        let (mut source, mut lake) = (Tally::new(), Tally::new());
        self.lake(async |_, prints| {
            lake.add(&prints);
            Ok(())
        })
        .await?;
        self.source(async |_, prints| {
            source.add(&prints);
            Ok(())
        })
        .await?;
        Ok(Survey { parts: source.parts(&lake, self.limits.rows_max()), rows: Some((source.rows(), lake.rows())) })
    }

    /// Reads every row of the source, at the given pace.
    pub(crate) async fn source(&self, mut each: impl AsyncFnMut(ClearedBatch, Vec<Print>) -> Result<()>) -> Result<()> {
        for chunk in 0..self.plan.chunks {
            self.chunk(chunk, &mut each).await?;
        }
        Ok(())
    }

    /// Reads the rows of one chunk of the source, at the given pace, with their fingerprints.
    pub(crate) async fn chunk(
        &self,
        chunk: u32,
        mut each: impl AsyncFnMut(ClearedBatch, Vec<Print>) -> Result<()>,
    ) -> Result<()> {
        let (out, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let reading = self.reader.chunk(&self.gate.schema().table, &self.plan, (chunk, self.parts), out);
        let taking = async {
            while let Some(batch) = batches.recv().await {
                let rows = batch.len() as u64;
                let clear = || self.gate.clear(batch);
                let Cleared { batch: cleared, invalid, .. } = letting_others_on(self.limits.asks_model(), clear)?;
                if self.writes && self.gate.would_hold(&invalid) {
                    self.withheld.store(true, Ordering::Relaxed);
                    batches.close();
                    break;
                }
                let prints = self.prints.of(&self.stored.fit(&cleared)?, self.gate)?;
                each(cleared, prints).await?;
                self.limits.after(rows).await;
            }
            Ok(())
        };
        tokio::try_join!(taking, reading).map(|_| ())
    }

    /// Reads every live row of the lake's table.
    pub(crate) async fn lake(&self, mut each: impl AsyncFnMut(StoredRows, Vec<Print>) -> Result<()>) -> Result<()> {
        let mut rows = self.stored.scan();
        while let Some(batch) = rows.try_next().await? {
            let prints = self.prints.of(batch.rows(), self.gate)?;
            each(batch, prints).await?;
        }
        Ok(())
    }

    /// A fingerprint of each row's place in the stream.
    pub(crate) fn places(&self, rows: &StoredRows) -> Result<Vec<u128>> {
        let positions = rows.positions()?;
        Ok(positions.iter().map(|position| self.prints.bytes(position.unwrap_or_default())).collect())
    }
}
