//! Copied rows that wait for the commit of their chunk, and their data files: encoded once for the change log and the current table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use change::{Result, Timestamp};
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use gate::ClearedBatch;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use roaring::RoaringTreemap;
use tokio::sync::OnceCell;

use crate::area::{Staged, data_file};
use crate::changes::{day_of, partition};
use crate::encode::{Encoded, Statistics, encode, narrowed};
use crate::failure::Explain;
use crate::incoming::copied_rows;
use crate::index::KeyHash;
use crate::log::TableLog;
use crate::naming::Layer;
use crate::offload;
use crate::schema;

/// Bytes of rows that are held in memory before a file is written. The same for both tables of a source table, so that their files have
/// the same rows.
const HELD_BYTES_MAX: usize = 48 << 20;

/// The copied rows of one chunk, in one of the two tables.
pub(crate) struct CopyArea {
    files: Arc<CopiedFiles>,
    waiting: Vec<Arc<ClearedBatch>>,
    keys: Vec<KeyHash>,
    bytes: usize,
    day: Option<i32>,
    pub(crate) staged: Vec<Staged>,
    /// Rows that were taken in.
    pub(crate) rows: u64,
    /// When the newest of them was read.
    pub(crate) newest: Option<Timestamp>,
}

impl CopyArea {
    pub(crate) fn new(files: Arc<CopiedFiles>) -> Self {
        Self {
            files,
            waiting: Vec::new(),
            keys: Vec::new(),
            bytes: 0,
            day: None,
            staged: Vec::new(),
            rows: 0,
            newest: None,
        }
    }

    /// The same area without rows.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.files.clone())
    }

    /// Takes in rows with their keys (none in a table whose rows are not looked up); writes a file when enough wait.
    pub(crate) async fn hold(
        &mut self,
        batch: &Arc<ClearedBatch>,
        keys: Vec<KeyHash>,
        table: &TableLog,
        statistics: &Statistics,
        now_ms: i64,
    ) -> Result<()> {
        let times = &batch.meta().committed_at;
        let day = day_of(times)?;
        if day != self.day {
            self.flush(table, statistics, now_ms).await?;
            self.day = day;
        }
        self.rows += batch.len() as u64;
        self.newest = self.newest.max(arrow::compute::max(times));
        self.bytes += batch.rows().get_array_memory_size();
        self.keys.extend(keys);
        self.waiting.push(batch.clone());
        if self.bytes >= HELD_BYTES_MAX { self.flush(table, statistics, now_ms).await } else { Ok(()) }
    }

    /// Writes what is held in memory to a data file that nobody sees yet. The rows stay in memory until the store has the file, so that a
    /// failed write may be tried again.
    pub(crate) async fn flush(&mut self, table: &TableLog, statistics: &Statistics, now_ms: i64) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let add = self.files.place(&self.waiting, self.day, table, statistics, now_ms).await?;
        let rows = self.waiting.drain(..).map(|batch| batch.len() as u64).sum();
        let keys = std::mem::take(&mut self.keys);
        self.bytes = 0;
        self.staged.push(Staged { add, rows, gone: RoaringTreemap::new(), keys });
        Ok(())
    }
}

/// The data files of copied rows in a lake. The table that asks first encodes and writes a file; for the other one the store copies it:
/// a link on a local disk, a request without data elsewhere. The files have the change log's columns. Readers of the current table take
/// columns by name and pass over those that the table does not have.
pub(crate) struct CopiedFiles {
    root: LogStoreRef,
    known: Mutex<Vec<Known>>,
}

/// Batches and the file that holds exactly their rows. The batches are known by address: a weak reference keeps it from being used again.
struct Known {
    of: Vec<Weak<ClearedBatch>>,
    file: Arc<OnceCell<Written>>,
}

/// A file in the lake that is not part of a table yet.
#[derive(Clone)]
struct Written {
    path: Path,
    size: i64,
    columns: SchemaRef,
    stats: String,
}

impl CopiedFiles {
    pub(crate) fn new(root: LogStoreRef) -> Self {
        Self { root, known: Mutex::default() }
    }

    /// A file of `table` with the rows of `batches`, all read on one day.
    async fn place(
        &self,
        batches: &[Arc<ClearedBatch>],
        day: Option<i32>,
        table: &TableLog,
        statistics: &Statistics,
        now_ms: i64,
    ) -> Result<Add> {
        let (folder, partition_values) = match table.table.layer {
            Layer::Changes => partition(day),
            Layer::Current => (String::new(), HashMap::new()),
        };
        let name = data_file(&folder);
        let path = Path::from(format!("{}/{name}", table.table.folders().join("/")));
        let columns = schema::of_copied(&table.schema, table.table.layer);
        let shared = self.known(batches);
        let mut first = false;
        let found = shared
            .get_or_try_init(|| {
                first = true;
                self.write(batches, &path, &columns, statistics)
            })
            .await?;
        let written = if first {
            found.clone()
        } else if found.columns == columns {
            self.copy(found, &path).await?
        } else {
            self.write(batches, &path, &columns, statistics).await?
        };
        Ok(Add {
            path: name,
            partition_values,
            size: written.size,
            modification_time: now_ms,
            data_change: true,
            stats: Some(narrowed(&written.stats, &table.schema)),
            ..Add::default()
        })
    }

    /// The one file of these batches. Files whose batches nobody holds any more are forgotten: nobody can ask for them.
    fn known(&self, batches: &[Arc<ClearedBatch>]) -> Arc<OnceCell<Written>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|file| file.of.iter().all(|batch| batch.strong_count() > 0));
        let same = |file: &&Known| {
            file.of.len() == batches.len()
                && file.of.iter().zip(batches).all(|(of, batch)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(batch)))
        };
        if let Some(file) = known.iter().find(same) {
            return file.file.clone();
        }
        let file = Arc::new(OnceCell::new());
        known.push(Known { of: batches.iter().map(Arc::downgrade).collect(), file: file.clone() });
        file
    }

    async fn write(
        &self,
        batches: &[Arc<ClearedBatch>],
        path: &Path,
        columns: &SchemaRef,
        statistics: &Statistics,
    ) -> Result<Written> {
        let statistics = statistics.and(&[schema::TXID, schema::ORDINAL, schema::OP]);
        let (batches, of_file) = (batches.to_vec(), columns.clone());
        let bytes = batches.iter().map(|batch| batch.rows().get_array_memory_size()).sum();
        let encoded = offload::encode(bytes, move || {
            let rows =
                batches.iter().map(|batch| copied_rows(batch, &of_file)).collect::<Result<Vec<RecordBatch>>>()?;
            encode(&of_file, &rows, &statistics)
        });
        let Encoded { bytes, stats } = encoded.await.explain(|| "the encoder of data files ended".into())??;
        let size = bytes.len() as i64;
        let put = self.root.object_store(None).put(path, bytes.into()).await;
        put.explain(|| format!("cannot write the data file {path}"))?;
        Ok(Written { path: path.clone(), size, columns: columns.clone(), stats })
    }

    /// A second file with the same content. A store that cannot copy gets the bytes from us.
    async fn copy(&self, written: &Written, path: &Path) -> Result<Written> {
        let store = self.root.object_store(None);
        if let Err(error) = store.copy(&written.path, path).await {
            tracing::debug!(%path, %error, "the store does not copy; the file is read and written");
            let doing = || format!("cannot copy the data file {} to {path}", written.path);
            let bytes = store.get(&written.path).await.explain(doing)?.bytes().await.explain(doing)?;
            store.put(path, bytes.into()).await.explain(doing)?;
        }
        Ok(Written { path: path.clone(), ..written.clone() })
    }
}
