//! Reading chosen rows and columns back from data files.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use change::Result;
use deltalake::logstore::LogStoreRef;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::failure::Explain;

/// Reads columns of a data file: all rows, or the rows with these numbers (ascending, apart).
pub(crate) async fn read(
    store: &LogStoreRef,
    path: &str,
    columns: &[&str],
    rows: Option<&[u32]>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let name = path.to_owned();
    let doing = move || format!("cannot read the data file {name}");
    let reader = StoredFile { store: store.object_store(None), path: Path::from(path) };
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.explain(doing.clone())?;
    // By index: a column's name may hold a dot, which a mask by names takes for a path into a struct.
    let fields = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
    let wanted: Vec<usize> =
        fields.filter(|(_, field)| columns.contains(&field.name())).map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    builder = builder.with_projection(mask).with_batch_size(8192);
    if let Some(rows) = rows {
        builder = builder.with_row_selection(selection(rows));
    }
    let stream = builder.build().explain(doing.clone())?;
    Ok(stream.map(move |batch| batch.explain(doing.clone())).boxed())
}

/// A file in the store, as the Parquet reader asks for it: the footer first, then the pages of the columns that are wanted.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Ok(self.store.get_range(&self.path, range).await?) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { Ok(self.store.get_ranges(&self.path, &ranges).await?) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let options = options.map(|options| options.metadata_options().clone());
        let reader = ParquetMetaDataReader::new().with_metadata_options(options);
        async move {
            // Azure has no requests for the end of an object: its size comes first.
            let size = self.store.head(&self.path).await?.size;
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn selection(rows: &[u32]) -> RowSelection {
    let mut selectors = Vec::with_capacity(rows.len() * 2);
    let mut next = 0_u32;
    for row in rows {
        if *row > next {
            selectors.push(RowSelector::skip((*row - next) as usize));
        }
        selectors.push(RowSelector::select(1));
        next = row + 1;
    }
    RowSelection::from(selectors)
}

/// The chosen rows as one batch.
pub(crate) async fn fetch(store: &LogStoreRef, path: &str, columns: &[&str], rows: &[u32]) -> Result<RecordBatch> {
    let batches: Vec<RecordBatch> = read(store, path, columns, Some(rows)).await?.try_collect().await?;
    let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| {
        change::Error::new(change::Kind::Data, format!("{path}: rows that the index knows are not in the file"))
            .fix("Remove the index below .lockgate/index; it is rebuilt at the next start.")
    })?;
    arrow::compute::concat_batches(&schema, &batches).explain(|| format!("cannot read the data file {path}"))
}
