//! A held row as bytes, sealed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use change::{
    ChangeBatch, Column, Error, Identity, Kind, Origin, Position, Result, RowMeta, RowMetaBuilder, TableName,
    TableSchema, Unsent,
};
use zeroize::Zeroizing;

use crate::KeyRing;
use crate::carried::{self, Carried};

/// A held row as its keeper has it.
#[derive(Clone, Copy)]
pub struct Sealed<'a> {
    /// The table.
    pub table: &'a TableName,
    /// [`crate::HeldRow::position`].
    pub position: &'a Position,
    /// [`crate::HeldRow::keys`].
    pub keys: &'a [crate::RowKey],
    /// [`crate::HeldRow::sealed`].
    pub record: &'a [u8],
}

const WHAT: &str = "held rows";
const IDENTITY: &str = "identity";

/// The raw rows of one unit, sealed for its table and position.
pub(crate) fn seal(
    keys: &KeyRing,
    nonce: [u8; 16],
    table: &TableSchema,
    rows: &RecordBatch,
    meta: &RowMeta,
    unsent: &Unsent,
    position: &Position,
) -> Result<Vec<u8>> {
    let plain = encode(table, rows, meta, unsent)?;
    keys.sealer(WHAT).seal(nonce, &context(&table.table, position), &plain)
}

/// The raw rows of one unit.
///
/// # Errors
/// [`Kind::Privacy`] when the record does not open under these keys.
pub(crate) fn open(keys: &KeyRing, sealed: &Sealed<'_>) -> Result<ChangeBatch> {
    let plain = keys.sealer(WHAT).open(&context(sealed.table, sealed.position), sealed.record)?;
    decode(sealed.table, &plain)
        .ok_or_else(|| Error::new(Kind::Bug, "a held row opens and is not what was sealed"))
        .and_then(|batch| batch)
}

impl Sealed<'_> {
    /// The structure of the row's table when it was held: enough to look at the row while the source is away.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the record does not open under these keys.
    pub fn structure(&self, keys: &KeyRing) -> Result<Arc<TableSchema>> {
        open(keys, self).map(|batch| batch.schema().clone())
    }
}

impl Sealed<'_> {
    /// The record under the current epoch of the key; `None` when it is so already.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the record does not open under these keys.
    pub fn sealed_anew(&self, keys: &KeyRing, nonce: [u8; 16]) -> Result<Option<Vec<u8>>> {
        keys.sealer(WHAT).seal_anew(nonce, &context(self.table, self.position), self.record)
    }
}

fn context(table: &TableName, position: &Position) -> Vec<u8> {
    let mut context = table.to_string().into_bytes();
    context.push(0);
    context.extend_from_slice(position.as_bytes());
    context
}

fn encode(table: &TableSchema, rows: &RecordBatch, meta: &RowMeta, unsent: &Unsent) -> Result<Zeroizing<Vec<u8>>> {
    let fields = table.columns.iter().map(carried::field).collect();
    let identity = table.identity_columns().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let said = HashMap::from([(IDENTITY.to_owned(), identity)]);
    carried::rows(fields, said, rows, meta, unsent)
        .ok_or_else(|| Error::new(Kind::Bug, format!("{}: a row cannot be written as a held one", table.table)))
}

fn decode(table: &TableName, plain: &[u8]) -> Option<Result<ChangeBatch>> {
    let Carried { fields, said, columns, meta, unsent } = carried::read(plain)?;
    let key = said.get(IDENTITY)?.split(',').map(|index| index.parse().ok()).collect::<Option<_>>()?;
    let columns_of = fields.iter().map(carried::column).collect();
    let schema = TableSchema { table: table.clone(), columns: columns_of, identity: Identity::Key(key) };
    Some(ChangeBatch::try_new(Arc::new(schema), Origin::Held, columns, meta, unsent))
}

/// A held batch in another structure of its table. Columns are known by number, and by name where the record or the table has none, as of a
/// release before there were numbers. Those that came later are null, those that left are left out. `looks_at` tells whether anything of a column is
/// used.
///
/// # Errors
/// [`Kind::Contract`] when a column that is used had another name, the row has no key, or the values of a column do not fit its type any more.
pub(crate) fn adapt(
    batch: ChangeBatch,
    table: &Arc<TableSchema>,
    looks_at: impl Fn(usize) -> bool,
) -> Result<ChangeBatch> {
    let (from, origin, rows, meta, unsent) = batch.into_parts();
    let rows = rows.into_exposed();
    let refuse = |what: String| {
        let fix = "Drop the held row, and let the source write the row again.";
        Error::new(Kind::Contract, format!("{}.{what} since the row was held", table.table)).fix(fix)
    };
    let (mut columns, mut masks) = (Vec::new(), Vec::new());
    for (at, column) in table.columns.iter().enumerate() {
        let Some(index) = held_as(&from, column) else {
            if matches!(&table.identity, Identity::Key(key) if key.contains(&at)) {
                return Err(refuse(format!("{} has identified its rows only", column.name)));
            }
            columns.push(arrow::array::new_null_array(&column.data_type, meta.len()));
            masks.push(None);
            continue;
        };
        let was = &from.columns[index].name;
        if *was != column.name && looks_at(at) {
            return Err(refuse(format!("{} was `{was}`, and has been renamed", column.name)));
        }
        let values = retyped(rows.column(index), &column.data_type);
        columns.push(values.ok_or_else(|| refuse(format!("{} has had another type", column.name)))?);
        masks.push(unsent.0[index].clone());
    }
    ChangeBatch::try_new(table.clone(), origin, columns, meta, Unsent(masks))
}

/// Which column of a held row a column of the table is. One without a number beside others that have theirs had left when the row was read,
/// and whoever has its name now is another.
fn held_as(from: &TableSchema, column: &Column) -> Option<usize> {
    let is_it = |held: &Column| held.number.is_some() && held.number == column.number;
    let by_name = column.number.is_none() || from.columns.iter().all(|held| held.number.is_none());
    from.columns.iter().position(is_it).or_else(|| from.index_of(&column.name).filter(|_| by_name))
}

fn retyped(values: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    if values.data_type() == to {
        return Some(values.clone());
    }
    let cast = arrow::compute::cast(values, to).ok()?;
    (cast.null_count() == values.null_count()).then_some(cast)
}

/// Rows of a batch beside their values, in the order of `rows`.
pub(crate) fn meta_of(meta: &RowMeta, rows: impl IntoIterator<Item = usize>) -> RowMeta {
    let mut taken = RowMetaBuilder::default();
    rows.into_iter().for_each(|row| push_meta(&mut taken, meta, row));
    taken.finish()
}

/// All rows of some batches, beside their values.
pub(crate) fn joined_meta<'a>(batches: impl Iterator<Item = &'a RowMeta>) -> RowMeta {
    let mut joined = RowMetaBuilder::default();
    for meta in batches {
        (0..meta.len()).for_each(|row| push_meta(&mut joined, meta, row));
    }
    joined.finish()
}

fn push_meta(out: &mut RowMetaBuilder, meta: &RowMeta, row: usize) {
    let at = meta.committed_at.value(row);
    out.push(meta.ops[row], meta.positions.value(row), at, meta.txids.value(row), meta.ordinals.value(row));
}
