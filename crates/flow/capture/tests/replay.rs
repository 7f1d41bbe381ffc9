//! A lake in memory: replays a source's events as the real one does, for comparison with the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use capture::postgres::{PostgresConfig, PostgresSource, Resume};
use change::{
    ChangeBatch, Checkpoint, CopyProgress, Event, Identity, Op, Origin, Position, Source, StoppedClock,
    TableCheckpoint, TableName, TableNotice, TableSchema,
};
use sandbox::PrivatePostgres;

pub(crate) type Row = Vec<Option<String>>;

/// One table as the lake holds it.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) schema: Option<Arc<TableSchema>>,
    /// By key (all columns for a table without): position, and the row, or none for a tombstone. Rows without key carry a count.
    pub(crate) rows: BTreeMap<Row, (Position, Option<Row>)>,
    pub(crate) bag: BTreeMap<Row, i64>,
    pub(crate) copy: Option<CopyProgress>,
    pub(crate) stream: Option<Checkpoint>,
    /// Every streamed row's op letter and position, as the change log has it.
    pub(crate) log: Vec<(Op, Position)>,
    pub(crate) unsent: usize,
    pub(crate) truncated: usize,
    pub(crate) stopped: Option<change::Error>,
    pub(crate) dropped: bool,
}

/// All tables of one source.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) boundary: Option<Checkpoint>,
    pub(crate) schema_changes: usize,
}

impl Replay {
    pub(crate) fn table(&self, name: &str) -> &Table {
        &self.tables[name]
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::SchemaChanged { schema } => {
                self.schema_changes += 1;
                let table = self.named(&schema.table);
                if let Some(before) = &table.schema {
                    let place = |name: &str| before.index_of(name);
                    let from: Vec<Option<usize>> = schema.columns.iter().map(|column| place(&column.name)).collect();
                    for (_, row) in table.rows.values_mut() {
                        if let Some(row) = row {
                            *row = from.iter().map(|at| at.and_then(|at| row[at].clone())).collect();
                        }
                    }
                }
                table.schema = Some(schema);
            }
            Event::Changes(batch) => self.changes(batch),
            Event::Truncated { table, position, .. } => {
                let table = self.named(&table);
                table.truncated += 1;
                table.bag.clear();
                table.rows.values_mut().for_each(|row| *row = (position.clone(), None));
            }
            Event::CopyStarted { table, progress } => {
                let table = self.named(&table);
                if table.copy.as_ref().is_some_and(|copy| copy.plan != progress.plan || copy.low != progress.low) {
                    table.rows.clear();
                    table.bag.clear();
                }
                table.copy = Some(progress);
            }
            Event::ChunkDone { table, chunk, progress } => {
                assert!(progress.done.contains(chunk));
                self.named(&table).copy = Some(progress);
            }
            Event::CopyDone { table, progress } => {
                assert!(progress.finished.is_some());
                assert_eq!(progress.done.len(), u64::from(progress.chunks));
                self.named(&table).copy = Some(progress);
            }
            Event::Notice { table, notice: TableNotice::Stopped(error) } => self.named(&table).stopped = Some(error),
            Event::Notice { table, notice: TableNotice::Dropped } => self.named(&table).dropped = true,
            Event::Suspect(suspect) => panic!("unexpected: {suspect:?}"),
            Event::Boundary(checkpoint) => {
                let beyond = |table: &Table| table.log.last().is_some_and(|(_, last)| *last > checkpoint.through);
                assert!(!self.tables.values().any(beyond), "rows came before a boundary that they lie beyond");
                assert!(self.boundary.as_ref().is_none_or(|before| before.through < checkpoint.through));
                self.tables.values_mut().for_each(|table| table.stream = Some(checkpoint.clone()));
                self.boundary = Some(checkpoint);
            }
        }
    }

    fn named(&mut self, name: &TableName) -> &mut Table {
        self.tables.entry(format!("{}.{}", name.schema, name.table)).or_default()
    }

    fn changes(&mut self, batch: ChangeBatch) {
        let name = batch.schema().table.clone();
        let table = self.named(&name);
        let schema = table.schema.clone().expect("a schema comes before its rows");
        assert_eq!(batch.schema().columns, schema.columns);
        let low = batch.origin() != Origin::Stream;
        let durable = table.stream.as_ref().map(|stream| stream.through.clone()).filter(|_| !low);
        for row in 0..batch.len() {
            let position = Position::from_bytes(batch.meta().positions.value(row));
            assert!(durable.as_ref().is_none_or(|durable| position > *durable), "handed over twice");
            table.change(&schema, &batch, row, position);
        }
    }

    /// Takes events until everything up to `until` has come and all copies are whole.
    pub(crate) async fn until(&mut self, source: &mut PostgresSource, until: &Position) {
        let caught_up = async {
            while !self.is_at(until) {
                let event = source.next().await.unwrap();
                self.apply(event);
            }
        };
        tokio::time::timeout(Duration::from_secs(30), caught_up).await.expect("the stream does not come to its end");
    }

    /// Takes the error that stopped a table.
    pub(crate) fn take_stop(&mut self, name: &str) -> change::Error {
        self.tables.get_mut(name).unwrap().stopped.take().expect("it is stopped")
    }

    /// What a new process does: it tries every table again.
    pub(crate) fn forget_stops(&mut self) {
        self.tables.values_mut().for_each(|table| (table.stopped, table.dropped) = (None, false));
    }

    fn is_at(&self, until: &Position) -> bool {
        self.boundary.as_ref().is_some_and(|boundary| boundary.through >= *until)
            && self
                .tables
                .values()
                .all(|table| table.stopped.is_some() || table.copy.as_ref().is_some_and(|copy| copy.finished.is_some()))
    }

    /// What a new process would resume from.
    pub(crate) fn resume(&self, source: &str) -> Resume {
        let tables = self.tables.iter().filter(|(_, table)| table.copy.is_some()).map(|(name, table)| {
            let (schema, name) = name.split_once('.').unwrap();
            let checkpoint = TableCheckpoint {
                stream: table.stream.clone(),
                copy: table.copy.clone(),
                ..TableCheckpoint::default()
            };
            (TableName::new(source, schema, name), checkpoint)
        });
        Resume { tables: tables.collect(), stream: self.boundary.clone(), reached: None }
    }
}

