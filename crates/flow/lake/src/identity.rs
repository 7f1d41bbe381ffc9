//! From the identity columns of rows to the hashes that the index knows.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use change::Result;

use crate::failure::Explain;
use crate::index::{KeyHash, KeySeed};

/// Hashes rows of the table's structure by some of its columns.
pub(crate) struct Identifier {
    columns: Vec<usize>,
    converter: RowConverter,
    seed: KeySeed,
}

impl Identifier {
    /// By the columns with these names.
    pub(crate) fn new(schema: &SchemaRef, names: &[String], seed: KeySeed) -> Result<Self> {
        let doing = || "cannot identify rows".to_owned();
        let columns = names.iter().map(|name| schema.index_of(name).explain(doing)).collect::<Result<Vec<_>>>()?;
        let fields = columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
        let converter = RowConverter::new(fields).explain(doing)?;
        Ok(Self { columns, converter, seed })
    }

    pub(crate) fn names(&self, schema: &SchemaRef) -> Vec<String> {
        self.columns.iter().map(|index| schema.field(*index).name().clone()).collect()
    }

    /// One hash for each row of a batch of the table's structure.
    pub(crate) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        let columns: Vec<_> = self.columns.iter().map(|index| rows.column(*index).clone()).collect();
        let encoded = self.converter.convert_columns(&columns).explain(|| "cannot identify rows".into())?;
        Ok(encoded.iter().map(|row| self.seed.hash(row.data())).collect())
    }
}
