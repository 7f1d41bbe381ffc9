//! What Lockgate writes into each of its commits beside the rows.

use change::{Position, TableCheckpoint};
use serde::{Deserialize, Serialize};

/// The domain of the `domainMetadata` action that holds the record, and the application of the `txn` action.
pub(crate) const DOMAIN: &str = "lockgate";

/// The table's checkpoint and who wrote it: one JSON document in the commit's `domainMetadata`, which log checkpoints keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the table has made durable of its source.
    pub(crate) checkpoint: TableCheckpoint,
    /// Rises with every process that writes the table: fences the ones before it.
    pub(crate) epoch: u64,
    /// Identifies the process among those of one epoch.
    pub(crate) writer: String,
    /// The project folder of the process, when it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
    /// Rows of the table that are in no file of the lake, because the project folder that wrote it last holds them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_back: Option<HeldBack>,
    /// Rises with every commit; the version of the `txn` action.
    pub(crate) sequence: i64,
    /// The last truncate: copied rows below it lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) truncated: Option<Position>,
    /// The columns of the key that identifies rows; none for tables without key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) key: Vec<String>,
    /// Identifies this commit, to tell it from another that took its version.
    #[serde(default, with = "hexadecimal")]
    pub(crate) commit: u128,
    /// The policy that cleared the rows.
    #[serde(default)]
    pub(crate) stamp: serde_json::Value,
}

/// How many rows a project folder holds back. Commits of a command that only rewrites files leave it as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldBack {
    pub(crate) folder: String,
    pub(crate) rows: u64,
}

impl Record {
    /// How many rows of the table are held back, by whom ever.
    pub(crate) fn held_back_rows(&self) -> u64 {
        self.held_back.as_ref().map_or(0, |held| held.rows)
    }

    /// Whether another project folder than this one was the last to write rows of the table. A folder that has no name is not another one.
    pub(crate) fn is_from_elsewhere(&self, folder: Option<&str>) -> bool {
        // Releases that did not say what they hold back have named their folder all the same.
        let last = self.held_back.as_ref().map(|held| &held.folder).or(self.folder.as_ref());
        folder.is_some_and(|folder| last.is_some_and(|last| last != folder))
    }
}

/// 128 bits as text: JSON's numbers end at 2^53 for most readers.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(|_| serde::de::Error::custom("a commit's id is 32 hexadecimal digits"))
    }
}

impl Record {
    /// Whether copied rows may still come.
    pub(crate) fn copying(&self) -> bool {
        self.checkpoint.copy.as_ref().is_none_or(|copy| copy.finished.is_none())
    }
}
