//! Reading chosen rows and columns back from data files.

use arrow::array::RecordBatch;
use change::Result;
use deltalake::logstore::LogStoreRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::async_reader::{ParquetObjectReader, ParquetRecordBatchStreamBuilder};

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
    let reader = ParquetObjectReader::new(store.object_store(None), Path::from(path));
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.explain(doing.clone())?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder = builder.with_projection(mask).with_batch_size(8192);
    if let Some(rows) = rows {
        builder = builder.with_row_selection(selection(rows));
    }
    let stream = builder.build().explain(doing.clone())?;
    Ok(stream.map(move |batch| batch.explain(doing.clone())).boxed())
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
