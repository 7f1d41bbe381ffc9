//! Copied rows are encoded once for both tables of a source table, and streamed ones held in memory for all tables together.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use change::{Op, Origin};
use lake::{Lake, LakeOptions, Layer};

use crate::table::{Cell, Row, TestLake, commit_copy, commit_stream, done, keyed, position, progress, row, text};

fn copied(ids: std::ops::Range<i64>) -> Vec<Row> {
    ids.map(|id| row(Op::Copy, 1, 0, &[Cell::Int(id), text("a"), text("b")])).collect()
}

/// Inodes of the data files below a folder.
pub(crate) fn inodes(folder: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && name != "_delta_log" {
            found.extend(inodes(&path));
        } else if name.ends_with(".parquet") {
            found.push(entry.metadata().unwrap().ino());
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn the_second_table_gets_a_copy_by_the_store() {
    let (lake, door) = (TestLake::new().await, keyed());
    let batches =
        [door.batch(Origin::Copy { chunk: 0 }, &copied(0..3)), door.batch(Origin::Copy { chunk: 0 }, &copied(3..5))];
    for layer in [Layer::Changes, Layer::Current] {
        let mut writer = lake.writer(&door, layer).await;
        for batch in &batches {
            writer.write(batch).await.unwrap();
        }
        done(commit_copy(&mut writer, progress(position(1, 0), 1, &[0], None)).await);
        assert_eq!(lake.read(layer).await.len(), 5);
    }
    let of = |layer| inodes(&lake.folder(layer));
    assert_eq!(of(Layer::Current).len(), 1);
    assert_eq!(of(Layer::Current), of(Layer::Changes));
}

#[tokio::test]
async fn other_rows_are_never_taken_for_the_same() {
    let (lake, door) = (TestLake::new().await, keyed());
    let first = door.batch(Origin::Copy { chunk: 0 }, &copied(0..3));
    let second = door.batch(Origin::Copy { chunk: 0 }, &copied(3..5));
    let mut changes = lake.writer(&door, Layer::Changes).await;
    let mut current = lake.writer(&door, Layer::Current).await;
    changes.write(&first).await.unwrap();
    done(commit_copy(&mut changes, progress(position(1, 0), 2, &[0], None)).await);
    current.write(&first).await.unwrap();
    current.write(&second).await.unwrap();
    done(commit_copy(&mut current, progress(position(1, 0), 2, &[0], None)).await);
    assert_eq!(lake.read(Layer::Changes).await.len(), 3);
    let ids: Vec<String> = lake.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn rows_of_all_tables_together_stay_within_their_memory() {
    let door = keyed();
    let mut lake = TestLake::new().await;
    let fresh = Lake::open(lake.dir.join("lake").to_str().unwrap(), LakeOptions::default()).await.unwrap();
    lake.lake = fresh.holding_at_most(100 << 20, 150 << 10);
    let mut changes = lake.writer(&door, Layer::Changes).await;
    let mut current = lake.writer(&door, Layer::Current).await;
    for round in 1..=2 {
        let insert = |id: i64| row(Op::Insert, round, id as u64, &[Cell::Int(id), text(&"n".repeat(1000)), text("b")]);
        let rows: Vec<Row> = (0..100).map(|id| insert(round as i64 * 1000 + id)).collect();
        let batch = door.batch(Origin::Stream, &rows);
        let files = || [Layer::Changes, Layer::Current].map(|layer| inodes(&lake.folder(layer)).len() as u64);
        changes.write(&batch).await.unwrap();
        assert_eq!(files(), [round - 1, round - 1], "some 100 KB have room");
        // The second table is what makes them too many.
        current.write(&batch).await.unwrap();
        assert_eq!(files(), [round - 1, round]);
        done(commit_stream(&mut changes, round).await);
        done(commit_stream(&mut current, round).await);
        assert_eq!(files(), [round, round]);
    }
}
