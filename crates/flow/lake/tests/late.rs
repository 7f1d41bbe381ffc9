//! Commits of which nobody hears how they ended, or not in time.

use std::sync::Arc;

use arrow::datatypes::DataType;
use change::{Identity, Kind, Op, Origin};
use lake::{Lake, Layer, Outcome, TableWriter, WriterOptions};

use crate::defects::insert;
use crate::table::{Cell, Door, TestLake, commit_stream, done, keyed, read, row, try_commit_stream};
use crate::tricks::{Trick, TrickyStore};

/// What tells an index from the one that is built anew in its place.
fn seed(local: &TestLake) -> Vec<u8> {
    std::fs::read(local.index().join("blocks")).unwrap()[24..32].to_vec()
}

#[tokio::test]
async fn a_commit_after_which_the_hint_is_read_at_a_later_try_is_made() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    for layer in [Layer::Current, Layer::Changes] {
        let mut writer = lake.writer(&door.schema(), layer, local.options()).await.unwrap();
        writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
        store.loses_hints(2);
        assert_eq!(done(commit_stream(&mut writer, 11).await).rows, 1);
        assert_eq!(read(&lake, layer).await.len(), 1);
    }
}

#[tokio::test]
async fn a_commit_that_was_made_and_not_heard_of_costs_no_index() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let mut writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1), insert(10, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    let before = seed(&local);
    for (lsn, retries, closes) in [(20, 0, false), (30, 1, false), (40, 1, true)] {
        writer.write(&door.batch(Origin::Stream, &[insert(lsn, lsn as i64)])).await.unwrap();
        store.loses_hints(100);
        assert!(matches!(commit_stream(&mut writer, lsn + 1).await, Outcome::Retryable(_)));
        store.loses_hints(0);
        for _ in 0..retries {
            assert_eq!(try_commit_stream(&mut writer, lsn + 1).await.unwrap_err().kind(), Kind::Unavailable);
        }
        if closes {
            writer.close().unwrap()
        } else {
            drop(writer)
        }
        writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
        assert_eq!(seed(&local), before, "the index was built anew");
    }
    // It knows the rows of those commits.
    let rows = [20, 30, 40].map(|id| row(Op::Delete, 50, id as u64, &[Cell::Int(id)]));
    writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
    done(commit_stream(&mut writer, 51).await);
    assert_eq!(read(&lake, Layer::Current).await.len(), 2);
}

#[tokio::test]
async fn a_commit_that_was_not_made_leaves_the_index_as_it_was() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let mut writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    let before = seed(&local);
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    store.plays(0, Trick::Late);
    assert!(matches!(commit_stream(&mut writer, 21).await, Outcome::Retryable(_)));
    drop(writer);
    let mut writer = lake.writer(&door.schema(), Layer::Current, local.options()).await.unwrap();
    assert_eq!(seed(&local), before, "the index was built anew");
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(read(&lake, Layer::Current).await.len(), 2);
}

/// A process of the project folder `folder`, with its own key indexes.
async fn process(lake: &Lake, local: &TestLake, door: &Door, layer: Layer, folder: &str) -> TableWriter {
    let options = WriterOptions::new(local.clock.clone(), local.dir.join(folder), Some("one boot".into()));
    lake.writer(&door.schema(), layer, options.of_folder(folder.into())).await.unwrap()
}

/// One process sends an entry that arrives when the next one has opened the table. What the next one's commit says, and then the table's rows.
async fn overtaken_late(door: &Door, layer: Layer, next: &str) -> (Result<Outcome, Kind>, usize) {
    let (local, store) = (TestLake::new().await, Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let mut gone = process(&lake, &local, door, layer, "one").await;
    gone.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut gone, 11).await);
    gone.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    store.plays(0, Trick::Late);
    assert!(matches!(commit_stream(&mut gone, 21).await, Outcome::Retryable(_)));
    drop(gone);
    let mut writer = process(&lake, &local, door, layer, next).await;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    store.arrive().await;
    let committed = try_commit_stream(&mut writer, 21).await.map_err(|error| error.kind());
    drop(writer);
    let mut writer = process(&lake, &local, door, layer, next).await;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2), insert(30, 3)])).await.unwrap();
    done(commit_stream(&mut writer, 31).await);
    (committed, read(&lake, layer).await.len())
}

#[tokio::test]
async fn a_folder_is_not_fenced_by_its_own_late_commit() {
    let columns = [("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8)];
    let appended = Door::new(&columns, Identity::InsertOnly);
    for (door, layer) in [(keyed(), Layer::Current), (keyed(), Layer::Changes), (appended, Layer::Current)] {
        let (committed, rows) = overtaken_late(&door, layer, "one").await;
        assert_eq!((committed.unwrap_err(), rows), (Kind::Unavailable, 3));
        let (committed, rows) = overtaken_late(&door, layer, "two").await;
        assert!(matches!(committed, Ok(Outcome::Conflicted(_))), "{committed:?}");
        assert_eq!(rows, 3);
    }
}
