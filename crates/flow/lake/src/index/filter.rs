use super::KeyHash;

const LINE_WORDS: usize = 8;
const LINE_BITS: usize = LINE_WORDS * 64;
/// Bits that each key sets, all in one line: 64 bytes, what a processor reads at once.
const BITS_OF_KEY: u32 = 6;
/// Bits for each key that is expected: about one key in fifty is taken for known that is not.
const BITS_PER_KEY: u64 = 10;
/// From fewer bits for each key on, a larger filter is worth a pass over the index.
const BITS_PER_KEY_CROWDED: u64 = 8;
/// 64 MiB, enough for 50 million keys. Beyond, more keys are looked up than would be needed.
const LINES_MAX: usize = 1 << 20;
const KEYS_MIN: u64 = 1 << 12;

/// A Bloom filter in lines of 64 bytes (Putze, Sanders, Singler: "Cache-, hash- and space-efficient Bloom filters", 2007): what it does not
/// have is not there.
pub(super) struct Filter {
    lines: Vec<[u64; LINE_WORDS]>,
    keys: u64,
}

impl Filter {
    /// An empty filter with room for so many keys, and for as many more.
    pub(super) fn for_keys(keys: u64) -> Self {
        let lines = (keys.max(KEYS_MIN) * 2 * BITS_PER_KEY) as usize / LINE_BITS;
        Self { lines: vec![[0; LINE_WORDS]; lines.next_power_of_two().min(LINES_MAX)], keys: 0 }
    }

    /// Whether it has more keys than it was made for, and could be larger.
    pub(super) fn is_crowded(&self) -> bool {
        let bits = (self.lines.len() * LINE_BITS) as u64;
        self.lines.len() < LINES_MAX && self.keys * BITS_PER_KEY_CROWDED > bits
    }

    pub(super) fn insert(&mut self, key: KeyHash) {
        let line = self.line(key);
        for (word, bit) in places(key) {
            self.lines[line][word] |= bit;
        }
        self.keys += 1;
    }

    /// Whether the key may have been inserted; false is certain.
    pub(super) fn may_have(&self, key: KeyHash) -> bool {
        let line = &self.lines[self.line(key)];
        places(key).all(|(word, bit)| line[word] & bit != 0)
    }

    fn line(&self, key: KeyHash) -> usize {
        (key.0 >> 64) as usize & (self.lines.len() - 1)
    }
}

fn places(key: KeyHash) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS_OF_KEY).map(move |number| {
        let bit = (key.0 >> (number * LINE_BITS.ilog2())) as usize % LINE_BITS;
        (bit / 64, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::KeySeed;

    #[test]
    fn what_was_inserted_is_found_and_little_else() {
        let key = |number: u64| KeySeed::new(7).hash(&number.to_le_bytes());
        let mut filter = Filter::for_keys(20_000);
        (0..40_000).for_each(|number| filter.insert(key(number)));
        assert!((0..40_000).all(|number| filter.may_have(key(number))));
        let wrong = (40_000..140_000).filter(|number| filter.may_have(key(*number))).count();
        assert!((1..3_000).contains(&wrong), "{wrong} of 100,000");
        assert!(!filter.is_crowded());
        (40_000..100_000).for_each(|number| filter.insert(key(number)));
        assert!(filter.is_crowded());
    }
}
