//! A cleared batch as rows of the lake table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use change::{Error, Kind, Op, Position, Result, RowMeta};
use gate::ClearedBatch;

use crate::encode::fit;
use crate::failure::Explain;
use crate::naming::Layer;
use crate::schema::{COMMITTED_AT, DATE, OP, ORDINAL, POSITION, TXID, own_fields};
use crate::stored::StoredRows;

/// Rows of the table's structure, and what the commit needs of each beside them.
pub(crate) struct Incoming {
    pub(crate) rows: RecordBatch,
    pub(crate) ops: Vec<Op>,
    /// For each column of the table, the rows whose value was not sent.
    pub(crate) unsent: Vec<(usize, BooleanArray)>,
    /// The newest commit time of the source, microseconds since the Unix epoch.
    pub(crate) newest: Option<i64>,
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Rows of `batch` above `after`, in the structure of the table; `None` when there are none.
pub(crate) fn take(
    batch: &ClearedBatch,
    after: Option<&Position>,
    schema: &SchemaRef,
    layer: Layer,
) -> Result<Option<Incoming>> {
    let meta = batch.meta();
    check_columns(batch, schema)?;
    let keep: Vec<bool> = match after {
        Some(after) => {
            meta.positions.iter().map(|position| position.is_some_and(|position| position > after.as_bytes())).collect()
        }
        None => vec![true; batch.len()],
    };
    if !keep.contains(&true) {
        return Ok(None);
    }
    let all = fit(schema, &with_own(batch.rows(), meta, layer)?)?;
    let mask = BooleanArray::from(keep.clone());
    let whole = !keep.contains(&false);
    let doing = || "cannot select rows".to_owned();
    let rows = if whole { all } else { filter_record_batch(&all, &mask).explain(doing)? };
    let ops = meta.ops.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(op, _)| *op).collect();
    let mut unsent = Vec::new();
    for (column, bits) in batch.unsent().0.iter().enumerate() {
        let Some(bits) = bits else { continue };
        let name = &batch.schema().columns[column].name;
        let bits = BooleanArray::new(bits.clone(), None);
        let bits = arrow::compute::filter(&bits, &mask).explain(doing)?;
        let bits = arrow::array::AsArray::as_boolean(&bits).clone();
        if bits.true_count() > 0
            && let Ok(index) = schema.index_of(name)
        {
            unsent.push((index, bits));
        }
    }
    let newest = meta.committed_at.iter().zip(&keep).filter(|(_, keep)| **keep).filter_map(|(at, _)| at).max();
    Ok(Some(Incoming { rows, ops, unsent, newest }))
}

/// Copied rows as they stand in data files with these columns.
pub(crate) fn copied_rows(batch: &ClearedBatch, columns: &SchemaRef) -> Result<RecordBatch> {
    check_columns(batch, columns)?;
    fit(columns, &with_own(batch.rows(), batch.meta(), Layer::Changes)?)
}

fn check_columns(batch: &ClearedBatch, schema: &SchemaRef) -> Result<()> {
    let unknown = batch.schema().columns.iter().find(|column| schema.index_of(&column.name).is_err());
    unknown.map_or(Ok(()), |column| {
        let table = &batch.schema().table;
        let what = format!("{table}: rows came with a column `{}` that the table was not told of", column.name);
        Err(Error::new(Kind::Bug, what))
    })
}

/// Removals of rows that the table has: their key, and what `meta` says; everything else is null.
pub(crate) fn removals(stored: &StoredRows, meta: &RowMeta, schema: &SchemaRef, layer: Layer) -> Result<Incoming> {
    let rows = fit(schema, &with_own(&stored.keys()?, meta, layer)?)?;
    let newest = arrow::compute::max(&meta.committed_at);
    Ok(Incoming { rows, ops: meta.ops.clone(), unsent: Vec::new(), newest })
}

/// Changes of the table's own change log, as they stand there.
pub(crate) fn logged(stored: &StoredRows, schema: &SchemaRef) -> Result<Incoming> {
    Ok(Incoming { rows: fit(schema, stored.rows())?, ops: stored.ops()?, unsent: Vec::new(), newest: None })
}

/// Rows with the columns that Lockgate adds.
fn with_own(rows: &RecordBatch, meta: &RowMeta, layer: Layer) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = rows.schema().fields().to_vec();
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    for field in own_fields(layer) {
        let column: ArrayRef = match field.name().as_str() {
            POSITION => Arc::new(meta.positions.clone()),
            COMMITTED_AT => Arc::new(meta.committed_at.clone()),
            OP => Arc::new(meta.ops.iter().map(|op| Some(op.letter())).collect::<StringArray>()),
            TXID => signed(&meta.txids)?,
            ORDINAL => signed(&meta.ordinals)?,
            DATE => Arc::new(dates(&meta.committed_at)),
            _ => continue,
        };
        fields.push(Arc::new(Field::new(field.name(), column.data_type().clone(), true)));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .explain(|| "cannot put rows and positions together".into())
}

fn signed(numbers: &arrow::array::UInt64Array) -> Result<ArrayRef> {
    cast(numbers, &DataType::Int64).explain(|| "cannot write transaction numbers".into())
}

pub(crate) fn dates(times: &TimestampMicrosecondArray) -> Date32Array {
    times.iter().map(|time| time.map(|time| time.div_euclid(MICROS_PER_DAY) as i32)).collect()
}

/// The change log's row for a truncate.
pub(crate) fn truncate_row(
    position: &Position,
    txid: u64,
    ordinal: u64,
    committed_at: i64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let position: ArrayRef = Arc::new(arrow::array::BinaryArray::from_vec(vec![position.as_bytes()]));
    let time = TimestampMicrosecondArray::from(vec![committed_at]).with_timezone("UTC");
    let date: ArrayRef = Arc::new(dates(&time));
    let number =
        |number: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![i64::try_from(number).unwrap_or(i64::MAX)])) };
    let rows = RecordBatch::try_from_iter([
        (POSITION, position),
        (COMMITTED_AT, Arc::new(time) as ArrayRef),
        (OP, Arc::new(StringArray::from(vec!["t"])) as ArrayRef),
        (TXID, number(txid)),
        (ORDINAL, number(ordinal)),
        (DATE, date),
    ])
    .explain(|| "cannot write a truncate".into())?;
    fit(schema, &rows)
}
