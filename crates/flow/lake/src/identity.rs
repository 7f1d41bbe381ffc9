//! From the identity columns of rows to the hashes that the index knows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use change::Result;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::failure::Explain;
use crate::index::{KeyHash, KeySeed, Shape};

/// Hashes rows of the table's structure by some of its columns. A column whose type grows hashes its values as before.
pub(crate) struct Identifier {
    columns: Vec<usize>,
    by: By,
    seed: KeySeed,
}

enum By {
    /// All columns together, in the key's order.
    Key(RowConverter),
    /// Each column that is not null, with its number in the table, in the table's order: a column that is added later and null in a row
    /// does not change what identifies the row.
    Row(Vec<RowConverter>),
}

impl Identifier {
    /// By the columns with these names.
    pub(crate) fn new(schema: &SchemaRef, names: &[String], shape: Shape, seed: KeySeed) -> Result<Self> {
        let doing = || "cannot identify rows".to_owned();
        let mut columns = names.iter().map(|name| schema.index_of(name).explain(doing)).collect::<Result<Vec<_>>>()?;
        let field = |index: &usize| SortField::new(widest(schema.field(*index).data_type()));
        let by = match shape {
            Shape::Unique => By::Key(RowConverter::new(columns.iter().map(field).collect()).explain(doing)?),
            Shape::Multiset => {
                columns.sort_unstable();
                let converters = columns.iter().map(|index| RowConverter::new(vec![field(index)]).explain(doing));
                By::Row(converters.collect::<Result<_>>()?)
            }
        };
        Ok(Self { columns, by, seed })
    }

    pub(crate) fn names(&self, schema: &SchemaRef) -> Vec<String> {
        self.columns.iter().map(|index| schema.field(*index).name().clone()).collect()
    }

    /// One hash for each row of a batch of the table's structure.
    pub(crate) fn hashes(&self, rows: &RecordBatch) -> Result<Vec<KeyHash>> {
        let doing = || "cannot identify rows".to_owned();
        let widened = |index: &usize| {
            let column = rows.column(*index);
            match widest(column.data_type()) {
                same if same == *column.data_type() => Ok(column.clone()),
                wider => cast(column, &wider).explain(doing),
            }
        };
        let columns = self.columns.iter().map(widened).collect::<Result<Vec<ArrayRef>>>()?;
        match &self.by {
            By::Key(converter) => {
                let encoded = converter.convert_columns(&columns).explain(doing)?;
                Ok(encoded.iter().map(|row| self.seed.hash(row.data())).collect())
            }
            By::Row(converters) => {
                let encode = |(converter, column): (&RowConverter, &arrow::array::ArrayRef)| {
                    converter.convert_columns(std::slice::from_ref(column)).explain(doing)
                };
                let encoded = converters.iter().zip(&columns).map(encode).collect::<Result<Vec<Rows>>>()?;
                let mut bytes = Vec::new();
                let mut hash = |row: usize| {
                    bytes.clear();
                    for ((number, column), cells) in self.columns.iter().zip(&columns).zip(&encoded) {
                        if column.is_valid(row) {
                            let cell = cells.row(row);
                            bytes.extend_from_slice(&(*number as u32).to_be_bytes());
                            bytes.extend_from_slice(&(cell.data().len() as u64).to_be_bytes());
                            bytes.extend_from_slice(cell.data());
                        }
                    }
                    self.seed.hash(&bytes)
                };
                Ok((0..rows.num_rows()).map(&mut hash).collect())
            }
        }
    }
}

/// The type that a column may grow to (see `schema::evolve`); a decimal of more digits has the same bytes.
fn widest(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::Float32 => DataType::Float64,
        DataType::List(item) => {
            let widest = widest(item.data_type());
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(widest)))
        }
        other => other.clone(),
    }
}

/// The way in which rows are hashed; another one makes every index another index.
const HASHING: u8 = 2;

/// What an index says it is of: the table, and how its rows are identified, so that an index of another identity is built anew.
pub(crate) fn index_id(table: Uuid, schema: &SchemaRef, names: &[String], shape: Shape) -> [u8; 16] {
    let mut text = format!("{table}\0{HASHING}");
    let mut say = |name: &str| {
        text.push('\0');
        text.push_str(name);
    };
    match shape {
        Shape::Unique => names.iter().for_each(|name| say(name)),
        // Columns that are added do not change the identity of a whole row; columns that are no longer sent do.
        Shape::Multiset => {
            let unsent = schema.fields().iter().map(|field| field.name()).filter(|name| !names.contains(name));
            let mut unsent: Vec<&String> = unsent.collect();
            unsent.sort_unstable();
            unsent.into_iter().for_each(|name| say(name));
        }
    }
    xxh3_128_with_seed(text.as_bytes(), 0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn hashes(columns: Vec<(&str, ArrayRef)>) -> Vec<KeyHash> {
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .unwrap();
        let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        Identifier::new(&rows.schema(), &names, Shape::Multiset, KeySeed::new(7)).unwrap().hashes(&rows).unwrap()
    }

    #[test]
    fn a_whole_row_stays_itself_when_a_column_is_added() {
        let a: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("x")]));
        let b: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1), Some(1)]));
        let (before, after) = (hashes(vec![("a", a.clone())]), hashes(vec![("a", a), ("b", b)]));
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        assert_ne!(before[2], after[2]);
    }

    #[test]
    fn a_row_stays_itself_when_a_type_grows() {
        let narrow: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int16Array::from(vec![-3, 7]))),
            ("b", Arc::new(Int32Array::from(vec![Some(-70_000), None]))),
            ("c", Arc::new(Float32Array::from(vec![0.1, -0.0]))),
            ("d", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
        ];
        let wide: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int64Array::from(vec![-3, 7]))),
            ("b", Arc::new(Int64Array::from(vec![Some(-70_000), None]))),
            ("c", Arc::new(Float64Array::from(vec![f64::from(0.1_f32), -0.0]))),
            ("d", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]))),
        ];
        assert_eq!(hashes(narrow), hashes(wide));
    }
}
