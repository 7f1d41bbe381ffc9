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
    /// Rises with every commit; the version of the `txn` action.
    pub(crate) sequence: i64,
    /// The last truncate: copied rows below it lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) truncated: Option<Position>,
    /// Identifies this commit, to tell it from another that took its version.
    #[serde(default)]
    pub(crate) commit: u128,
    /// The policy that cleared the rows.
    #[serde(default)]
    pub(crate) stamp: serde_json::Value,
}
