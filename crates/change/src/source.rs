use std::future::Future;
use std::sync::Arc;

use crate::{ChangeBatch, Checkpoint, CopyProgress, Position, Result, TableName, TableSchema, Timestamp};

/// What a source hands to the loop.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every event is the large one, and it is moved once for thousands of rows"
)]
pub enum Event {
    /// Rows of one table.
    Changes(ChangeBatch),
    /// The table's structure, before the first batch that follows it; also sent once for every table at open.
    SchemaChanged {
        /// The structure from here on.
        schema: Arc<TableSchema>,
    },
    /// Every row of the table was removed.
    Truncated {
        /// The table.
        table: TableName,
        /// Where in the stream.
        position: Position,
        /// The source's transaction number.
        txid: u64,
        /// The statement's number within its transaction, from 1.
        ordinal: u64,
        /// When the source committed.
        committed_at: Timestamp,
    },
    /// A first copy begins or goes on; sent before its first chunk. When `progress` has another plan than the table has stored, the copy
    /// starts over and whatever was copied before is void. When all its chunks are done, only its end is missing.
    CopyStarted {
        /// The table.
        table: TableName,
        /// The plan, and what of it is done.
        progress: CopyProgress,
    },
    /// The rows of one chunk of a first copy, handed over since the last such event of this table, are whole.
    ChunkDone {
        /// The table.
        table: TableName,
        /// The chunk.
        chunk: u32,
        /// The table's progress with this chunk done.
        progress: CopyProgress,
    },
    /// Every chunk was handed over, and every streamed row that may have needed one of theirs; `progress.finished` is set.
    CopyDone {
        /// The table.
        table: TableName,
        /// The finished progress.
        progress: CopyProgress,
    },
    /// Something about one table that the operator must know, or that stops that table and no other.
    Notice {
        /// The table.
        table: TableName,
        /// What happened.
        notice: TableNotice,
    },
    /// The source shows that part of a table cannot be known from its log.
    Suspect(Suspect),
    /// Everything at or below the checkpoint has been handed over; a commit may be made here.
    Boundary(Checkpoint),
}

/// News of one table.
#[derive(Debug)]
pub enum TableNotice {
    /// The table cannot be read any further; its rows after the last boundary are not handed over. Other tables go on.
    Stopped(crate::Error),
    /// The table was dropped or left the publication.
    Dropped,
}

/// What cannot be known from the source's log and has to be read again.
#[derive(Debug)]
pub struct Suspect {
    /// The table.
    pub table: TableName,
    /// How much of it.
    pub extent: SuspectExtent,
    /// Why, for the operator.
    pub why: String,
}

/// How much of a table is suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuspectExtent {
    /// One column of every row.
    Column(String),
    /// Every row.
    Table,
}

/// How far a stream is behind its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLag {
    /// Bytes of the source's log between what is confirmed and the source's end of log.
    pub confirmed_bytes: u64,
    /// Bytes of log that the source keeps for us.
    pub retained_bytes: u64,
    /// Bytes of log that the source will keep before it gives us up; `None` when it has no limit.
    pub retention_left_bytes: Option<u64>,
}

/// What a source can say of itself at any time.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// How far behind.
    pub lag: StreamLag,
    /// Why nothing is being read, when nothing is.
    pub idle: Option<String>,
}

/// What a source says of itself, at any time and from any task, also while it is asked for an event or is gone.
pub type StatusReader = Arc<dyn Fn() -> SourceStatus + Send + Sync>;

/// A connector that is open: pulled by the loop, one event at a time.
pub trait Source: Send {
    /// The next event. Waits when there is none; cancel-safe. `Unavailable` errors are only returned once the connector's own
    /// reconnects have given up.
    fn next(&mut self) -> impl Future<Output = Result<Event>> + Send;

    /// Tells the source that everything at or below the checkpoint is durable in every table that needs it.
    fn confirm(&mut self, durable: &Checkpoint) -> impl Future<Output = Result<()>> + Send;

    /// Lag and health, measured by the connector in the background.
    fn status(&self) -> StatusReader;
}
