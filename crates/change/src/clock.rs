use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Timestamp = i64;

/// Time as it is handed in, so that the whole pipeline can run in a simulation.
pub trait Clock: Send + Sync {
    /// Wall-clock time, microseconds since the Unix epoch.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed point; never goes backwards.
    fn monotonic(&self) -> Duration;
}

/// Stands still at a time: for what must not depend on it, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct StoppedClock(pub Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
