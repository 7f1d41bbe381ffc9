//! An object store that fails as real ones do, by the seed.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::chance::{Chance, Fault};
use crate::mutation::Mutation;
use crate::rests::Rests;
use crate::world::{World, on_simulated_thread};

/// Requests that take effect after the client has given up.
struct Late {
    due: i64,
    path: Path,
    payload: PutPayload,
    options: PutOptions,
}

/// What is in the store, beyond the lives of the process under test.
#[derive(Default)]
pub(crate) struct Contents {
    inner: InMemory,
    written: Mutex<HashMap<Path, DateTime<Utc>>>,
    late: Mutex<Vec<Late>>,
    /// What was deleted, for the judge of versions that had it.
    deleted: Mutex<HashMap<Path, Bytes>>,
}

impl Contents {
    /// An object without faults, for the judge, also when it was deleted.
    pub(crate) fn read(&self, path: &Path) -> Option<Bytes> {
        self.stored(path).or_else(|| self.deleted.lock().unwrap().get(path).cloned())
    }

    /// Whether an object is there.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.stored(path).is_some()
    }

    fn stored(&self, path: &Path) -> Option<Bytes> {
        let got = async {
            let got = self.inner.get_opts(path, GetOptions::default()).await.ok()?;
            got.bytes().await.ok()
        };
        got.now_or_never().flatten()
    }

    async fn put(&self, now: i64, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, payload, options).await?;
        let time = DateTime::from_timestamp_micros(crate::clock::START + now).unwrap_or_default();
        self.written.lock().unwrap().insert(path.clone(), time);
        Ok(put)
    }

    /// Lets requests arrive that were under way.
    async fn arrive(&self, now: i64) {
        let due: Vec<Late> = {
            let mut late = self.late.lock().unwrap();
            let (due, left) = std::mem::take(&mut *late).into_iter().partition(|late| late.due <= now);
            *late = left;
            due
        };
        for Late { path, payload, options, due } in due {
            // Nobody waits for the answer any more.
            drop(self.put(due, &path, payload, options).await);
        }
    }

    fn dated(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(time) = self.written.lock().unwrap().get(&meta.location) {
            meta.last_modified = *time;
        }
        meta
    }
}

/// The store as the process under test sees it.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    pub(crate) contents: Arc<Contents>,
    pub(crate) world: Arc<World>,
    pub(crate) chance: Arc<Chance>,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) rests: Rests,
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: what.into() }
}

impl FaultyStore {
    /// The way to the store: takes time, may fail, may be the last thing that the process does. `None` when the answer gets lost.
    async fn request(&self, operation: &'static str, path: &Path) -> Result<Fault> {
        let fault = self.chance.fault(operation, path.as_ref());
        if self.world.is_dead() {
            return self.gone().await;
        }
        // A library's thread that asks while the simulated thread waits for it can neither be delayed nor cut off.
        let may_wait = on_simulated_thread() && futures::executor::enter().is_ok();
        if may_wait {
            self.rests.over(&self.world).await;
            self.world.trace(operation, path.as_ref());
            tokio::time::sleep(self.chance.latency(operation, path.as_ref())).await;
            let killed = self.mutation.is_some_and(|mutation| mutation.kills(operation, path));
            if killed && self.chance.coin("killed", path.as_ref()) {
                self.world.die_if_mortal();
            }
            if self.world.step() {
                return self.gone().await;
            }
        }
        self.contents.arrive(self.world.clock.micros()).await;
        if let Fault::Slow(pause) = fault
            && may_wait
        {
            tokio::time::sleep(pause).await;
        }
        if fault == Fault::Before {
            self.world.count("store: failed");
            return Err(failure("the request failed"));
        }
        Ok(fault)
    }

    /// The process is dead: it never gets an answer.
    async fn gone<T>(&self) -> Result<T> {
        if on_simulated_thread() && futures::executor::enter().is_ok() {
            std::future::pending::<()>().await;
        }
        Err(failure("the process is gone"))
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        let fault = self.request(if creates { "create" } else { "put" }, path).await?;
        let payload = match &self.mutation {
            Some(mutation) if creates => mutation.commit(path, payload),
            _ => payload,
        };
        let now = self.world.clock.micros();
        if let Fault::Late(after) = fault {
            self.world.count("store: put arrives after its time-out");
            let due = now + after.as_micros() as i64;
            self.contents.late.lock().unwrap().push(Late { due, path: path.clone(), payload, options });
            return Err(failure("the request timed out"));
        }
        let put = self.contents.put(now, path, payload, options).await?;
        if self.world.step_after() {
            return self.gone().await;
        }
        match fault {
            Fault::After if creates && self.chance.coin("lost conditional put", path.as_ref()) => {
                self.world.count("store: conditional put denies itself");
                Err(Error::AlreadyExists { path: path.to_string(), source: "it was there at the second try".into() })
            }
            Fault::After => {
                self.world.count("store: put timed out after success");
                Err(failure("the request timed out"))
            }
            _ => Ok(put),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "simulated".into() })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.request("get", path).await?;
        if fault == Fault::After {
            self.world.count("store: read broke off");
            return Err(failure("the connection was reset"));
        }
        let mut got = self.contents.inner.get_opts(path, options).await?;
        got.meta = self.contents.dated(got.meta);
        Ok(got)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.request("get", path).await?;
        self.contents.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths
            .and_then(move |path| {
                let store = store.clone();
                async move {
                    store.request("delete", &path).await?;
                    if let Some(bytes) = store.contents.stored(&path) {
                        store.contents.deleted.lock().unwrap().insert(path.clone(), bytes);
                    }
                    let one = futures::stream::iter([Ok(path.clone())]).boxed();
                    store.contents.inner.delete_stream(one).try_collect::<Vec<_>>().await?;
                    store.world.count("store: objects removed");
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix.cloned(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        self.request("folders", &path).await?;
        self.contents.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "simulated".into() })
    }
}

impl FaultyStore {
    /// A listing, which may end in an error after some of its objects.
    fn listed(&self, prefix: Option<Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let listing = async move {
            let path = prefix.clone().unwrap_or_default();
            let fault = store.request("list", &path).await?;
            let inner = &store.contents.inner;
            let listed = match &offset {
                Some(offset) => inner.list_with_offset(prefix.as_ref(), offset),
                None => inner.list(prefix.as_ref()),
            };
            let mut found: Vec<Result<ObjectMeta>> = listed.map_ok(|meta| store.contents.dated(meta)).collect().await;
            if fault == Fault::After {
                store.world.count("store: listing torn");
                found.truncate(found.len() / 2);
                found.push(Err(failure("the listing broke off")));
            }
            Ok::<_, Error>(futures::stream::iter(found))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated store")
    }
}

/// Pauses in the store, for the pair of bounds in milliseconds.
pub(crate) fn millis(bounds: Range<u64>, draw: u64) -> Duration {
    Duration::from_millis(bounds.start + draw % (bounds.end - bounds.start))
}
