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

/// Bytes of the rows of a row group in memory: whoever reads the file may hold a whole one.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Rows that tell whether a column's values repeat.
const SAMPLE_ROWS: usize = 2048;

/// Values of this size on average are not looked up in a dictionary: it would hold them once more.
const LARGE_VALUE_BYTES: usize = 64 << 10;

/// How much smaller a file is than its rows in memory: a guess, so that the file seldom moves while it grows.
const COMPRESSION: usize = 4;
/// Batches may share memory, which then counts more than once.
const ROOM_MAX: usize = 32 << 20;

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
    let mut encoder = Encoder::new(schema.clone(), statistics.clone());
    encoder.expect_bytes(batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>() / COMPRESSION);
    batches.iter().try_for_each(|batch| encoder.push(batch))?;
    encoder.finish()
}

/// A Parquet file that grows by batches of one structure: what is in memory is the file so far and a row group. CPU-bound.
pub(crate) struct Encoder {
    schema: SchemaRef,
    statistics: Statistics,
    /// Made with the first batch, whose values tell how to encode.
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
    /// What the rows of the open row group came to in memory.
    group_bytes: usize,
    columns: Vec<Seen>,
    /// Bytes that the file may come to.
    room: usize,
}

/// What was seen of a column.
#[derive(Clone, Default)]
struct Seen {
    nulls: usize,
    ends: Option<(i128, i128)>,
}

impl Encoder {
    pub(crate) fn new(schema: SchemaRef, statistics: Statistics) -> Self {
        let columns = vec![Seen::default(); schema.fields().len()];
        Self { schema, statistics, writer: None, rows: 0, group_bytes: 0, columns, room: 1 << 20 }
    }

    /// Says how large the file may become.
    pub(crate) fn expect_bytes(&mut self, bytes: usize) {
        self.room = bytes.min(ROOM_MAX);
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let doing = || "cannot encode rows as Parquet".to_owned();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(file_writer(&self.schema, &self.statistics, Some(batch), self.room)?),
        };
        let bytes = batch.get_array_memory_size();
        if self.group_bytes > 0 && self.group_bytes + bytes > ROW_GROUP_BYTES {
            writer.flush().explain(doing)?;
            self.group_bytes = 0;
        }
        writer.write(batch).explain(doing)?;
        self.group_bytes += bytes;
        self.rows += batch.num_rows();
        for ((seen, field), column) in self.columns.iter_mut().zip(self.schema.fields()).zip(batch.columns()) {
            seen.nulls += column.null_count();
            if self.statistics.allow(field.name())
                && let Some((low, high)) = ends(column)
            {
                seen.ends = Some(seen.ends.map_or((low, high), |(min, max)| (min.min(low), max.max(high))));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Encoded> {
        let stats = self.stats();
        let writer = match self.writer {
            Some(writer) => writer,
            None => file_writer(&self.schema, &self.statistics, None, 0)?,
        };
        let bytes = writer.into_inner().explain(|| "cannot encode rows as Parquet".to_owned())?;
        Ok(Encoded { bytes: Bytes::from(bytes), stats })
    }

    fn stats(&self) -> String {
        let (mut nulls, mut low, mut high) = (Map::new(), Map::new(), Map::new());
        for (seen, field) in self.columns.iter().zip(self.schema.fields()) {
            if matches!(field.data_type(), DataType::List(_) | DataType::Struct(_)) {
                continue;
            }
            nulls.insert(field.name().clone(), json!(seen.nulls));
            if let Some((min, max)) = seen.ends.and_then(|ends| bounds(field.data_type(), ends)) {
                low.insert(field.name().clone(), min);
                high.insert(field.name().clone(), max);
            }
        }
        json!({ "numRecords": self.rows, "minValues": low, "maxValues": high, "nullCount": nulls }).to_string()
    }
}

fn file_writer(
    schema: &SchemaRef,
    statistics: &Statistics,
    first: Option<&RecordBatch>,
    room: usize,
) -> Result<ArrowWriter<Vec<u8>>> {
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
        if first.is_some_and(|batch| hardly_repeats(batch.column(index))) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
        }
    }
    ArrowWriter::try_new(Vec::with_capacity(room), schema.clone(), Some(properties.build()))
        .explain(|| "cannot encode rows as Parquet".to_owned())
}

