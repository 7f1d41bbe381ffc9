//! Staged files: of use for the policy and the data files that they were made for, and for six days.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use change::{Op, Origin, TableCheckpoint};
use gate::{Policy, Remasker};
use lake::{Commit, LakeTable, Layer, TableWriter};

use crate::table::{Cell, Door, TestLake, done, keyed, keyed_under, name, row, text, through};

const DAY: i64 = 24 * 3600 * 1_000_000;

pub(crate) fn policy(rules: &str, lake: &TestLake) -> Remasker {
    let text = format!("profile: none\ntables:\n  db.public.t: {{ {rules} }}\n");
    Policy::parse(&text, "policy.yaml").unwrap().remasker(None, None, lake.clock.clone())
}

fn current() -> LakeTable {
    LakeTable::new(name(), Layer::Current).unwrap()
}

async fn commit(writer: &mut TableWriter, door: &Door, lsn: u64, rows: &[(Op, i64)]) {
    let rows: Vec<_> =
        (0..).zip(rows).map(|(at, (op, id))| row(*op, lsn, at, &[Cell::Int(*id), text("n"), text("note")])).collect();
    writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
    let checkpoint = TableCheckpoint { stream: through(lsn), ..writer.checkpoint().clone() };
    let stamp = serde_json::to_value(door.stamp()).unwrap();
    done(writer.commit(Commit { checkpoint, stream: true, copy: false, stamp }).await.unwrap());
}

/// A table of three files.
async fn table() -> (TestLake, Door, TableWriter) {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    for lsn in 1..=3 {
        let first = lsn as i64 * 10;
        commit(&mut writer, &door, lsn, &[(Op::Insert, first), (Op::Insert, first + 1)]).await;
    }
    (lake, door, writer)
}

/// Stages everything that there is; how many files that were.
async fn stage(lake: &TestLake, remasker: &Remasker) -> usize {
    let now = lake.clock.0.load(Ordering::Relaxed);
    let strict = lake.lake.stricter(&current(), remasker).await.unwrap().unwrap();
    let mut staging = lake.lake.staging(&strict, now).await.unwrap();
    let left = staging.left();
    assert!(left.files <= left.files_in_all && (left.files == 0) == (left.bytes == 0));
    while staging.stage_one(now).await.unwrap() {}
    assert_eq!(staging.left().files, 0);
    staging.save().await.unwrap();
    left.files
}

fn data_files(lake: &TestLake) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lake.folder(Layer::Current)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

async fn ids(lake: &TestLake) -> Vec<String> {
    let mut ids: Vec<String> = lake.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn what_is_staged_takes_the_places_at_the_switch_and_the_index_follows() {
    let (lake, door, mut writer) = table().await;
    let remasker = policy("id: keep, name: keep", &lake);
    assert_eq!(stage(&lake, &remasker).await, 3);
    assert_eq!(stage(&lake, &remasker).await, 0, "what is staged stays staged");
    // The writer goes on: a deletion vector on a staged file, and a file that is not staged.
    commit(&mut writer, &door, 4, &[(Op::Delete, 10), (Op::Insert, 40)]).await;
    writer.close().unwrap();
    let strict = lake.lake.stricter(&current(), &remasker).await.unwrap().unwrap();
    let (now, index) = (lake.clock.0.load(Ordering::Relaxed), lake.dir.join("index"));
    let switched = lake.lake.remask(strict, &index, now).await.unwrap();
    assert_eq!((switched.files, switched.staged), (4, 3));
    assert_eq!(switched.at, through(4).map(|at| at.through));
    let past = lake.lake.end_history(&current(), now).await.unwrap().unwrap();
    lake.lake.keep_index(&current(), &switched, &index).await.unwrap();
    let rows = lake.read(Layer::Current).await;
    assert!(rows.iter().all(|row| !row.contains_key("note")), "{rows:?}");
    assert_eq!(ids(&lake).await, ["11", "20", "21", "30", "31", "40"]);
    assert!(lake.lake.stricter(&current(), &remasker).await.unwrap().is_none());

    // A writer opens the table with the index that was kept, and the files of the past go beside it.
    let stricter = keyed_under("id: keep, name: keep");
    let blocks = || std::fs::metadata(lake.index().join("blocks")).unwrap().ino();
    let before = blocks();
    let mut writer = lake.writer(&stricter, Layer::Current).await;
    assert_eq!(blocks(), before, "the index was built anew");
    assert!(past.remove().await.unwrap() >= 4);
    commit(&mut writer, &stricter, 5, &[(Op::Update, 20), (Op::Delete, 31), (Op::Update, 40)]).await;
    writer.close().unwrap();
    assert_eq!(ids(&lake).await, ["11", "20", "21", "30", "40"]);
}

#[tokio::test]
async fn another_policy_age_and_a_discard_leave_no_file_behind() {
    let (lake, _door, writer) = table().await;
    writer.close().unwrap();
    let (first, other) = (policy("id: keep, name: keep", &lake), policy("id: keep", &lake));
    assert_eq!(stage(&lake, &first).await, 3);
    assert_eq!(data_files(&lake).len(), 6);
    assert_eq!(stage(&lake, &other).await, 3, "of another policy nothing is of use");
    assert_eq!(data_files(&lake).len(), 6, "files of the other policy are left");
    lake.clock.0.fetch_add(5 * DAY, Ordering::Relaxed);
    assert_eq!(stage(&lake, &other).await, 0);
    lake.clock.0.fetch_add(2 * DAY, Ordering::Relaxed);
    assert_eq!(stage(&lake, &other).await, 3, "a sweep may take them from now on");
    assert_eq!(data_files(&lake).len(), 6);
    lake.lake.discard_staged(&current()).await.unwrap();
    assert_eq!(data_files(&lake).len(), 3);
    lake.lake.discard_staged(&current()).await.unwrap();
    assert_eq!(ids(&lake).await.len(), 6);
    // An erasure discards them, too, and so does the end of the history.
    stage(&lake, &other).await;
    let doomed = lake::Doomed { columns: vec![("id".into(), false)], values: Arc::new(["10".to_owned()].into()) };
    let now = lake.clock.0.load(Ordering::Relaxed);
    // The first copy of this table is not finished: nothing is taken out, and nothing is left staged.
    lake.lake.erase(&name(), &doomed, &lake.dir.join("index"), now).await.unwrap_err();
    assert_eq!(data_files(&lake).len(), 6, "an erasure that was refused has changed nothing");
    assert_eq!(lake.lake.purge_history(&current(), now).await.unwrap(), 3 + 4);
    assert_eq!(stage(&lake, &other).await, 3);
}
