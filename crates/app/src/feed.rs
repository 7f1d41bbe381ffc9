//! Reading goes on while the loop works: the source runs in a task of its own, a few events ahead.

use change::{Checkpoint, Error, Event, Kind, Result, Source};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events that may wait for the loop. What their rows take of memory is bounded by whoever reads them.
const EVENTS_AHEAD: usize = 6;

/// A source that is being read in the background.
pub(crate) struct Feed {
    events: mpsc::Receiver<Result<Event>>,
    confirms: mpsc::Sender<Checkpoint>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts reading.
    pub(crate) fn start<S: Source + 'static>(source: S) -> Self {
        let (events_in, events) = mpsc::channel(EVENTS_AHEAD);
        let (confirms, confirms_out) = mpsc::channel(8);
        let task = tokio::spawn(read(source, events_in, confirms_out));
        Self { events, confirms, task }
    }

    /// The next event; cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Event> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::new(Kind::Bug, "the source ended without saying why")),
        }
    }

    /// Tells the source what is durable.
    pub(crate) async fn confirm(&self, durable: Checkpoint) {
        // A source that has ended says why through `next`.
        if self.confirms.send(durable).await.is_err() {
            tracing::debug!("the source ended before a confirmation");
        }
    }

    /// Ends the reading after the confirmations that were given are sent.
    pub(crate) async fn close(self) {
        drop(self.confirms);
        drop(self.events);
        if self.task.await.is_err() {
            tracing::error!("the source's task broke down; what it printed says where");
        }
    }
}

async fn read<S: Source>(mut source: S, events: mpsc::Sender<Result<Event>>, mut confirms: mpsc::Receiver<Checkpoint>) {
    loop {
        // A place in the queue first, so that a full queue never holds up a confirmation.
        let permit = tokio::select! {
            biased;
            checkpoint = confirms.recv() => match checkpoint {
                Some(checkpoint) => match source.confirm(&checkpoint).await {
                    Ok(()) => continue,
                    Err(error) => return drop(events.send(Err(error)).await),
                },
                None => return,
            },
            permit = events.reserve() => match permit {
                Ok(permit) => permit,
                Err(_) => return drain(&mut source, confirms).await,
            },
        };
        let event = loop {
            tokio::select! {
                biased;
                checkpoint = confirms.recv() => match checkpoint {
                    Some(checkpoint) => if let Err(error) = source.confirm(&checkpoint).await { break Err(error) },
                    None => return,
                },
                event = source.next() => break event,
            }
        };
        let failed = event.is_err();
        permit.send(event);
        if failed {
            return;
        }
    }
}

/// The loop has left: its last confirmations still go to the source.
async fn drain<S: Source>(source: &mut S, mut confirms: mpsc::Receiver<Checkpoint>) {
    while let Some(checkpoint) = confirms.recv().await {
        if let Err(error) = source.confirm(&checkpoint).await {
            tracing::warn!(%error, "the last confirmation did not reach the source; it will send those changes again");
            return;
        }
    }
}
