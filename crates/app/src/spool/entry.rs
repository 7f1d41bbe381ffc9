use std::sync::Arc;

use change::{Checkpoint, Error, Kind, Position, Result, TableName, TableSchema, Timestamp};
use gate::{ClearedBatch, PolicyStamp, Spooled};
use serde::{Deserialize, Serialize};

use crate::worker::Truncation;

/// One entry of a spool, as the loop takes it.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every entry is the large one, and it is moved a few times for many rows"
)]
pub(crate) enum Entry {
    /// A table's structure from here on.
    Structure(Arc<TableSchema>),
    /// Streamed rows that have passed the gate.
    Rows(ClearedBatch),
    /// Rows that cannot be read as their table is now, and why.
    Unread(TableName, Error),
    /// Every row of a table was removed.
    Truncated(TableName, Truncation),
    /// Everything at or below was handed over.
    Boundary(Checkpoint),
    /// The first of a segment: under which policy and keys the rows were cleared, and the boundary that the segment before ends at.
    Begin(PolicyStamp, Option<Position>),
}

/// What stands in a note of the spool.
#[derive(Serialize, Deserialize)]
enum Note {
    Begin { format: u32, stamp: PolicyStamp, after: Option<Position> },
    Truncated { table: TableName, position: Position, txid: u64, ordinal: u64, committed_at: Timestamp },
    Boundary(Checkpoint),
}

const FORMAT: u32 = 1;

impl Entry {
    /// What is sealed.
    pub(crate) fn spooled(self) -> Result<Spooled> {
        let note = match self {
            Self::Structure(table) => return Ok(Spooled::Structure(table)),
            Self::Rows(rows) => return Ok(Spooled::Rows(rows)),
            Self::Unread(table, why) => return Ok(Spooled::Unread(table, why)),
            Self::Truncated(table, Truncation { position, txid, ordinal, committed_at }) => {
                Note::Truncated { table, position, txid, ordinal, committed_at }
            }
            Self::Boundary(checkpoint) => Note::Boundary(checkpoint),
            Self::Begin(stamp, after) => Note::Begin { format: FORMAT, stamp, after },
        };
        let text = serde_json::to_vec(&note)
            .map_err(|error| Error::new(Kind::Bug, "an entry of the spool is not JSON").source(error))?;
        Ok(Spooled::Note(text))
    }

    /// What was sealed.
    pub(crate) fn of(spooled: Spooled) -> Result<Self> {
        let note = match spooled {
            Spooled::Structure(table) => return Ok(Self::Structure(table)),
            Spooled::Rows(rows) => return Ok(Self::Rows(rows)),
            Spooled::Unread(table, why) => return Ok(Self::Unread(table, why)),
            Spooled::Note(note) => note,
        };
        let strange = || {
            Error::new(Kind::Config, "the spool was written by another version of Lockgate")
                .fix("Let that version drain it: lockgate run --once.")
        };
        Ok(match serde_json::from_slice(&note).map_err(|error| strange().source(error))? {
            Note::Begin { format: FORMAT, stamp, after } => Self::Begin(stamp, after),
            Note::Begin { .. } => return Err(strange()),
            Note::Truncated { table, position, txid, ordinal, committed_at } => {
                Self::Truncated(table, Truncation { position, txid, ordinal, committed_at })
            }
            Note::Boundary(checkpoint) => Self::Boundary(checkpoint),
        })
    }
}