impl Table {
    fn change(&mut self, schema: &TableSchema, batch: &ChangeBatch, row: usize, position: Position) {
        let op = batch.meta().ops[row];
        if op != Op::Copy {
            self.log.push((op, position.clone()));
        }
        let mut values = values(batch, row);
        let Identity::Key(key) = &schema.identity else {
            *self.bag.entry(values.clone()).or_default() += if op.removes() { -1 } else { 1 };
            // An update without key carries its old row apart; the codec hands it over as a move.
            self.bag.retain(|_, count| *count != 0);
            return;
        };
        let id: Row = key.iter().map(|index| values[*index].clone()).collect();
        if op == Op::Copy {
            if self.rows.get(&id).is_none_or(|(own, _)| *own <= position) {
                self.rows.insert(id, (position, Some(values)));
            }
            return;
        }
        let source = if op == Op::Insert && row > 0 && batch.meta().ops[row - 1] == Op::MoveOut {
            self.rows.get(&moved_from(batch, row - 1, key)).and_then(|(_, row)| row.clone())
        } else {
            self.rows.get(&id).and_then(|(_, row)| row.clone())
        };
        if source.is_none() && (0..values.len()).any(|column| batch.unsent().is_unsent(column, row)) {
            let finished = self.copy.as_ref().and_then(|copy| copy.finished.as_ref());
            assert!(
                finished.is_none_or(|finished| position <= *finished),
                "an update behind the copy's end finds no row"
            );
            return;
        }
        for (column, value) in values.iter_mut().enumerate() {
            if batch.unsent().is_unsent(column, row) {
                self.unsent += 1;
                *value = source.as_ref().and_then(|row| row[column].clone());
            }
        }
        // The row that moved away is needed by the next row, so a tombstone keeps it.
        let kept = if op.removes() { None } else { Some(values) };
        if op == Op::MoveOut {
            let before = self.rows.get(&id).and_then(|(_, row)| row.clone());
            self.rows.insert(id, (position, before));
        } else {
            self.rows.insert(id, (position, kept));
        }
        if op == Op::Insert && row > 0 && batch.meta().ops[row - 1] == Op::MoveOut {
            let old = moved_from(batch, row - 1, key);
            if let Some((_, row)) = self.rows.get_mut(&old) {
                *row = None;
            }
        }
    }

    /// The rows that a reader sees, sorted.
    pub(crate) fn visible(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.values().filter_map(|(_, row)| row.clone()).collect();
        for (row, count) in &self.bag {
            assert!(*count > 0, "a row was removed that was never there");
            rows.extend(std::iter::repeat_n(row.clone(), *count as usize));
        }
        rows.sort();
        rows
    }
}

fn moved_from(batch: &ChangeBatch, row: usize, key: &[usize]) -> Row {
    let values = values(batch, row);
    key.iter().map(|index| values[*index].clone()).collect()
}

fn values(batch: &ChangeBatch, row: usize) -> Row {
    let options = FormatOptions::default();
    let columns = batch.rows().expose().columns().iter();
    columns
        .map(|column| {
            let text = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
            (!column.is_null(row)).then(|| text.value(row).to_string())
        })
        .collect()
}

/// The table's rows as the database prints them, sorted.
pub(crate) async fn selected(server: &PrivatePostgres, table: &str, columns: &[&str]) -> Vec<Row> {
    let list: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
    let sql = format!("select {} from {table}", list.join(", "));
    let rows = server.client().await.unwrap().query(&sql, &[]).await.unwrap();
    let mut rows: Vec<Row> = rows.iter().map(|row| (0..columns.len()).map(|i| row.get(i)).collect()).collect();
    rows.sort();
    rows
}

/// A configuration for the tables, over the server's Unix socket.
pub(crate) fn config(server: &PrivatePostgres, tables: &[&str]) -> PostgresConfig {
    let json = serde_json::json!({
        "url": server.url_socket("postgres", "postgres"),
        "slot": "lockgate",
        "tables": tables,
        "copy": { "chunk_rows": 500 },
    });
    let mut config: PostgresConfig = serde_json::from_value(json).unwrap();
    config.source = "db".into();
    config
}

pub(crate) async fn open(config: &PostgresConfig, resume: &Resume) -> change::Result<PostgresSource> {
    capture::postgres::open(config.clone(), resume.clone(), Arc::new(StoppedClock(1_700_000_000_000_000))).await
}

/// The end of the log now, as a position that the stream comes to.
pub(crate) async fn end_of_log(server: &PrivatePostgres, epoch: u32) -> Position {
    let client = server.client().await.unwrap();
    let row = client.query_one("select (pg_current_wal_insert_lsn() - '0/0')::int8", &[]).await.unwrap();
    let lsn: i64 = row.get(0);
    client.batch_execute("select pg_current_xact_id()").await.unwrap();
    let mut bytes = epoch.to_be_bytes().to_vec();
    bytes.extend_from_slice(&lsn.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    Position::from_bytes(&bytes)
}
