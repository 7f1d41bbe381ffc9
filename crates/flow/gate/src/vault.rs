use change::Result;

/// Where random codes for values are kept: the only source of codes that are not derived from the value (45 CFR 164.514(c)(1)).
///
/// A code is made on first sight from the operating system's generator and never changes. It must be durable before the call returns,
/// because the row that carries it is committed after it. Implemented in `app`; the gate itself does no I/O.
pub trait Vault: Send + Sync {
    /// A name that differs from one vault to the next: known values have other codes in another vault, so a table goes on with one only.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when the vault cannot be reached.
    fn id(&self) -> Result<String>;

    /// The codes of the values behind `index`, in the same order; the same index in the same domain always has the same code. An index
    /// is HMAC-SHA-256 of the value under the vault's index key, so that the vault never sees a value.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when the vault cannot be reached or written: the batch is not cleared.
    fn codes(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<[u8; 16]>>;

    /// The codes of values that have one already, in the same order; none is made.
    ///
    /// # Errors
    /// [`change::Kind::Unavailable`] when the vault cannot be reached.
    fn find(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<[u8; 16]>>>;
}
