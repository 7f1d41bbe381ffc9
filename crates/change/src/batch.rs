use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::buffer::BooleanBuffer;

use crate::{Error, Kind, Raw, Result, TableSchema, Timestamp};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Read by the first copy.
    Copy = b'r',
    /// Inserted.
    Insert = b'i',
    /// Updated in place; the identity did not change.
    Update = b'u',
    /// Deleted; only the identity columns are set.
    Delete = b'd',
    /// The delete half of an update that changed the identity: only the identity columns are set, and the next row of the
    /// same batch is the insert half, whose unsent columns are filled from the row that is deleted here.
    MoveOut = b'm',
}

impl Op {
    /// The letter in `_lg_op`: `r`, `i`, `u`, `d`. A [`Op::MoveOut`] is a delete to a reader.
    pub fn letter(self) -> &'static str {
        match self {
            Op::Copy => "r",
            Op::Insert => "i",
            Op::Update => "u",
            Op::Delete | Op::MoveOut => "d",
        }
    }

    /// Whether the row is gone after this change.
    pub fn removes(self) -> bool {
        matches!(self, Op::Delete | Op::MoveOut)
    }
}

/// Where the rows of a batch were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From the source's log, in position order.
    Stream,
    /// From the first copy's chunk of this number. All rows carry the position LOW of the copy.
    Copy {
        /// The chunk's number in the plan of [`crate::CopyProgress`].
        chunk: u32,
    },
    /// Streamed or copied earlier and held back by the gate since then; the positions are those of then.
    Held,
}

/// What is known of every row beside its values; all vectors have one entry per row.
#[derive(Clone, Debug)]
pub struct RowMeta {
    /// What happened.
    pub ops: Vec<Op>,
    /// Where in the stream, as [`crate::Position`] bytes; rises within a batch of [`Origin::Stream`].
    pub positions: BinaryArray,
    /// When the source committed, UTC; null when the source does not say (copied rows: when the chunk was read).
    pub committed_at: TimestampMicrosecondArray,
    /// The source's transaction number; 0 for copied rows.
    pub txids: UInt64Array,
    /// The row's number within its transaction, from 1; within its chunk for copied rows.
    pub ordinals: UInt64Array,
}

impl RowMeta {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// Builds a [`RowMeta`] row by row.
#[derive(Default)]
pub struct RowMetaBuilder {
    ops: Vec<Op>,
    positions: BinaryBuilder,
    committed_at: Vec<Timestamp>,
    txids: Vec<u64>,
    ordinals: Vec<u64>,
}

impl RowMetaBuilder {
    /// Appends a row's op, position bytes, commit time (microseconds since the Unix epoch), transaction and ordinal.
    pub fn push(&mut self, op: Op, position: &[u8], committed_at: Timestamp, txid: u64, ordinal: u64) {
        self.ops.push(op);
        self.positions.append_value(position);
        self.committed_at.push(committed_at);
        self.txids.push(txid);
        self.ordinals.push(ordinal);
    }

    /// The number of rows so far.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are no rows so far.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Takes the rows and leaves the builder empty.
    pub fn finish(&mut self) -> RowMeta {
        RowMeta {
            ops: std::mem::take(&mut self.ops),
            positions: self.positions.finish(),
            committed_at: TimestampMicrosecondArray::from(std::mem::take(&mut self.committed_at)).with_timezone("UTC"),
            txids: UInt64Array::from(std::mem::take(&mut self.txids)),
            ordinals: UInt64Array::from(std::mem::take(&mut self.ordinals)),
        }
    }
}

/// Which columns the source did not send, row by row (unchanged TOAST, minimal row images).
///
/// One entry per column: `None` when every row was sent, else a set bit for each row whose value is unknown. An unsent cell is null
/// in the batch and must be filled from the row that is already stored, never written as null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsent(pub Vec<Option<BooleanBuffer>>);

impl Unsent {
    /// Everything was sent, for `columns` columns.
    pub fn none(columns: usize) -> Self {
        Self(vec![None; columns])
    }

