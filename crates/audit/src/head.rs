use std::collections::BTreeMap;

use change::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signed::{Signed, Statement};
use crate::tree::Tree;
use crate::{Former, Hash, Hex, PublicKey};

/// The whole log up to a point, in one signed line: `{"signature":"<128 digits>","head":{...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The log: the hash of its first entry.
    pub log: Hash,
    /// The head's number, from 1.
    pub nth: u64,
    /// SHA-256 of the bytes of the head before it; zero for the first.
    pub previous: Hash,
    /// Entries that it covers.
    pub entries: u64,
    /// Bytes of the log's file that it covers.
    pub bytes: u64,
    /// The hash of the last entry that it covers.
    pub last: Hash,
    /// The root of the tree over these entries.
    pub root: Hash,
    /// The roots of the tree's complete subtrees, from the largest to the smallest.
    pub peaks: Vec<Hash>,
    /// Whether the last entry that it covers carries a MAC, and so must all behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub macs: bool,
    /// When it was signed, microseconds since the Unix epoch.
    pub at: Timestamp,
    /// The key, see [`PublicKey::fingerprint`].
    pub key: Hex,
}

/// A head and the line that it stands in; the next head names its hash.
pub(crate) type SignedHead = Signed<Head>;

impl Statement for Head {
    const PURPOSE: &'static [u8] = b"lockgate audit head 1\0";
    const WORD: &'static str = "head";
}

impl SignedHead {
    /// Whether the key signed it, and it is in agreement with itself.
    pub(crate) fn is_proven_by(&self, key: &PublicKey) -> bool {
        let tree = Tree::resume(self.said.entries, self.said.peaks.clone());
        self.is_signed_by(key) && tree.is_some_and(|tree| tree.root() == self.said.root)
    }

    /// What the log after this one says of it.
    pub(crate) fn former(&self) -> Former {
        let Head { log, nth, entries, at, .. } = self.said;
        Former { log, head: nth, hash: self.hash, entries, at, key: None }
    }
}

/// The head of a line, when the key signed it.
pub fn proven_head(line: &str, key: &PublicKey) -> Option<Head> {
    SignedHead::read(line).filter(|signed| signed.is_proven_by(key)).map(|signed| signed.said)
}

/// The newest of these lines of heads that the key signed: of each log the one with the highest number, and of these the latest. `None` when
/// there is none.
pub fn newest_head<'a>(lines: impl IntoIterator<Item = &'a str>, key: &PublicKey) -> Option<Former> {
    let mut newest: BTreeMap<Hash, Former> = BTreeMap::new();
    for signed in lines.into_iter().filter_map(SignedHead::read).filter(|signed| signed.is_proven_by(key)) {
        let head = newest.entry(signed.said.log).or_insert_with(|| signed.former());
        // Within a log a clock that was set does not count.
        if head.head < signed.said.nth {
            *head = signed.former();
        }
    }
    newest.into_values().max_by_key(|head| head.at)
}
