//! A Delta table, read plainly: one commit after the other, without any code of the product.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use bytes::Bytes;
use change::{Position, TableCheckpoint};
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;
use serde_json::Value;

use crate::script::Cell;
use crate::store::Contents;

/// A row of a lake table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) cells: Vec<Cell>,
    pub(crate) position: Vec<u8>,
    /// The change log's own columns; empty and zero in a current table.
    pub(crate) op: String,
    pub(crate) txid: i64,
    pub(crate) ordinal: i64,
}

/// A column as it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// `None` for one that is not looked at.
    pub(crate) name: Option<String>,
    /// What each token stands for, in a column of tokens.
    pub(crate) tokens: Option<Arc<HashMap<String, Cell>>>,
}

impl Reading {
    fn cells(&self, batch: &RecordBatch) -> Vec<Cell> {
        let column = self.name.as_deref().and_then(|name| batch.column_by_name(name));
        let Some(column) = column else { return vec![Cell::Null; batch.num_rows()] };
        let Some(tokens) = &self.tokens else { return values(column) };
        let meant = |cell| match cell {
            Cell::Text(token) => {
                tokens.get(&token).cloned().unwrap_or_else(|| Cell::Text(format!("no token: {token}")))
            }
            Cell::Int(number) => Cell::Text(format!("no token: {number}")),
            Cell::Null => Cell::Null,
        };
        values(column).into_iter().map(meant).collect()
    }
}

/// A data file of a version.
struct File {
    bytes: Bytes,
    rows: Vec<Stored>,
    gone: RoaringTreemap,
    /// Where the vector with those that are gone lies.
    vector: Option<Path>,
}

/// One version of a table after the other.
#[derive(Default)]
pub(crate) struct DeltaTable {
    /// The next version to read.
    pub(crate) next: u64,
    files: BTreeMap<String, File>,
    pub(crate) checkpoint: TableCheckpoint,
    pub(crate) operation: String,
}

impl DeltaTable {
    /// Moves on by one version; false when there is none.
    pub(crate) fn step(&mut self, store: &Contents, folder: &str, columns: &[Reading]) -> bool {
        let path = Path::from(format!("{folder}/_delta_log/{:020}.json", self.next));
        let Some(commit) = store.read(&path) else { return false };
        let actions: Vec<Value> =
            commit.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        let mut removed = HashMap::new();
        for action in &actions {
            if let Some(remove) = action.get("remove") {
                let path = remove["path"].as_str().unwrap();
                removed.insert(path, self.files.remove(path).expect("a removed file is in the table"));
            }
        }
        for action in &actions {
            if let Some(add) = action.get("add") {
                let path = add["path"].as_str().unwrap();
                let bytes =
                    store.read(&Path::from(format!("{folder}/{path}"))).expect("a file of the table is in the store");
                let gone = add.get("deletionVector").filter(|vector| !vector.is_null());
                let place = gone.map(|vector| place_of(folder, vector));
                let gone = gone.zip(place.as_ref()).map(|(vector, place)| vector_of(store, place, vector));
                // One that only has another vector is not decoded again.
                let rows = match removed.remove(path) {
                    Some(before) if before.bytes == bytes => before.rows,
                    _ => rows_of(bytes.clone(), columns),
                };
                let file = File { bytes, rows, gone: gone.unwrap_or_default(), vector: place };
                let before = self.files.insert(path.to_owned(), file);
                assert!(before.is_none(), "a file is in the table twice");
            }
            if let Some(domain) = action.get("domainMetadata") {
                let record: Value = serde_json::from_str(domain["configuration"].as_str().unwrap()).unwrap();
                self.checkpoint = serde_json::from_value(record["checkpoint"].clone()).unwrap();
            }
            if let Some(info) = action.get("commitInfo") {
                self.operation = info["operation"].as_str().unwrap_or_default().to_owned();
            }
        }
        self.next += 1;
        true
    }

    /// The live rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Stored> {
        self.files.values().flat_map(|file| {
            file.rows.iter().enumerate().filter(|(row, _)| !file.gone.contains(*row as u64)).map(|(_, row)| row)
        })
    }

    /// A file of the newest version that the store does not have any more.
    pub(crate) fn lost(&self, store: &Contents, folder: &str) -> Option<Path> {
        let data = self.files.keys().map(|path| Path::from(format!("{folder}/{path}")));
        let vectors = self.files.values().filter_map(|file| file.vector.clone());
        data.chain(vectors).find(|path| !store.has(path))
    }

    /// The stream's boundary whose rows are in the table.
    pub(crate) fn through(&self) -> Position {
        self.checkpoint.stream.as_ref().map(|stream| stream.through.clone()).unwrap_or_default()
    }
}

fn place_of(folder: &str, vector: &Value) -> Path {
    let name = vector["pathOrInlineDv"].as_str().unwrap();
    let id = uuid::Uuid::from_slice(&z85::decode(name).unwrap()).unwrap();
    Path::from(format!("{folder}/deletion_vector_{id}.bin"))
}

fn vector_of(store: &Contents, place: &Path, vector: &Value) -> RoaringTreemap {
    let file = store.read(place).expect("a vector is in the store");
    // Size, magic number, bitmap.
    let from = vector["offset"].as_u64().unwrap() as usize + 8;
    RoaringTreemap::deserialize_from(&file[from..]).unwrap()
}

fn rows_of(file: Bytes, columns: &[Reading]) -> Vec<Stored> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| stored(&batch.unwrap(), columns)).collect()
}

fn stored(batch: &RecordBatch, columns: &[Reading]) -> Vec<Stored> {
    let numbers = |name: &str| batch.column_by_name(name).map(|column| column.as_primitive::<Int64Type>());
    let (txids, ordinals) = (numbers("_lg_txid"), numbers("_lg_ordinal"));
    let ops = batch.column_by_name("_lg_op").map(|column| column.as_string::<i32>());
    let positions = batch.column_by_name("_lg_position").unwrap().as_binary::<i32>();
    let mut cells: Vec<_> = columns.iter().map(|column| column.cells(batch).into_iter()).collect();
    let of = |row: usize| Stored {
        cells: cells.iter_mut().filter_map(Iterator::next).collect(),
        position: positions.value(row).to_vec(),
        op: ops.map(|ops| ops.value(row).to_owned()).unwrap_or_default(),
        txid: txids.map_or(0, |txids| txids.value(row)),
        ordinal: ordinals.map_or(0, |ordinals| ordinals.value(row)),
    };
    (0..batch.num_rows()).map(of).collect()
}

fn values(column: &ArrayRef) -> Vec<Cell> {
    let value: Box<dyn Fn(usize) -> Cell> = match column.data_type() {
        DataType::Int16 => Box::new(|row| Cell::Int(column.as_primitive::<Int16Type>().value(row).into())),
        DataType::Int32 => Box::new(|row| Cell::Int(column.as_primitive::<Int32Type>().value(row).into())),
        DataType::Int64 => Box::new(|row| Cell::Int(column.as_primitive::<Int64Type>().value(row))),
        _ => Box::new(|row| Cell::Text(column.as_string::<i32>().value(row).to_owned())),
    };
    (0..column.len()).map(|row| if column.is_null(row) { Cell::Null } else { value(row) }).collect()
}
