use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use change::{Error, Kind, Result};
use sandbox::claims::{SOURCE, Table};
use serve::Session;

/// The name of a table's current rows in SQL.
pub(super) fn current(table: Table) -> String {
    format!("{SOURCE}.public.{}", table.name())
}

/// The name of a table's change log in SQL.
pub(super) fn changes(table: Table) -> String {
    format!("{}__changes", current(table))
}

/// All rows of an answer, each value as text, null as nothing.
pub(super) async fn texts(lake: &Session, sql: &str) -> Result<Vec<Vec<String>>> {
    let mut answer = lake.query(sql).await?;
    let mut rows = Vec::new();
    while let Some(batch) = answer.next().await? {
        rows.extend(batch_texts(&batch).map_err(unreadable)?);
    }
    Ok(rows)
}

fn batch_texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>, arrow::error::ArrowError> {
    let options = FormatOptions::default();
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect())
}

/// The lake holds cleared values only, so Arrow's own words may be shown.
pub(super) fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Data, "the demo's lake could not be read for the proof").source(error)
}
