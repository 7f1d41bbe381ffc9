//! What happens in the simulated database: tables, and transactions at their times, all drawn from the seed before the run.

use std::sync::Arc;

use arrow::datatypes::DataType;
use change::{Column, Identity, Position, TableName, TableSchema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A value in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// A row; columns that were added after it was written are missing at its end.
pub(crate) type Row = Vec<Cell>;

/// The columns that every table begins with: `id`, `name`, and `big`, which is stored out of line when it is long.
pub(crate) const FIRST_COLUMNS: [&str; 3] = ["id", "name", "big"];
/// The column that is an age where rows can be held.
const NAME: usize = 1;
/// The column that updates leave out when they do not change it.
pub(crate) const BIG: usize = 2;
const OUT_OF_LINE: usize = 24;
/// Added columns are called `extra0`, `extra1`.
pub(crate) const EXTRA_MAX: usize = 2;

/// Rows by their place on the disk: an update moves its row to another.
pub(crate) type Heap = Vec<Option<Row>>;

/// What one statement did to one row or table.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Insert {
        table: usize,
        new: Row,
    },
    Update {
        table: usize,
        old: Row,
        new: Row,
    },
    Delete {
        table: usize,
        old: Row,
    },
    Truncate {
        tables: Vec<usize>,
    },
    /// From here on the table has so many columns.
    Reshape {
        table: usize,
        columns: usize,
    },
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// Where its commit record begins, which its rows carry, and where it ends.
    pub(crate) lsn: u64,
    pub(crate) end: u64,
    pub(crate) txid: u64,
    /// Microseconds since the world began; those of the first are before anybody looks.
    pub(crate) at: i64,
    pub(crate) messages: Vec<Message>,
    /// Every table as it is afterwards, and its number of columns.
    pub(crate) after: Vec<(Arc<Heap>, usize)>,
}

/// A table of the database.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: TableName,
    pub(crate) identity: Identity,
    /// A value of `name` that is no age may keep its row out of the lake.
    pub(crate) holds: bool,
}

/// A database's whole life.
pub(crate) struct Script {
    pub(crate) tables: Vec<Table>,
    pub(crate) log: Vec<Transaction>,
    /// Some tables have a rule that holds rows.
    pub(crate) holds: bool,
    /// The wall clock jumps.
    pub(crate) jumps: bool,
    /// At times when the store fails, rows wait in a spool.
    pub(crate) spools: bool,
}

/// Seeds that found defects before there were held rows: they have none.
const AS_THEY_WERE: [u64; 8] = [101_232, 200_404, 200_588, 201_039, 301_241, 301_533, 302_712, 303_185];

/// Seeds that found a defect before there was a spool.
const BEFORE_THE_SPOOL: [u64; 5] = [96, 179, 238, 500_790, 601_732];

/// The source's name.
pub(crate) const SOURCE: &str = "db";

/// The bytes that the Postgres connector would lay out.
pub(crate) fn position(lsn: u64, ordinal: u64) -> Position {
    let mut bytes = 1_u32.to_be_bytes().to_vec();
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(ordinal.to_be_bytes());
    Position::from_bytes(&bytes)
}

/// The LSN and the ordinal of a position; zeroes for the empty one, which is before all.
pub(crate) fn parts(position: &Position) -> (u64, u64) {
    let bytes = position.as_bytes();
    if bytes.is_empty() {
        return (0, 0);
    }
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    (word(4), word(12))
}

/// A cell of a row that may be older than its column.
pub(crate) fn cell(row: &Row, column: usize) -> Cell {
    row.get(column).cloned().unwrap_or(Cell::Null)
}

/// Whether an update from one row to the other leaves out `big`.
pub(crate) fn leaves_out_big(old: &Row, new: &Row) -> bool {
    old[BIG] == new[BIG] && matches!(&new[BIG], Cell::Text(text) if text.len() >= OUT_OF_LINE)
}

/// Whether a row's `name` cannot be read by a rule that wants an age.
pub(crate) fn is_unreadable(row: &Row) -> bool {
    matches!(&row[NAME], Cell::Text(text) if text.parse::<i64>().is_err())
}

impl Table {
    /// The row after the gate, with null for what cannot be read.
    pub(crate) fn cleared(&self, row: &Row) -> Row {
        let mut row = row.clone();
        if self.holds
            && let Cell::Text(text) = &row[NAME]
        {
            row[NAME] = text.parse().map_or(Cell::Null, Cell::Int);
        }
        row
    }

