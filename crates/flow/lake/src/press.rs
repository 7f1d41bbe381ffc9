//! A data file that is encoded on another thread while its next rows are read: in memory are the file so far, a row group, and two batches.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use change::Result;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;

use crate::deleted::under;
use crate::encode::{Encoded, Encoder, Statistics};
use crate::failure::Explain;
use crate::offload::{self, Work};
use crate::{area, rows};

/// Takes rows one batch after the other.
pub(crate) struct Press {
    encoding: Work<Result<Encoder>>,
}

impl Press {
    pub(crate) fn new(encoder: Encoder) -> Self {
        Self { encoding: Work::Done(Ok(encoder)) }
    }

    /// Waits until the batch before is encoded, and begins with this one.
    pub(crate) async fn push(self, batch: RecordBatch) -> Result<Self> {
        let mut encoder = self.encoder().await?;
        Ok(Self { encoding: offload::start(move || encoder.push(&batch).map(|()| encoder)) })
    }

    /// The file; `None` of no rows.
    pub(crate) async fn finish(self) -> Result<Option<Encoded>> {
        let encoder = self.encoder().await?;
        if encoder.rows() == 0 {
            return Ok(None);
        }
        let file = offload::compute(move || encoder.finish()).await;
        file.explain(|| "the encoder of data files ended".into())?.map(Some)
    }

    async fn encoder(self) -> Result<Encoder> {
        self.encoding.done().await.explain(|| "the encoder of data files ended".into())?
    }
}

/// What a data file becomes when it is written again.
pub(crate) struct Again<'a> {
    /// The columns that are read.
    pub(crate) names: &'a [&'a str],
    /// The structure that is written.
    pub(crate) schema: &'a SchemaRef,
    pub(crate) statistics: &'a Statistics,
}

/// Writes a data file again, each batch through `become_of`, into a file that no commit names yet. Rows keep their numbers, deleted ones among
/// them, and so the deletion vector stays as it is.
pub(crate) async fn again(
    store: &LogStoreRef,
    add: &Add,
    Again { names, schema, statistics }: Again<'_>,
    become_of: impl Fn(RecordBatch) -> Result<RecordBatch>,
    now_ms: i64,
) -> Result<Add> {
    let mut encoder = Encoder::new(schema.clone(), statistics.clone());
    encoder.expect_bytes(usize::try_from(add.size).unwrap_or_default());
    let mut press = Press::new(encoder);
    let mut batches = rows::read(store, &add.path, names, None).await?;
    while let Some(batch) = batches.try_next().await? {
        press = press.push(become_of(batch)?).await?;
    }
    let encoded = match press.finish().await? {
        Some(encoded) => encoded,
        None => Encoder::new(schema.clone(), statistics.clone()).finish()?,
    };
    let folder = add.path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    let written = area::put(store, &folder, add.partition_values.clone(), encoded, now_ms).await?;
    Ok(under(written, add.deletion_vector.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, false)]))
    }

    fn batches(schema: &SchemaRef) -> Vec<RecordBatch> {
        let batch = |first: i64| {
            let values = Arc::new(Int64Array::from_iter_values(first * 50_000..(first + 1) * 50_000));
            RecordBatch::try_new(schema.clone(), vec![values]).unwrap()
        };
        (0..8).map(batch).collect()
    }

    /// Elsewhere, on threads beside this one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn batches_encoded_on_other_threads_are_the_file_that_one_thread_makes() {
        let (schema, statistics) = (schema("v"), Statistics(vec!["v".into()]));
        let alone = crate::encode::encode(&schema, &batches(&schema), &statistics).unwrap();
        let mut press = Press::new(Encoder::new(schema.clone(), statistics));
        for batch in batches(&schema) {
            press = press.push(batch).await.unwrap();
            assert!(matches!(press.encoding, Work::Elsewhere(_)));
        }
        let pressed = press.finish().await.unwrap().unwrap();
        assert!(pressed.bytes == alone.bytes && pressed.stats == alone.stats);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_fails_on_another_thread_is_said_by_the_next_step() {
        let other = batches(&schema("other")).swap_remove(0);
        let wide = RecordBatch::try_new(
            Arc::new(Schema::new(vec![Field::new("w", DataType::Int32, false)])),
            vec![Arc::new(arrow::array::Int32Array::from(vec![1]))],
        );
        let press = Press::new(Encoder::new(other.schema(), Statistics::default()));
        let press = press.push(other).await.unwrap().push(wide.unwrap()).await.unwrap();
        let error = press.finish().await.err().unwrap();
        assert!(error.what().contains("cannot encode rows as Parquet"), "{}", error.what());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_no_rows_there_is_no_file() {
        assert!(Press::new(Encoder::new(schema("v"), Statistics::default())).finish().await.unwrap().is_none());
    }
}
