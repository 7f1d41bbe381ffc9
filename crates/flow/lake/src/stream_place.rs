//! How far a stream is that brought nothing: one small object for each position, of which the highest counts.
//!
//! An object that is replaced could go back: a request that was given up may arrive after a later one, and so may that of another process. The
//! database would then have forgotten more than the lake has recorded, which looks like a loss. The highest of several cannot go back.

use change::{Checkpoint, Error, Kind, Position, Result};
use futures::TryStreamExt;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::failure::Explain;
use crate::lake::{Lake, repair_path};

/// Listings until one is read whose highest record is still there.
const TRIES: u32 = 5;

impl Lake {
    /// Records how far a stream is that brought nothing: written before the source is told that it may forget.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_stream_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let places = self.stream_places(&checkpoint.stream).await?;
        if places.last().is_some_and(|(highest, _)| *highest >= checkpoint.through) {
            return Ok(());
        }
        let path = folder(&checkpoint.stream).join(format!("{}.json", checkpoint.through.to_hex()));
        self.put_document(&path, checkpoint).await?;
        for (_, lower) in places {
            match self.root().object_store(None).delete(&lower).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                // It counts for nothing, and the next record removes it.
                Err(error) => tracing::debug!(path = %lower, %error, "an old record of the stream stays for now"),
            }
        }
        Ok(())
    }

    /// Whether the store takes an object now: writes one of a stream's that says nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn try_to_write(&self, stream: &str) -> Result<()> {
        self.put_document(&Path::from_iter([stream, "_lockgate", "answers.json"]), &()).await
    }

    /// The highest that [`Lake::put_stream_checkpoint`] wrote; `None` when it never did.
    ///
    /// # Errors
    /// Those of the store; `Unavailable` when records go as fast as they are listed.
    pub async fn stream_checkpoint(&self, stream: &str) -> Result<Option<Checkpoint>> {
        for _ in 0..TRIES {
            let Some((_, path)) = self.stream_places(stream).await?.pop() else { return Ok(None) };
            // Another process may have gone on in this moment: then there is a higher one.
            if let Some(found) = self.document(&path).await? {
                return Ok(Some(found));
            }
        }
        Err(Error::new(Kind::Unavailable, format!("the records of {stream} go as fast as they are listed"))
            .fix("See whether another Lockgate runs on this lake; it is tried again."))
    }

    /// Removes what was recorded of a stream, and of its repair: for a source of which the lake has no table. May be done again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget_stream(&self, stream: &str) -> Result<()> {
        let places = self.stream_places(stream).await?.into_iter().map(|(_, path)| path);
        // The mark last: until then a repair comes by.
        for path in places.chain([repair_path(stream)]) {
            match self.root().object_store(None).delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error).explain(|| format!("cannot remove {path}")),
            }
        }
        Ok(())
    }

    /// The records of a stream, from the lowest to the highest.
    async fn stream_places(&self, stream: &str) -> Result<Vec<(Position, Path)>> {
        let folder = folder(stream);
        let store = self.root().object_store(None);
        let found: Vec<_> =
            store.list(Some(&folder)).try_collect().await.explain(|| format!("cannot list {folder}"))?;
        let place = |path: Path| Some((Position::from_hex(path.filename()?.strip_suffix(".json")?)?, path));
        let mut places: Vec<(Position, Path)> = found.into_iter().filter_map(|object| place(object.location)).collect();
        places.sort();
        Ok(places)
    }
}

fn folder(stream: &str) -> Path {
    Path::from_iter([stream, "_lockgate", "stream"])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_record_that_arrives_late_counts_for_nothing() {
        let lake = Lake::in_store(Arc::new(object_store::memory::InMemory::new())).unwrap();
        let at = |through: u8| Checkpoint {
            stream: "s".into(),
            through: Position::from_bytes(&[0, through]),
            identity: "i".into(),
        };
        assert_eq!(lake.stream_checkpoint("s").await.unwrap(), None);
        lake.put_stream_checkpoint(&at(20)).await.unwrap();
        lake.put_stream_checkpoint(&at(10)).await.unwrap();
        let late = folder("s").join(format!("{}.json", at(12).through.to_hex()));
        lake.put_document(&late, &at(12)).await.unwrap();
        assert_eq!(lake.stream_checkpoint("s").await.unwrap(), Some(at(20)));
        lake.put_stream_checkpoint(&at(30)).await.unwrap();
        assert_eq!(lake.stream_places("s").await.unwrap().len(), 1);
        assert_eq!(lake.stream_checkpoint("s").await.unwrap(), Some(at(30)));
    }
}
