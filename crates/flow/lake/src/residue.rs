//! Whether values are left anywhere: in any object of the lake, whether a table needs it or not, as bytes and as decoded columns.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use arrow::array::{Array, ArrayData, RecordBatch};
use bytes::Bytes;
use change::{Error, Kind, Result};
use futures::TryStreamExt;
use gate::StoredToken;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use crate::erase::Doomed;
use crate::failure::Explain;
use crate::lake::Lake;
use crate::naming::{LakeTable, Layer};
use crate::offload;

/// What a scan has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// Objects that were read to their end.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects with a value in them, and their SHA-256.
    pub found: BTreeMap<String, [u8; 32]>,
}

/// What is looked for.
pub struct Traces {
    /// Values that are unmistakable wherever they stand.
    anywhere: Option<AhoCorasick>,
    /// Values that mean something in their columns only, by the folders of the tables.
    in_columns: Vec<(Path, Doomed)>,
}

impl Traces {
    /// `anywhere` for values that are unmistakable, such as tokens; `in_columns` for others.
    ///
    /// # Errors
    /// `Bug` when there are too many values for one search.
    pub fn new(anywhere: &[String], in_columns: Vec<(change::TableName, Doomed)>) -> Result<Self> {
        let stored = anywhere.iter().map(|token| StoredToken::bytes(token));
        let search = (!anywhere.is_empty()).then(|| AhoCorasick::new(stored)).transpose();
        let search = search.map_err(|_| Error::new(Kind::Bug, "too many values for one search"))?;
        let mut folders = Vec::new();
        for (name, doomed) in in_columns {
            for layer in [Layer::Current, Layer::Changes] {
                let table = LakeTable::new(name.clone(), layer)?;
                folders.push((Path::from_iter(table.folders()), doomed.clone()));
            }
        }
        Ok(Self { anywhere: search, in_columns: folders })
    }

    /// Whether an object has a value in it.
    fn are_in(&self, path: &Path, bytes: &Bytes) -> Result<bool> {
        if self.in_bytes(bytes) {
            return Ok(true);
        }
        if path.extension() != Some("parquet") {
            return Ok(false);
        }
        let doing = || format!("{path} cannot be searched");
        let columns: Vec<&Doomed> = self
            .in_columns
            .iter()
            .filter(|(folder, _)| path.prefix_matches(folder))
            .map(|(_, doomed)| doomed)
            .collect();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).explain(doing)?.build().explain(doing)?;
        for batch in reader {
            let batch: RecordBatch = batch.explain(doing)?;
            if batch.columns().iter().any(|column| self.in_data(&column.to_data())) {
                return Ok(true);
            }
            for doomed in &columns {
                if doomed.mark(&batch)?.contains(&true) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn in_bytes(&self, bytes: &[u8]) -> bool {
        self.anywhere.as_ref().is_some_and(|search| search.is_match(bytes))
    }

    fn in_data(&self, data: &ArrayData) -> bool {
        data.buffers().iter().any(|buffer| self.in_bytes(buffer.as_slice()))
            || data.child_data().iter().any(|child| self.in_data(child))
    }
}

impl Lake {
    /// Reads every object of the lake and says which have one of the values in them.
    ///
    /// # Errors
    /// Those of the store; `Data` for an object that cannot be read to its end: nothing is known of it then.
    pub async fn search(&self, traces: Traces) -> Result<Residue> {
        let store = self.root().object_store(None);
        let mut objects = store.list(None);
        let (mut residue, mut traces) = (Residue::default(), traces);
        while let Some(object) = objects.try_next().await.explain(|| "cannot list the lake".into())? {
            let path = object.location;
            let doing = || format!("cannot read {path}");
            let bytes = match store.get(&path).await {
                Ok(found) => found.bytes().await.explain(doing)?,
                // It went away since it was listed.
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error).explain(doing),
            };
            residue.objects += 1;
            residue.bytes += bytes.len() as u64;
            let named = path.clone();
            let searched = offload::compute(move || {
                let found = traces.are_in(&named, &bytes);
                let hash = matches!(found, Ok(true)).then(|| <[u8; 32]>::from(Sha256::digest(&bytes)));
                (traces, found.map(|_| hash))
            });
            let (back, found) = searched.await.explain(|| "the search ended".into())?;
            traces = back;
            if let Some(hash) = found? {
                residue.found.insert(path.to_string(), hash);
            }
        }
        Ok(residue)
    }

    /// The table that an object belongs to.
    pub fn table_of(&self, object: &str) -> Option<LakeTable> {
        let folders: Vec<_> = Path::from(object).parts().take(3).map(|part| part.as_ref().to_owned()).collect();
        LakeTable::from_folders(&Path::from_iter(folders))
    }
}
