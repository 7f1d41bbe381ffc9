//! Rows on their way: decoded, and not yet handed over.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use change::{ChangeBatch, Event, Op, Origin, RowMetaBuilder, Timestamp, Unsent};

use crate::clock::START;
use crate::history::{Change, What, as_logged};
use crate::script::{BIG, Cell, Row, Script, Shape, Table, cell, position};

/// What of one table waits.
struct Waiting {
    table: Table,
    /// The structure that was announced last.
    announced: Shape,
    rows: Vec<Change>,
}

/// What waits, and when it is too much.
pub(crate) struct Batches {
    tables: Vec<Waiting>,
    rows_max: usize,
    /// The last transaction of which a part was handed over, by its position in the log.
    begun: u64,
    /// A defect on purpose.
    last_first: bool,
}

impl Batches {
    /// Nothing; `committed` transactions are what the catalog has seen.
    pub(crate) fn new(script: &Script, committed: usize, rows_max: usize, last_first: bool) -> Self {
        let waiting = |(number, table): (usize, &Table)| Waiting {
            table: table.clone(),
            announced: script.table_after(committed, number).1,
            rows: Vec::new(),
        };
        Self { tables: script.tables.iter().enumerate().map(waiting).collect(), rows_max, begun: 0, last_first }
    }

    /// Takes in a change; hands over what has to go before it. `boundary` is the one before the change's transaction.
    pub(crate) fn take(
        &mut self,
        change: &Change,
        boundary: impl FnOnce() -> Option<Event>,
        out: &mut VecDeque<Event>,
    ) {
        if self.tables[change.table].announced != change.shape {
            self.announce(change, boundary, out);
        }
        let What::Row { op, .. } = &change.what else {
            self.hand_over(out);
            self.begun = change.lsn;
            out.push_back(Event::Truncated {
                table: self.tables[change.table].table.name.clone(),
                position: position(change.lsn, change.ordinal),
                txid: change.txid,
                ordinal: change.ordinal,
                committed_at: START + change.at,
            });
            return;
        };
        self.tables[change.table].rows.push(change.clone());
        // Both halves of a changed key are in one batch.
        let waits: usize = self.tables.iter().map(|waiting| waiting.rows.len()).sum();
        if waits >= self.rows_max && *op != Op::MoveOut {
            self.hand_over(out);
            self.begun = change.lsn;
        }
    }

    /// The structure comes before the first row that has it, and the boundary of what is whole before the structure.
    fn announce(&mut self, change: &Change, boundary: impl FnOnce() -> Option<Event>, out: &mut VecDeque<Event>) {
        let begun = |row: &Change| row.lsn == change.lsn;
        for table in 0..self.tables.len() {
            let whole = self.tables[table].rows.extract_if(.., |row| !begun(row)).collect();
            self.hand(table, whole, out);
        }
        if self.begun != change.lsn {
            out.extend(boundary());
        }
        let own = std::mem::take(&mut self.tables[change.table].rows);
        self.hand(change.table, own, out);
        let waiting = &mut self.tables[change.table];
        waiting.announced = change.shape;
        out.push_back(Event::SchemaChanged { schema: waiting.table.schema(change.shape) });
        if change.ordinal > 1 {
            self.begun = change.lsn;
        }
        self.hand_over(out);
    }

    /// Hands over everything that waits, table by table.
    pub(crate) fn hand_over(&mut self, out: &mut VecDeque<Event>) {
        for table in 0..self.tables.len() {
            let rows = std::mem::take(&mut self.tables[table].rows);
            self.hand(table, rows, out);
        }
    }

    fn hand(&self, table: usize, mut rows: Vec<Change>, out: &mut VecDeque<Event>) {
        if rows.is_empty() {
            return;
        }
        let mut meta = RowMetaBuilder::default();
        for row in &rows {
            let What::Row { op, .. } = &row.what else { continue };
            let committed_at = START + row.at;
            meta.push(*op, position(row.lsn, row.ordinal).as_bytes(), committed_at, row.txid, row.ordinal);
        }
        if self.last_first {
            rows.reverse();
        }
        let rows: Vec<_> = rows
            .into_iter()
            .filter_map(|row| match row.what {
                What::Row { op, row, unsent } => Some((op, row, unsent)),
                What::Truncate => None,
            })
            .collect();
        let Waiting { table, announced, .. } = &self.tables[table];
        out.push_back(Event::Changes(batch(table, *announced, Origin::Stream, &rows, &mut meta)));
    }
}

/// Rows of a chunk.
pub(crate) fn copied(
    table: &Table,
    shape: Shape,
    chunk: u32,
    low: u64,
    read_at: Timestamp,
    first: usize,
    rows: &[Row],
) -> ChangeBatch {
    let mut meta = RowMetaBuilder::default();
    for number in 0..rows.len() {
        meta.push(Op::Copy, position(low, 0).as_bytes(), read_at, 0, (first + number + 1) as u64);
    }
    let rows: Vec<_> = rows.iter().map(|row| (Op::Copy, row.clone(), false)).collect();
    batch(table, shape, Origin::Copy { chunk }, &rows, &mut meta)
}

fn batch(
    table: &Table,
    shape: Shape,
    origin: Origin,
    rows: &[(Op, Row, bool)],
    meta: &mut RowMetaBuilder,
) -> ChangeBatch {
    let schema = table.schema(shape);
    let (mut columns, mut unsent) = (Vec::<ArrayRef>::new(), Vec::new());
    let logged: Vec<Row> = rows.iter().map(|(_, row, unsent)| as_logged(row, *unsent)).collect();
    for (index, column) in shape.present().zip(&schema.columns) {
        let cells = logged.iter().map(|row| cell(row, index));
        let number = |cell| if let Cell::Int(number) = cell { Some(number) } else { None };
        columns.push(match column.data_type {
            DataType::Int64 => Arc::new(cells.map(number).collect::<Int64Array>()),
            DataType::Int32 => {
                let narrow = |number: i64| i32::try_from(number).expect("the column has not grown");
                Arc::new(cells.map(|cell| number(cell).map(narrow)).collect::<Int32Array>())
            }
            _ => Arc::new(
                cells.map(|cell| if let Cell::Text(text) = cell { Some(text) } else { None }).collect::<StringArray>(),
            ),
        });
        let mask: Vec<bool> = rows.iter().map(|(_, _, unsent)| *unsent && index == BIG).collect();
        unsent.push(mask.contains(&true).then(|| mask.into()));
    }
    ChangeBatch::try_new(schema, origin, columns, meta.finish(), Unsent(unsent)).unwrap()
}