    /// Its structure with so many columns.
    pub(crate) fn schema(&self, columns: usize) -> Arc<TableSchema> {
        let of = |index: usize| {
            let (name, data_type) = match index {
                0 => ("id".to_owned(), DataType::Int64),
                1 | 2 => (FIRST_COLUMNS[index].to_owned(), DataType::Utf8),
                _ => (format!("extra{}", index - FIRST_COLUMNS.len()), DataType::Int64),
            };
            Column { name, source_type: data_type.to_string(), data_type, nullable: true }
        };
        let columns = (0..columns).map(of).collect();
        Arc::new(TableSchema { table: self.name.clone(), columns, identity: self.identity.clone() })
    }
}

/// Draws a script.
struct Writer {
    random: StdRng,
    tables: Vec<Table>,
    heaps: Vec<Heap>,
    columns: Vec<usize>,
    ids: i64,
    /// Draws values that cannot be read, and how often.
    unreadable: (StdRng, f64),
}

impl Script {
    /// The script of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(crate::randomness::mix(seed ^ 1));
        let draw = crate::randomness::mix(seed ^ 9);
        // Seeds 179 and 238 are as they were when they found defects, too.
        let plain = AS_THEY_WERE.contains(&seed);
        let (holds, jumps) = (draw % 8 >= 3 && !plain, (draw >> 8).is_multiple_of(2) && !plain);
        let spools = (draw >> 24).is_multiple_of(2) && !plain && !BEFORE_THE_SPOOL.contains(&seed);
        let table = |name: &str, identity| {
            let holds = holds && matches!(identity, Identity::Key(_));
            Table { name: TableName::new(SOURCE, "public", name), identity, holds }
        };
        let mut tables = vec![table("keyed", Identity::Key(vec![0]))];
        if random.random_bool(0.6) {
            tables.push(table("keyless", Identity::WholeRow));
        }
        if random.random_bool(0.4) {
            tables.push(table("second", Identity::Key(vec![0])));
        }
        if random.random_bool(0.3) {
            tables.push(table("journal", Identity::InsertOnly));
        }
        let ids = random.random_range(3..40);
        let heaps = vec![Heap::new(); tables.len()];
        let columns = vec![FIRST_COLUMNS.len(); tables.len()];
        let share = [0.02, 0.08, 0.25][(draw >> 16) as usize % 3];
        let unreadable = (StdRng::seed_from_u64(draw), share);
        let (tables, log) = Writer { random, tables, heaps, columns, ids, unreadable }.write();
        Self { tables, log, holds, jumps, spools }
    }

    /// The number of transactions that are committed at this time.
    pub(crate) fn committed(&self, micros: i64) -> usize {
        self.log.partition_point(|transaction| transaction.at <= micros)
    }

    /// A table as it is when so many transactions are committed, and its number of columns.
    pub(crate) fn table_after(&self, transactions: usize, table: usize) -> (Arc<Heap>, usize) {
        match transactions.checked_sub(1) {
            Some(last) => self.log[last].after[table].clone(),
            None => (Arc::default(), FIRST_COLUMNS.len()),
        }
    }

    /// The rows of a table at a boundary, in no order.
    pub(crate) fn rows_at(&self, through: &Position, table: usize) -> Vec<Row> {
        let lsn = parts(through).0;
        let (heap, _) = self.table_after(self.log.partition_point(|transaction| transaction.lsn < lsn), table);
        heap.iter().flatten().cloned().collect()
    }
}

impl Writer {
    fn write(mut self) -> (Vec<Table>, Vec<Transaction>) {
        let mut log = Vec::new();
        let (mut end, mut at) = (1_000, -1_000_000);
        let transactions = self.random.random_range(8..60);
        for number in 0..transactions {
            let pause = match self.random.random_range(0..20) {
                _ if number == 0 => 0,
                0 => self.random.random_range(10_000_000..40_000_000),
                1..=7 => 0,
                _ => self.random.random_range(1_000..2_500_000),
            };
            at += pause;
            // A commit record may stand directly behind another.
            let lsn = end + if pause == 0 && number > 0 { self.random.random_range(0..3) } else { 10_000 };
            end = lsn + 8;
            let mut messages = Vec::new();
            let statements = match self.random.random_range(0..40) {
                0 => self.random.random_range(60..300),
                _ if number == 0 => self.random.random_range(0..80),
                _ => self.random.random_range(1..9),
            };
            for _ in 0..statements {
                self.statement(number == 0, &mut messages);
            }
            let after = self.heaps.iter().cloned().map(Arc::new).zip(self.columns.iter().copied()).collect();
            log.push(Transaction { lsn, end, txid: 700 + number, at, messages, after });
        }
        (self.tables, log)
    }

