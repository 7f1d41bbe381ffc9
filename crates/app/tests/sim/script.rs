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
/// Keys are numbers below this.
pub(crate) const IDS_MAX: i64 = 40;
/// Names are `n0` and so on.
pub(crate) const NAMES: i32 = 20;
/// What a number of a column that has grown may have over what one of 32 bits can.
pub(crate) const WIDE: i64 = 10_000_000_000;

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
    /// From here on the table has another structure.
    Reshape {
        table: usize,
        shape: Shape,
    },
}

/// The structure of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Columns that are there or were.
    pub(crate) columns: usize,
    /// Columns that are gone, a bit for each.
    dropped: u8,
    /// Columns of numbers that have 64 bits, a bit for each; the others have 32.
    grown: u8,
}

impl Shape {
    /// As a table begins.
    fn first(narrow: bool) -> Self {
        Self { columns: FIRST_COLUMNS.len(), dropped: 0, grown: if narrow { 0 } else { u8::MAX } }
    }

    fn lacks(&self, column: usize) -> bool {
        column >= self.columns || self.dropped >> column & 1 == 1
    }

    fn is_wide(&self, column: usize) -> bool {
        self.grown >> column & 1 == 1
    }

    /// The columns that are there, as places in a row.
    pub(crate) fn present(&self) -> impl Iterator<Item = usize> + use<> {
        let shape = *self;
        (0..shape.columns).filter(move |column| !shape.lacks(*column))
    }

    /// Whether a statement that was written for `before` still fits, and reads what it expects.
    pub(crate) fn still_answers(&self, before: Self) -> bool {
        before.present().all(|column| !self.lacks(column) && self.is_wide(column) == before.is_wide(column))
    }
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
    /// Every table as it is afterwards, and its structure.
    pub(crate) after: Vec<(Arc<Heap>, Shape)>,
}

/// A table of the database.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: TableName,
    pub(crate) identity: Identity,
    /// A value of `name` that is no age may keep its row out of the lake.
    pub(crate) holds: bool,
    /// The lake has tokens for its key, and for `name` where that is no age.
    pub(crate) masks: bool,
    /// A model looks at its names.
    pub(crate) asks: bool,
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
    /// Held rows are given up now and then.
    pub(crate) discards: bool,
    /// Columns go and grow.
    pub(crate) reshapes: bool,
    /// Keys and names are tokens in the lake.
    pub(crate) masks: bool,
    /// Processes that hold rows work beside each other in one folder, and stand still at times.
    pub(crate) shares: bool,
}

/// Seeds that found defects before there were held rows: they have none.
const AS_THEY_WERE: [u64; 8] = [101_232, 200_404, 200_588, 201_039, 301_241, 301_533, 302_712, 303_185];

/// Seeds that found a defect before there was a spool.
const BEFORE_THE_SPOOL: [u64; 5] = [96, 179, 238, 500_790, 601_732];

/// Seeds that found a defect before processes shared a folder.
const BEFORE_SHARING: [u64; 4] = [800_082, 800_083, 800_155, 902_071];

/// Seeds that found a defect before a model looked at texts.
const BEFORE_A_MODEL: [u64; 7] = [800_082, 800_083, 800_155, 902_071, 950_524, 1_001_744, 1_003_212];

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

    /// Its structure in the words of the product.
    pub(crate) fn schema(&self, shape: Shape) -> Arc<TableSchema> {
        let of = |index: usize| {
            let number = if shape.is_wide(index) { DataType::Int64 } else { DataType::Int32 };
            let data_type = if matches!(index, 1 | 2) { DataType::Utf8 } else { number };
            Column {
                name: column_name(index),
                source_type: data_type.to_string(),
                data_type,
                nullable: true,
                number: Some(index as i64),
            }
        };
        let columns = shape.present().map(of).collect();
        Arc::new(TableSchema { table: self.name.clone(), columns, identity: self.identity.clone() })
    }
}

/// What a column is called.
pub(crate) fn column_name(index: usize) -> String {
    FIRST_COLUMNS.get(index).map_or_else(|| format!("extra{}", index - FIRST_COLUMNS.len()), |name| (*name).to_owned())
}

/// Draws a script.
struct Writer {
    random: StdRng,
    tables: Vec<Table>,
    heaps: Vec<Heap>,
    shapes: Vec<Shape>,
    ids: i64,
    /// Draws what becomes of columns, where anything does.
    reshaping: Option<StdRng>,
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
        let older = plain || BEFORE_THE_SPOOL.contains(&seed);
        let spools = (draw >> 24).is_multiple_of(2) && !older;
        let masks = (draw >> 32).is_multiple_of(3) && !older;
        let discards = holds && (draw >> 36).is_multiple_of(3) && !older;
        let reshapes = (draw >> 40).is_multiple_of(2) && !older;
        let shares = holds && (draw >> 44).is_multiple_of(3) && !older && !BEFORE_SHARING.contains(&seed);
        let asks = (draw >> 48).is_multiple_of(2) && !older && !BEFORE_A_MODEL.contains(&seed);
        let table = |name: &str, identity| {
            let keyed = matches!(identity, Identity::Key(_));
            Table {
                name: TableName::new(SOURCE, "public", name),
                identity,
                holds: holds && keyed,
                masks,
                asks: asks && !masks && !(holds && keyed),
            }
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
        let ids = random.random_range(3..IDS_MAX);
        let heaps = vec![Heap::new(); tables.len()];
        let shapes = vec![Shape::first(reshapes); tables.len()];
        let reshaping = reshapes.then(|| StdRng::seed_from_u64(crate::randomness::mix(draw)));
        let share = [0.02, 0.08, 0.25][(draw >> 16) as usize % 3];
        let unreadable = (StdRng::seed_from_u64(draw), share);
        let (tables, log) = Writer { random, tables, heaps, shapes, ids, reshaping, unreadable }.write();
        Self { tables, log, holds, jumps, spools, discards, reshapes, masks, shares }
    }