    /// Whether every value of every row was sent.
    pub fn is_none(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether the value of `column` in `row` is unknown.
    pub fn is_unsent(&self, column: usize, row: usize) -> bool {
        self.0[column].as_ref().is_some_and(|mask| mask.value(row))
    }
}

/// A share of the memory that rows may take on their way: given back when its last clone is dropped.
#[derive(Clone)]
pub struct Share {
    _of: Arc<dyn Send + Sync>,
}

impl Share {
    /// Holds `of` until the rows are gone from memory.
    pub fn new(of: impl Send + Sync + 'static) -> Self {
        Self { _of: Arc::new(of) }
    }
}

/// Rows of one table in source order, raw. Only the gate consumes it.
///
/// The after-image for inserts and updates; for a delete the identity columns, the rest null.
pub struct ChangeBatch {
    schema: Arc<TableSchema>,
    origin: Origin,
    rows: Raw<RecordBatch>,
    meta: RowMeta,
    unsent: Unsent,
    share: Option<Share>,
}

impl ChangeBatch {
    /// Puts the parts together; fails with [`Kind::Bug`] when their shapes disagree.
    pub fn try_new(
        schema: Arc<TableSchema>,
        origin: Origin,
        columns: Vec<ArrayRef>,
        meta: RowMeta,
        unsent: Unsent,
    ) -> Result<Self> {
        let bug = |what: &str| {
            Error::new(Kind::Bug, format!("{}: a change batch was put together wrongly: {what}", schema.table))
        };
        if columns.len() != schema.columns.len() || unsent.0.len() != columns.len() {
            return Err(bug("the number of columns differs from the schema's"));
        }
        let rows = meta.len();
        let lengths = [meta.positions.len(), meta.committed_at.len(), meta.txids.len(), meta.ordinals.len()];
        if lengths.iter().any(|length| *length != rows) || unsent.0.iter().flatten().any(|mask| mask.len() != rows) {
            return Err(bug("the row metadata has another number of rows"));
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        // Arrow's own message could name types only, but it is not ours to vouch for: it is left out.
        let batch = RecordBatch::try_new_with_options(schema.arrow(), columns, &options)
            .map_err(|_| bug("a column's type or length differs from the schema's"))?;
        Ok(Self { schema, origin, rows: Raw::new(batch), meta, unsent, share: None })
    }

    /// The structure that the rows follow.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Where the rows were read.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The values, one Arrow column for each column of the schema.
    pub fn rows(&self) -> &Raw<RecordBatch> {
        &self.rows
    }

    /// Ops, positions and the rest.
    pub fn meta(&self) -> &RowMeta {
        &self.meta
    }

    /// Which cells the source did not send.
    pub fn unsent(&self) -> &Unsent {
        &self.unsent
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    /// Bytes of memory that the rows hold, for batching and back-pressure.
    pub fn memory_bytes(&self) -> usize {
        self.rows.expose().get_array_memory_size() + self.meta.positions.get_array_memory_size() + self.meta.len() * 25
    }

    /// The same rows, which hold a share of memory.
    pub fn with_share(self, share: Share) -> Self {
        Self { share: Some(share), ..self }
    }

    /// Takes the share that the rows hold, for whoever has them next; `None` when whoever read them has not bounded their memory.
    pub fn take_share(&mut self) -> Option<Share> {
        self.share.take()
    }

    /// The rows up to and at a position, and those above it. The rows of a streamed batch rise by position.
    pub fn split(self, through: &crate::Position) -> (Self, Self) {
        let at = self.meta.positions.iter().take_while(|row| row.is_some_and(|row| row <= through.as_bytes())).count();
        let above = self.slice(at, self.len() - at);
        (self.slice(0, at), above)
    }

    /// Takes the first rows off, `rows` of them or all that there are; one more where that parted the halves of an update of a key ([`Op::MoveOut`]
    /// and [`Op::Insert`]).
    #[must_use]
    pub fn take_first(&mut self, rows: usize) -> Self {
        let parts = rows > 0 && self.meta.ops.get(rows - 1) == Some(&Op::MoveOut);
        let first = self.slice(0, (rows + usize::from(parts)).min(self.len()));
        *self = self.slice(first.len(), self.len() - first.len());
        first
    }

    fn slice(&self, from: usize, rows: usize) -> Self {
        let mask = |mask: &Option<BooleanBuffer>| mask.as_ref().map(|mask| mask.slice(from, rows));
        Self {
            schema: self.schema.clone(),
            origin: self.origin,
            rows: Raw::new(self.rows.expose().slice(from, rows)),
            meta: RowMeta {
                ops: self.meta.ops[from..from + rows].to_vec(),
                positions: self.meta.positions.slice(from, rows),
                committed_at: self.meta.committed_at.slice(from, rows),
                txids: self.meta.txids.slice(from, rows),
                ordinals: self.meta.ordinals.slice(from, rows),
            },
            unsent: Unsent(self.unsent.0.iter().map(mask).collect()),
            share: self.share.clone(),
        }
    }

    /// Takes the parts apart, for the gate.
    pub fn into_parts(self) -> (Arc<TableSchema>, Origin, Raw<RecordBatch>, RowMeta, Unsent) {
        (self.schema, self.origin, self.rows, self.meta, self.unsent)
    }
}

impl fmt::Debug for ChangeBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.schema.columns.iter().map(|column| column.name.as_str()).collect();
        f.debug_struct("ChangeBatch")
            .field("table", &self.schema.table.to_string())
            .field("origin", &self.origin)
            .field("rows", &self.len())
            .field("columns", &columns)
            .finish()
    }
}
