//! A lake: a place with tables.

use std::collections::HashMap;
use std::sync::Arc;

use change::{Error, Kind, RepairMark, Result, TableCheckpoint, TableName, Timestamp};
use datafusion::catalog::TableProvider;
use deltalake::logstore::{LogStoreRef, StorageConfig, logstore_for, logstore_with};
use futures::{StreamExt, TryStreamExt, stream};
use gate::{ClearedSchema, TableStamp};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::failure::Explain;
use crate::held_bytes::HeldTogether;
use crate::log::{DataFile, TableLog};
use crate::naming::{LakeTable, Layer};
use crate::remask::stamp_of;
use crate::stored::StoredTable;
use crate::writer::{Shared, TableWriter, WriterOptions};
use crate::{at_rest, location, versions};

/// Source, schema and table.
const TABLE_DEPTH: usize = 3;
/// Folders that are listed at a time.
const LISTINGS_AT_ONCE: usize = 16;

/// How a lake is reached.
#[derive(Clone, Default)]
pub struct LakeOptions {
    /// Options of the object store, named as in the `object_store` crate; secrets resolved.
    pub store: HashMap<String, String>,
}

/// A folder or a bucket's prefix with tables in three levels: source, schema, table.
pub struct Lake {
    url: Url,
    options: HashMap<String, String>,
    /// The store, when it was handed in and not found by the URL.
    given: Option<Arc<dyn ObjectStore>>,
    root: LogStoreRef,
    shared: Shared,
}

/// Which version of a table is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableVersion {
    /// This one.
    Version(u64),
    /// The newest one at this time, microseconds since the Unix epoch.
    Time(Timestamp),
}

/// What a table's log says of it.
#[derive(Clone, Debug)]
pub struct TableStatus {
    /// The newest version.
    pub version: u64,
    /// Live rows.
    pub rows: u64,
    /// Data files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest version was made, microseconds since the Unix epoch.
    pub committed_at: Option<Timestamp>,
    /// What the table has made durable of its source.
    pub checkpoint: TableCheckpoint,
    /// How its rows were cleared; `None` before the first commit.
    pub stamp: Option<TableStamp>,
}

impl Lake {
    /// Opens a lake by folder or URL; a local folder is made when it is missing.
    ///
    /// # Errors
    /// `Config` for a place that is not known or not encrypted, `Auth` when the folder cannot be made.
    pub async fn open(lake: &str, options: LakeOptions) -> Result<Self> {
        let url = location::parse(lake, &options.store)?;
        let root = logstore_at(&url, &options.store)?;
        let shared = Shared::of(&root);
        Ok(Self { url, options: options.store, given: None, root, shared })
    }

    /// A lake at the root of a store that the caller has opened; the store must have conditional puts.
    ///
    /// # Errors
    /// `Data` when delta-rs refuses the store.
    pub fn in_store(store: Arc<dyn ObjectStore>) -> Result<Self> {
        // The scheme says nothing here but that listings come in order.
        let url = Url::parse("memory:///").explain(|| "a store without a place".into())?;
        let root = logstore_in(&store, &url)?;
        let shared = Shared::of(&root);
        Ok(Self { url, options: HashMap::new(), given: Some(store), root, shared })
    }

    /// The same lake, of which one table may hold so many bytes of streamed rows in memory before it writes a file, and all of them `together` before
    /// those with more than their share do; 48 and 192 MiB without this. To be said before a table is opened.
    #[must_use]
    pub fn holding_at_most(mut self, alone: usize, together: usize) -> Self {
        self.shared.held = Arc::new(HeldTogether::new(alone, together));
        self
    }

    pub(crate) fn root(&self) -> &LogStoreRef {
        &self.root
    }

    pub(crate) fn store(&self, table: &LakeTable) -> Result<LogStoreRef> {
        let url = self
            .url
            .join(&format!("{}/", table.folders().join("/")))
            .explain(|| format!("{table} has no place in the lake"))?;
        match &self.given {
            Some(store) => logstore_in(store, &url),
            None => logstore_at(&url, &self.options),
        }
    }

    /// Opens a table for writing; makes it when it is missing.
    ///
    /// # Errors
    /// `Contract` when the table's columns do not fit `schema`; `Conflict` when the table is not ours; those of the store.
    pub async fn writer(&self, schema: &ClearedSchema, layer: Layer, options: WriterOptions) -> Result<TableWriter> {
        let table = LakeTable::new(schema.table.clone(), layer)?;
        TableWriter::open(self.store(&table)?, schema, layer, options, self.shared.clone()).await
    }

    /// What a table has made durable; `None` when it is not there.
    pub async fn checkpoint(&self, name: &TableName, layer: Layer) -> Result<Option<TableCheckpoint>> {
        let table = LakeTable::new(name.clone(), layer)?;
        Ok(TableLog::newest_record(&table, &self.store(&table)?).await?.map(|record| record.checkpoint))
    }

    /// The rows of a table as they stand now, to be compared with their source; `None` when it is not there.
    pub async fn stored(&self, name: &TableName, layer: Layer) -> Result<Option<StoredTable>> {
        let table = LakeTable::new(name.clone(), layer)?;
        Ok(TableLog::load(&table, &self.store(&table)?).await?.map(StoredTable::new))
    }

    /// Every table of the lake.
    pub async fn tables(&self) -> Result<Vec<LakeTable>> {
        let store = self.root.object_store(None);
        let sources = folders(&store, None).await.map_err(|error| error.context(&self.url))?;
        let tables = folders_below(&store, folders_below(&store, sources).await?).await?;
        let logs = folders_below(&store, tables).await?;
        let logs = logs.iter().filter(|folder| folder.filename() == Some("_delta_log"));
        let table = |log: &Path| LakeTable::from_folders(&log.parts().take(TABLE_DEPTH).collect());
        let mut found: Vec<LakeTable> = logs.filter_map(table).collect();
        found.sort();
        Ok(found)
    }

