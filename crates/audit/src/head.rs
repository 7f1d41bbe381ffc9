use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hex::{decode, encode};
use crate::tree::Tree;
use crate::{Hash, Hex, PublicKey, SigningKey};

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
    /// When it was signed, microseconds since the Unix epoch.
    pub at: Timestamp,
    /// The key, see [`PublicKey::fingerprint`].
    pub key: Hex,
}

/// Bound into every signature, so that it is good for nothing else.
const PURPOSE: &[u8] = b"lockgate audit head 1\0";
const OPEN: &str = "{\"signature\":\"";
const BETWEEN: &str = "\",\"head\":";

/// A head and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedHead {
    pub(crate) head: Head,
    /// SHA-256 of the head's bytes: the next one names it.
    pub(crate) hash: Hash,
    pub(crate) signature: [u8; 64],
    body: String,
}

impl SignedHead {
    /// Reads a line without its line break; `None` for what is no head.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (digits, rest) = line.strip_prefix(OPEN)?.split_at_checked(128)?;
        let body = rest.strip_prefix(BETWEEN)?.strip_suffix('}')?;
        let mut signature = [0; 64];
        if !decode(digits.as_bytes(), &mut signature) {
            return None;
        }
        let head = serde_json::from_str(body).ok()?;
        Some(Self { head, hash: Hash::of(&[body.as_bytes()]), signature, body: body.to_owned() })
    }

    /// Signs a head.
    pub(crate) fn sign(head: Head, key: &SigningKey) -> Result<Self> {
        let body = serde_json::to_string(&head)
            .map_err(|error| Error::new(Kind::Bug, "a head of the audit log is not JSON").source(error))?;
        let signature = key.sign(&[PURPOSE, body.as_bytes()].concat())?;
        Ok(Self { head, hash: Hash::of(&[body.as_bytes()]), signature, body })
    }

    /// The line, without a line break.
    pub(crate) fn line(&self) -> String {
        format!("{OPEN}{}{BETWEEN}{}}}", encode(&self.signature), self.body)
    }

    /// Whether the key signed it, and it is in agreement with itself.
    pub(crate) fn is_proven_by(&self, key: &PublicKey) -> bool {
        let tree = Tree::resume(self.head.entries, self.head.peaks.clone());
        key.proves(&[PURPOSE, self.body.as_bytes()].concat(), &self.signature)
            && tree.is_some_and(|tree| tree.root() == self.head.root)
    }
}
