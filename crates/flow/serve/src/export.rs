use std::io::{self, Write};

use change::{Error, Kind, Result};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::WriterBuilder;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;

use crate::Answer;

/// The form in which an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A drawn table of at most [`TABLE_ROWS`] rows, and how many there are.
    Table,
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON object a line.
    Json,
    /// One Parquet file.
    Parquet,
}

/// Rows that a drawn table shows; the other forms show all.
pub const TABLE_ROWS: usize = 10_000;

/// Writes an answer as it comes (a drawn table, which has to be measured first, after its rows are there) and returns the number of rows.
///
/// # Errors
/// Those of the answer; `Full` when `out` does not take more.
pub async fn write_answer(mut answer: Answer, format: Format, out: impl Write + Send) -> Result<u64> {
    match format {
        Format::Table => write_table(answer, out).await,
        Format::Csv => {
            let mut writer = WriterBuilder::new().with_header(true).build(out);
            // An empty answer still has its header.
            writer.write(&RecordBatch::new_empty(answer.schema())).map_err(unwritable)?;
            let rows = each(&mut answer, |batch| writer.write(batch).map_err(unwritable)).await?;
            writer.into_inner().flush().map_err(unwritable)?;
            Ok(rows)
        }
        Format::Json => {
            let mut writer = LineDelimitedWriter::new(out);
            let rows = each(&mut answer, |batch| writer.write(batch).map_err(unwritable)).await?;
            writer.finish().map_err(unwritable)?;
            writer.into_inner().flush().map_err(unwritable)?;
            Ok(rows)
        }
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(out, answer.schema(), None).map_err(unwritable)?;
            let rows = each(&mut answer, |batch| writer.write(batch).map_err(unwritable)).await?;
            writer.into_inner().map_err(unwritable)?.flush().map_err(unwritable)?;
            Ok(rows)
        }
    }
}

async fn each(answer: &mut Answer, mut write: impl FnMut(&RecordBatch) -> Result<()>) -> Result<u64> {
    let mut rows = 0;
    while let Some(batch) = answer.next().await? {
        rows += batch.num_rows() as u64;
        write(&batch)?;
    }
    Ok(rows)
}

async fn write_table(mut answer: Answer, mut out: impl Write + Send) -> Result<u64> {
    let mut shown = vec![RecordBatch::new_empty(answer.schema())];
    let mut left = TABLE_ROWS;
    let rows = each(&mut answer, |batch| {
        let part = batch.slice(0, batch.num_rows().min(left));
        left -= part.num_rows();
        shown.push(part);
        Ok(())
    })
    .await?;
    let table = pretty_format_batches(&shown).map_err(unwritable)?;
    writeln!(out, "{table}").map_err(unwritable)?;
    match usize::try_from(rows) {
        Ok(all) if all <= TABLE_ROWS => writeln!(out, "{rows} rows"),
        _ => writeln!(out, "{TABLE_ROWS} of {rows} rows; --format csv shows all"),
    }
    .map_err(unwritable)?;
    out.flush().map_err(unwritable)?;
    Ok(rows)
}

/// One Parquet file that is written batch by batch.
pub struct ParquetFile<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file of rows with this structure.
    ///
    /// # Errors
    /// `Full` when `out` takes nothing.
    pub fn create(out: W, schema: SchemaRef) -> Result<Self> {
        ArrowWriter::try_new(out, schema, None).map(Self).map_err(unwritable)
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `Full` when `out` does not take more.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.0.write(rows).map_err(unwritable)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`ParquetFile::write`].
    pub fn finish(self) -> Result<()> {
        self.0.close().map(drop).map_err(unwritable)
    }
}

fn unwritable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Full, "the answer could not be written").source(io::Error::other(error))
}