/// Whether more than half of the first values differ, or are large. Structures and lists are not looked at.
fn hardly_repeats(column: &ArrayRef) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    let bytes = column.to_data().get_slice_memory_size().unwrap_or_default();
    if bytes / column.len().max(1) > LARGE_VALUE_BYTES {
        return true;
    }
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

/// Minimum and maximum of a column whose type has bounds that are of use to readers; `None` when all is null.
fn ends(column: &ArrayRef) -> Option<(i128, i128)> {
    macro_rules! ends {
        ($kind:ty) => {{
            let column = column.as_primitive::<$kind>();
            (i128::from(min(column)?), i128::from(max(column)?))
        }};
    }
    Some(match column.data_type() {
        DataType::Int16 => ends!(Int16Type),
        DataType::Int32 => ends!(Int32Type),
        DataType::Int64 => ends!(Int64Type),
        DataType::Decimal128(_, 0) => ends!(Decimal128Type),
        DataType::Date32 => ends!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => ends!(TimestampMicrosecondType),
        _ => return None,
    })
}

/// Minimum and maximum as Delta writes them.
fn bounds(data_type: &DataType, (low, high): (i128, i128)) -> Option<(Value, Value)> {
    let (low, high) = (i64::try_from(low).ok()?, i64::try_from(high).ok()?);
    Some(match data_type {
        DataType::Date32 => (json!(date(low)?), json!(date(high)?)),
        DataType::Timestamp(_, zone) => {
            // Delta's bounds have milliseconds: the lower end is cut, the upper one rounded up.
            let zone = zone.is_some();
            (json!(time(low.div_euclid(1000), zone)?), json!(time(high.div_euclid(1000) + 1, zone)?))
        }
        _ => (json!(low), json!(high)),
    })
}

/// Bounds outside the years 1 to 9999 have more than four digits or a sign, which readers do not parse: the file goes without.
fn readable(date: &impl Datelike) -> bool {
    (1..=9999).contains(&date.year())
}

fn date(days: i64) -> Option<String> {
    let date = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(days)?)?;
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

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int64Array};
    use arrow::datatypes::{Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn rows_of_groups(encoded: &Encoded) -> Vec<i64> {
        let file = ParquetRecordBatchReaderBuilder::try_new(encoded.bytes.clone()).unwrap();
        file.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
    }

    /// Whoever reads a file may hold a whole row group: it ends by bytes before it ends by rows.
    #[test]
    fn a_row_group_holds_so_many_bytes_but_for_one_batch_that_has_more() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Binary, false)]));
        let batch = |bytes: usize| {
            let values = BinaryArray::from_vec(vec![&vec![0; bytes]]);
            RecordBatch::try_new(schema.clone(), vec![Arc::new(values)]).unwrap()
        };
        let (half, large) = (batch(ROW_GROUP_BYTES / 2 - 4096), batch(ROW_GROUP_BYTES + 1));
        let batches = [half.clone(), half.clone(), half.clone(), large, half];
        let encoded = encode(&schema, &batches, &Statistics::default()).unwrap();
        assert_eq!(rows_of_groups(&encoded), [2, 1, 1, 1]);
        assert!(encoded.stats.contains("\"numRecords\":5"));
    }

    #[test]
    fn small_rows_share_a_row_group_up_to_its_number_of_rows() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
        let values = Arc::new(Int64Array::from_iter_values(0..10_000));
        let batch = RecordBatch::try_new(schema.clone(), vec![values]).unwrap();
        let encoded = encode(&schema, &vec![batch; 14], &Statistics::default()).unwrap();
        assert_eq!(rows_of_groups(&encoded), [ROW_GROUP_ROWS as i64, 140_000 - ROW_GROUP_ROWS as i64]);
    }
}
