//! A table of the tests: its rows through the gate, its lake tables read back by DataFusion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use change::{
    ChangeBatch, Checkpoint, ChunkSet, Clock, Column, CopyProgress, Identity, Op, Origin, Position, RowMetaBuilder,
    TableCheckpoint, TableName, TableSchema, Timestamp, Unsent,
};
use datafusion::prelude::SessionContext;
use gate::{ClearedBatch, ClearedSchema, Policy, TableGate, TableStamp};
use lake::{Commit, Committed, Lake, LakeOptions, Layer, Outcome, TableWriter, WriterOptions};

/// 2026-11-21T00:00:00Z.
pub(crate) const START: Timestamp = 1_795_219_200_000_000;

/// Stands until it is set.
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) fn name() -> TableName {
    TableName::new("db", "public", "t")
}

/// A position as the Postgres connector lays it out.
pub(crate) fn position(lsn: u64, ordinal: u64) -> Position {
    let mut bytes = 1_u32.to_be_bytes().to_vec();
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(ordinal.to_be_bytes());
    Position::from_bytes(&bytes)
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Unsent,
}

impl Cell {
    pub(crate) fn text(&self) -> String {
        match self {
            Cell::Null => "-".into(),
            Cell::Int(number) => number.to_string(),
            Cell::Text(text) => text.clone(),
            Cell::Unsent => "?".into(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) op: Op,
    pub(crate) lsn: u64,
    pub(crate) ordinal: u64,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    pub(crate) fn position(&self) -> Position {
        position(self.lsn, self.ordinal)
    }
}

/// One structure of the table, with its gate.
pub(crate) struct Door {
    schema: Arc<TableSchema>,
    gate: TableGate,
    stamp: TableStamp,
}

impl Door {
    pub(crate) fn new(columns: &[(&str, DataType)], identity: Identity) -> Self {
        let rules: Vec<String> = columns.iter().map(|(name, _)| format!("{name}: keep")).collect();
        Self::under(&rules.join(", "), columns, identity)
    }

    /// Under these rules.
    pub(crate) fn under(rules: &str, columns: &[(&str, DataType)], identity: Identity) -> Self {
        Self::under_at(rules, columns, identity, START)
    }

    /// Under these rules, with this day of processing.
    pub(crate) fn under_at(rules: &str, columns: &[(&str, DataType)], identity: Identity, now: Timestamp) -> Self {
        let column = |(name, data_type): &(&str, DataType)| Column {
            name: (*name).into(),
            data_type: data_type.clone(),
            nullable: true,
            source_type: "text".into(),
            number: None,
        };
        let schema = Arc::new(TableSchema { table: name(), columns: columns.iter().map(column).collect(), identity });
        let policy = format!("profile: none\ntables:\n  db.public.t: {{ {rules} }}\n");
        let policy = Policy::parse(&policy, "policy.yaml").unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(now)));
        let gate = policy
            .compile(std::slice::from_ref(&schema), None, None, clock)
            .map_err(|problems| format!("{problems:?}"))
            .unwrap();
        let table = gate.table(&schema).unwrap();
        Self { stamp: TableStamp::of(gate.stamp(), &table), gate: table, schema }
    }

    /// What commits of its rows say.
    pub(crate) fn stamp(&self) -> &TableStamp {
        &self.stamp
    }

    pub(crate) fn schema(&self) -> Arc<ClearedSchema> {
        self.gate.schema().clone()
    }

    pub(crate) fn width(&self) -> usize {
        self.schema.columns.len()
    }

    /// Rows through the gate; cells beyond a row's are null.
    pub(crate) fn batch(&self, origin: Origin, rows: &[Row]) -> Arc<ClearedBatch> {
        let mut meta = RowMetaBuilder::default();
        for row in rows {
            meta.push(row.op, row.position().as_bytes(), START + row.lsn as i64 * 1_000_000, row.lsn, row.ordinal);
        }
        let (mut columns, mut unsent) = (Vec::<ArrayRef>::new(), Vec::new());
        for (index, column) in self.schema.columns.iter().enumerate() {
            let cells: Vec<&Cell> = rows.iter().map(|row| row.cells.get(index).unwrap_or(&Cell::Null)).collect();
            columns.push(match column.data_type {
                DataType::Int64 => Arc::new(
                    cells
                        .iter()
                        .map(|cell| if let Cell::Int(n) = cell { Some(*n) } else { None })
                        .collect::<Int64Array>(),
                ),
                DataType::Int32 => Arc::new(
                    cells
                        .iter()
                        .map(|cell| if let Cell::Int(n) = cell { i32::try_from(*n).ok() } else { None })
                        .collect::<Int32Array>(),
                ),
                _ => Arc::new(
                    cells
                        .iter()
                        .map(|cell| if let Cell::Text(text) = cell { Some(text.as_str()) } else { None })
                        .collect::<StringArray>(),
                ),
            });
            let mask: Vec<bool> = cells.iter().map(|cell| **cell == Cell::Unsent).collect();
            unsent.push(mask.contains(&true).then(|| mask.into()));
        }
        let batch = ChangeBatch::try_new(self.schema.clone(), origin, columns, meta.finish(), Unsent(unsent)).unwrap();
        Arc::new(self.gate.clear(batch).unwrap().batch)
    }
}

