//! The columns of a lake table, and how they may change.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use change::{Error, Kind, Result};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{Action, Metadata, Protocol, StructType};
use gate::ClearedSchema;

use crate::failure::Explain;
use crate::log::TableLog;
use crate::naming::{LakeTable, Layer};
use crate::protocol;

pub(crate) const POSITION: &str = "_lg_position";
pub(crate) const COMMITTED_AT: &str = "_lg_committed_at";
pub(crate) const OP: &str = "_lg_op";
pub(crate) const TXID: &str = "_lg_txid";
pub(crate) const ORDINAL: &str = "_lg_ordinal";
pub(crate) const DATE: &str = "_lg_date";

/// The columns that Lockgate adds.
pub(crate) fn own_fields(layer: Layer) -> Vec<Field> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![Field::new(POSITION, DataType::Binary, true), Field::new(COMMITTED_AT, time, true)];
    if layer == Layer::Changes {
        fields.extend([
            Field::new(OP, DataType::Utf8, true),
            Field::new(TXID, DataType::Int64, true),
            Field::new(ORDINAL, DataType::Int64, true),
            Field::new(DATE, DataType::Date32, true),
        ]);
    }
    fields
}

/// Whether a column of a table is one that Lockgate adds. Another program may have put its columns behind them.
fn is_own(field: &Field, layer: Layer) -> bool {
    own_fields(layer).iter().any(|own| own.name() == field.name())
}

/// The structure of a new table.
pub(crate) fn of(cleared: &ClearedSchema, layer: Layer) -> SchemaRef {
    let columns = cleared.columns.iter().map(|column| Field::new(&column.name, stored(&column.data_type), true));
    Arc::new(Schema::new(columns.chain(own_fields(layer)).collect::<Vec<_>>()))
}

/// The columns in data files of copied rows, which are those of the change log in both tables.
pub(crate) fn of_copied(table: &SchemaRef, layer: Layer) -> SchemaRef {
    let columns = table.fields().iter().filter(|field| !is_own(field, layer)).cloned();
    let own = own_fields(Layer::Changes).into_iter().filter(|field| field.name() != DATE).map(Arc::new);
    Arc::new(Schema::new(columns.chain(own).collect::<Vec<_>>()))
}

/// Delta takes names that differ only in case for one, and some names are ours.
///
/// # Errors
/// `Contract` with the names.
pub(crate) fn check_names(cleared: &ClearedSchema) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::new(Kind::Contract, format!("{}: {what}", cleared.table)).fix("Drop one of them in policy.yaml."))
    };
    for (index, column) in cleared.columns.iter().enumerate() {
        let lower = column.name.to_lowercase();
        if lower.starts_with("_lg_") {
            return refuse(format!("column `{}` begins like Lockgate's own columns", column.name));
        }
        if let Some(twin) = cleared.columns[..index].iter().find(|before| before.name.to_lowercase() == lower) {
            return refuse(format!("columns `{}` and `{}` differ only in case", twin.name, column.name));
        }
    }
    Ok(())
}

/// Delta has no unsigned integers and no times finer than microseconds; the gate hands over neither. Everything else is stored as it is.
fn stored(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) => DataType::List(Arc::new(Field::new("element", stored(item.data_type()), true))),
        other => other.clone(),
    }
}

/// Another structure of a table.
pub(crate) struct Evolution {
    pub(crate) columns: SchemaRef,
    /// Whether a column's type grew, so that the files have to be written again.
    pub(crate) widened: bool,
}

