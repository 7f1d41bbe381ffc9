use std::fmt;

use arrow::array::RecordBatch;
use change::{Identity, Result, TableSchema};
use zeroize::Zeroizing;

use crate::KeyRing;
use crate::canonical::{self, Cell, Form};
use crate::kernel::keyed_hash::KeyedHash;
use crate::keys::{Purpose, push_field};

/// A row's key without its value: 128 bits of a keyed hash, the same for the same key of the same table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey([u8; 16]);

impl RowKey {
    /// Takes back what [`RowKey::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The hash, to be stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey(..)")
    }
}

/// Hashes the keys of one table's rows.
pub(crate) struct RowKeys {
    hash: KeyedHash,
    columns: Vec<usize>,
}

impl RowKeys {
    /// `None` when rows of the table have no key that can be hashed.
    pub(crate) fn new(keys: &KeyRing, table: &TableSchema) -> Result<Option<Self>> {
        let Identity::Key(columns) = &table.identity else { return Ok(None) };
        if !columns.iter().all(|column| canonical::can_read(&table.columns[*column].data_type)) {
            return Ok(None);
        }
        // Like the vault's index it never rotates: what is held outlives a rotation.
        let hash = KeyedHash::new(keys, Purpose::HeldKey, &table.table.to_string(), keys.oldest_epoch(), Form::Exact)?;
        Ok(Some(Self { hash, columns: columns.clone() }))
    }

    /// One entry per row.
    pub(crate) fn of(&self, rows: &RecordBatch) -> Result<Vec<RowKey>> {
        let mut fields = vec![Zeroizing::new(Vec::new()); rows.num_rows()];
        for column in &self.columns {
            let mut row = 0;
            canonical::for_each(rows.column(*column), Form::Exact, |cell| {
                match cell {
                    Cell::Bytes(bytes) => {
                        fields[row].push(1);
                        push_field(&mut fields[row], bytes);
                    }
                    Cell::Null | Cell::Invalid => fields[row].push(0),
                }
                row += 1;
            })?;
        }
        let key = |fields: &Zeroizing<Vec<u8>>| {
            let mut key = [0; 16];
            key.copy_from_slice(&self.hash.of(fields)[..16]);
            RowKey(key)
        };
        Ok(fields.iter().map(key).collect())
    }
}
