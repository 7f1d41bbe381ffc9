//! The rows that a table has, for who compares them with their source.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use change::{Error, Kind, Op, Result, TableCheckpoint};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use gate::ClearedBatch;

use crate::deleted;
use crate::encode::fit;
use crate::failure::Explain;
use crate::log::{DataFile, TableLog};
use crate::rows;
use crate::schema::{OP, POSITION};

/// The rows of a lake table at one version.
pub struct StoredTable {
    log: TableLog,
    key: Arc<[String]>,
}

/// Live rows of a [`StoredTable`]. Only the lake makes them, out of what the gate had cleared before, so they may go back into it.
pub struct StoredRows {
    rows: RecordBatch,
    key: Arc<[String]>,
}

impl StoredTable {
    pub(crate) fn new(log: TableLog) -> Self {
        let key = log.record.key.clone().into();
        Self { log, key }
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.log.version
    }

    /// What the table has made durable of its source.
    pub fn checkpoint(&self) -> &TableCheckpoint {
        &self.log.record.checkpoint
    }

    /// The stamp of the last commit.
    pub fn stamp(&self) -> &serde_json::Value {
        &self.log.record.stamp
    }

    /// The columns, Lockgate's own among them.
    pub fn columns(&self) -> &SchemaRef {
        &self.log.schema
    }

    /// The columns by which a row is found again; none when its rows form a multiset.
    pub fn key(&self) -> &[String] {
        &self.key
    }

    /// The number of live rows.
    pub fn rows(&self) -> u64 {
        self.log.files.values().map(DataFile::live).sum()
    }

    /// All live rows, a few thousand at a time, in no order.
    pub fn scan(&self) -> BoxStream<'_, Result<StoredRows>> {
        stream::iter(&self.log.files).then(|(path, file)| self.file(path, file)).try_flatten().boxed()
    }

    async fn file(&self, path: &str, file: &DataFile) -> Result<BoxStream<'static, Result<StoredRows>>> {
        let gone = match &file.add.deletion_vector {
            Some(descriptor) => deleted::read(&self.log.store, descriptor).await?,
            None => Default::default(),
        };
        let (schema, key) = (self.log.schema.clone(), self.key.clone());
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let batches = rows::read(&self.log.store, path, &names, None).await?;
        let mut first = 0_u64;
        let live = move |batch: Result<RecordBatch>| {
            let batch = batch?;
            let count = batch.num_rows() as u64;
            let keep: BooleanArray = (first..first + count).map(|row| Some(!gone.contains(row))).collect();
            first += count;
            let rows = filter_record_batch(&batch, &keep).explain(|| "cannot leave out deleted rows".into())?;
            Ok(StoredRows { rows: fit(&schema, &rows)?, key: key.clone() })
        };
        Ok(batches.map(live).boxed())
    }

    /// Cleared rows as this table would store their values; Lockgate's own columns are null.
    ///
    /// # Errors
    /// `Data` when a value does not fit its column.
    pub fn fit(&self, batch: &ClearedBatch) -> Result<RecordBatch> {
        fit(&self.log.schema, batch.rows())
    }
}

impl StoredRows {
    /// The values, in the columns of the table.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Where in the stream each row was changed last.
    ///
    /// # Errors
    /// `Conflict` when the table lacks this column of ours.
    pub fn positions(&self) -> Result<&BinaryArray> {
        self.own(POSITION)?.as_binary_opt().ok_or_else(|| not_ours(POSITION))
    }

    /// What happened to each row, in a change log. A truncate is none of them.
    pub(crate) fn ops(&self) -> Result<Vec<Op>> {
        let letters = self.own(OP)?.as_string_opt::<i32>().ok_or_else(|| not_ours(OP))?;
        let all = [Op::Copy, Op::Insert, Op::Update, Op::Delete];
        let op = |letter: Option<&str>| all.into_iter().find(|op| Some(op.letter()) == letter);
        letters.iter().map(|letter| op(letter).ok_or_else(|| not_ours(OP))).collect()
    }

    fn own(&self, name: &str) -> Result<&ArrayRef> {
        self.rows.column_by_name(name).ok_or_else(|| not_ours(name))
    }

    /// The rows that `keep` has a true value for.
    ///
    /// # Errors
    /// `Data` when the lengths disagree.
    pub fn chosen(&self, keep: &BooleanArray) -> Result<Self> {
        let rows = filter_record_batch(&self.rows, keep).explain(|| "cannot choose rows".into())?;
        Ok(Self { rows, key: self.key.clone() })
    }

    /// The columns of the key only.
    pub(crate) fn keys(&self) -> Result<RecordBatch> {
        let doing = || "cannot take the keys out of rows".to_owned();
        let schema = self.rows.schema();
        let columns = self.key.iter().map(|name| schema.index_of(name).explain(doing)).collect::<Result<Vec<_>>>()?;
        self.rows.project(&columns).explain(doing)
    }
}

fn not_ours(column: &str) -> Error {
    Error::new(Kind::Conflict, format!("the column `{column}` of the lake's table is not as Lockgate writes it"))
        .fix("Restore the table to a version that Lockgate wrote.")
}
