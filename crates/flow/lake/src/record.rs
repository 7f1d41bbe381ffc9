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
    /// Rows of the table that a project folder holds back, in no file of the lake; the last folder that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<Held>,
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

/// How many rows a project folder holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) folder: String,
    pub(crate) rows: u64,
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
