//! How many bytes of streamed rows wait in memory for their commits: of one table, and of all tables of a lake together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of rows that one area holds in memory before it writes a file.
const ALONE_MAX: usize = 48 << 20;
/// Bytes of rows that all areas of a lake may hold before those with more than their share write files.
const TOGETHER_MAX: usize = 192 << 20;

/// What all areas of a lake hold, and may hold.
pub(crate) struct HeldTogether {
    alone_max: usize,
    together_max: usize,
    bytes: AtomicUsize,
    /// Areas that hold something.
    areas: AtomicUsize,
}

impl Default for HeldTogether {
    fn default() -> Self {
        Self::new(ALONE_MAX, TOGETHER_MAX)
    }
}

impl HeldTogether {
    /// One area may hold `alone_max` bytes, all of them `together_max` before those with more than their share write files.
    pub(crate) fn new(alone_max: usize, together_max: usize) -> Self {
        Self { alone_max, together_max, bytes: AtomicUsize::new(0), areas: AtomicUsize::new(0) }
    }
}

/// What one area holds.
pub(crate) struct HeldBytes {
    together: Arc<HeldTogether>,
    bytes: usize,
}

impl HeldBytes {
    /// Nothing yet.
    pub(crate) fn new(together: Arc<HeldTogether>) -> Self {
        Self { together, bytes: 0 }
    }

    /// Nothing yet, for another area of the same lake.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.together.clone())
    }

    /// So many bytes more are held.
    pub(crate) fn add(&mut self, bytes: usize) {
        if self.bytes == 0 && bytes > 0 {
            self.together.areas.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes += bytes;
        self.together.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the area should write a file: it has much; or all have too much, and it no less than its share; or all have twice as much, and
    /// then whatever it has. So all together never hold more than that and what they take in at a time.
    pub(crate) fn are_too_many(&self) -> bool {
        let HeldTogether { alone_max, together_max, .. } = *self.together;
        let together = self.together.bytes.load(Ordering::Relaxed);
        let share = together_max / self.together.areas.load(Ordering::Relaxed).max(1);
        let too_many = together > together_max && self.bytes >= share;
        self.bytes >= alone_max || too_many || together > 2 * together_max
    }

    /// Nothing is held any more.
    pub(crate) fn clear(&mut self) {
        if self.bytes > 0 {
            self.together.areas.fetch_sub(1, Ordering::Relaxed);
            self.together.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.bytes = 0;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_alone_may_hold_its_own_limit_and_very_many_a_share_of_one() {
        let together = Arc::new(HeldTogether::default());
        let mut alone = HeldBytes::new(together.clone());
        alone.add(ALONE_MAX - 1);
        assert!(!alone.are_too_many());
        alone.add(1);
        assert!(alone.are_too_many());
        drop(alone);

        let mut areas: Vec<HeldBytes> = (0..1000).map(|_| HeldBytes::new(together.clone())).collect();
        // As rows come in turns; whoever has too much writes what it has.
        let (mut most, mut written) = (0, 0);
        for turn in 0..200_000_usize {
            let area = &mut areas[turn * 7919 % 1000];
            area.add(64 << 10);
            most = most.max(together.bytes.load(Ordering::Relaxed));
            if area.are_too_many() {
                written += 1;
                area.clear();
            }
        }
        assert!(written > 1000 && most <= 2 * TOGETHER_MAX, "{written} files, {most} bytes");
        // As the worst of sources could send them: each area is left with all that it may have when its turn comes.
        areas.iter_mut().for_each(HeldBytes::clear);
        for (number, area) in (1..).zip(&mut areas) {
            area.add((TOGETHER_MAX / number).min(ALONE_MAX) - 1);
            if area.are_too_many() {
                area.clear();
            }
        }
        let most = together.bytes.load(Ordering::Relaxed);
        assert!(most > TOGETHER_MAX && most <= 2 * TOGETHER_MAX, "{most} bytes");
        drop(areas);
        assert_eq!((together.bytes.load(Ordering::Relaxed), together.areas.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_large_area_that_takes_nothing_in_leaves_the_others_a_share() {
        let together = Arc::new(HeldTogether::default());
        let mut idle: Vec<HeldBytes> = (0..4).map(|_| HeldBytes::new(together.clone())).collect();
        idle.iter_mut().for_each(|area| area.add(ALONE_MAX - 1));
        let mut busy = idle[0].fresh();
        busy.add(TOGETHER_MAX / 5 - 1);
        assert!(!busy.are_too_many());
        busy.add(1);
        assert!(busy.are_too_many());
        busy.clear();
        assert!(!busy.are_too_many());
    }
}
