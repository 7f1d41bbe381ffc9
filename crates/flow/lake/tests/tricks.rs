//! An object store that plays tricks when a commit is put.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use change::{Op, Origin};
use futures::stream::BoxStream;
use lake::{Lake, Layer, Outcome};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Notify;

use crate::table::{Cell, TestLake, commit_stream, done, keyed, read, row, text};

#[derive(Clone, Copy)]
pub(crate) enum Trick {
    /// The entry is said to be there, and is not.
    Denied,
    /// The entry is put, and nobody hears of it.
    Unanswered,
    /// The entry arrives when [`TrickyStore::arrive`] is called, and its sender is told that it waited too long.
    Late,
}

#[derive(Default)]
pub(crate) struct TrickyStore {
    inner: InMemory,
    /// For the entry of a log that comes after so many others.
    next: Mutex<Option<(usize, Trick)>>,
    played: Notify,
    /// Listings of whole logs.
    listings: AtomicUsize,
    /// The entry that is late.
    late: Mutex<Option<(Path, PutPayload, PutOptions)>>,
    /// So many reads of the hint to the newest log checkpoint fail from now on.
    hints_lost: AtomicUsize,
}

impl TrickyStore {
    pub(crate) fn plays(&self, after: usize, trick: Trick) {
        *self.next.lock().unwrap() = Some((after, trick));
    }

    /// Lets the late entry arrive.
    pub(crate) async fn arrive(&self) {
        let (path, payload, options) = self.late.lock().unwrap().take().unwrap();
        self.inner.put_opts(&path, payload, options).await.unwrap();
    }

    /// Fails so many reads of the hint to the newest log checkpoint.
    pub(crate) fn loses_hints(&self, times: usize) {
        self.hints_lost.store(times, Ordering::Relaxed);
    }

    fn trick(&self) -> Option<Trick> {
        let mut next = self.next.lock().unwrap();
        let (after, trick) = (*next)?;
        *next = after.checked_sub(1).map(|after| (after, trick));
        (after == 0).then_some(trick)
    }
}

#[async_trait::async_trait]
impl ObjectStore for TrickyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let trick = if options.mode == PutMode::Create { self.trick() } else { None };
        if let Some(Trick::Denied) = trick {
            return Err(Error::AlreadyExists { path: path.to_string(), source: "another put is under way".into() });
        }
        if let Some(Trick::Late) = trick {
            *self.late.lock().unwrap() = Some((path.clone(), payload, options));
            return Err(Error::Generic { store: "tricky", source: "the request timed out".into() });
        }
        let put = self.inner.put_opts(path, payload, options).await;
        if let Some(Trick::Unanswered) = trick {
            self.played.notify_one();
            std::future::pending::<()>().await;
        }
        put
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let lost = |left: usize| left.checked_sub(1);
        if path.filename() == Some("_last_checkpoint")
            && self.hints_lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lost).is_ok()
        {
            return Err(Error::Generic { store: "tricky", source: "the connection was reset".into() });
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let whole_log = prefix.is_some_and(|prefix| prefix.filename() == Some("_delta_log"));
        self.listings.fetch_add(whole_log.into(), Ordering::Relaxed);
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for TrickyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrickyStore")
    }
}

impl fmt::Display for TrickyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that plays tricks")
    }
}

fn insert(lsn: u64, id: i64) -> crate::table::Row {
    row(Op::Insert, lsn, 1, &[Cell::Int(id), text("a"), text("b")])
}

#[tokio::test]
async fn a_version_that_somebody_writes_at_this_moment_is_tried_again() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    for layer in [Layer::Current, Layer::Changes] {
        let mut writer = lake.writer(&door.schema(), layer, local.options()).await.unwrap();
        writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
        store.plays(0, Trick::Denied);
        assert!(matches!(commit_stream(&mut writer, 11).await, Outcome::Retryable(_)));
        assert_eq!(done(commit_stream(&mut writer, 11).await).rows, 1);
        assert_eq!(read(&lake, layer).await.len(), 1);
    }
}

#[tokio::test]
async fn an_index_that_is_damaged_when_its_last_step_is_finished_is_built_anew() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let mut writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1), insert(10, 2)])).await.unwrap();
    store.plays(0, Trick::Unanswered);
    tokio::select! {
        outcome = commit_stream(&mut writer, 11) => panic!("{outcome:?}"),
        () = store.played.notified() => {}
    }
    drop(writer);
    let blocks = local.index().join("blocks");
    let mut bytes = std::fs::read(&blocks).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&blocks, bytes).unwrap();
    let mut writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 20, 1, &[Cell::Int(1)])])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(read(&lake, Layer::Current).await.len(), 1);
}

#[tokio::test]
async fn the_log_is_listed_to_be_cleaned_every_six_hours_and_not_with_every_checkpoint() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let mut writer = lake.writer(&door.schema(), Layer::Changes, local.options()).await.unwrap();
    let before = store.listings.load(Ordering::Relaxed);
    for lsn in 1..=220 {
        if lsn == 160 {
            local.clock.0.fetch_add(7 * 3600 * 1_000_000, Ordering::Relaxed);
        }
        writer.write(&door.batch(Origin::Stream, &[insert(lsn * 10, 1)])).await.unwrap();
        done(commit_stream(&mut writer, lsn * 10 + 5).await);
        writer.maintain().await.unwrap();
    }
    assert_eq!(store.listings.load(Ordering::Relaxed) - before, 2);
}
