//! Work that is given to other threads, so that it does not hold up the tasks of this one.
//!
//! On a runtime of one thread it is done in place: nothing runs beside it then, and a simulated run repeats itself exactly.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

/// Work that has begun, if it is not done already.
pub(crate) enum Work<T> {
    Done(T),
    Elsewhere(JoinHandle<T>),
}

impl<T> Work<T> {
    /// # Errors
    /// When the work panicked.
    pub(crate) async fn done(self) -> Result<T, JoinError> {
        match self {
            Work::Done(value) => Ok(value),
            Work::Elsewhere(work) => work.await,
        }
    }
}

/// Begins to compute on a thread for blocking work.
pub(crate) fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Work<T> {
    if on_one_thread() { Work::Done(work()) } else { Work::Elsewhere(tokio::task::spawn_blocking(work)) }
}

/// Computes on a thread for blocking work.
///
/// # Errors
/// When `work` panicked there.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    start(work).done().await
}

/// Rows that may be encoded at a time, in all tables of the process: while they are, pages and file are in memory beside them.
const ENCODED_AT_ONCE_KIB: u32 = 256 * 1024;
static ENCODING: Semaphore = Semaphore::const_new(ENCODED_AT_ONCE_KIB as usize);

/// As [`compute`], for work on rows of so many bytes: waits while too many others are worked on. Rows beyond the bound have it alone.
///
/// # Errors
/// When `work` panicked.
pub(crate) async fn encode<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if on_one_thread() {
        return Ok(work());
    }
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, ENCODED_AT_ONCE_KIB);
    // The semaphore is never closed.
    let _turn = ENCODING.acquire_many(kib).await.ok();
    compute(work).await
}

/// Awaits an operation of delta-rs, which reads and writes Delta logs on threads of its own.
pub(crate) async fn outside<T>(operation: impl Future<Output = T>) -> T {
    if on_one_thread() {
        // Tokio's budget is given out anew between polls of a task, and this is one poll.
        futures::executor::block_on(tokio::task::unconstrained(operation))
    } else {
        operation.await
    }
}

fn on_one_thread() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rows_beyond_the_bound_are_encoded_alone() {
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let first = tokio::spawn(encode(usize::MAX, move || ended.recv().is_ok()));
        while ENCODING.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let begun = Arc::new(AtomicBool::new(false));
        let mark = begun.clone();
        let mut second = Box::pin(encode(1, move || mark.store(true, Ordering::Relaxed)));
        assert!((&mut second).now_or_never().is_none() && !begun.load(Ordering::Relaxed));
        end.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        second.await.unwrap();
        assert!(begun.load(Ordering::Relaxed));
        assert_eq!(ENCODING.available_permits(), ENCODED_AT_ONCE_KIB as usize);
    }
}
