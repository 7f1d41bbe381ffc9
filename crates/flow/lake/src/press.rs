//! A data file that is encoded on another thread while its next rows are read: in memory are the file so far, a row group, and two batches.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use change::Result;
use deltalake::kernel::Add;
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;

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
    Ok(Add { deletion_vector: add.deletion_vector.clone(), ..written })
}
