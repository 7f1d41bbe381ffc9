use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Chance that follows from a seed, what is drawn and its number: any row can be drawn without the rows before it.
pub(super) struct Dice(SmallRng);

impl Dice {
    pub(super) fn new(seed: u64, what: u64, number: u64) -> Self {
        Self(SmallRng::seed_from_u64(
            seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03).rotate_left(17),
        ))
    }

    /// A number below `limit`, which is above 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.random_range(0..limit)
    }

    /// One of the choices, of which there is at least one.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())]
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