    fn statement(&mut self, fill: bool, messages: &mut Vec<Message>) {
        let table = self.random.random_range(0..self.tables.len());
        let journal = self.tables[table].identity == Identity::InsertOnly;
        match self.random.random_range(0..100) {
            _ if fill => self.insert(table, messages),
            0 => self.truncate(table, messages),
            1 | 2 if self.columns[table] < FIRST_COLUMNS.len() + EXTRA_MAX => {
                self.columns[table] += 1;
                messages.push(Message::Reshape { table, columns: self.columns[table] });
            }
            3..=35 => self.insert(table, messages),
            36..=75 if !journal => self.update(table, messages),
            _ if !journal => self.delete(table, messages),
            _ => self.insert(table, messages),
        }
    }

    fn row(&mut self, id: i64, table: usize) -> Row {
        let mut name = format!("n{}", self.random.random_range(0..20));
        if self.tables[table].holds && !self.unreadable.0.random_bool(self.unreadable.1) {
            name.remove(0);
        }
        let mut row = vec![Cell::Int(id), Cell::Text(name), self.big()];
        for _ in FIRST_COLUMNS.len()..self.columns[table] {
            row.push(Cell::Int(self.random.random_range(0..5)));
        }
        row
    }

    fn big(&mut self) -> Cell {
        match self.random.random_range(0..4) {
            0 => Cell::Null,
            1 => Cell::Text("short".into()),
            _ => Cell::Text(format!("{:032}", self.random.random_range(0..1_000_000))),
        }
    }

    fn insert(&mut self, table: usize, messages: &mut Vec<Message>) {
        let id = self.random.random_range(0..self.ids);
        let keyed = matches!(self.tables[table].identity, Identity::Key(_));
        if keyed && self.find(table, id).is_some() {
            return;
        }
        let new = self.row(id, table);
        self.place(table, new.clone());
        messages.push(Message::Insert { table, new });
    }

    fn update(&mut self, table: usize, messages: &mut Vec<Message>) {
        let Some(place) = self.any(table) else { return };
        let Some(old) = self.heaps[table][place].clone() else { return };
        let keyed = matches!(self.tables[table].identity, Identity::Key(_));
        let Cell::Int(id) = old[0] else { return };
        let mut new = self.row(id, table);
        if self.random.random_bool(0.5) {
            new[BIG] = old[BIG].clone();
        }
        match self.random.random_range(0..8) {
            // Nothing changes: the database writes it down all the same.
            0 => new = old.clone(),
            1 => {
                let id = self.random.random_range(0..self.ids);
                if !keyed || self.find(table, id).is_none() {
                    new[0] = Cell::Int(id);
                }
            }
            _ => {}
        }
        new.resize(self.columns[table], Cell::Null);
        self.heaps[table][place] = None;
        self.place(table, new.clone());
        messages.push(Message::Update { table, old, new });
    }

    fn delete(&mut self, table: usize, messages: &mut Vec<Message>) {
        let Some(place) = self.any(table) else { return };
        if let Some(old) = self.heaps[table][place].take() {
            messages.push(Message::Delete { table, old });
        }
    }

    fn truncate(&mut self, table: usize, messages: &mut Vec<Message>) {
        let mut tables = vec![table];
        if self.random.random_bool(0.3) {
            tables = (0..self.tables.len()).collect();
        }
        tables.iter().for_each(|table| self.heaps[*table].clear());
        messages.push(Message::Truncate { tables });
    }

    fn find(&self, table: usize, id: i64) -> Option<usize> {
        self.heaps[table].iter().position(|row| row.as_ref().is_some_and(|row| row[0] == Cell::Int(id)))
    }

    fn any(&mut self, table: usize) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.heaps[table].len()).filter(|place| self.heaps[table][*place].is_some()).collect();
        (!live.is_empty()).then(|| live[self.random.random_range(0..live.len())])
    }

    /// Rows go into gaps now and then, as after a vacuum.
    fn place(&mut self, table: usize, row: Row) {
        let gap = self.heaps[table].iter().position(Option::is_none).filter(|_| self.random.random_bool(0.4));
        match gap {
            Some(place) => self.heaps[table][place] = Some(row),
            None => self.heaps[table].push(Some(row)),
        }
    }
}
