//! Sidecars: files beside a checkpoint of the log that hold a part of it (Delta protocol, "Sidecar File Information"). We make none; another program
//! may.

use std::collections::HashSet;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use change::Result;
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};

use crate::failure::Explain;
use crate::rows;

/// Where they lie, in the folder of the log.
pub(crate) const FOLDER: &str = "_sidecars/";

/// The names of the sidecars that belong to the checkpoints of a version, among these objects of a table.
pub(crate) async fn named(store: &LogStoreRef, version: u64, objects: &[ObjectMeta]) -> Result<HashSet<String>> {
    let checkpoints = format!("_delta_log/{version:020}.checkpoint.");
    let mut paths = Vec::new();
    for path in objects.iter().map(|object| object.location.as_ref()).filter(|path| path.starts_with(&checkpoints)) {
        paths.extend(match path.ends_with(".json") {
            true => in_json(store, path).await?,
            false => in_parquet(store, path).await?,
        });
    }
    let name = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(paths.into_iter().map(name).collect())
}

async fn in_json(store: &LogStoreRef, path: &str) -> Result<Vec<String>> {
    let doing = || format!("cannot read {path}");
    let text = store.object_store(None).get(&Path::from(path)).await.explain(doing)?.bytes().await.explain(doing)?;
    let mut paths = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let action: serde_json::Value = serde_json::from_slice(line).explain(doing)?;
        paths.extend(action.pointer("/sidecar/path").and_then(|path| path.as_str()).map(str::to_owned));
    }
    Ok(paths)
}

async fn in_parquet(store: &LogStoreRef, path: &str) -> Result<Vec<String>> {
    let mut batches = rows::read(store, path, &["sidecar"], None).await?;
    let mut paths = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let sidecars = batch.column_by_name("sidecar").and_then(|column| column.as_struct_opt());
        let Some(column) = sidecars.and_then(|sidecars| sidecars.column_by_name("path")) else { continue };
        let column = cast(column, &DataType::Utf8).explain(|| format!("cannot read {path}"))?;
        paths.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::Field;
    use object_store::memory::InMemory;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::lake::{Lake, objects};

    fn checkpoint(sidecars: Vec<Option<&str>>) -> Vec<u8> {
        let paths: ArrayRef = Arc::new(StringArray::from(sidecars));
        let field = Arc::new(Field::new("path", DataType::Utf8, true));
        let column: ArrayRef = Arc::new(StructArray::from(vec![(field, paths)]));
        let batch = RecordBatch::try_from_iter([("sidecar", column)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    #[tokio::test]
    async fn sidecars_are_named_by_checkpoints_of_either_form_and_of_this_version() {
        let lake = Lake::in_store(Arc::new(InMemory::new())).unwrap();
        let json = r#"{"checkpointMetadata":{"version":7}}
{"sidecar":{"path":"two.parquet","sizeInBytes":1}}"#;
        for (name, bytes) in [
            (
                "00000000000000000007.checkpoint.a.parquet",
                checkpoint(vec![None, Some("_delta_log/_sidecars/one.parquet")]),
            ),
            ("00000000000000000007.checkpoint.b.json", json.as_bytes().to_vec()),
            ("00000000000000000006.checkpoint.c.parquet", checkpoint(vec![Some("old.parquet")])),
        ] {
            lake.put_object(&["_delta_log", name], bytes).await.unwrap();
        }
        let there = objects(lake.root()).await.unwrap();
        let named = named(lake.root(), 7, &there).await.unwrap();
        assert_eq!(named, ["one.parquet", "two.parquet"].map(str::to_owned).into());
    }
}
