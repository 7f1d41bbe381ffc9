//! A script as the rows that its log carries: what the source hands over, and what the change log must be.

use change::{Identity, Op};

use crate::script::{BIG, Cell, Message, Row, Script, Shape, cell, leaves_out_big};

/// One step of a table's history.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) table: usize,
    pub(crate) lsn: u64,
    pub(crate) ordinal: u64,
    pub(crate) txid: u64,
    pub(crate) at: i64,
    /// The table's structure here.
    pub(crate) shape: Shape,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A row; `unsent` when the value of `big` is not in the log.
    Row {
        op: Op,
        row: Row,
        unsent: bool,
    },
    Truncate,
}

impl Script {
    /// The changes of one transaction, in order.
    pub(crate) fn changes(&self, transaction: usize) -> Vec<Change> {
        let mut shapes: Vec<Shape> =
            (0..self.tables.len()).map(|table| self.table_after(transaction, table).1).collect();
        let transaction = &self.log[transaction];
        let mut changes: Vec<Change> = Vec::new();
        let mut ordinal = 0;
        let mut push = |table: usize, shapes: &[Shape], what: What| {
            ordinal += 1;
            let (lsn, txid, at) = (transaction.lsn, transaction.txid, transaction.at);
            changes.push(Change { table, lsn, ordinal, txid, at, shape: shapes[table], what });
        };
        let row = |op, row: &Row, unsent| What::Row { op, row: row.clone(), unsent };
        for message in &transaction.messages {
            match message {
                Message::Insert { table, new } => push(*table, &shapes, row(Op::Insert, new, false)),
                Message::Delete { table, old } => {
                    push(*table, &shapes, row(Op::Delete, &self.identity_of(*table, old), false))
                }
                Message::Update { table, old, new } => {
                    let keyed = matches!(self.tables[*table].identity, Identity::Key(_));
                    let unsent = keyed && leaves_out_big(old, new);
                    let width = new.len();
                    let same = |column: usize| cell(old, column) == cell(new, column);
                    if if keyed { same(0) } else { (0..width).all(same) } {
                        push(*table, &shapes, row(Op::Update, new, unsent));
                    } else {
                        push(*table, &shapes, row(Op::MoveOut, &self.identity_of(*table, old), false));
                        push(*table, &shapes, row(Op::Insert, new, unsent));
                    }
                }
                Message::Truncate { tables } => tables.iter().for_each(|table| push(*table, &shapes, What::Truncate)),
                Message::Reshape { table, shape } => shapes[*table] = *shape,
            }
        }
        changes
    }

    /// What the log says of a row that is removed.
    fn identity_of(&self, table: usize, row: &Row) -> Row {
        match self.tables[table].identity {
            Identity::Key(_) => vec![row[0].clone(), Cell::Null, Cell::Null],
            _ => row.clone(),
        }
    }
}

/// The row with what the log leaves out as null.
pub(crate) fn as_logged(row: &Row, unsent: bool) -> Row {
    let mut row = row.clone();
    if unsent {
        row[BIG] = Cell::Null;
    }
    row
}
