//! Stored years in a later year: the table is that which a fresh copy would make, and the stream finds its rows again.

use std::sync::atomic::Ordering;

use arrow::datatypes::DataType;
use change::{Identity, Op, Origin, TableCheckpoint, Timestamp};
use gate::{Policy, Remasker};
use lake::{Commit, LakeTable, Layer};

use crate::table::{Cell, Door, Row, START, TestLake, done, name, position, progress, row, text, through};

const YEAR: i64 = 366 * 24 * 3600 * 1_000_000;
const RULES: &str = "id: keep, seen: date_year, born: dob_generalise";

fn door(identity: Identity, now: Timestamp) -> Door {
    Door::under_at(RULES, &[("id", DataType::Int64), ("seen", DataType::Utf8), ("born", DataType::Utf8)], identity, now)
}

fn people(op: Op, lsn: u64, ids: std::ops::Range<i64>) -> Vec<Row> {
    let cells = |id: i64| [Cell::Int(id), text("2024-02-29"), text(&format!("{}-06-01", 1934 + id))];
    (0..).zip(ids).map(|(at, id)| row(op, lsn, at, &cells(id))).collect()
}

async fn write(lake: &TestLake, layer: Layer, door: &Door, lsn: u64, rows: &[Row]) {
    let mut writer = lake.writer(door, layer).await;
    writer.write(&door.batch(Origin::Stream, rows)).await.unwrap();
    let copy = Some(progress(position(0, 0), 1, &[0], Some(position(0, 0))));
    let checkpoint = TableCheckpoint { stream: through(lsn), copy, ..writer.checkpoint().clone() };
    let stamp = serde_json::to_value(door.stamp()).unwrap();
    done(writer.commit(Commit { checkpoint, stream: true, copy: true, stamp }).await.unwrap());
    writer.close().unwrap();
}

async fn remask(lake: &TestLake, layer: Layer) -> Option<Vec<String>> {
    let text = format!("profile: none\ntables:\n  db.public.t: {{ {RULES} }}\n");
    let remasker: Remasker = Policy::parse(&text, "policy.yaml").unwrap().remasker(None, None, lake.clock.clone());
    let strict = lake.lake.stricter(&LakeTable::new(name(), layer).unwrap(), &remasker).await.unwrap()?;
    let columns = strict.columns();
    lake.lake.remask(strict, &lake.dir.join("index"), lake.clock.0.load(Ordering::Relaxed)).await.unwrap();
    Some(columns)
}

#[tokio::test]
async fn in_a_later_year_a_table_becomes_what_a_fresh_copy_would_be() {
    let (lake, fresh) = (TestLake::new().await, TestLake::new().await);
    let later = door(Identity::Key(vec![0]), START + YEAR);
    for layer in [Layer::Changes, Layer::Current] {
        write(&lake, layer, &door(Identity::Key(vec![0]), START), 1, &people(Op::Insert, 1, 0..6)).await;
        write(&fresh, layer, &later, 1, &people(Op::Insert, 1, 0..6)).await;
    }
    assert_eq!(remask(&lake, Layer::Current).await, None);
    lake.clock.0.fetch_add(YEAR, Ordering::Relaxed);
    for layer in [Layer::Changes, Layer::Current] {
        let there = async |lake: &TestLake| {
            let mut rows = lake.read(layer).await;
            rows.sort_unstable_by(|left, right| left["id"].cmp(&right["id"]));
            rows
        };
        assert_ne!(there(&lake).await, there(&fresh).await);
        assert_eq!(remask(&lake, layer).await.unwrap(), ["born", "seen"]);
        assert_eq!(there(&lake).await, there(&fresh).await);
        assert_eq!(remask(&lake, layer).await, None);
        let status = lake.lake.status(&name(), layer).await.unwrap();
        assert_eq!(status.stamp.unwrap(), *later.stamp());
    }
}

#[tokio::test]
async fn a_table_without_key_finds_its_rows_again_once_it_is_remasked() {
    let lake = TestLake::new().await;
    write(&lake, Layer::Current, &door(Identity::WholeRow, START), 1, &people(Op::Insert, 1, 0..6)).await;
    lake.clock.0.fetch_add(YEAR, Ordering::Relaxed);
    assert!(remask(&lake, Layer::Current).await.is_some());
    // Who was born in 1936 is of the oldest by now, and a delete says so.
    let later = door(Identity::WholeRow, START + YEAR);
    write(&lake, Layer::Current, &later, 2, &people(Op::Delete, 2, 1..4)).await;
    let mut ids: Vec<String> = lake.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["0", "4", "5"]);
}

#[tokio::test]
async fn statistics_of_a_file_that_was_written_again_under_its_deletion_vector_say_that_they_are_wide() {
    let lake = TestLake::new().await;
    let before = door(Identity::Key(vec![0]), START);
    write(&lake, Layer::Current, &before, 1, &people(Op::Insert, 1, 0..6)).await;
    write(&lake, Layer::Current, &before, 2, &people(Op::Delete, 2, 5..6)).await;
    lake.clock.0.fetch_add(YEAR, Ordering::Relaxed);
    assert!(remask(&lake, Layer::Current).await.is_some());
    let log = std::fs::read_dir(lake.folder(Layer::Current).join("_delta_log")).unwrap();
    let newest =
        log.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|of| of == "json")).max();
    let text = std::fs::read_to_string(newest.unwrap()).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let adds: Vec<_> = actions.filter_map(|action| action.get("add").cloned()).collect();
    assert_eq!(adds.len(), 1);
    assert!(adds[0]["deletionVector"].is_object());
    let stats: serde_json::Value = serde_json::from_str(adds[0]["stats"].as_str().unwrap()).unwrap();
    assert_eq!((&stats["tightBounds"], &stats["numRecords"]), (&false.into(), &6.into()));
}
