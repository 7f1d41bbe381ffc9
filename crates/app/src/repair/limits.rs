use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use change::Clock;

/// Rows of a chunk when nothing limits the pace.
const CHUNK_ROWS: u64 = 150_000;
/// Seconds of reading that a chunk holds at most, because its transaction stays open meanwhile.
const CHUNK_SECONDS: u64 = 2;

/// Memory for a row that is looked at by itself: its entry, and the room of a hash table that grows to twice its size.
const ROW_BYTES: u64 = 320;

/// What a comparison may take: of the source's time, and of memory.
pub(crate) struct Limits {
    /// Rows in a second; `None` for as fast as it goes.
    rate: Option<u64>,
    memory_mib: u64,
    clock: Arc<dyn Clock>,
    begun: Duration,
    rows: AtomicU64,
}

impl Limits {
    /// Begins to count now.
    pub(crate) fn new(rate: Option<u64>, memory_mib: u64, clock: Arc<dyn Clock>) -> Self {
        Self { rate, memory_mib, begun: clock.monotonic(), clock, rows: AtomicU64::new(0) }
    }

    /// Rows that may be looked at one by one at a time.
    pub(crate) fn rows_max(&self) -> u64 {
        self.memory_mib.saturating_mul(1 << 20) / ROW_BYTES
    }

    /// The rows that one transaction should read.
    pub(crate) fn chunk_rows(&self) -> u64 {
        self.rate.map_or(CHUNK_ROWS, |rate| rate.saturating_mul(CHUNK_SECONDS).clamp(1, CHUNK_ROWS))
    }

    /// Waits as long as `rows` more rows should have taken.
    pub(crate) async fn after(&self, rows: u64) {
        let read = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(read as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(self.clock.monotonic().saturating_sub(self.begun))).await;
    }
}
