use std::sync::Arc;

use change::{Checkpoint, Event, Result, Source, SourceStatus, StatusReader};

/// Stands for a source that is gone while what waits in its spool is drained: it says nothing and forgets nothing.
pub(crate) struct Silent;

impl Source for Silent {
    async fn next(&mut self) -> Result<Event> {
        std::future::pending().await
    }

    async fn confirm(&mut self, _: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn status(&self) -> StatusReader {
        Arc::new(SourceStatus::default)
    }
}
