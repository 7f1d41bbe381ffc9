//! Objects of ours that are no tables: kept in the same store, under folders that begin with `_` or in a lake without tables.

use change::Result;
use futures::{Stream, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};

use crate::failure::Explain;
use crate::lake::Lake;

impl Lake {
    /// Writes an object, whole or not at all; one that is there is replaced.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_object(&self, path: &[&str], bytes: Vec<u8>) -> Result<()> {
        let path = Path::from_iter(path.iter().copied());
        let put = self.root().object_store(None).put(&path, bytes.into()).await;
        put.map(|_| ()).explain(|| format!("cannot write {path}"))
    }

    /// The content of an object; `None` when it is not there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn object_at(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let doing = || format!("cannot read {path}");
        match self.root().object_store(None).get(&Path::from(path)).await {
            Ok(found) => Ok(Some(found.bytes().await.explain(doing)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).explain(doing),
        }
    }

    /// Removes an object; one that is not there is gone already.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_object(&self, path: &[&str]) -> Result<()> {
        let path = Path::from_iter(path.iter().copied());
        match self.root().object_store(None).delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).explain(|| format!("cannot remove {path}")),
        }
    }

    /// The paths of all objects below a folder, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn objects_below(&self, folder: &[&str]) -> Result<Vec<String>> {
        let folder = Path::from_iter(folder.iter().copied());
        listed(&folder, self.root().object_store(None).list(Some(&folder))).await
    }

    /// The paths of the objects of a folder behind a name, which need not be there, in order: what lies before it is not listed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn objects_after(&self, folder: &[&str], name: &str) -> Result<Vec<String>> {
        let folder = Path::from_iter(folder.iter().copied());
        let behind = folder.clone().join(name);
        listed(&folder, self.root().object_store(None).list_with_offset(Some(&folder), &behind)).await
    }
}

async fn listed(folder: &Path, found: impl Stream<Item = object_store::Result<ObjectMeta>>) -> Result<Vec<String>> {
    let found: Vec<_> = found.try_collect().await.explain(|| format!("cannot list {folder}"))?;
    let mut paths: Vec<String> = found.into_iter().map(|object| object.location.to_string()).collect();
    paths.sort_unstable();
    Ok(paths)
}