/// The structure after `cleared` arrives at a table with `now`: the same, or with columns added behind all that are not ours and types grown. So
/// no other column moves: rows without key are known by the numbers of theirs.
///
/// # Errors
/// `Contract` when a column's type is another one.
pub(crate) fn evolve(now: &SchemaRef, cleared: &ClearedSchema, layer: Layer) -> Result<Option<Evolution>> {
    let mut columns: Vec<Arc<Field>> = now.fields().to_vec();
    let mut end = columns.iter().rposition(|field| !is_own(field, layer)).map_or(0, |last| last + 1);
    let mut widened = false;
    for column in &cleared.columns {
        let wanted = stored(&column.data_type);
        match columns.iter_mut().find(|field| field.name() == &column.name) {
            None => {
                columns.insert(end, Arc::new(Field::new(&column.name, wanted, true)));
                end += 1;
            }
            Some(field) if holds(field.data_type(), &wanted) => {}
            Some(field) if holds(&wanted, field.data_type()) => {
                *field = Arc::new(Field::new(&column.name, wanted, true));
                widened = true;
            }
            Some(field) => {
                return Err(Error::new(
                    Kind::Contract,
                    format!("{}: column `{}` is {} in the lake and now {wanted}", cleared.table, column.name, field.data_type()),
                )
                .fix("Give the new type another column name, or remove the table's folders from the lake so that it is copied anew."));
            }
        }
    }
    if columns.len() == now.fields().len() && !widened {
        return Ok(None);
    }
    Ok(Some(Evolution { columns: Arc::new(Schema::new(columns)), widened }))
}

/// Whether every value of `incoming` can be stored in `stored` without loss.
fn holds(stored: &DataType, incoming: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int16, Int32, Int64, List};
    match (stored, incoming) {
        (Int64, Int16 | Int32) | (Int32, Int16) | (Float64, Float32) => true,
        (Decimal128(p, s), Decimal128(q, t)) => p >= q && s == t,
        (List(a), List(b)) => holds(a.data_type(), b.data_type()),
        (Date32, Date32) => true,
        (a, b) => a == b,
    }
}

pub(crate) fn kernel(schema: &SchemaRef, table: &LakeTable) -> Result<StructType> {
    schema.as_ref().try_into_kernel().map_err(|_| {
        Error::new(Kind::Contract, format!("{table}: a column has a type that Delta does not know"))
            .fix("Report this: the gate should have turned it into text.")
    })
}

/// Metadata and protocol of a new table.
pub(crate) fn creation(schema: &SchemaRef, table: &LakeTable, now_ms: i64) -> Result<(Metadata, Protocol)> {
    let kernel = kernel(schema, table)?;
    let partitions: Vec<&str> = if table.layer == Layer::Changes { vec![DATE] } else { Vec::new() };
    let doing = || format!("{table}: cannot describe the table");
    let schema_text = serde_json::to_string(&kernel).explain(doing)?;
    let mut configuration = serde_json::json!({
        "delta.checkpointInterval": "50",
        // Older versions have lost their files: see `sweep::RETENTION_MICROS`.
        "delta.logRetentionDuration": "interval 7 days",
    });
    if table.layer == Layer::Current {
        configuration["delta.enableDeletionVectors"] = "true".into();
    }
    let metadata: Metadata = serde_json::from_value(serde_json::json!({
        "id": uuid::Uuid::new_v4().to_string(),
        "format": { "provider": "parquet", "options": {} },
        "schemaString": schema_text,
        "partitionColumns": partitions,
        "configuration": configuration,
        "createdTime": now_ms,
    }))
    .explain(doing)?;
    Ok((metadata, protocol::of(schema, table, None)?))
}

/// What a commit says of another structure: the metadata, and the protocol when the new columns ask more of readers.
pub(crate) fn changed(log: &TableLog, now: &SchemaRef) -> Result<Vec<Action>> {
    let doing = || format!("{}: cannot describe the table", log.table);
    let mut value = serde_json::to_value(&log.metadata).explain(doing)?;
    value["schemaString"] = serde_json::to_string(&kernel(now, &log.table)?).explain(doing)?.into();
    let mut actions = vec![Action::Metadata(serde_json::from_value(value).explain(doing)?)];
    let asked = protocol::of(now, &log.table, Some(&log.protocol))?;
    if asked != log.protocol {
        actions.insert(0, Action::Protocol(asked));
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_column_behind_ours_is_none_of_ours() {
        for layer in [Layer::Current, Layer::Changes] {
            let text = |name: &str| Field::new(name, DataType::Utf8, true);
            let fields = std::iter::once(text("id")).chain(own_fields(layer)).chain([text("theirs")]);
            let copied = of_copied(&Arc::new(Schema::new(fields.collect::<Vec<_>>())), layer);
            let names: Vec<&str> = copied.fields().iter().map(|field| field.name().as_str()).collect();
            assert_eq!(names, ["id", "theirs", POSITION, COMMITTED_AT, OP, TXID, ORDINAL]);
        }
    }
}