    /// Whether a model looks at texts of any table.
    pub(crate) fn asks(&self) -> bool {
        self.tables.iter().any(|table| table.asks)
    }

    /// The number of transactions that are committed at this time.
    pub(crate) fn committed(&self, micros: i64) -> usize {
        self.log.partition_point(|transaction| transaction.at <= micros)
    }

    /// A table as it is when so many transactions are committed, and its structure.
    pub(crate) fn table_after(&self, transactions: usize, table: usize) -> (Arc<Heap>, Shape) {
        match transactions.checked_sub(1) {
            Some(last) => self.log[last].after[table].clone(),
            None => (Arc::default(), Shape::first(self.reshapes)),
        }
    }

    /// What a column of the lake is called; `None` for one that goes at some time, which the lake may keep for older rows.
    pub(crate) fn column(&self, table: usize, index: usize) -> Option<String> {
        let last = self.log.last().map(|last| last.after[table].1);
        let goes = last.is_some_and(|last| index < last.columns && last.lacks(index));
        (!goes).then(|| column_name(index))
    }

    /// The structure that the policy is made for.
    pub(crate) fn widest(&self) -> Shape {
        Shape { columns: FIRST_COLUMNS.len() + EXTRA_MAX, ..Shape::first(false) }
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
            self.reshape(&mut messages);
            for _ in 0..statements {
                self.statement(number == 0, &mut messages);
            }
            let after = self.heaps.iter().cloned().map(Arc::new).zip(self.shapes.iter().copied()).collect();
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
            1 | 2 if self.shapes[table].columns < FIRST_COLUMNS.len() + EXTRA_MAX => {
                self.shapes[table].columns += 1;
                messages.push(Message::Reshape { table, shape: self.shapes[table] });
            }
            3..=35 => self.insert(table, messages),
            36..=75 if !journal => self.update(table, messages),
            _ if !journal => self.delete(table, messages),
            _ => self.insert(table, messages),
        }
    }

    fn row(&mut self, id: i64, table: usize) -> Row {
        let mut name = format!("n{}", self.random.random_range(0..NAMES));
        if self.tables[table].holds && !self.unreadable.0.random_bool(self.unreadable.1) {
            name.remove(0);
        }
        let mut row = vec![Cell::Int(id), Cell::Text(name), self.big()];
        for column in FIRST_COLUMNS.len()..self.shapes[table].columns {
            let number = self.random.random_range(0..5);
            row.push(Cell::Int(self.sized(number, table, column)));
        }
        self.without_dropped(table, row)
    }

    /// Now and then a number that only a grown column can have.
    fn sized(&mut self, number: i64, table: usize, column: usize) -> i64 {
        let wide = self.shapes[table].is_wide(column);
        match &mut self.reshaping {
            Some(random) if wide => number + if random.random_bool(0.2) { WIDE } else { 0 },
            _ => number,
        }
    }

    fn without_dropped(&self, table: usize, mut row: Row) -> Row {
        let shape = self.shapes[table];
        row.iter_mut().enumerate().filter(|(column, _)| shape.lacks(*column)).for_each(|(_, cell)| *cell = Cell::Null);
        row
    }

    /// At the beginning of a transaction: a column goes, or grows.
    fn reshape(&mut self, messages: &mut Vec<Message>) {
        let Some(random) = &mut self.reshaping else { return };
        if !random.random_bool(0.08) {
            return;
        }
        let table = random.random_range(0..self.tables.len());
        let shape = &mut self.shapes[table];
        let column = match random.random_range(0..3) {
            0 => 0,
            _ => random.random_range(0..shape.columns),
        };
        if matches!(column, 1 | 2) || shape.lacks(column) {
            return;
        }
        if column >= FIRST_COLUMNS.len() && random.random_bool(0.4) {
            shape.dropped |= 1 << column;
        } else if !shape.is_wide(column) {
            shape.grown |= 1 << column;
        } else {
            return;
        }
        let shape = *shape;
        messages.push(Message::Reshape { table, shape });
        let heap = std::mem::take(&mut self.heaps[table]);
        self.heaps[table] = heap.into_iter().map(|row| row.map(|row| self.without_dropped(table, row))).collect();
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
        let id = self.sized(id, table, 0);
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
                let id = self.sized(id, table, 0);
                if !keyed || self.find(table, id).is_none() {
                    new[0] = Cell::Int(id);
                }
            }
            _ => {}
        }
        new.resize(self.shapes[table].columns, Cell::Null);
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
