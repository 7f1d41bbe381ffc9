//! Defects that are put in on purpose, at the edges of the product: the simulation has to find each of them.

use std::path::Path as FsPath;

use lake::index::{BootId, KeyIndex, Opened};
use object_store::PutPayload;
use object_store::path::Path;

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The source is told of more than is durable.
    ConfirmsEarly,
    /// The stream is taken up one transaction too late.
    ResumesOffByOne,
    /// A commit loses its deletion vectors.
    LosesVectors,
    /// The key index carries out a step whose commit was not made, and says that it did not.
    IndexAhead,
    /// The rows of a batch come last first, and so are collapsed in the wrong order.
    WrongOrder,
    /// What waits in the spool is lost between two lives.
    LosesSpool,
    /// Held rows are lost between two lives.
    LosesHeld,
}

impl Mutation {
    /// Whether the process dies at this request, so that the defect has its occasion.
    pub(crate) fn kills(&self, operation: &str, path: &Path) -> bool {
        *self == Self::IndexAhead && operation == "create" && path.as_ref().starts_with("db/public/keyed/_delta_log")
    }

    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::ConfirmsEarly,
        Self::ResumesOffByOne,
        Self::LosesVectors,
        Self::IndexAhead,
        Self::WrongOrder,
        Self::LosesSpool,
        Self::LosesHeld,
    ];
}

impl Mutation {
    /// A commit of a Delta log as it arrives in the store.
    pub(crate) fn commit(&self, path: &Path, payload: PutPayload) -> PutPayload {
        if *self != Self::LosesVectors || !path.as_ref().contains("_delta_log/") {
            return payload;
        }
        let text = String::from_utf8(bytes::Bytes::from(payload).to_vec()).unwrap();
        let without = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get_mut("add").and_then(|add| add.as_object_mut()) {
                add.remove("deletionVector");
            }
            action.to_string()
        });
        without.collect::<Vec<_>>().join("\n").into()
    }
}

/// Erases the held rows.
pub(crate) fn lose_held(folder: &FsPath) {
    if let Some(store) = app::HeldStore::existing(folder).unwrap() {
        store.discard(&app::Choice::All).unwrap();
    }
}

/// Carries out the step that a dead process had prepared in one table's index and not committed, and keeps the version as it was.
pub(crate) fn put_ahead(folder: &FsPath, boot: &str) {
    let blocks = folder.join("blocks");
    let Ok(bytes) = std::fs::read(&blocks) else { return };
    let table: [u8; 16] = bytes[8..24].try_into().unwrap();
    let opened = KeyIndex::open(folder, table, Some(BootId::from_text(boot)));
    let Ok(Opened::Ready(mut index)) = opened else { return };
    if index.prepared().is_none() {
        return;
    }
    let version = index.version();
    // One that was damaged as well cannot be put ahead.
    if index.finish().and_then(|()| index.close()).is_err() {
        return;
    }
    // The header: the version is at byte 56, the checksum in the last four of the first 4 KiB.
    let mut bytes = std::fs::read(&blocks).unwrap();
    bytes[56..64].copy_from_slice(&version.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&blocks, bytes).unwrap();
}
