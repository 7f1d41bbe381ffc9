//! Keeping rows back, and letting them in after all: see [`crate::held`] for the order that holds between them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter, filter_record_batch, take};
use change::{ChangeBatch, Error, Kind, Op, Origin, Position, Result, TableSchema, Unsent};

use super::{Cleared, Coming, Passage, Passing, TableGate};
use crate::gate::Means;
use crate::held::{self, Fate, HeldIndex, HeldRow, Nonces, RowKey, RowKeys, Sealed, Why};
use crate::kernel::Kernel;
use crate::stamp::is_same;
use crate::{ClearedBatch, KeyRing, TableStamp};

/// Knows rows by their keys, and seals them.
pub(super) struct Holder {
    keys: Arc<KeyRing>,
    rows: RowKeys,
}

impl Holder {
    pub(super) fn new(means: &Means, table: &TableSchema) -> Result<Option<Self>> {
        let Some(keys) = &means.keys else { return Ok(None) };
        Ok(RowKeys::new(keys, table)?.map(|rows| Self { keys: keys.clone(), rows }))
    }
}

/// How a column of a held row stands to what the lake stores by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is that column under that rule; or the record is of a release that wrote no numbers, and nobody can tell.
    Same,
    /// Another column has its name now.
    Renamed,
    /// The lake does not store it so, or cannot be asked.
    Unknown,
}

/// What [`TableGate::readmit`] gives.
#[derive(Debug)]
pub struct Readmitted {
    /// The rows that pass, in their order; `None` when there are none.
    pub batch: Option<ClearedBatch>,
    /// The rows that do not pass, by their place in the list, and why.
    pub refused: Vec<(usize, Error)>,
    /// The places of rows that nothing is said of: an earlier row of their key does not pass.
    pub behind: Vec<usize>,
}

impl TableGate {
    /// Whether rows with unreadable values are kept back.
    pub fn holds(&self) -> bool {
        self.passages.iter().any(|passage| passage.holds)
    }

    /// Whether rows with these unreadable values, as [`Cleared::invalid`] counts them, are to be kept back.
    pub fn would_hold(&self, invalid: &[(String, u64)]) -> bool {
        let holds = |column: &str| {
            let mut passages = self.passages.iter().zip(&self.cleared.columns);
            passages.any(|(passage, cleared)| passage.holds && cleared.name == column)
        };
        invalid.iter().any(|(column, _)| holds(column))
    }

    /// Clears a batch as [`TableGate::clear`] does, but for the rows that are to be held: they are in [`Cleared::held`], and `index` knows of
    /// them.
    ///
    /// # Errors
    /// Those of [`TableGate::clear`], and of `nonce`.
    pub fn clear_holding(&self, batch: ChangeBatch, index: &mut HeldIndex, nonce: &mut Nonces<'_>) -> Result<Cleared> {
        let coming = self.receive(batch)?;
        let passing = self.pass(&coming, true)?;
        let copied = matches!(coming.origin, Origin::Copy { .. });
        let unreadable = self.unreadable(&coming, &passing)?;
        let Some(holder) = self.holder.as_ref().filter(|_| !unreadable.is_empty() || !index.is_idle(copied)) else {
            return self.let_out(coming, passing);
        };
        let keys = holder.rows.of(&coming.rows)?;
        let (mut keep, mut held, mut passed) = (vec![true; keys.len()], Vec::new(), Vec::new());
        for unit in units(&coming.meta.ops) {
            let fault = unreadable.range(unit.clone()).next().map(|(_, passage)| *passage);
            let position = coming.meta.positions.value(unit.start);
            match index.fate(copied, position, &keys[unit.clone()], fault.is_none()) {
                Fate::Pass if copied || !index.is_copying() => {}
                Fate::Pass => passed.extend(keys[unit].iter().map(|key| (*key, Position::from_bytes(position)))),
                Fate::Skip => keep[unit].fill(false),
                Fate::Hold => {
                    keep[unit.clone()].fill(false);
                    let row = self.keep_back(holder, &coming, unit.clone(), &keys[unit], fault, nonce()?)?;
                    index.add(&row);
                    held.push(row);
                }
            }
        }
        let (coming, passing) = self.without(coming, passing, keep)?;
        Ok(Cleared { held, passed, ..self.let_out(coming, passing)? })
    }

    /// Rows that have to be held, and the passage of a value that could not be read.
    fn unreadable(&self, coming: &Coming, passing: &Passing) -> Result<BTreeMap<usize, usize>> {
        let mut rows = BTreeMap::new();
        for (number, count) in passing.invalid.iter().filter(|(number, _)| self.passages[*number].holds) {
            let passage = &self.passages[*number];
            let (raw, values) = (coming.rows.column(passage.from), &passing.columns[*number]);
            let became_null: Vec<usize> =
                (0..raw.len()).filter(|row| raw.is_valid(*row) && values.is_null(*row)).collect();
            // Of a document, one place can be unreadable without the whole being null.
            let found = match became_null.len() as u64 == *count
                && !matches!(passage.kernel, Kernel::Nested(_) | Kernel::X12(_))
            {
                true => became_null,
                false => self.one_by_one(passage, coming)?,
            };
            for row in found {
                rows.entry(row).or_insert(*number);
            }
        }
        Ok(rows)
    }

