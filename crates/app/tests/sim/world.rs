//! What outlives a crash, and what ends with it: counters, the trace, the moment of death.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::clock::SimClock;
use crate::randomness::mix;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as the one that the simulated process runs on.
pub(crate) fn simulate_here() {
    SIMULATED.set(true);
}

/// Whether this is the thread that the simulated process runs on.
pub(crate) fn on_simulated_thread() -> bool {
    SIMULATED.get()
}

/// One seed's world.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clock: Arc<SimClock>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    trace: AtomicU64,
    dead: AtomicBool,
    pub(crate) death: Notify,
    /// Steps (requests, events, confirmations) that the process may still make; negative for no end.
    steps_left: AtomicI64,
    /// Whether the last step, if it is a put, is done before the process dies.
    dies_after: AtomicBool,
    verbose: bool,
}

impl World {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, ..Self::default() }
    }

    /// Lets the process live for so many steps; `None` for as long as it likes.
    pub(crate) fn live(&self, steps: Option<i64>, dies_after: bool) {
        self.dead.store(false, Ordering::Relaxed);
        self.steps_left.store(steps.unwrap_or(-1), Ordering::Relaxed);
        self.dies_after.store(dies_after, Ordering::Relaxed);
    }

    /// Nothing that the process does has an effect any more.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.death.notify_one();
    }

    /// Dies, unless this life has no end.
    pub(crate) fn die_if_mortal(&self) {
        if self.steps_left.load(Ordering::Relaxed) >= 0 {
            self.die();
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Counts a step; true when the process dies before it is done.
    pub(crate) fn step(&self) -> bool {
        if self.is_dead() {
            return true;
        }
        let left = self.steps_left.load(Ordering::Relaxed);
        if left < 0 {
            return false;
        }
        self.steps_left.store((left - 1).max(0), Ordering::Relaxed);
        if left > 1 || self.dies_after.load(Ordering::Relaxed) && left == 1 {
            return false;
        }
        self.die();
        true
    }

    /// After a put was done: true when the process dies now.
    pub(crate) fn step_after(&self) -> bool {
        if !self.is_dead() && self.steps_left.load(Ordering::Relaxed) == 0 {
            self.die();
        }
        self.is_dead()
    }

    /// Counts something for the figures.
    pub(crate) fn count(&self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: &'static str, times: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += times;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Adds to the trace what happens now.
    pub(crate) fn trace(&self, what: &str, of: &str) {
        let now = self.clock.micros();
        if self.verbose {
            println!("{:>12.6} {what} {of}", now as f64 / 1e6);
        }
        let line = what.bytes().chain(of.bytes()).fold(mix(now as u64), |hash, byte| mix(hash ^ u64::from(byte)));
        self.trace.store(mix(self.trace.load(Ordering::Relaxed) ^ line), Ordering::Relaxed);
    }

    /// The same for two runs that did the same.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.load(Ordering::Relaxed)
    }
}
