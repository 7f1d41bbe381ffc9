use change::Timestamp;

use crate::head::SignedHead;
use crate::{Hash, PublicKey};

/// Heads that were kept elsewhere, of whatever logs: of each what a proof needs of it, however many there are.
#[derive(Default)]
pub struct Anchored {
    keys: Vec<PublicKey>,
    pub(crate) heads: Vec<KeptHead>,
    /// Objects that are no heads.
    pub(crate) unreadable: u64,
}

/// One of them.
pub(crate) struct KeptHead {
    pub(crate) log: Hash,
    pub(crate) nth: u64,
    pub(crate) hash: Hash,
    pub(crate) entries: u64,
    pub(crate) root: Hash,
    pub(crate) at: Timestamp,
    signed: Signed,
}

enum Signed {
    By(PublicKey),
    /// By none of the keys that are known from the start: logs may name others.
    ByAnother(Box<SignedHead>),
}

impl Anchored {
    /// None yet. Heads of these keys take the least room.
    pub fn of_keys(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..Self::default() }
    }

    /// Takes in what an object holds.
    pub fn add(&mut self, line: &str) {
        let Some(signed) = SignedHead::read(line.strip_suffix('\n').unwrap_or(line)) else {
            self.unreadable += 1;
            return;
        };
        let key = self.keys.iter().find(|key| signed.is_proven_by(key));
        let (said, hash) = (&signed.said, signed.hash);
        let (log, nth, entries, root, at) = (said.log, said.nth, said.entries, said.root, said.at);
        let signed = key.map_or_else(|| Signed::ByAnother(Box::new(signed)), |key| Signed::By(*key));
        self.heads.push(KeptHead { log, nth, hash, entries, root, at, signed });
    }
}

impl KeptHead {
    pub(crate) fn is_proven_by(&self, key: &PublicKey) -> bool {
        match &self.signed {
            Signed::By(by) => by == key,
            Signed::ByAnother(signed) => signed.is_proven_by(key),
        }
    }
}
