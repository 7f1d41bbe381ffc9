use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use change::Clock;

/// Rows of a chunk when nothing limits the pace.
const CHUNK_ROWS: u64 = 150_000;
/// Seconds of reading that a chunk holds at most, because its transaction stays open meanwhile.
const CHUNK_SECONDS: u64 = 2;

/// How far reading may fall behind its pace and make up for it. What it could not read in the time before, while the lake was read, is not made up for.
const BEHIND: Duration = Duration::from_secs(1);

/// Memory for a row that is looked at by itself: its entry, and the room of a hash table that grows to twice its size.
const ROW_BYTES: u64 = 320;

/// What a comparison may take: of the source's time, and of memory.
pub(crate) struct Limits {
    /// Rows in a second; `None` for as fast as it goes.
    rate: Option<u64>,
    memory_mib: u64,
    clock: Arc<dyn Clock>,
    /// When everything that was read so far should have been read, in nanoseconds of the clock.
    due: AtomicU64,
}

impl Limits {
    /// Begins to count now.
    pub(crate) fn new(rate: Option<u64>, memory_mib: u64, clock: Arc<dyn Clock>) -> Self {
        Self { rate, memory_mib, due: AtomicU64::new(nanos(clock.monotonic())), clock }
    }

    /// Rows that may be looked at one by one at a time.
    pub(crate) fn rows_max(&self) -> u64 {
        self.memory_mib.saturating_mul(1 << 20) / ROW_BYTES
    }

    /// The rows that one transaction should read.
    pub(crate) fn chunk_rows(&self) -> u64 {
        self.rate.map_or(CHUNK_ROWS, |rate| rate.saturating_mul(CHUNK_SECONDS).clamp(1, CHUNK_ROWS))
    }

    /// Waits as long as `rows` more rows should have taken. In no span of time are more read than the rate allows, and those of [`BEHIND`].
    pub(crate) async fn after(&self, rows: u64) {
        let Some(rate) = self.rate else { return };
        let now = self.clock.monotonic();
        let took = nanos(Duration::from_secs_f64(rows as f64 / rate as f64));
        let earliest = nanos(now.saturating_sub(BEHIND));
        // One reads at a time.
        let due = self.due.load(Ordering::Relaxed).max(earliest).saturating_add(took);
        self.due.store(due, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_nanos(due).saturating_sub(now)).await;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use change::Timestamp;
    use tokio::time::Instant;

    use super::*;

    /// Tokio's time, which a test moves.
    struct TestClock(Instant);

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            0
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_read_is_not_made_up_for() {
        let limits = Limits::new(Some(1000), 1, Arc::new(TestClock(Instant::now())));
        let seconds = async |rows| {
            let begun = Instant::now();
            limits.after(rows).await;
            begun.elapsed().as_secs_f64().round() as u64
        };
        assert_eq!(seconds(3000).await, 3);
        assert_eq!(seconds(2000).await, 2);
        // As long as the lake is read, or the source slow.
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(seconds(10_000).await, 10 - BEHIND.as_secs());
        assert_eq!(seconds(4000).await, 4);
    }
}