    /// What a table's log says of it.
    pub async fn status(&self, name: &TableName, layer: Layer) -> Result<TableStatus> {
        let table = LakeTable::new(name.clone(), layer)?;
        let store = self.store(&table)?;
        let log = TableLog::load(&table, &store).await?.ok_or_else(|| {
            Error::new(Kind::Config, format!("{table} is not in the lake")).fix("List the tables: lockgate status")
        })?;
        let path = Path::from(format!("_delta_log/{:020}.json", log.version));
        let written = store.object_store(None).head(&path).await.ok();
        Ok(TableStatus {
            version: log.version,
            rows: log.files.values().map(DataFile::live).sum(),
            files: log.files.len() as u64,
            bytes: log.files.values().map(|file| u64::try_from(file.add.size).unwrap_or_default()).sum(),
            committed_at: written.map(|meta| meta.last_modified.timestamp_micros()),
            stamp: stamp_of(&table, &log.record)?,
            checkpoint: log.record.checkpoint,
        })
    }

    /// A table for DataFusion, now or as it was.
    ///
    /// # Errors
    /// `Config` for a version that the table does not have, has not any more, or had not yet at that time; those of the store.
    pub async fn table_provider(
        &self,
        name: &TableName,
        layer: Layer,
        at: Option<TableVersion>,
    ) -> Result<Arc<dyn TableProvider>> {
        let table = LakeTable::new(name.clone(), layer)?;
        let delta = versions::load(&table, self.store(&table)?, at.as_ref()).await?;
        delta.table_provider().await.explain(|| format!("{table}: cannot read the table"))
    }

    /// Whether what lies in the lake is encrypted on its disks, as far as the store says so; a folder does not.
    ///
    /// # Errors
    /// `Config` when the store does not say it and no option allows that; those of the store.
    pub async fn check_at_rest(&self) -> Result<()> {
        at_rest::check(&self.url, &self.options).await
    }

    /// Whether the lake can be written, read and cleaned.
    ///
    /// # Errors
    /// What is missing, with what to do.
    pub async fn probe(&self) -> Result<()> {
        probe_in(&self.root.object_store(None), &Path::default(), &self.url).await
    }

    /// Records how far the repair of a source is.
    pub async fn put_repair_mark(&self, source: &str, mark: &RepairMark) -> Result<()> {
        self.put_document(&repair_path(source), mark).await
    }

    /// Reads what [`Lake::put_repair_mark`] wrote last; `None` when the source was never repaired.
    pub async fn repair_mark(&self, source: &str) -> Result<Option<RepairMark>> {
        self.document(&repair_path(source)).await
    }

    pub(crate) async fn put_document(&self, path: &Path, document: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(document).explain(|| format!("{path} is not JSON"))?;
        let put = self.root.object_store(None).put(path, text.into()).await;
        put.map(|_| ()).explain(|| format!("cannot write {path}"))
    }

    pub(crate) async fn document<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let doing = || format!("cannot read {path}");
        match self.root.object_store(None).get(path).await {
            Ok(found) => {
                let bytes = found.bytes().await.explain(doing)?;
                serde_json::from_slice(&bytes).map(Some).explain(doing)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).explain(doing),
        }
    }
}

/// Puts an object into a folder of the store that a lake is in, and removes it.
pub(crate) async fn probe_in(store: &dyn ObjectStore, folder: &Path, lake: &Url) -> Result<()> {
    let path = folder.clone().join(format!("_lockgate_probe_{}", uuid::Uuid::new_v4()));
    let put = store.put(&path, bytes::Bytes::from_static(b"probe").into()).await;
    put.explain(|| format!("the lake {lake} cannot be written"))?;
    store.delete(&path).await.explain(|| format!("the lake {lake} cannot be cleaned"))
}

fn repair_path(source: &str) -> Path {
    Path::from_iter([source, "_lockgate", "repair.json"])
}

fn logstore_at(url: &Url, options: &HashMap<String, String>) -> Result<LogStoreRef> {
    let config = StorageConfig { raw: options.clone(), ..StorageConfig::default() };
    logstore_for(url, config).explain(|| format!("the lake at {url} cannot be opened"))
}

fn logstore_in(store: &Arc<dyn ObjectStore>, url: &Url) -> Result<LogStoreRef> {
    logstore_with(store.clone(), url, StorageConfig::default())
        .explain(|| format!("the lake at {url} cannot be opened"))
}

/// Folders of all these folders, in their order.
async fn folders_below(store: &Arc<dyn ObjectStore>, parents: Vec<Path>) -> Result<Vec<Path>> {
    let list = |parent: Path| async move { folders(store, Some(&parent)).await };
    let found: Vec<Vec<Path>> = stream::iter(parents).map(list).buffered(LISTINGS_AT_ONCE).try_collect().await?;
    Ok(found.concat())
}

async fn folders(store: &Arc<dyn ObjectStore>, prefix: Option<&Path>) -> Result<Vec<Path>> {
    let place = prefix.map_or_else(String::new, |prefix| format!("/{prefix}"));
    let listed = store.list_with_delimiter(prefix).await.explain(|| format!("cannot list the lake{place}"))?;
    Ok(listed.common_prefixes)
}

/// Every object below a store's root.
pub(crate) async fn objects(store: &LogStoreRef) -> Result<Vec<object_store::ObjectMeta>> {
    store.object_store(None).list(None).try_collect().await.explain(|| "cannot list the table's files".into())
}
