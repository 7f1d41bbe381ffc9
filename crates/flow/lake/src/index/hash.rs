use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A row's identity as the index knows it: 128 bits of keyed hash, from which the identity cannot be read.
///
/// Two identities of one table share a hash with odds of about n² / 2^129 for n rows: 10^-21 for a thousand million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub(super) u128);

/// The key of an index's hashes. Drawn at random for each index, so that equal identities of two tables do not look equal on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeySeed(u64);

impl KeySeed {
    /// A seed from random bytes that the caller drew.
    pub fn new(random: u64) -> Self {
        Self(random)
    }

    /// The hash of an encoded cleared identity. The encoding must be injective: other columns, other bytes.
    pub fn hash(self, identity: &[u8]) -> KeyHash {
        KeyHash(xxh3_128_with_seed(identity, self.0))
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }
}

impl KeyHash {
    /// The hash under which the `number`-th further row of the same identity is kept in an index of a multiset.
    pub(super) fn occurrence(self, number: u64) -> Self {
        Self(xxh3_128_with_seed(&self.0.to_le_bytes(), number))
    }

    /// The hash under which the number of rows of an identity is kept, when there is more than one.
    pub(super) fn count(self) -> Self {
        self.occurrence(u64::MAX)
    }

    /// The block among `1 << log2_blocks`: the top bits, so that the order of hashes is the order of blocks and doubling splits block p
    /// into 2p and 2p + 1.
    pub(super) fn block(self, log2_blocks: u32) -> u64 {
        self.0.checked_shr(128 - log2_blocks).unwrap_or(0) as u64
    }
}
