//! Rows of one person leave both lake tables, and nobody else's do.

use std::sync::Arc;

use change::{Kind, Op, Origin};
use lake::{Doomed, Lake, LakeTable, Layer, Traces};

use crate::table::{
    Cell, Door, START, TestLake, commit_copy, commit_stream, done, keyed, name, position, progress, read, row, text,
};
use crate::tricks::{Trick, TrickyStore};

/// Commits these changes to both tables of a lake, before their first copy is finished and without one after it.
async fn written(lake: &Lake, local: &TestLake, door: &Door, rows: &[crate::table::Row]) {
    for layer in [Layer::Current, Layer::Changes] {
        let mut writer = lake.writer(&door.schema(), layer, local.options()).await.unwrap();
        done(commit_copy(&mut writer, progress(position(1, 0), 1, &[], None)).await);
        writer.write(&door.batch(Origin::Stream, rows)).await.unwrap();
        done(commit_stream(&mut writer, 91).await);
        done(commit_copy(&mut writer, progress(position(1, 0), 1, &[0], Some(position(95, 0)))).await);
        writer.close().unwrap();
    }
}

fn person() -> Doomed {
    Doomed { columns: vec![("name".into(), false)], values: Arc::new(["person".into()].into()) }
}

#[tokio::test]
async fn a_row_that_is_nobodys_any_more_stays() {
    let (local, door) = (TestLake::new().await, keyed());
    let rows = [
        row(Op::Insert, 10, 1, &[Cell::Int(1), text("person"), text("b")]),
        row(Op::Insert, 10, 2, &[Cell::Int(2), text("person"), text("b")]),
        row(Op::Update, 20, 1, &[Cell::Int(1), Cell::Null, text("b")]),
    ];
    written(&local.lake, &local, &door, &rows).await;
    let erased = local.lake.erase(&name(), &person(), &local.dir.join("index"), START).await.unwrap();
    assert!(erased[&Layer::Changes].rows >= 2);
    let ids: Vec<String> = local.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["1"]);
}

#[tokio::test]
async fn a_key_that_stands_alone_goes_although_the_first_try_ended_between_the_tables() {
    let (local, door, store) = (TestLake::new().await, keyed(), Arc::new(TrickyStore::default()));
    let lake = Lake::in_store(store.clone()).unwrap();
    let rows = [
        row(Op::Insert, 10, 1, &[Cell::Int(1), text("person"), text("b")]),
        row(Op::Insert, 10, 2, &[Cell::Int(2), text("other"), text("b")]),
        row(Op::Delete, 20, 1, &[Cell::Int(1)]),
    ];
    written(&lake, &local, &door, &rows).await;
    let index = local.dir.join("index");
    store.plays(1, Trick::Denied);
    assert_eq!(lake.erase(&name(), &person(), &index, START).await.unwrap_err().kind(), Kind::Unavailable);
    lake.erase(&name(), &person(), &index, START).await.unwrap();
    for layer in [Layer::Current, Layer::Changes] {
        lake.purge_history(&LakeTable::new(name(), layer).unwrap(), START).await.unwrap();
        assert_eq!(read(&lake, layer).await.len(), 1);
    }
    let key = Doomed { columns: vec![("id".into(), false)], values: Arc::new(["1".into()].into()) };
    let residue = lake.search(Traces::new(&[], vec![(name(), key)]).unwrap()).await.unwrap();
    assert!(residue.found.is_empty(), "{:?}", residue.found.keys());
}
