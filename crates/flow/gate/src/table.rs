use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use change::{ChangeBatch, Clock, Error, Identity, Kind, Result, TableSchema, Unsent};

use crate::calendar::Date;
use crate::gate::Means;
use crate::invalid::InvalidWatch;
use crate::kernel::scrub::KnownCells;
use crate::kernel::subject::{Beside, SubjectCells};
use crate::kernel::{Kernel, Setup};
use crate::policy::{OnInvalid, TableRules};
use crate::{ClearedBatch, ClearedColumn, ClearedSchema, Profile, Transform};

/// The gate of one table with one structure.
pub struct TableGate {
    raw: Arc<TableSchema>,
    cleared: Arc<ClearedSchema>,
    passages: Vec<Passage>,
    dropped: Vec<DroppedColumn>,
    absent: Vec<String>,
    rules: BTreeMap<String, String>,
    clock: Arc<dyn Clock>,
}

/// How one column passes.
struct Passage {
    /// The raw column's index.
    from: usize,
    kernel: Kernel,
    /// The raw column that says whom a row is about.
    subject: Option<usize>,
    /// The raw columns whose values are searched in its texts.
    known: Vec<usize>,
    /// Not one value may be lost: the column identifies the row, or the rule says halt.
    halts: bool,
    watch: InvalidWatch,
}

/// A column that no rule names: it is not stored, and someone has to classify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedColumn {
    /// The column's name.
    pub name: String,
    /// The source's own type.
    pub source_type: String,
}

/// What [`TableGate::clear`] gives.
#[derive(Debug)]
pub struct Cleared {
    /// The rows, for the lake.
    pub batch: ClearedBatch,
    /// How many values a column's transform could not read (they are null now); only columns with some.
    pub invalid: Vec<(String, u64)>,
}