    fn one_by_one(&self, passage: &Passage, coming: &Coming) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for row in 0..coming.meta.len() {
            let alone = Coming {
                origin: coming.origin,
                rows: coming.rows.slice(row, 1),
                meta: held::meta_of(&coming.meta, [row]),
                unsent: Unsent(coming.unsent.0.iter().map(|mask| mask.as_ref().map(|m| m.slice(row, 1))).collect()),
            };
            let known = self.known(passage, &alone);
            let beside = self.beside(passage, &alone, &known);
            let passed = passage.kernel.apply(alone.rows.column(passage.from), beside)?;
            if passed.invalid > 0 {
                found.push(row);
            }
        }
        Ok(found)
    }

    fn keep_back(
        &self,
        holder: &Holder,
        coming: &Coming,
        unit: Range<usize>,
        keys: &[RowKey],
        fault: Option<usize>,
        nonce: [u8; 16],
    ) -> Result<HeldRow> {
        let last = unit.end - 1;
        let position = |row: usize| Position::from_bytes(coming.meta.positions.value(row));
        // Copied out, so that nothing of the rows beside them is in the record.
        let numbers = UInt32Array::from_iter_values(unit.clone().map(|row| row as u32));
        let columns: Vec<ArrayRef> = coming
            .rows
            .columns()
            .iter()
            .map(|column| take(column, &numbers, None))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| self.defect("a row to be held could not be taken out"))?;
        let rows = RecordBatch::try_new(self.raw.arrow(), columns)
            .map_err(|_| self.defect("a row to be held has another structure"))?;
        let slice = |mask: &Option<BooleanBuffer>| mask.as_ref().map(|mask| mask.slice(unit.start, unit.len()));
        let unsent = Unsent(coming.unsent.0.iter().map(slice).collect());
        let meta = held::meta_of(&coming.meta, unit.clone());
        let whole = unsent.0.iter().flatten().all(|mask| mask.count_set_bits() == 0);
        let first = position(unit.start);
        let sealed = held::seal(&holder.keys, nonce, &self.raw, &rows, &meta, &unsent, &first)?;
        let why = fault.map(|passage| &self.cleared.columns[passage]).map_or(Why::Behind, |column| Why::Unreadable {
            column: column.name.clone(),
            transform: column.transform.clone(),
        });
        Ok(HeldRow {
            position: first,
            last: position(last),
            copied: matches!(coming.origin, Origin::Copy { .. }),
            keys: keys.to_vec(),
            op: coming.meta.ops[last],
            committed_at: coming.meta.committed_at.value(last),
            whole,
            why,
            sealed,
        })
    }

    /// The rows that are to be kept only, and no count of values that are not let out.
    fn without(&self, coming: Coming, passing: Passing, keep: Vec<bool>) -> Result<(Coming, Passing)> {
        let Passing { columns, masks, mut invalid } = passing;
        invalid.retain(|(number, _)| !self.passages[*number].holds);
        if !keep.contains(&false) {
            return Ok((coming, Passing { columns, masks, invalid }));
        }
        let defect = |_| self.defect("held rows could not be left out");
        let mask = BooleanArray::from(keep);
        let rows: Vec<usize> = mask.values().set_indices().collect();
        let unsent = |buffer: Option<BooleanBuffer>| {
            buffer.map(|buffer| BooleanBuffer::collect_bool(rows.len(), |row| buffer.value(rows[row])))
        };
        let columns: Vec<ArrayRef> = columns
            .iter()
            .map(|column| filter(column, &mask))
            .collect::<std::result::Result<_, _>>()
            .map_err(defect)?;
        let masks = masks.into_iter().map(unsent).collect();
        let coming = Coming {
            origin: coming.origin,
            rows: filter_record_batch(&coming.rows, &mask).map_err(defect)?,
            meta: held::meta_of(&coming.meta, rows.iter().copied()),
            unsent: coming.unsent,
        };
        Ok((coming, Passing { columns, masks, invalid }))
    }

    /// Lets held rows in, in the order in which they are given, under the rules of now. A row that still does not pass is refused; those of
    /// the same key behind it go on waiting for it.
    ///
    /// # Errors
    /// Those that have nothing to do with the rows.
    pub fn readmit(&self, rows: &[Sealed<'_>]) -> Result<Readmitted> {
        let (mut batches, mut refused, mut behind) = (Vec::new(), Vec::new(), Vec::new());
        let mut waiting = BTreeSet::<RowKey>::new();
        for (place, row) in rows.iter().enumerate() {
            if row.keys.iter().any(|key| waiting.contains(key)) {
                waiting.extend(row.keys);
                behind.push(place);
                continue;
            }
            match self.admit(row) {
                Ok(batch) => batches.push(batch),
                Err(error) if matches!(error.kind(), Kind::Data | Kind::Privacy | Kind::Contract) => {
                    waiting.extend(row.keys);
                    refused.push((place, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Readmitted { batch: self.joined(batches)?, refused, behind })
    }

    fn admit(&self, row: &Sealed<'_>) -> Result<ClearedBatch> {
        let (coming, passing) = self.reopened(row)?;
        if let Some((number, _)) = passing.invalid.iter().find(|(number, _)| self.passages[*number].holds) {
            let column = &self.cleared.columns[*number];
            let what = format!("{}.{}: `{}` cannot read the value", self.raw.table, column.name, column.transform);
            return Err(Error::new(Kind::Data, what)
                .fix("Change the column's rule in policy.yaml (on_invalid: null lets the rest of the row in), or drop the held row."));
        }
        Ok(self.let_out(coming, passing)?.batch)
    }

    /// What a held row would be in the lake, with null for what cannot be read; and the columns of which that is so.
    ///
    /// # Errors
    /// `Privacy` when the record does not open.
    pub fn preview(&self, row: &Sealed<'_>) -> Result<Cleared> {
        let (coming, passing) = self.reopened(row)?;
        self.let_out(coming, passing)
    }

    /// Whether a held row, or one of the two halves of a change of key, is of a suppressed person.
    ///
    /// # Errors
    /// `Privacy` when the record does not open.
    pub fn is_suppressed(&self, row: &Sealed<'_>) -> Result<bool> {
        let batch = self.unsealed(row)?;
        let rows = batch.len();
        Ok(self.receive(batch)?.meta.len() < rows)
    }

    fn reopened(&self, row: &Sealed<'_>) -> Result<(Coming, Passing)> {
        let coming = self.receive(self.unsealed(row)?)?;
        let passing = self.pass(&coming, false)?;
        Ok((coming, passing))
    }

    fn unsealed(&self, row: &Sealed<'_>) -> Result<ChangeBatch> {
        let keys = self.holder.as_ref().map(|holder| &holder.keys).ok_or_else(|| {
            Error::new(Kind::Privacy, format!("{}: held rows cannot be opened without their key", self.raw.table))
                .fix("Name the key file in the policy's `keys`, and give the table its key back.")
        })?;
        held::adapt(held::open(keys, row)?, &self.raw, |column| {
            self.passages.iter().any(|passage| passage.uses(column))
        })
    }

    /// How a column that is let out, by its place among them, stands to what the lake stores by its name; `stored` is the stamp of the table,
    /// `None` while nobody can ask the lake.
    pub fn standing(&self, column: usize, stored: Option<&TableStamp>) -> Standing {
        let (passage, name) = (&self.passages[column], &self.cleared.columns[column].name);
        if self.raw.columns.iter().all(|column| column.number.is_none()) {
            return Standing::Same;
        }
        let Some(stored) = stored else { return Standing::Unknown };
        let used = self.raw.columns.iter().enumerate().filter(|(at, _)| passage.uses(*at));
        let numbers: Vec<(Option<i64>, Option<i64>)> =
            used.map(|(_, used)| (used.number, stored.numbers.get(&used.name).copied())).collect();
        if numbers.iter().any(|(then, now)| then.is_some() && now.is_some() && then != now) {
            return Standing::Renamed;
        }
        let is_known = numbers.iter().all(|(then, now)| then.is_some() && now.is_some());
        let now = self.rules.get(name).map_or("drop", String::as_str);
        match is_known && stored.rules.get(name).is_some_and(|before| is_same(before, now)) {
            true => Standing::Same,
            false => Standing::Unknown,
        }
    }

    fn joined(&self, batches: Vec<ClearedBatch>) -> Result<Option<ClearedBatch>> {
        if batches.is_empty() {
            return Ok(None);
        }
        let rows = concat_batches(&self.cleared.arrow(), batches.iter().map(ClearedBatch::rows))
            .map_err(|_| self.defect("released rows could not be put together"))?;
        let masks = (0..self.cleared.columns.len())
            .map(|column| {
                let bits = batches
                    .iter()
                    .flat_map(|batch| (0..batch.len()).map(move |row| batch.unsent().is_unsent(column, row)));
                let bits: BooleanBuffer = bits.collect();
                (bits.count_set_bits() > 0).then_some(bits)
            })
            .collect();
        let meta = held::joined_meta(batches.iter().map(ClearedBatch::meta));
        Ok(Some(ClearedBatch::new(self.cleared.clone(), Origin::Held, rows, meta, Unsent(masks))))
    }

    fn defect(&self, what: &str) -> Error {
        Error::new(Kind::Bug, format!("{}: {what}", self.raw.table))
    }
}

/// Rows that belong together: a change of key is two.
fn units(ops: &[Op]) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let pair = ops.get(start)? == &Op::MoveOut && start + 1 < ops.len();
        next = start + 1 + usize::from(pair);
        Some(start..next)
    })
}
