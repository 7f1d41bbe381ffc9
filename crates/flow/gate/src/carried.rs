//! Rows as bytes, with what is known beside their values: an Arrow stream of the table's columns, and of the rest in columns at its end.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt8Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Int64Type, Schema, UInt8Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use change::{Column, Identity, Op, RowMeta, RowMetaBuilder, TableName, TableSchema, Unsent};
use zeroize::Zeroizing;

/// Rows that were read from bytes.
pub(crate) struct Carried {
    /// The table's columns.
    pub(crate) fields: Vec<Arc<Field>>,
    /// What was said of the whole.
    pub(crate) said: HashMap<String, String>,
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) meta: RowMeta,
    pub(crate) unsent: Unsent,
}

const SOURCE_TYPE: &str = "source_type";
const NUMBER: &str = "number";
const TABLE: [&str; 3] = ["source", "schema", "table"];
const IDENTITY: &str = "identity";
/// Columns behind those of the table: op, position, commit time, transaction, ordinal, which columns were not sent.
const BESIDE: usize = 6;

/// `None` when Arrow cannot write the columns' types.
pub(crate) fn rows(
    fields: Vec<Field>,
    said: HashMap<String, String>,
    rows: &RecordBatch,
    meta: &RowMeta,
    unsent: &Unsent,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut fields = fields;
    let mask =
        |row: usize| -> Vec<u8> { (0..unsent.0.len()).map(|column| u8::from(unsent.is_unsent(column, row))).collect() };
    let masks: Vec<Vec<u8>> = match unsent.is_none() {
        true => vec![Vec::new(); meta.len()],
        false => (0..meta.len()).map(mask).collect(),
    };
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
    let schema = Arc::new(Schema::new(fields).with_metadata(said));
    let rows = RecordBatch::try_new(schema.clone(), columns).ok()?;
    written(&schema, Some(&rows))
}

/// The rows that [`rows`] wrote; `None` when it did not.
pub(crate) fn read(plain: &[u8]) -> Option<Carried> {
    let mut reader = StreamReader::try_new(plain, None).ok()?;
    let schema = reader.schema();
    let rows = reader.next()?.ok()?;
    let width = schema.fields().len().checked_sub(BESIDE)?;
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
    Some(Carried {
        fields: schema.fields()[..width].to_vec(),
        said: schema.metadata().clone(),
        columns: rows.columns()[..width].to_vec(),
        meta: meta.finish(),
        unsent,
    })
}

/// A table's structure; `None` when Arrow cannot write its types.
pub(crate) fn structure(table: &TableSchema) -> Option<Zeroizing<Vec<u8>>> {
    let mut said = named(&table.table);
    said.insert(IDENTITY.to_owned(), spelled(&table.identity));
    let fields: Vec<Field> = table.columns.iter().map(|column| field(column).with_nullable(column.nullable)).collect();
    written(&Arc::new(Schema::new(fields).with_metadata(said)), None)
}

/// The structure that [`structure`] wrote; `None` when it did not.
pub(crate) fn read_structure(plain: &[u8]) -> Option<TableSchema> {
    let schema = StreamReader::try_new(plain, None).ok()?.schema();
    let columns = schema.fields().iter().map(|field| Column { nullable: field.is_nullable(), ..column(field) });
    let identity = identity(schema.metadata().get(IDENTITY)?)?;
    Some(TableSchema { table: name(schema.metadata())?, columns: columns.collect(), identity })
}

/// A column as the source declares it, that may be null.
pub(crate) fn field(column: &Column) -> Field {
    let mut said = HashMap::from([(SOURCE_TYPE.to_owned(), column.source_type.clone())]);
    said.extend(column.number.map(|number| (NUMBER.to_owned(), number.to_string())));
    Field::new(&column.name, column.data_type.clone(), true).with_metadata(said)
}

/// The column that [`field`] wrote.
pub(crate) fn column(field: &Arc<Field>) -> Column {
    Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: true,
        source_type: field.metadata().get(SOURCE_TYPE).cloned().unwrap_or_default(),
        number: field.metadata().get(NUMBER).and_then(|number| number.parse().ok()),
    }
}

/// Says which table it is.
pub(crate) fn named(table: &TableName) -> HashMap<String, String> {
    let levels = [&table.source, &table.schema, &table.table];
    TABLE.iter().zip(levels).map(|(level, name)| ((*level).to_owned(), name.clone())).collect()
}

/// Which table [`named`] said.
pub(crate) fn name(said: &HashMap<String, String>) -> Option<TableName> {
    let [source, schema, table] = TABLE.map(|level| said.get(level).cloned());
    Some(TableName::new(source?, schema?, table?))
}

fn spelled(identity: &Identity) -> String {
    match identity {
        Identity::Key(columns) => columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Identity::WholeRow => "whole row".to_owned(),
        Identity::InsertOnly => "inserts only".to_owned(),
    }
}

fn identity(spelled: &str) -> Option<Identity> {
    match spelled {
        "whole row" => Some(Identity::WholeRow),
        "inserts only" => Some(Identity::InsertOnly),
        key => key.split(',').map(|index| index.parse().ok()).collect::<Option<_>>().map(Identity::Key),
    }
}

fn written(schema: &Arc<Schema>, rows: Option<&RecordBatch>) -> Option<Zeroizing<Vec<u8>>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).ok()?;
    if let Some(rows) = rows {
        writer.write(rows).ok()?;
    }
    writer.into_inner().map(Zeroizing::new).ok()
}

fn op_of(byte: u8) -> Option<Op> {
    [Op::Copy, Op::Insert, Op::Update, Op::Delete, Op::MoveOut].into_iter().find(|op| *op as u8 == byte)
}
