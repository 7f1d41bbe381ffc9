//! The table features that readers and writers must know (Delta protocol, "Table Features").

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, SchemaRef};
use change::Result;
use deltalake::kernel::Protocol;
use serde::{Deserialize, Serialize};

use crate::failure::Explain;
use crate::naming::{LakeTable, Layer};

/// A protocol action, without an order of its features.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    min_reader_version: i32,
    min_writer_version: i32,
    /// There when the version is 3, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader_features: Option<BTreeSet<String>>,
    #[serde(default)]
    writer_features: BTreeSet<String>,
}

impl Asked {
    fn read(protocol: &Protocol, table: &LakeTable) -> Result<Self> {
        let doing = || format!("{table}: cannot read the table's protocol");
        serde_json::to_value(protocol).and_then(serde_json::from_value).explain(doing)
    }
}

/// What a table of this structure asks. What it asks `now` stays: another program may have switched on more, and the table may have columns
/// or files that need it.
pub(crate) fn of(schema: &SchemaRef, table: &LakeTable, now: Option<&Protocol>) -> Result<Protocol> {
    let before = now.map(|protocol| Asked::read(protocol, table)).transpose()?.unwrap_or_default();
    let mut asked = before.clone();
    let mut ours = Vec::new();
    if table.layer == Layer::Current {
        ours.push("deletionVectors");
    }
    if schema.fields().iter().any(|field| has_local_times(field.data_type())) {
        ours.push("timestampNtz");
    }
    if !ours.is_empty() {
        asked.reader_features.get_or_insert_default().extend(ours.iter().map(ToString::to_string));
    }
    asked.writer_features.extend(ours.iter().chain(&["domainMetadata"]).map(ToString::to_string));
    asked.min_reader_version = before.min_reader_version.max(if asked.reader_features.is_some() { 3 } else { 1 });
    asked.min_writer_version = before.min_writer_version.max(7);
    match now {
        Some(now) if asked == before => Ok(now.clone()),
        _ => {
            let doing = || format!("{table}: cannot describe the table");
            serde_json::to_value(asked).and_then(serde_json::from_value).explain(doing)
        }
    }
}

/// The features that a protocol asks of writers.
pub(crate) fn writer_features(protocol: &Protocol, table: &LakeTable) -> Result<BTreeSet<String>> {
    Ok(Asked::read(protocol, table)?.writer_features)
}

/// Times without a zone, in the column or in its items.
fn has_local_times(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) => has_local_times(item.data_type()),
        _ => false,
    }
}
