//! Unsent cells (unchanged TOAST) take the value that the row already has.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use change::Result;
use deltalake::logstore::LogStoreRef;

use crate::area::Area;
use crate::failure::Explain;
use crate::rows::fetch;

/// Where a cell's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum From {
    /// The batch that is being taken in.
    Here(u32),
    /// A batch in memory.
    Held(u32, u32),
    /// A data file.
    File(String, u32),
}

/// Cells to fill: by column and row of the batch, where their value comes from.
#[derive(Default)]
pub(crate) struct Wanted(pub(crate) HashMap<(usize, u32), From>);

impl Wanted {
    /// Where the value of a cell of this batch comes from: its own place, or where it is itself filled from.
    pub(crate) fn origin(&self, column: usize, row: u32) -> From {
        self.0.get(&(column, row)).cloned().unwrap_or(From::Here(row))
    }

    /// The batch with its cells filled.
    pub(crate) async fn fill(
        &self,
        rows: RecordBatch,
        area: &Area,
        store: &LogStoreRef,
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        if self.0.is_empty() {
            return Ok(rows);
        }
        let mut columns: Vec<usize> = self.0.keys().map(|(column, _)| *column).collect();
        columns.sort_unstable();
        columns.dedup();
        let fetched = self.fetch(&columns, store, schema).await?;
        let mut arrays: Vec<ArrayRef> = rows.columns().to_vec();
        for column in columns {
            arrays[column] = self.fill_column(column, &rows, area, &fetched, schema)?;
        }
        RecordBatch::try_new(schema.clone(), arrays).explain(|| "cannot fill unsent columns".into())
    }

    /// The rows that are needed from data files, by file, with their numbers.
    async fn fetch(
        &self,
        columns: &[usize],
        store: &LogStoreRef,
        schema: &SchemaRef,
    ) -> Result<BTreeMap<String, (Vec<u32>, RecordBatch)>> {
        let mut numbers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for from in self.0.values() {
            if let From::File(path, row) = from {
                numbers.entry(path.clone()).or_default().push(*row);
            }
        }
        let names: Vec<&str> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
        let mut fetched = BTreeMap::new();
        for (path, mut rows) in numbers {
            rows.sort_unstable();
            rows.dedup();
            let batch = fetch(store, &path, &names, &rows).await?;
            fetched.insert(path, (rows, batch));
        }
        Ok(fetched)
    }

    fn fill_column(
        &self,
        column: usize,
        rows: &RecordBatch,
        area: &Area,
        fetched: &BTreeMap<String, (Vec<u32>, RecordBatch)>,
        schema: &SchemaRef,
    ) -> Result<ArrayRef> {
        let field = schema.field(column);
        let mut sources: Vec<ArrayRef> = vec![rows.column(column).clone()];
        sources.extend(area.held.iter().map(|held| held.rows.column(column).clone()));
        let mut place_of = HashMap::new();
        for (path, (numbers, batch)) in fetched {
            // A file from before the column was added holds null there.
            let values = match batch.column_by_name(field.name()) {
                Some(values) if values.data_type() == field.data_type() => values.clone(),
                Some(values) => {
                    arrow::compute::cast(values, field.data_type()).explain(|| "cannot widen a column".into())?
                }
                None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
            };
            place_of.insert(path.as_str(), (sources.len(), numbers));
            sources.push(values);
        }
        let index = |row: u32| match self.origin(column, row) {
            From::Here(row) => (0, row as usize),
            From::Held(batch, row) => (1 + batch as usize, row as usize),
            From::File(path, number) => {
                let (source, numbers) = &place_of[path.as_str()];
                (*source, numbers.binary_search(&number).unwrap_or_default())
            }
        };
        let indices: Vec<(usize, usize)> = (0..rows.num_rows() as u32).map(index).collect();
        let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
        interleave(&sources, &indices).explain(|| "cannot fill unsent columns".into())
    }
}
