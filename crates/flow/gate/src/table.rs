use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use change::{ChangeBatch, Error, Identity, Kind, Result, TableSchema, Unsent};

use crate::policy::{Rule, TableRules};
use crate::{ClearedBatch, ClearedColumn, ClearedSchema, Transform, kernel};

/// The gate of one table with one structure.
pub struct TableGate {
    raw: Arc<TableSchema>,
    cleared: Arc<ClearedSchema>,
    passages: Vec<Passage>,
    dropped: Vec<DroppedColumn>,
}

/// How one column passes: from which raw column, by which rule.
struct Passage {
    from: usize,
    rule: Rule,
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
    pub(crate) fn new(raw: &Arc<TableSchema>, rules: &TableRules) -> Result<Self> {
        let (mut passages, mut columns, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for (from, column) in raw.columns.iter().enumerate() {
            let Some(rule) = rules.columns.iter().find(|rule| rule.column == column.name) else {
                dropped.push(DroppedColumn { name: column.name.clone(), source_type: column.source_type.clone() });
                continue;
            };
            let output = rule
                .transform
                .output(&column.data_type)
                .map_err(|why| Error::new(Kind::Contract, format!("{}.{}: {why}", raw.table, column.name)))?;
            let Some(data_type) = output else { continue };
            columns.push(ClearedColumn {
                name: column.name.clone(),
                statistics: rule.transform.statistics(&data_type),
                data_type,
                transform: rule.transform.to_string(),
            });
            passages.push(Passage { from, rule: rule.clone() });
        }
        let identity = cleared_identity(raw, &passages);
        let cleared = Arc::new(ClearedSchema { table: raw.table.clone(), columns, identity });
        Ok(Self { raw: raw.clone(), cleared, passages, dropped })
    }

    /// The table's structure after the gate.
    pub fn schema(&self) -> &Arc<ClearedSchema> {
        &self.cleared
    }

    /// The columns that no rule names. They are dropped.
    pub fn dropped(&self) -> &[DroppedColumn] {
        &self.dropped
    }

    /// Clears a batch: every row passes, in order, and each column by its rule. The result shares no memory with the raw rows.
    ///
    /// # Errors
    /// [`Kind::Bug`] when the batch has another structure.
    pub fn clear(&self, batch: ChangeBatch) -> Result<Cleared> {
        let (schema, origin, rows, meta, unsent) = batch.into_parts();
        if !Arc::ptr_eq(&schema, &self.raw) && schema != self.raw {
            let what = format!("{}: rows of another structure came to the gate", self.raw.table);
            return Err(Error::new(Kind::Bug, what));
        }
        let rows = rows.into_exposed();
        let (mut columns, mut masks, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        for passage in &self.passages {
            let (values, unreadable) = match &passage.rule.transform {
                Transform::Keep => (kernel::copy::tight(rows.column(passage.from))?, 0),
                Transform::Drop => continue,
            };
            if unreadable > 0 {
                invalid.push((passage.rule.column.clone(), unreadable));
            }
            columns.push(values);
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

fn cleared_identity(raw: &TableSchema, passages: &[Passage]) -> Identity {
    match &raw.identity {
        Identity::Key(key) => Identity::Key(
            key.iter().filter_map(|index| passages.iter().position(|passage| passage.from == *index)).collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
