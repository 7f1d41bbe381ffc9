//! What a cleared row is known by while it is compared.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use change::{Error, Identity, Kind, Result};
use gate::TableGate;
use lake::StoredTable;
use rand::TryRngCore;
use rand::rngs::OsRng;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    /// Its key; the whole row in a table without key.
    pub(crate) key: u128,
    /// Everything that is compared.
    pub(crate) row: u128,
}

/// Makes the fingerprints of one table's rows, in the columns of its lake table.
pub(crate) struct Fingerprints {
    /// Indexes of the columns that are compared.
    columns: Vec<usize>,
    /// Indexes of the key's columns; none when rows form a multiset.
    key: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
    seed: u64,
    /// Columns that the lake does not have yet.
    pub(crate) not_stored: Vec<String>,
}

impl Fingerprints {
    /// For the columns that the gate lets through and the lake has. Under another seed a row has another fingerprint.
    ///
    /// # Errors
    /// `Contract` when the rows of the lake are identified by another key than those of the source.
    pub(crate) fn new(gate: &TableGate, stored: &StoredTable, seed: u64) -> Result<Self> {
        let cleared = gate.schema();
        let named: Vec<&String> = match &cleared.identity {
            Identity::Key(key) => key.iter().map(|index| &cleared.columns[*index].name).collect(),
            Identity::WholeRow | Identity::InsertOnly => Vec::new(),
        };
        if named.iter().ne(&stored.key().iter().collect::<Vec<_>>()) {
            let what = format!("{}: its rows are found by another key in the lake than in the source", cleared.table);
            return Err(Error::new(Kind::Contract, what).fix("Give the source table its key back, or copy it anew."));
        }
        let schema = stored.columns();
        let (mut columns, mut not_stored) = (Vec::new(), Vec::new());
        for column in &cleared.columns {
            match schema.index_of(&column.name) {
                Ok(index) => columns.push(index),
                Err(_) => not_stored.push(column.name.clone()),
            }
        }
        let key = named.iter().filter_map(|name| schema.index_of(name).ok()).collect::<Vec<_>>();
        let of = |index: usize| schema.field(index).data_type().clone();
        let keys = converter(key.iter().map(|index| of(*index)))?;
        let rows = converter(columns.iter().map(|index| of(*index)))?;
        Ok(Self { columns, key, keys, rows, seed, not_stored })
    }

    /// One fingerprint for each row of the lake table's structure.
    pub(crate) fn of(&self, rows: &RecordBatch, gate: &TableGate) -> Result<Vec<Print>> {
        let schema = rows.schema();
        let columns = self.columns.iter().map(|index| -> Result<ArrayRef> {
            let values = rows.column(*index);
            // Cells of the same value are not the same: what they hold is compared.
            let comparable = gate.comparable(schema.field(*index).name(), values)?;
            Ok(comparable.unwrap_or_else(|| values.clone()))
        });
        let whole = self.hashes(&self.rows, columns.collect::<Result<_>>()?, rows.num_rows())?;
        if self.key.is_empty() {
            return Ok(whole.into_iter().map(|row| Print { key: row, row }).collect());
        }
        let keys = self.key.iter().map(|index| rows.column(*index).clone()).collect();
        let keys = self.hashes(&self.keys, keys, rows.num_rows())?;
        Ok(keys.into_iter().zip(whole).map(|(key, row)| Print { key, row }).collect())
    }

    /// A fingerprint of any bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_seed(bytes, self.seed)
    }

    fn hashes(&self, converter: &RowConverter, columns: Vec<ArrayRef>, rows: usize) -> Result<Vec<u128>> {
        if columns.is_empty() {
            return Ok(vec![0; rows]);
        }
        let encoded = converter.convert_columns(&columns).map_err(|_| unlike())?;
        Ok(encoded.iter().map(|row| self.bytes(row.data())).collect())
    }
}

fn converter(types: impl Iterator<Item = DataType>) -> Result<RowConverter> {
    RowConverter::new(types.map(SortField::new).collect()).map_err(|_| unlike())
}

/// Arrow's own message could hold a value.
fn unlike() -> Error {
    Error::new(Kind::Bug, "rows cannot be compared: a column has a type without order")
}

/// A seed for one comparison.
pub(crate) fn seed() -> Result<u64> {
    OsRng
        .try_next_u64()
        .map_err(|error| Error::new(Kind::Unavailable, "the system gave no random numbers").source(error))
}
