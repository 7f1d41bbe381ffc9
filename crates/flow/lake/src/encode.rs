//! Rows to Parquet, with the statistics that the policy allows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use bytes::Bytes;
use change::Result;
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use crate::failure::Explain;

/// Rows of a row group: enough for good compression, few enough to be held while they are written.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Rows that tell whether a column's values repeat.
const SAMPLE_ROWS: usize = 2048;

/// A Parquet file in memory and its Delta statistics.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) stats: String,
}

/// Which columns may have minimum and maximum written down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics(pub(crate) Vec<String>);

impl Statistics {
    /// These columns and more.
    pub(crate) fn and(&self, more: &[&str]) -> Self {
        let more = more.iter().filter(|name| !self.allow(name)).map(|name| (*name).to_owned());
        Self(self.0.iter().cloned().chain(more).collect())
    }

    fn allow(&self, column: &str) -> bool {
        self.0.iter().any(|name| name == column)
    }
}

/// Encodes batches of one structure. CPU-bound: call it where blocking is allowed.
pub(crate) fn encode(schema: &SchemaRef, batches: &[RecordBatch], statistics: &Statistics) -> Result<Encoded> {
    let doing = || "cannot encode rows as Parquet".to_owned();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None);
    for column in &statistics.0 {
        properties =
            properties.set_column_statistics_enabled(ColumnPath::from(column.as_str()), EnabledStatistics::Chunk);
    }
    // Values that hardly repeat, such as keys, gain nothing from a dictionary and cost a look-up each.
    for (index, field) in schema.fields().iter().enumerate() {
        if batches.first().is_some_and(|batch| hardly_repeats(batch.column(index))) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
        }
    }
    let mut bytes = Vec::with_capacity(1 << 20);
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties.build())).explain(doing)?;
    for batch in batches {
        writer.write(batch).explain(doing)?;
    }
    writer.close().explain(doing)?;
    Ok(Encoded { bytes: Bytes::from(bytes), stats: stats(schema, batches, statistics) })
}

/// Whether more than half of the first values differ. Structures and lists are not looked at.
fn hardly_repeats(column: &ArrayRef) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    let sample = column.slice(0, rows);
    let distinct = match sample.data_type() {
        DataType::Utf8 => sample.as_string::<i32>().iter().flatten().collect::<HashSet<_>>().len(),
        DataType::Binary => sample.as_binary::<i32>().iter().flatten().collect::<HashSet<_>>().len(),
        kind => match kind.primitive_width() {
            Some(width) => {
                let data = sample.to_data();
                let values = &data.buffers()[0].as_slice()[data.offset() * width..][..rows * width];
                values.chunks_exact(width).collect::<HashSet<_>>().len()
            }
            None => 0,
        },
    };
    distinct * 2 > rows
}

fn stats(schema: &SchemaRef, batches: &[RecordBatch], statistics: &Statistics) -> String {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let (mut nulls, mut low, mut high) = (Map::new(), Map::new(), Map::new());
    for (index, field) in schema.fields().iter().enumerate() {
        if matches!(field.data_type(), DataType::List(_) | DataType::Struct(_)) {
            continue;
        }
        let columns: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(index)).collect();
        let null_count: usize = columns.iter().map(|column| column.null_count()).sum();
        nulls.insert(field.name().clone(), json!(null_count));
        if statistics.allow(field.name())
            && let Some((min, max)) = bounds(field.data_type(), &columns)
        {
            low.insert(field.name().clone(), min);
            high.insert(field.name().clone(), max);
        }
    }
    json!({ "numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls }).to_string()
}

/// Minimum and maximum as Delta writes them; `None` for types whose bounds are of no use to readers, or when all is null.
fn bounds(data_type: &DataType, columns: &[&ArrayRef]) -> Option<(Value, Value)> {
    macro_rules! ends {
        ($kind:ty) => {{
            let low = columns.iter().filter_map(|column| min(column.as_primitive::<$kind>())).min()?;
            let high = columns.iter().filter_map(|column| max(column.as_primitive::<$kind>())).max()?;
            (low, high)
        }};
    }
    Some(match data_type {
        DataType::Int16 => {
            let (low, high) = ends!(Int16Type);
            (json!(low), json!(high))
        }
        DataType::Int32 => {
            let (low, high) = ends!(Int32Type);
            (json!(low), json!(high))
        }
        DataType::Int64 => {
            let (low, high) = ends!(Int64Type);
            (json!(low), json!(high))
        }
        DataType::Decimal128(_, 0) => {
            let (low, high) = ends!(Decimal128Type);
            (json!(i64::try_from(low).ok()?), json!(i64::try_from(high).ok()?))
        }
        DataType::Date32 => {
            let (low, high) = ends!(Date32Type);
            (json!(date(low)?), json!(date(high)?))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (low, high) = ends!(TimestampMicrosecondType);
            // Delta's bounds have milliseconds: the lower end is cut, the upper one rounded up.
            let zone = zone.is_some();
            (json!(time(low.div_euclid(1000), zone)?), json!(time(high.div_euclid(1000) + 1, zone)?))
        }
        _ => return None,
    })
}

/// Bounds outside the years 1 to 9999 have more than four digits or a sign, which readers do not parse: the file goes without.
fn readable(date: &impl Datelike) -> bool {
    (1..=9999).contains(&date.year())
}

fn date(days: i32) -> Option<String> {
    let date = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(i64::from(days))?)?;
    readable(&date).then_some(())?;
    Some(date.format("%Y-%m-%d").to_string())
}

fn time(millis: i64, zone: bool) -> Option<String> {
    let format = if zone { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.3f" };
    let time = DateTime::from_timestamp_millis(millis)?;
    readable(&time).then(|| time.format(format).to_string())
}

/// Statistics of a file of which rows are deleted: the bounds may be wider than the rows that are left (Delta protocol, "Per-file
/// Statistics": `tightBounds`).
pub(crate) fn loosened(stats: &str) -> String {
    match serde_json::from_str::<Map<String, Value>>(stats) {
        Ok(mut stats) => {
            stats.insert("tightBounds".into(), false.into());
            Value::Object(stats).to_string()
        }
        Err(_) => stats.to_owned(),
    }
}

/// Statistics of a file that has more columns than the table: those of the table's.
pub(crate) fn narrowed(stats: &str, schema: &SchemaRef) -> String {
    let Ok(mut stats) = serde_json::from_str::<Map<String, Value>>(stats) else { return stats.to_owned() };
    for (_, of_columns) in &mut stats {
        if let Value::Object(columns) = of_columns {
            columns.retain(|name, _| schema.index_of(name).is_ok());
        }
    }
    Value::Object(stats).to_string()
}

/// Columns cast and ordered as the table stores them; missing ones are null.
pub(crate) fn fit(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let doing = || "cannot fit rows into the table's columns".to_owned();
    let column = |field: &Arc<arrow::datatypes::Field>| -> Result<ArrayRef> {
        match rows.column_by_name(field.name()) {
            None => Ok(arrow::array::new_null_array(field.data_type(), rows.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => arrow::compute::cast(column, field.data_type()).explain(doing),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).explain(doing)
}
