//! Sums over buckets of keys, of two sides: where they agree, no row has to be looked at.

use super::fingerprint::Print;

/// Buckets of keys; a few MiB of sums for both sides.
const BUCKETS: usize = 1 << 16;

/// The rows of one side that share a key or a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    /// Of their fingerprints: adding, unlike XOR, does not lose rows that are there twice.
    pub(crate) prints: u128,
}

impl Sum {
    /// Adds a row.
    pub(crate) fn add(&mut self, row: u128) {
        self.rows += 1;
        self.prints = self.prints.wrapping_add(row);
    }
}

/// One side of a table.
pub(crate) struct Tally {
    sums: Vec<Sum>,
}

/// Which keys are looked at.
pub(crate) enum Part {
    /// All.
    All,
    /// Those of some buckets.
    Buckets(Vec<bool>),
}

impl Part {
    /// Whether the key is one of them.
    pub(crate) fn holds(&self, key: u128) -> bool {
        match self {
            Self::All => true,
            Self::Buckets(buckets) => buckets[bucket(key)],
        }
    }
}

fn bucket(key: u128) -> usize {
    (key >> (128 - BUCKETS.ilog2())) as usize
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { sums: vec![Sum::default(); BUCKETS] }
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, prints: &[Print]) {
        for print in prints {
            self.sums[bucket(print.key)].add(print.row);
        }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.sums.iter().map(|sum| sum.rows).sum()
    }

    /// The buckets that differ from `other`, in parts of at most about `rows_max` rows on either side; none when nothing differs.
    pub(crate) fn parts(&self, other: &Self, rows_max: u64) -> Vec<Part> {
        let mut parts = Vec::new();
        let (mut buckets, mut rows) = (vec![false; BUCKETS], 0);
        for (number, (one, two)) in self.sums.iter().zip(&other.sums).enumerate().filter(|(_, (one, two))| one != two) {
            let more = one.rows.max(two.rows);
            if rows > 0 && rows + more > rows_max {
                parts.push(Part::Buckets(std::mem::replace(&mut buckets, vec![false; BUCKETS])));
                rows = 0;
            }
            buckets[number] = true;
            rows += more;
        }
        if rows > 0 {
            parts.push(Part::Buckets(buckets));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys spread over all buckets.
    fn print(number: u128, row: u128) -> Print {
        Print { key: number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), row }
    }

    fn tally(rows: impl Iterator<Item = Print>) -> Tally {
        let mut tally = Tally::new();
        tally.add(&rows.collect::<Vec<_>>());
        tally
    }

    #[test]
    fn rows_in_another_order_are_equal_and_a_row_twice_is_not_two_rows_gone() {
        let forth = tally((0..1000).map(|n| print(n, n + 7)));
        let back = tally((0..1000).rev().map(|n| print(n, n + 7)));
        assert!(forth.parts(&back, 10).is_empty());
        let doubled = tally((0..1000).chain([5, 5]).map(|n| print(n, n + 7)));
        assert_eq!(forth.parts(&doubled, 10).len(), 1);
    }

    #[test]
    fn parts_cover_every_key_that_differs_once_and_stay_small() {
        let one = tally((0..10_000).map(|n| print(n, n)));
        let two = tally((0..10_000).map(|n| print(n, if n % 10 == 3 { n + 1 } else { n })));
        let parts = one.parts(&two, 100);
        assert!(parts.len() > 5, "{} parts", parts.len());
        for n in (0..10_000).filter(|n| n % 10 == 3) {
            assert_eq!(parts.iter().filter(|part| part.holds(print(n, 0).key)).count(), 1);
        }
    }
}
