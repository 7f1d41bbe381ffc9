//! Times at which a process stands still, as one in a container that is paused.

use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::world::World;

/// In microseconds of the world's time, one after the other.
#[derive(Clone, Default)]
pub(crate) struct Rests(Vec<Range<i64>>);

impl Rests {
    /// Some, from now on.
    pub(crate) fn drawn(random: &mut StdRng, now: i64) -> Self {
        let mut at = now;
        let mut next = || {
            let from = at + random.random_range(100_000..60_000_000);
            at = from + random.random_range(1_000_000..200_000_000);
            from..at
        };
        Self((0..4).map(|_| next()).collect())
    }

    /// Waits until the process goes on.
    pub(crate) async fn over(&self, world: &World) {
        let now = world.clock.micros();
        if let Some(rest) = self.0.iter().find(|rest| rest.contains(&now)) {
            world.count("processes that stood still");
            tokio::time::sleep(Duration::from_micros((rest.end - now).unsigned_abs())).await;
        }
    }
}
