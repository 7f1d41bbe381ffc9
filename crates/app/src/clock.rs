//! The real clock: the only place that reads the time of the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use change::{Clock, Timestamp};

/// The machine's own clock.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970: positions, not times, decide what is newer.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    }

    #[allow(clippy::disallowed_methods)]
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