/// A lake in a folder of its own, which goes with it.
pub(crate) struct TestLake {
    pub(crate) lake: Lake,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<TestClock>,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl TestLake {
    pub(crate) async fn new() -> Self {
        let dir = std::env::temp_dir().join(format!(
            "lockgate-lake-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&dir).unwrap();
        let lake = Lake::open(dir.join("lake").to_str().unwrap(), LakeOptions::default()).await.unwrap();
        Self { lake, dir, clock: Arc::new(TestClock(AtomicI64::new(START))) }
    }

    pub(crate) fn folder(&self, layer: Layer) -> PathBuf {
        self.dir.join("lake/db/public").join(if layer == Layer::Current { "t" } else { "t__changes" })
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index/db/public/t")
    }

    pub(crate) fn options(&self) -> WriterOptions {
        WriterOptions::new(self.clock.clone(), self.dir.join("index"), Some("one boot".into()))
    }

    pub(crate) async fn open(&self, door: &Door, layer: Layer) -> change::Result<TableWriter> {
        self.lake.writer(&door.schema(), layer, self.options()).await
    }

    pub(crate) async fn writer(&self, door: &Door, layer: Layer) -> TableWriter {
        self.open(door, layer).await.unwrap()
    }

    pub(crate) async fn read(&self, layer: Layer) -> Vec<BTreeMap<String, String>> {
        read(&self.lake, layer).await
    }
}

impl Drop for TestLake {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// All rows of a lake table as text, by column.
pub(crate) async fn read(lake: &Lake, layer: Layer) -> Vec<BTreeMap<String, String>> {
    let provider = lake.table_provider(&name(), layer, None).await.unwrap();
    let context = SessionContext::new();
    let batches = context.read_table(provider).unwrap().collect().await.unwrap();
    let options = FormatOptions::default().with_null("-");
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells = schema
                .fields()
                .iter()
                .zip(&columns)
                .map(|(field, column)| (field.name().clone(), column.value(row).to_string()));
            rows.push(cells.collect());
        }
    }
    rows
}

pub(crate) fn progress(low: Position, chunks: u32, done: &[u32], finished: Option<Position>) -> CopyProgress {
    let mut set = ChunkSet::default();
    done.iter().for_each(|chunk| set.insert(*chunk));
    CopyProgress { low, plan: "plan".into(), chunks, done: set, finished }
}

pub(crate) fn through(lsn: u64) -> Option<Checkpoint> {
    Some(Checkpoint { stream: "db".into(), through: position(lsn, 0), identity: "test".into() })
}

/// Commits the streamed rows through a boundary.
pub(crate) async fn commit_stream(writer: &mut TableWriter, lsn: u64) -> Outcome {
    try_commit_stream(writer, lsn).await.unwrap()
}

/// As [`commit_stream`], with its errors.
pub(crate) async fn try_commit_stream(writer: &mut TableWriter, lsn: u64) -> change::Result<Outcome> {
    let checkpoint = TableCheckpoint { stream: through(lsn), ..writer.checkpoint().clone() };
    writer.commit(Commit { checkpoint, stream: true, copy: false, stamp: serde_json::Value::Null }).await
}

/// Commits the copied rows with the copy's progress.
pub(crate) async fn commit_copy(writer: &mut TableWriter, copy: CopyProgress) -> Outcome {
    try_commit_copy(writer, copy).await.unwrap()
}

/// As [`commit_copy`], with its errors.
pub(crate) async fn try_commit_copy(writer: &mut TableWriter, copy: CopyProgress) -> change::Result<Outcome> {
    let checkpoint = TableCheckpoint { copy: Some(copy), ..writer.checkpoint().clone() };
    writer.commit(Commit { checkpoint, stream: false, copy: true, stamp: serde_json::Value::Null }).await
}

pub(crate) fn done(outcome: Outcome) -> Committed {
    match outcome {
        Outcome::Done(committed) => committed,
        other => panic!("not committed: {other:?}"),
    }
}

pub(crate) fn flip_a_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}
/// `id` and two texts, `id` being the key.
pub(crate) fn keyed() -> Door {
    keyed_under("id: keep, name: keep, note: keep")
}

/// As [`keyed`], under these rules.
pub(crate) fn keyed_under(rules: &str) -> Door {
    let columns = [("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8)];
    Door::under(rules, &columns, Identity::Key(vec![0]))
}

pub(crate) fn row(op: Op, lsn: u64, ordinal: u64, cells: &[Cell]) -> Row {
    Row { op, lsn, ordinal, cells: cells.to_vec() }
}

pub(crate) fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}
