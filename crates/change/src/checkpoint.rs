use serde::{Deserialize, Serialize};

use crate::Position;

/// A boundary of one stream: the source is consistent there, and everything at or below it has been handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The stream's name, unique in the project: the source's name in `lockgate.yaml`.
    pub stream: String,
    /// The position.
    pub through: Position,
    /// Who the source is (system identifier, timeline, database, slot): opaque to all but the connector, which refuses to resume from
    /// another.
    pub identity: String,
}

/// Which chunks of a first copy are done: ranges of numbers, first and last included, ascending and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSet(Vec<(u32, u32)>);

impl ChunkSet {
    /// Adds a chunk.
    pub fn insert(&mut self, chunk: u32) {
        if self.contains(chunk) {
            return;
        }
        let at = self.0.partition_point(|(first, _)| *first < chunk);
        self.0.insert(at, (chunk, chunk));
        self.0 = self.0.iter().fold(Vec::new(), |mut merged: Vec<(u32, u32)>, (first, last)| {
            match merged.last_mut() {
                Some(previous) if previous.1.checked_add(1) == Some(*first) => previous.1 = *last,
                _ => merged.push((*first, *last)),
            }
            merged
        });
    }

    /// Whether a chunk is in the set.
    pub fn contains(&self, chunk: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&chunk))
    }

    /// The number of chunks in the set.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How far the first copy of a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyProgress {
    /// LOW: everything committed at or below it was certainly visible to every chunk; a copied row loses to any change above it.
    pub low: Position,
    /// How the table is cut into chunks: opaque to all but the connector.
    pub plan: String,
    /// The number of chunks in the plan.
    pub chunks: u32,
    /// The chunks whose rows are durable.
    pub done: ChunkSet,
    /// Once all chunks are done and the stream has come so far: a position at or above everything that any chunk can have seen, and any value
    /// that was read again for an update. From there on the table is the source's at every boundary.
    pub finished: Option<Position>,
}

impl CopyProgress {
    /// Whether the rows of every chunk are durable. Its end may still be missing.
    pub fn is_read(&self) -> bool {
        self.done.len() >= u64::from(self.chunks)
    }
}

/// What one lake table has made durable of its source: stored in the table's own commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCheckpoint {
    /// The stream, through the last boundary whose rows are in the table; `None` before the first.
    pub stream: Option<Checkpoint>,
    /// The first copy; `None` when it has not begun.
    pub copy: Option<CopyProgress>,
    /// The number of the last release of held rows that is in the table; releases are numbered upwards. 0 before the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub released: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_done_in_any_order_merge_into_ranges() {
        let mut set = ChunkSet::default();
        for chunk in [3, 0, 1, 5, 1, 2] {
            set.insert(chunk);
        }
        assert_eq!(serde_json::to_string(&set).unwrap(), "[[0,3],[5,5]]");
        assert_eq!(set.len(), 5);
        assert!(set.contains(2) && !set.contains(4));
    }
}
