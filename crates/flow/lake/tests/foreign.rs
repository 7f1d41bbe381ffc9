//! Another program commits to our tables, cleans their logs and switches on table features.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use change::{Identity, Kind, Origin, TableCheckpoint};
use lake::{Commit, Doomed, LakeTable, Layer};
use serde_json::Value;

use crate::defects::{added, foreign_commit, insert, removed};
use crate::table::{Door, START, TestLake, commit_copy, commit_stream, done, keyed, name, position, progress, through};

/// Makes a log checkpoint of the current table's newest version, as any program may.
async fn checkpoint(lake: &TestLake) {
    let url = url::Url::from_directory_path(lake.folder(Layer::Current)).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    deltalake::protocol::checkpoints::create_checkpoint(&table, None).await.unwrap();
}

/// A current table with one row that nobody writes any more; its version.
async fn with_one_row(lake: &TestLake, door: &Door) -> u64 {
    let mut writer = lake.writer(door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    let version = done(commit_stream(&mut writer, 11).await).version;
    writer.close().unwrap();
    version
}

/// Takes the entries of a log before a version away.
fn clean_before(lake: &TestLake, version: u64) {
    let log = lake.folder(Layer::Current).join("_delta_log");
    (0..version).for_each(|version| std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap());
}

#[tokio::test]
async fn a_log_that_was_cleaned_of_our_last_commit_hides_no_foreign_change() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    let checkpoint_of_ours = TableCheckpoint { stream: through(21), ..writer.checkpoint().clone() };
    let stamp = serde_json::to_value(door.stamp()).unwrap();
    let commit = Commit { checkpoint: checkpoint_of_ours, stream: true, copy: false, stamp };
    let version = done(writer.commit(commit).await.unwrap()).version;
    writer.close().unwrap();
    foreign_commit(&lake, version + 1, "DELETE", &[removed(&added(&lake, version).1, true)]);
    checkpoint(&lake).await;
    clean_before(&lake, version + 1);

    let doomed = Doomed { columns: vec![("name".into(), false)], values: Arc::new(["a".into()].into()) };
    let table = LakeTable::new(name(), Layer::Current).unwrap();
    let remasker = crate::staging::policy("id: keep, name: keep", &lake);
    for error in [
        lake.open(&door, Layer::Current).await.err(),
        lake.lake.erase(&name(), &doomed, &lake.dir.join("index"), START).await.err(),
        lake.lake.purge_history(&table, START).await.err(),
        lake.lake.stricter(&table, &remasker).await.err(),
    ] {
        let (error, said) = error.map(|error| (error.kind(), error.to_string())).unwrap();
        assert_eq!(error, Kind::Conflict, "{said}");
        assert!(said.contains("(DELETE)") && said.contains("lockgate repair --force"), "{said}");
    }
    // Who compares the rows with their source and mends them takes them as they are; what is committed then is ours again.
    let mut writer = lake.lake.writer(&door.schema(), Layer::Current, lake.options().mending()).await.unwrap();
    writer.write(&door.batch(Origin::Stream, &[insert(30, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 31).await);
    drop(writer);
    lake.writer(&door, Layer::Current).await;
    assert_eq!(lake.read(Layer::Current).await.len(), 2);
}

#[tokio::test]
async fn a_log_that_was_cleaned_up_to_our_last_commit_is_no_matter() {
    let (lake, door) = (TestLake::new().await, keyed());
    let version = with_one_row(&lake, &door).await;
    checkpoint(&lake).await;
    clean_before(&lake, version);
    // Behind it another program has only arranged files.
    foreign_commit(&lake, version + 1, "OPTIMIZE", &[]);
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 2);
}

const THEIRS: &str = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","v2Checkpoint"],"writerFeatures":["deletionVectors","domainMetadata","v2Checkpoint","appendOnly"]}}"#;

/// The features of the protocol that an entry of the log says; nothing when it says none.
fn protocol(lake: &TestLake, version: u64) -> Option<(Vec<String>, Vec<String>)> {
    let entry = lake.folder(Layer::Current).join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(entry).unwrap();
    let mut actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let protocol = actions.find_map(|action| action.get("protocol").cloned())?;
    let names = |kind: &str| {
        let mut names: Vec<String> = serde_json::from_value(protocol[kind].clone()).unwrap();
        names.sort_unstable();
        names
    };
    Some((names("readerFeatures"), names("writerFeatures")))
}

#[tokio::test]
async fn features_that_others_have_switched_on_stay_when_a_column_asks_for_more() {
    let (lake, door) = (TestLake::new().await, keyed());
    let version = with_one_row(&lake, &door).await;
    foreign_commit(&lake, version + 1, "SET TBLPROPERTIES", &[THEIRS.to_owned()]);
    let mut writer = lake.writer(&door, Layer::Current).await;
    let columns =
        [("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8), ("more", DataType::Utf8)];
    writer.evolve(&Door::new(&columns, Identity::Key(vec![0])).schema()).await.unwrap();
    assert_eq!(protocol(&lake, version + 2), None, "nothing is asked that is not asked already");
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let wider = Door::new(&[&columns[..], &[("seen", local)]].concat(), Identity::Key(vec![0]));
    writer.evolve(&wider.schema()).await.unwrap();
    let (readers, writers) = protocol(&lake, version + 3).unwrap();
    assert_eq!(readers, ["deletionVectors", "timestampNtz", "v2Checkpoint"]);
    assert_eq!(writers, ["appendOnly", "deletionVectors", "domainMetadata", "timestampNtz", "v2Checkpoint"]);
    drop(writer);
    lake.writer(&wider, Layer::Current).await;
}

#[tokio::test]
async fn a_foreign_feature_that_was_dropped_again_is_no_matter() {
    let (lake, door) = (TestLake::new().await, keyed());
    let version = with_one_row(&lake, &door).await;
    let with = THEIRS.replace("appendOnly", "checkConstraints");
    foreign_commit(&lake, version + 1, "ADD CONSTRAINT", &[with]);
    assert_eq!(lake.open(&door, Layer::Current).await.err().unwrap().kind(), Kind::Conflict);
    foreign_commit(&lake, version + 2, "DROP FEATURE", &[THEIRS.to_owned()]);
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
}

#[tokio::test]
async fn the_end_of_a_history_leaves_no_sidecar_of_a_checkpoint_of_before() {
    let (lake, door) = (TestLake::new().await, keyed());
    with_one_row(&lake, &door).await;
    let sidecars = lake.folder(Layer::Current).join("_delta_log/_sidecars");
    std::fs::create_dir(&sidecars).unwrap();
    std::fs::write(sidecars.join("of-before.parquet"), b"statistics of rows that are gone").unwrap();
    lake.lake.purge_history(&LakeTable::new(name(), Layer::Current).unwrap(), START).await.unwrap();
    assert!(!sidecars.join("of-before.parquet").exists());
    assert_eq!(lake.read(Layer::Current).await.len(), 1);
}
