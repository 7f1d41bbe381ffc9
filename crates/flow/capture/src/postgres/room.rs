use std::sync::Arc;

use change::{ChangeBatch, Share};
use tokio::sync::Semaphore;

/// Rows of one source that may be on their way, in all tables together: decoded, and not yet written or laid aside by the lake.
const ON_THE_WAY_KIB: u32 = 96 * 1024;
/// A row of more bytes is read only when there is room for it: beside its cells it is there as the source sent it.
const LARGE_ROW_BYTES: usize = 8 << 20;

/// The memory that the rows of one source may take between here and the lake, whatever their sizes and wherever they wait.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ON_THE_WAY_KIB as usize)))
    }

    /// Waits until rows that were sent in so many bytes can be decoded.
    pub(crate) async fn wait(&self, sent_bytes: usize) {
        if sent_bytes > LARGE_ROW_BYTES {
            drop(self.share(sent_bytes).await);
        }
    }

    /// Gives a batch its share of the room; waits until there is as much. One that is larger than the room has it alone.
    pub(crate) async fn admit(&self, batch: ChangeBatch) -> ChangeBatch {
        let share = self.share(batch.memory_bytes()).await;
        batch.with_share(share)
    }

    async fn share(&self, bytes: usize) -> Share {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, ON_THE_WAY_KIB);
        // The semaphore is never closed.
        Share::new(self.0.clone().acquire_many_owned(kib).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_too_large_has_the_room_alone_and_what_is_small_need_not_wait_for_it() {
        let room = Room::new();
        let some = room.share(1 << 20).await;
        assert!(room.share(1 << 40).now_or_never().is_none());
        assert!(room.wait(LARGE_ROW_BYTES + 1).now_or_never().is_some());
        drop(some);
        let all = room.share(1 << 40).await;
        assert!(room.share(1).now_or_never().is_none());
        assert!(room.wait(LARGE_ROW_BYTES + 1).now_or_never().is_none());
        assert!(room.wait(LARGE_ROW_BYTES).now_or_never().is_some());
        drop(all);
        assert!(room.share(1).now_or_never().is_some());
    }
}
