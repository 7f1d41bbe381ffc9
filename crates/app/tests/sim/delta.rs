//! A Delta table, read plainly: one commit after the other, without any code of the product.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
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
    fn cell(&self, batch: &RecordBatch, row: usize) -> Cell {
        let column = self.name.as_deref().and_then(|name| batch.column_by_name(name));
        match (column.map_or(Cell::Null, |column| value(column, row)), &self.tokens) {
            (Cell::Text(token), Some(tokens)) => {
                tokens.get(&token).cloned().unwrap_or_else(|| Cell::Text(format!("no token: {token}")))
            }
            (Cell::Int(number), Some(_)) => Cell::Text(format!("no token: {number}")),
            (cell, _) => cell,
        }
    }
}

/// One version of a table after the other.
#[derive(Default)]
pub(crate) struct DeltaTable {
    /// The next version to read.
    pub(crate) next: u64,
    files: BTreeMap<String, (Vec<Stored>, RoaringTreemap, Option<Path>)>,
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
        for action in &actions {
            if let Some(remove) = action.get("remove") {
                self.files.remove(remove["path"].as_str().unwrap()).expect("a removed file is in the table");
            }
        }
        for action in &actions {
            if let Some(add) = action.get("add") {
                let path = add["path"].as_str().unwrap();
                let file =
                    store.read(&Path::from(format!("{folder}/{path}"))).expect("a file of the table is in the store");
                let gone = add.get("deletionVector").filter(|vector| !vector.is_null());
                let place = gone.map(|vector| place_of(folder, vector));
                let gone = gone.zip(place.as_ref()).map(|(vector, place)| vector_of(store, place, vector));
                let rows = (rows_of(file, columns), gone.unwrap_or_default(), place);
                let before = self.files.insert(path.to_owned(), rows);
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
        self.files.values().flat_map(|(rows, gone, _)| {
            rows.iter().enumerate().filter(|(row, _)| !gone.contains(*row as u64)).map(|(_, row)| row)
        })
    }

    /// A file of the newest version that the store does not have any more.
    pub(crate) fn lost(&self, store: &Contents, folder: &str) -> Option<Path> {
        let data = self.files.keys().map(|path| Path::from(format!("{folder}/{path}")));
        let vectors = self.files.values().filter_map(|(_, _, vector)| vector.clone());
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

fn rows_of(file: bytes::Bytes, columns: &[Reading]) -> Vec<Stored> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| stored(&batch.unwrap(), columns)).collect()
}

fn stored(batch: &RecordBatch, columns: &[Reading]) -> Vec<Stored> {
    let number = |name: &str, row: usize| {
        batch.column_by_name(name).map_or(0, |column| column.as_primitive::<Int64Type>().value(row))
    };
    let of = |row: usize| Stored {
        cells: columns.iter().map(|column| column.cell(batch, row)).collect(),
        position: batch.column_by_name("_lg_position").unwrap().as_binary::<i32>().value(row).to_vec(),
        op: batch.column_by_name("_lg_op").map(|c| c.as_string::<i32>().value(row).to_owned()).unwrap_or_default(),
        txid: number("_lg_txid", row),
        ordinal: number("_lg_ordinal", row),
    };
    (0..batch.num_rows()).map(of).collect()
}

fn value(column: &dyn Array, row: usize) -> Cell {
    match column.data_type() {
        _ if column.is_null(row) => Cell::Null,
        DataType::Int16 => Cell::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
        _ => Cell::Text(column.as_string::<i32>().value(row).to_owned()),
    }
}
