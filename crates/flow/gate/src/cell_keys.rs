use std::sync::Arc;

use change::Result;
use zeroize::Zeroizing;

/// The data key of one person in one domain of cells, zeroed when dropped. There is no way to print it.
pub struct CellKey {
    id: [u8; 16],
    index: [u8; 32],
    key: Zeroizing<[u8; 32]>,
}

impl CellKey {
    /// `id` and `key` must come from the operating system's generator.
    pub fn new(id: [u8; 16], index: [u8; 32], key: Zeroizing<[u8; 32]>) -> Self {
        Self { id, index, key }
    }

    /// A random name that says nothing of the person.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// The keyed hash of the person's identifier.
    pub fn index(&self) -> &[u8; 32] {
        &self.index
    }

    /// The key, for the store that seals it.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

/// Where the data keys of `encrypt_cell` are kept: one random key for each person of a domain, so that a person's cells can be made unreadable
/// everywhere by destroying one key.
///
/// A key must be durable before the call returns, because the row that carries the cell is committed after it. A key that was destroyed is
/// never made anew: the store remembers the person's index. Implemented in `app`; the gate itself does no I/O.
pub trait CellKeys: Send + Sync {
    /// A name that differs from one store to the next: cells open with the keys of their own store only.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when the store cannot be reached.
    fn id(&self) -> Result<String>;

    /// The keys of the persons behind `index`, in the same order, made where there is none yet; `None` for one whose key was destroyed.
    /// An index is HMAC-SHA-256 of the person's identifier, so that the store never sees one.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when the store cannot be reached or written, [`change::Kind::Privacy`] when a key does not open: the
    /// batch is not cleared.
    fn of_persons(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<Arc<CellKey>>>>;

    /// The keys with these names, in the same order; none is made.
    ///
    /// # Errors
    /// As [`CellKeys::of_persons`].
    fn find(&self, domain: &str, ids: &[[u8; 16]]) -> Result<Vec<Option<Arc<CellKey>>>>;

    /// Fills `bytes` from the operating system's generator.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when it gives none.
    fn random(&self, bytes: &mut [u8]) -> Result<()>;
}