impl TableGate {
    pub(crate) fn new(
        raw: &Arc<TableSchema>,
        rules: &TableRules,
        profile: Profile,
        invalid_percent_max: f64,
        means: &Means,
    ) -> Result<Self> {
        let setup = Setup { profile, means };
        let (mut passages, mut columns, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for (from, column) in raw.columns.iter().enumerate() {
            let Some(rule) = rules.columns.iter().find(|rule| rule.column == column.name) else {
                dropped.push(DroppedColumn { name: column.name.clone(), source_type: column.source_type.clone() });
                continue;
            };
            let output = rule.transform.output(&column.data_type).map_err(|reads| {
                let what = format!("{}.{}: `{}` reads {reads}", raw.table, column.name, rule.transform);
                Error::new(Kind::Contract, what)
            })?;
            let kernel = Kernel::new(rule, &column.data_type, &setup)?;
            let (Some(data_type), Some(kernel)) = (output, kernel) else { continue };
            let identifies = matches!(&raw.identity, Identity::Key(key) if key.contains(&from));
            columns.push(ClearedColumn {
                name: column.name.clone(),
                statistics: !identifies && rule.transform.statistics(&data_type),
                data_type,
                transform: rule.transform.to_string(),
            });
            let halts = identifies || rule.on_invalid == OnInvalid::Halt;
            let subject = rule.subject.as_ref().and_then(|subject| raw.index_of(subject));
            let known = rule.transform.known_columns().into_iter().filter_map(|known| raw.index_of(known)).collect();
            let watch = InvalidWatch::new(invalid_percent_max);
            passages.push(Passage { from, kernel, subject, known, halts, watch });
        }
        let rule_of = |name: &String| match rules.columns.iter().find(|rule| rule.column == *name) {
            Some(rule) => rule.meaning(),
            None => Transform::Drop.to_string(),
        };
        let spelled = raw.columns.iter().map(|column| (column.name.clone(), rule_of(&column.name))).collect();
        let named = rules.columns.iter().filter(|rule| !matches!(rule.transform, Transform::Drop));
        let absent = named.map(|rule| rule.column.clone()).filter(|name| raw.index_of(name).is_none()).collect();
        let identity = cleared_identity(raw, &passages);
        let cleared = Arc::new(ClearedSchema { table: raw.table.clone(), columns, identity });
        Ok(Self { raw: raw.clone(), cleared, passages, dropped, absent, rules: spelled, clock: means.clock.clone() })
    }

    /// Whether raw rows of this structure may come to this gate.
    pub fn reads(&self, raw: &Arc<TableSchema>) -> bool {
        Arc::ptr_eq(raw, &self.raw) || *raw == self.raw
    }

    /// The table's structure after the gate.
    pub fn schema(&self) -> &Arc<ClearedSchema> {
        &self.cleared
    }

    /// The columns that no rule names. They are dropped.
    pub fn dropped(&self) -> &[DroppedColumn] {
        &self.dropped
    }

    /// Columns that the policy stores and the source does not have (any more).
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The rule of every column of the source: transform and canonical form, `drop` for those that are not stored.
    pub fn rules(&self) -> &BTreeMap<String, String> {
        &self.rules
    }

    /// Clears a batch: every row passes, in order, and each column by its rule. The result shares no memory with the raw rows.
    ///
    /// # Errors
    /// [`Kind::Data`] when a column that identifies rows, or whose rule says halt, holds a value that its transform cannot read, or when
    /// too many values of another column cannot be read; [`Kind::Bug`] when the batch has another structure; and what the vault says.
    pub fn clear(&self, batch: ChangeBatch) -> Result<Cleared> {
        let (schema, origin, rows, meta, unsent) = batch.into_parts();
        if !self.reads(&schema) {
            let what = format!("{}: rows of another structure came to the gate", self.raw.table);
            return Err(Error::new(Kind::Bug, what));
        }
        let today = Date::from_timestamp(self.clock.now());
        let rows = rows.into_exposed();
        let (mut columns, mut masks, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        for (passage, cleared) in self.passages.iter().zip(&self.cleared.columns) {
            let raw = rows.column(passage.from);
            let place = || format!("{}.{}", self.raw.table, cleared.name);
            let subject = passage
                .subject
                .map(|subject| SubjectCells { values: rows.column(subject), unsent: unsent.0[subject].as_ref() });
            let known: Vec<KnownCells<'_>> = passage
                .known
                .iter()
                .map(|known| KnownCells {
                    column: &self.raw.columns[*known].name,
                    values: rows.column(*known),
                    unsent: unsent.0[*known].as_ref(),
                })
                .collect();
            let beside = Beside { today, subject, known: &known };
            let passed = passage.kernel.apply(raw, beside).map_err(|error| error.context(place()))?;
            if passed.invalid > 0 {
                if passage.halts {
                    return Err(halted(&place(), &cleared.transform, passed.invalid));
                }
                invalid.push((cleared.name.clone(), passed.invalid));
            }
            let values = (raw.len() - raw.null_count()) as u64;
            passage.watch.observe(values, passed.invalid).map_err(|error| error.context(place()))?;
            columns.push(passed.values);
            masks.push(unsent.0[passage.from].clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(meta.len()));
        let rows = RecordBatch::try_new_with_options(self.cleared.arrow(), columns, &options).map_err(|_| {
            Error::new(Kind::Bug, format!("{}: a transform gave another type or length", self.raw.table))
        })?;
        let batch = ClearedBatch::new(self.cleared.clone(), origin, rows, meta, Unsent(masks));
        Ok(Cleared { batch, invalid })
    }
}

fn halted(place: &str, transform: &str, invalid: u64) -> Error {
    Error::new(Kind::Data, format!("{place}: `{transform}` cannot read {invalid} value(s), and none may be lost here"))
        .fix("Mend the values in the source, or choose another transform for the column.")
}

fn cleared_identity(raw: &TableSchema, passages: &[Passage]) -> Identity {
    match &raw.identity {
        Identity::Key(key) => Identity::Key(
            key.iter().filter_map(|index| passages.iter().position(|passage| passage.from == *index)).collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
