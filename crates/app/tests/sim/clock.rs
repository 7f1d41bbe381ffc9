//! The clock of a simulated world: tokio's paused time, carried on over crashes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use change::{Clock, Timestamp};
use tokio::time::Instant;

/// 2100-01-01T00:00:00Z. Later than the machine's own time, which delta-rs reads when it looks for old log files: it finds none.
pub(crate) const START: Timestamp = 4_102_444_800_000_000;

const DAY: i64 = 86_400_000_000;
/// Less than what a held row is kept for at most.
const AHEAD_MAX: i64 = 300 * DAY;
const BEHIND_MAX: i64 = -3 * DAY;

/// Stands at [`START`] when the world begins.
#[derive(Default)]
pub(crate) struct SimClock {
    /// When this life began: world time in microseconds, and tokio's.
    life: Mutex<Option<(i64, Instant)>>,
    /// How far the wall clock is ahead of the world's time, in microseconds.
    ahead: AtomicI64,
    /// The last answer, for threads that know no tokio time.
    last: AtomicI64,
}

impl SimClock {
    /// Begins another life of the process under test, `pause` after the end of the one before. Within its runtime.
    pub(crate) fn live(&self, pause: Duration) {
        let began = self.last.load(Ordering::Relaxed) + pause.as_micros() as i64;
        self.last.store(began, Ordering::Relaxed);
        *self.life.lock().unwrap() = Some((began, Instant::now()));
    }

    /// Ends a life: time stands until the next.
    pub(crate) fn die(&self) {
        *self.life.lock().unwrap() = None;
    }

    /// Sets the wall clock forward or back.
    pub(crate) fn jump(&self, micros: i64) {
        let ahead = self.ahead.load(Ordering::Relaxed) + micros;
        self.ahead.store(ahead.clamp(BEHIND_MAX, AHEAD_MAX), Ordering::Relaxed);
    }

    /// Microseconds since the world began.
    pub(crate) fn micros(&self) -> i64 {
        let life = *self.life.lock().unwrap();
        if let (Some((began, at)), Ok(_)) = (life, tokio::runtime::Handle::try_current()) {
            let elapsed = at.elapsed().as_micros() as i64;
            // Another runtime, of a library's thread, has the machine's time.
            if crate::world::on_simulated_thread() {
                self.last.store(began + elapsed, Ordering::Relaxed);
            }
        }
        self.last.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        START + self.micros() + self.ahead.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.micros() as u64)
    }
}
