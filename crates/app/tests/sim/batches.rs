//! Rows on their way: decoded, and not yet handed over.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use change::{ChangeBatch, Event, Op, Origin, RowMetaBuilder, TableSchema, Timestamp, Unsent};

use crate::clock::START;
use crate::history::{Change, What, as_logged};
use crate::script::{BIG, Cell, Row, Script, Table, cell, position};

/// What of one table waits.
struct Waiting {
    table: Table,
    /// The columns that were announced last.
    announced: usize,
    rows: Vec<(Op, Row, bool)>,
    meta: RowMetaBuilder,
}

/// What waits, and when it is too much.
pub(crate) struct Batches {
    tables: Vec<Waiting>,
    rows_max: usize,
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
            meta: RowMetaBuilder::default(),
        };
        Self { tables: script.tables.iter().enumerate().map(waiting).collect(), rows_max, last_first }
    }

    /// Takes in a change; hands over what has to go before it.
    pub(crate) fn take(&mut self, change: &Change, out: &mut VecDeque<Event>) {
        let row_position = position(change.lsn, change.ordinal);
        let committed_at = START + change.at;
        match &change.what {
            What::Truncate => {
                self.announce(change.table, change.columns, out);
                self.hand_over(out);
                out.push_back(Event::Truncated {
                    table: self.tables[change.table].table.name.clone(),
                    position: row_position,
                    txid: change.txid,
                    ordinal: change.ordinal,
                    committed_at,
                });
            }
            What::Row { op, row, unsent } => {
                self.announce(change.table, change.columns, out);
                let waiting = &mut self.tables[change.table];
                waiting.rows.push((*op, row.clone(), *unsent));
                waiting.meta.push(*op, row_position.as_bytes(), committed_at, change.txid, change.ordinal);
                // Both halves of a changed key are in one batch.
                let waits: usize = self.tables.iter().map(|waiting| waiting.rows.len()).sum();
                if waits >= self.rows_max && *op != Op::MoveOut {
                    self.hand_over(out);
                }
            }
        }
    }

    /// Whether a change has another structure than the last of its table.
    pub(crate) fn is_news(&self, change: &Change) -> bool {
        self.tables[change.table].announced != change.columns
    }

    /// The structure comes before the first row that has it.
    fn announce(&mut self, table: usize, columns: usize, out: &mut VecDeque<Event>) {
        if self.tables[table].announced != columns {
            self.hand_over(out);
            self.tables[table].announced = columns;
            out.push_back(Event::SchemaChanged { schema: self.tables[table].table.schema(columns) });
        }
    }

    /// Hands over everything that waits, table by table.
    pub(crate) fn hand_over(&mut self, out: &mut VecDeque<Event>) {
        for waiting in &mut self.tables {
            if waiting.rows.is_empty() {
                continue;
            }
            let schema = waiting.table.schema(waiting.announced);
            let mut rows = std::mem::take(&mut waiting.rows);
            if self.last_first {
                rows.reverse();
            }
            let batch = batch(&schema, Origin::Stream, &rows, &mut waiting.meta);
            out.push_back(Event::Changes(batch));
        }
    }
}

/// Rows of a chunk.
pub(crate) fn copied(
    schema: &Arc<TableSchema>,
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
    batch(schema, Origin::Copy { chunk }, &rows, &mut meta)
}

fn batch(
    schema: &Arc<TableSchema>,
    origin: Origin,
    rows: &[(Op, Row, bool)],
    meta: &mut RowMetaBuilder,
) -> ChangeBatch {
    let (mut columns, mut unsent) = (Vec::<ArrayRef>::new(), Vec::new());
    let logged: Vec<Row> = rows.iter().map(|(_, row, unsent)| as_logged(row, *unsent)).collect();
    for (index, column) in schema.columns.iter().enumerate() {
        let cells = logged.iter().map(|row| cell(row, index));
        columns.push(match column.data_type {
            DataType::Int64 => {
                Arc::new(cells.map(|cell| if let Cell::Int(n) = cell { Some(n) } else { None }).collect::<Int64Array>())
            }
            _ => Arc::new(
                cells.map(|cell| if let Cell::Text(text) = cell { Some(text) } else { None }).collect::<StringArray>(),
            ),
        });
        let mask: Vec<bool> = rows.iter().map(|(_, _, unsent)| *unsent && index == BIG).collect();
        unsent.push(mask.contains(&true).then(|| mask.into()));
    }
    ChangeBatch::try_new(schema.clone(), origin, columns, meta.finish(), Unsent(unsent)).unwrap()
}
