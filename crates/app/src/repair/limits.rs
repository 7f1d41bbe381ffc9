use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use capture::postgres::SLOW_CHUNK_ROWS;
use change::Clock;

/// Rows of a chunk: what a kill costs a repair at most.
const CHUNK_ROWS: u64 = 150_000;
/// Seconds of reading that a transaction holds at most, because it stays open meanwhile.
const TRANSACTION_SECONDS: u64 = 2;

/// How far reading may fall behind its pace and make up for it. What it could not read in the time before, while the lake was read, is not made up for.
const BEHIND: Duration = Duration::from_secs(1);

/// Memory for a row that is looked at by itself: its entry, and the room of a hash table that grows to twice its size.
const ROW_BYTES: u64 = 320;

/// What a comparison may take: of the source's time, and of memory.
pub(crate) struct Limits {
    /// Rows in a second; `None` for as fast as it goes.
    rate: Option<u64>,
    memory_mib: u64,
    asks_model: bool,
    clock: Arc<dyn Clock>,
    /// When everything that was read so far should have been read, in nanoseconds of the clock.
    due: AtomicU64,
}

impl Limits {
    /// Begins to count now. `asks_model`: whether a model looks at texts of the table.
    pub(crate) fn new((rate, memory_mib): (Option<u64>, u64), asks_model: bool, clock: Arc<dyn Clock>) -> Self {
        Self { rate, memory_mib, asks_model, due: AtomicU64::new(nanos(clock.monotonic())), clock }
    }

    /// Whether a model looks at texts of the rows, so that clearing a batch can take minutes.
    pub(crate) fn asks_model(&self) -> bool {
        self.asks_model
    }

    /// Rows that may be looked at one by one at a time.
    pub(crate) fn rows_max(&self) -> u64 {
        self.memory_mib.saturating_mul(1 << 20) / ROW_BYTES
    }

    /// The rows that a chunk should have, at any pace.
    pub(crate) fn chunk_rows(&self) -> u64 {
        if self.asks_model { SLOW_CHUNK_ROWS } else { CHUNK_ROWS }
    }

    /// The rows that one transaction should read: a chunk, or less at a slow pace.
    pub(crate) fn transaction_rows(&self) -> u64 {
        let chunk_rows = self.chunk_rows();
        self.rate.map_or(chunk_rows, |rate| rate.saturating_mul(TRANSACTION_SECONDS).clamp(1, chunk_rows))
    }

    /// In how many transactions a chunk should be read.
    pub(crate) fn parts(&self) -> u32 {
        u32::try_from(self.chunk_rows().div_ceil(self.transaction_rows())).unwrap_or(u32::MAX)
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

    #[test]
    fn chunks_suit_a_model_and_not_the_pace_which_cuts_them_into_transactions() {
        let of = |rate, asks_model| {
            let limits = Limits::new((rate, 1), asks_model, Arc::new(TestClock(Instant::now())));
            (limits.chunk_rows(), limits.transaction_rows(), limits.parts())
        };
        assert_eq!(of(None, false), (150_000, 150_000, 1));
        assert_eq!(of(Some(100), false), (150_000, 200, 750));
        assert_eq!(of(Some(100_000), false), (150_000, 150_000, 1));
        assert_eq!(of(None, true), (500, 500, 1));
        assert_eq!(of(Some(100), true), (500, 200, 3));
        assert_eq!(of(Some(0), false), (150_000, 1, 150_000));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_read_is_not_made_up_for() {
        let limits = Limits::new((Some(1000), 1), false, Arc::new(TestClock(Instant::now())));
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
