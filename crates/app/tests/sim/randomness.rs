//! The system's randomness, replaced: hash seeds and UUIDs of every library come from the run's seed, so that a run repeats itself.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};

thread_local! {
    /// Threads that nobody has seeded (those that libraries start) all draw the same numbers.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Seeds this thread. It must be a new one: the standard library draws the keys of its hash maps once for each thread.
pub(crate) fn seed(seed: u64) {
    STATE.set(mix(seed ^ 0x5eed));
}

/// One number from another, evenly (SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Stands in for the C library's function of this name in this binary.
///
/// # Safety
/// As `getrandom(2)`: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "what fills the buffers of the C library's callers takes a pointer")]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller gives `length` bytes at `buffer`.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let state = STATE.get().wrapping_add(1);
        STATE.set(state);
        chunk.copy_from_slice(&mix(state).to_le_bytes()[..chunk.len()]);
    }
    length as isize
}
