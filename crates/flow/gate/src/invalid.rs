use std::sync::{Mutex, PoisonError};

use change::{Error, Kind, Result};

/// Fewer values than this say nothing about a share.
const WINDOW_VALUES: u64 = 1000;

/// Watches one column's share of values that its transform cannot read. Batches are counted together until there are enough values to
/// judge, so that a stream of small batches is watched as well as a large copy.
pub(crate) struct InvalidWatch {
    percent_max: f64,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    values: u64,
    invalid: u64,
}

impl InvalidWatch {
    pub(crate) fn new(percent_max: f64) -> Self {
        Self { percent_max, window: Mutex::default() }
    }

    /// Counts a batch's values (nulls are none) and those that could not be read.
    ///
    /// # Errors
    /// [`Kind::Data`] when more than the declared share cannot be read: the column's meaning has probably changed.
    pub(crate) fn observe(&self, values: u64, invalid: u64) -> Result<()> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.values += values;
        window.invalid += invalid;
        if window.values < WINDOW_VALUES {
            return Ok(());
        }
        let Window { values, invalid } = std::mem::take(&mut *window);
        if invalid as f64 * 100.0 <= values as f64 * self.percent_max {
            return Ok(());
        }
        let what = format!("{invalid} of the last {values} values cannot be read, more than {} %", self.percent_max);
        Err(Error::new(Kind::Data, what).fix(
            "Look whether the column's meaning has changed in the source; then change its rule, or raise max_invalid_percent in the policy.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_judged_over_a_thousand_values_in_batches_of_any_size() {
        let watch = InvalidWatch::new(0.1);
        assert!(watch.observe(10_000, 10).is_ok());
        assert_eq!(watch.observe(10_000, 11).unwrap_err().kind(), Kind::Data);
        for _ in 0..999 {
            assert!(watch.observe(1, 1).is_ok());
        }
        assert!(watch.observe(1, 1).is_err());
        assert!(watch.observe(1000, 1).is_ok());
        assert!(InvalidWatch::new(100.0).observe(1000, 1000).is_ok());
    }
}
