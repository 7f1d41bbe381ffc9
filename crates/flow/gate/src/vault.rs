use change::Result;

use crate::KeyRing;
use crate::canonical::Form;
use crate::kernel::keyed_hash::KeyedHash;
use crate::keys::Purpose;

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

    /// As [`Vault::codes`], for codes that are numbers: random, above zero, and no two values of a domain with the same. They are other codes
    /// than those of [`Vault::codes`].
    ///
    /// # Errors
    /// As [`Vault::codes`].
    fn numbers(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<i64>>;

    /// As [`Vault::find`], for codes that are numbers.
    ///
    /// # Errors
    /// As [`Vault::find`].
    fn find_numbers(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<i64>>>;
}

/// Knows numbers of a vault again without telling them: a vault seals its codes, and must still see that a new one is not taken.
pub struct NumberMarks(KeyedHash);

impl NumberMarks {
    /// A keyed hash of the number, the same under every epoch of the key.
    pub fn of(&self, number: i64) -> [u8; 32] {
        self.0.of(&number.to_be_bytes())
    }
}

impl KeyRing {
    /// The marks of a domain's numbers.
    ///
    /// # Errors
    /// [`change::Kind::Privacy`] when the oldest epoch has no key.
    pub fn number_marks(&self, domain: &str) -> Result<NumberMarks> {
        KeyedHash::new(self, Purpose::VaultNumber, domain, self.oldest_epoch(), Form::Exact).map(NumberMarks)
    }
}
