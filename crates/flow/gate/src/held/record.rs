//! A held row as bytes: an Arrow stream of the raw row, with what is known beside its values in columns at the end; then sealed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt8Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt8Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use change::{
    ChangeBatch, Column, Error, Identity, Kind, Op, Origin, Position, Result, RowMeta, RowMetaBuilder, TableName,
    TableSchema, Unsent,
};
use zeroize::Zeroizing;

use crate::KeyRing;

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
const SOURCE_TYPE: &str = "source_type";
/// Columns behind those of the table: op, position, commit time, transaction, ordinal, which columns were not sent.
const BESIDE: usize = 6;

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
    let failed = || Error::new(Kind::Bug, format!("{}: a row cannot be written as a held one", table.table));
    let mut fields: Vec<Field> = table
        .columns
        .iter()
        .map(|column| {
            let source_type = HashMap::from([(SOURCE_TYPE.to_owned(), column.source_type.clone())]);
            Field::new(&column.name, column.data_type.clone(), true).with_metadata(source_type)
        })
        .collect();
    let mask =
        |row: usize| -> Vec<u8> { (0..unsent.0.len()).map(|column| u8::from(unsent.is_unsent(column, row))).collect() };
    let masks: Vec<Vec<u8>> = (0..meta.len()).map(mask).collect();
    let times: Int64Array = meta.committed_at.iter().collect();
    let beside: [ArrayRef; BESIDE] = [
        Arc::new(UInt8Array::from_iter_values(meta.ops.iter().map(|op| *op as u8))),
        Arc::new(meta.positions.clone()),
        Arc::new(times),
        Arc::new(meta.txids.clone()),
        Arc::new(meta.ordinals.clone()),
        Arc::new(BinaryArray::from_iter_values(masks)),
    ];
    let mut columns = rows.columns().to_vec();
    for (number, column) in beside.into_iter().enumerate() {
        fields.push(Field::new(format!("_lg_{number}"), column.data_type().clone(), true));
        columns.push(column);
    }
    let identity = table.identity_columns().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let schema = Arc::new(Schema::new(fields).with_metadata(HashMap::from([(IDENTITY.to_owned(), identity)])));
    let rows = RecordBatch::try_new(schema.clone(), columns).map_err(|_| failed())?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(|_| failed())?;
    writer.write(&rows).map_err(|_| failed())?;
    writer.into_inner().map(Zeroizing::new).map_err(|_| failed())
}

fn decode(table: &TableName, plain: &[u8]) -> Option<Result<ChangeBatch>> {
    let mut reader = StreamReader::try_new(plain, None).ok()?;
    let schema = reader.schema();
    let rows = reader.next()?.ok()?;
    let width = schema.fields().len().checked_sub(BESIDE)?;
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: true,
        source_type: field.metadata().get(SOURCE_TYPE).cloned().unwrap_or_default(),
    };
    let key = schema.metadata().get(IDENTITY)?.split(',').map(|index| index.parse().ok()).collect::<Option<_>>()?;
    let schema = TableSchema {
        table: table.clone(),
        columns: schema.fields()[..width].iter().map(column).collect(),
        identity: Identity::Key(key),
    };
    let beside = &rows.columns()[width..];
    let (ops, positions) = (beside[0].as_primitive_opt::<UInt8Type>()?, beside[1].as_binary_opt::<i32>()?);
    let (times, txids) = (beside[2].as_primitive_opt::<Int64Type>()?, beside[3].as_primitive_opt::<UInt64Type>()?);
    let (ordinals, masks) = (beside[4].as_primitive_opt::<UInt64Type>()?, beside[5].as_binary_opt::<i32>()?);
    let mut meta = RowMetaBuilder::default();
    for row in 0..rows.num_rows() {
        let op = op_of(ops.value(row))?;
        meta.push(op, positions.value(row), times.value(row), txids.value(row), ordinals.value(row));
    }
    let mut unsent = Unsent::none(width);
    for (column, mask) in unsent.0.iter_mut().enumerate() {
        let bits = BooleanBuffer::collect_bool(rows.num_rows(), |row| masks.value(row).get(column) == Some(&1));
        *mask = (bits.count_set_bits() > 0).then_some(bits);
    }
    let columns = rows.columns()[..width].to_vec();
    Some(ChangeBatch::try_new(Arc::new(schema), Origin::Held, columns, meta.finish(), unsent))
}

fn op_of(byte: u8) -> Option<Op> {
    [Op::Copy, Op::Insert, Op::Update, Op::Delete, Op::MoveOut].into_iter().find(|op| *op as u8 == byte)
}

/// A held batch in another structure of its table: columns by name; those that came later are null, those that left are left out.
///
/// # Errors
/// [`Kind::Contract`] when the values of a column do not fit its type any more.
pub(crate) fn adapt(batch: ChangeBatch, table: &Arc<TableSchema>) -> Result<ChangeBatch> {
    let (from, origin, rows, meta, unsent) = batch.into_parts();
    let rows = rows.into_exposed();
    let (mut columns, mut masks) = (Vec::new(), Vec::new());
    for column in &table.columns {
        let Some(index) = from.index_of(&column.name) else {
            columns.push(arrow::array::new_null_array(&column.data_type, meta.len()));
            masks.push(None);
            continue;
        };
        columns.push(retyped(rows.column(index), &column.data_type).ok_or_else(|| {
            let what = format!("{}.{} has had another type since the row was held", table.table, column.name);
            Error::new(Kind::Contract, what).fix("Drop the held row, and let the source write the row again.")
        })?);
        masks.push(unsent.0[index].clone());
    }
    ChangeBatch::try_new(table.clone(), origin, columns, meta, Unsent(masks))
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
