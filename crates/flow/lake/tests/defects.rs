//! One test for each way in which the lake could lose, repeat or resurrect rows.

use std::sync::Arc;

use arrow::datatypes::DataType;
use change::{Identity, Kind, Op, Origin, TableCheckpoint};
use lake::{Commit, Doomed, LakeTable, Layer, Outcome};

use crate::table::{
    Cell, Door, START, TestLake, commit_copy, commit_stream, done, keyed, name, position, progress, row, text, through,
    try_commit_stream,
};

pub(crate) fn insert(lsn: u64, id: i64) -> crate::table::Row {
    row(Op::Insert, lsn, 1, &[Cell::Int(id), text("a"), text("b")])
}

#[tokio::test]
async fn rows_outlast_a_write_that_the_store_refused() {
    for layer in [Layer::Current, Layer::Changes] {
        let (lake, door) = (TestLake::new().await, keyed());
        let mut writer = lake.writer(&door, layer).await;
        writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
        let (folder, aside) = (lake.folder(layer), lake.dir.join("aside"));
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::write(&folder, b"in the way").unwrap();
        assert!(matches!(commit_stream(&mut writer, 11).await, Outcome::Retryable(_)));
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        assert_eq!(done(commit_stream(&mut writer, 11).await).rows, 1);
        assert_eq!(lake.read(layer).await.len(), 1);
    }
}

#[tokio::test]
async fn a_deleted_key_stays_deleted_when_index_and_change_log_are_lost_before_its_chunk_comes() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 1, &[], None)).await);
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 10, 1, &[Cell::Int(7)])])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    drop(writer);
    std::fs::remove_dir_all(lake.index()).unwrap();
    let mut writer = lake.writer(&door, Layer::Current).await;
    let copied = [7, 8].map(|id| row(Op::Copy, 1, 0, &[Cell::Int(id), text("a"), text("b")]));
    writer.write(&door.batch(Origin::Copy { chunk: 0 }, &copied)).await.unwrap();
    done(commit_copy(&mut writer, progress(position(1, 0), 1, &[0], None)).await);
    let ids: Vec<String> = lake.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["8"]);
}

#[tokio::test]
async fn the_second_of_two_writers_is_fenced() {
    let (lake, door) = (TestLake::new().await, keyed());
    for layer in [Layer::Current, Layer::Changes] {
        let mut first = lake.writer(&door, layer).await;
        done(commit_stream(&mut first, 5).await);
        let elsewhere = lake::WriterOptions::new(lake.clock.clone(), lake.dir.join("other"), None);
        let mut second = lake.lake.writer(&door.schema(), layer, elsewhere).await.unwrap();
        for writer in [&mut first, &mut second] {
            writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
        }
        done(commit_stream(&mut first, 11).await);
        match commit_stream(&mut second, 11).await {
            Outcome::Conflicted(error) => assert_eq!(error.kind(), Kind::Conflict),
            other => panic!("{other:?}"),
        }
        assert_eq!(lake.read(layer).await.len(), 1);
    }
}

/// A writer of another machine, with its own index.
async fn rival(lake: &TestLake, door: &Door, layer: Layer) -> lake::TableWriter {
    let options = lake::WriterOptions::new(lake.clock.clone(), lake.dir.join("rival"), None);
    lake.lake.writer(&door.schema(), layer, options).await.unwrap()
}

#[tokio::test]
async fn a_writer_that_slept_through_the_end_of_the_history_is_fenced() {
    for layer in [Layer::Current, Layer::Changes] {
        let (lake, door) = (TestLake::new().await, keyed());
        let mut asleep = rival(&lake, &door, layer).await;
        done(commit_copy(&mut asleep, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
        let person = row(Op::Insert, 10, 2, &[Cell::Int(2), text("person"), text("b")]);
        asleep.write(&door.batch(Origin::Stream, &[insert(10, 1), person])).await.unwrap();
        done(commit_stream(&mut asleep, 11).await);
        let doomed = Doomed { columns: vec![("name".into(), false)], values: Arc::new(["person".into()].into()) };
        let erased = lake.lake.erase(&name(), &doomed, &lake.dir.join("index"), START).await.unwrap();
        assert_eq!(erased[&layer].rows, 1);
        let table = LakeTable::new(name(), layer).unwrap();
        lake.lake.purge_history(&table, START).await.unwrap();
        asleep.write(&door.batch(Origin::Stream, &[insert(20, 3)])).await.unwrap();
        match commit_stream(&mut asleep, 21).await {
            Outcome::Conflicted(error) => assert_eq!(error.kind(), Kind::Conflict),
            other => panic!("{other:?}"),
        }
        assert_eq!(lake.read(layer).await.len(), 1);
    }
}

#[tokio::test]
async fn a_writer_that_slept_while_another_cleaned_the_log_is_fenced() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut asleep = rival(&lake, &door, Layer::Current).await;
    asleep.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut asleep, 11).await);
    let mut other = lake.writer(&door, Layer::Current).await;
    for lsn in 2..=55 {
        other.write(&door.batch(Origin::Stream, &[insert(lsn * 10, lsn as i64)])).await.unwrap();
        done(commit_stream(&mut other, lsn * 10 + 1).await);
    }
    other.maintain().await.unwrap();
    let log = lake.folder(Layer::Current).join("_delta_log");
    (0..50).for_each(|version| std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap());
    asleep.write(&door.batch(Origin::Stream, &[insert(20, 100)])).await.unwrap();
    assert!(matches!(commit_stream(&mut asleep, 21).await, Outcome::Conflicted(_)));
    assert_eq!(lake.read(Layer::Current).await.len(), 55);
}

#[tokio::test]
async fn a_foreign_commit_is_survived_by_opening_again() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    let version = done(commit_stream(&mut writer, 11).await).version;
    drop(writer);
    let mut writer = lake.writer(&door, Layer::Current).await;
    let entry = lake.folder(Layer::Current).join(format!("_delta_log/{:020}.json", version + 1));
    std::fs::write(entry, r#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE"}}"#).unwrap();
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    assert_eq!(try_commit_stream(&mut writer, 21).await.unwrap_err().kind(), Kind::Unavailable);
    drop(writer);
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 2);
}

/// Commits as another program does: the table's newest data file under another name, with or without its rows being others.
pub(crate) fn foreign_commit(lake: &TestLake, version: u64, operation: &str, lines: &[String]) {
    let entry = lake.folder(Layer::Current).join(format!("_delta_log/{version:020}.json"));
    let info = format!(r#"{{"commitInfo":{{"timestamp":1,"operation":"{operation}"}}}}"#);
    std::fs::write(entry, [&[info], lines].concat().join("\n")).unwrap();
}

/// The action that added a file in a version, and its path.
pub(crate) fn added(lake: &TestLake, version: u64) -> (serde_json::Value, String) {
    let entry = lake.folder(Layer::Current).join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(entry).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let add = actions.into_iter().find_map(|action| action.get("add").cloned()).unwrap();
    let path = add["path"].as_str().unwrap().to_owned();
    (add, path)
}

pub(crate) fn removed(path: &str, data_change: bool) -> String {
    format!(r#"{{"remove":{{"path":"{path}","deletionTimestamp":1,"dataChange":{data_change}}}}}"#)
}

#[tokio::test]
async fn a_foreign_commit_that_only_arranges_files_is_taken_over() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1), insert(10, 2)])).await.unwrap();
    let version = done(commit_stream(&mut writer, 11).await).version;
    drop(writer);
    let (mut add, path) = added(&lake, version);
    let folder = lake.folder(Layer::Current);
    std::fs::copy(folder.join(&path), folder.join("part-theirs.zstd.parquet")).unwrap();
    (add["path"], add["dataChange"]) = ("part-theirs.zstd.parquet".into(), false.into());
    foreign_commit(
        &lake,
        version + 1,
        "OPTIMIZE",
        &[removed(&path, false), serde_json::json!({ "add": add }).to_string()],
    );
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 20, 1, &[Cell::Int(1)])])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 1);
}

#[tokio::test]
async fn a_foreign_column_behind_ours_moves_none() {
    let wider = Door::new(
        &[("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8), ("more", DataType::Utf8)],
        Identity::Key(vec![0]),
    );
    for layer in [Layer::Current, Layer::Changes] {
        let (lake, door) = (TestLake::new().await, keyed());
        let mut writer = lake.writer(&door, layer).await;
        let version = done(commit_copy(&mut writer, progress(position(1, 0), 2, &[], None)).await).version;
        drop(writer);
        let log = lake.folder(layer).join("_delta_log");
        let first = std::fs::read_to_string(log.join(format!("{:020}.json", 0))).unwrap();
        let metadata = first.lines().find(|line| line.starts_with(r#"{"metaData""#)).unwrap();
        let mut metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
        let mut schema: serde_json::Value =
            serde_json::from_str(metadata["metaData"]["schemaString"].as_str().unwrap()).unwrap();
        let theirs = serde_json::json!({ "name": "theirs", "type": "string", "nullable": true, "metadata": {} });
        schema["fields"].as_array_mut().unwrap().push(theirs);
        metadata["metaData"]["schemaString"] = schema.to_string().into();
        let info = r#"{"commitInfo":{"timestamp":1,"operation":"ADD COLUMN"}}"#;
        std::fs::write(log.join(format!("{:020}.json", version + 1)), format!("{info}\n{metadata}")).unwrap();
        let mut writer = lake.writer(&door, layer).await;
        let copied = [row(Op::Copy, 1, 0, &[Cell::Int(1), text("a"), text("b")])];
        writer.write(&door.batch(Origin::Copy { chunk: 0 }, &copied)).await.unwrap();
        done(commit_copy(&mut writer, progress(position(1, 0), 2, &[0], None)).await);
        writer.evolve(&wider.schema()).await.unwrap();
        let copied = [row(Op::Copy, 1, 0, &[Cell::Int(2), text("a"), text("b"), text("c")])];
        writer.write(&wider.batch(Origin::Copy { chunk: 1 }, &copied)).await.unwrap();
        done(commit_copy(&mut writer, progress(position(1, 0), 2, &[0, 1], Some(position(1, 0)))).await);
        let streamed = [row(Op::Insert, 10, 1, &[Cell::Int(3), text("a"), text("b"), text("c")])];
        writer.write(&wider.batch(Origin::Stream, &streamed)).await.unwrap();
        done(commit_stream(&mut writer, 11).await);
        let rows = lake.read(layer).await;
        let mut more: Vec<&str> = rows.iter().map(|row| row["more"].as_str()).collect();
        more.sort_unstable();
        assert_eq!(more, ["-", "c", "c"]);
        assert!(rows.iter().all(|row| row["theirs"] == "-" && row["_lg_position"] != "-"), "{rows:?}");
        assert!(rows.iter().all(|row| row["name"] == "a" && row["_lg_committed_at"] != "-"), "{rows:?}");
    }
}

#[tokio::test]
async fn a_foreign_change_of_rows_stops_the_table_until_it_is_restored() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    let version = done(commit_stream(&mut writer, 11).await).version;
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    let last = done(commit_stream(&mut writer, 21).await).version;
    // Somebody restores the table to the version before ours while it is being written.
    let (add, path) = added(&lake, last);
    foreign_commit(&lake, last + 1, "RESTORE", &[removed(&path, true)]);
    writer.write(&door.batch(Origin::Stream, &[insert(30, 3)])).await.unwrap();
    assert_eq!(try_commit_stream(&mut writer, 31).await.unwrap_err().kind(), Kind::Unavailable);
    drop(writer);
    let error = lake.open(&door, Layer::Current).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    let said = error.to_string();
    assert!(
        said.contains(&format!("since version {last} (RESTORE)")) && said.contains("Restore the table to version"),
        "{said}"
    );
    assert!(version < last);
    // Its rows are what we wrote again: nothing stands in the way.
    foreign_commit(&lake, last + 2, "RESTORE", &[serde_json::json!({ "add": add }).to_string()]);
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(30, 3)])).await.unwrap();
    done(commit_stream(&mut writer, 31).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 3);
}

#[tokio::test]
async fn nothing_is_committed_over_a_foreign_change_of_rows() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    let checkpoint = TableCheckpoint { stream: through(11), ..writer.checkpoint().clone() };
    let stamp = serde_json::to_value(door.stamp()).unwrap();
    let version = done(writer.commit(Commit { checkpoint, stream: true, copy: false, stamp }).await.unwrap()).version;
    writer.close().unwrap();
    foreign_commit(&lake, version + 1, "DELETE", &[removed(&added(&lake, version).1, true)]);
    let table = LakeTable::new(name(), Layer::Current).unwrap();
    let doomed = Doomed { columns: vec![("name".into(), false)], values: Arc::new(["a".into()].into()) };
    let remasker = crate::staging::policy("id: keep, name: keep", &lake);
    for error in [
        lake.lake.erase(&name(), &doomed, &lake.dir.join("index"), START).await.err(),
        lake.lake.purge_history(&table, START).await.err(),
        lake.lake.stricter(&table, &remasker).await.err(),
    ] {
        let error = error.unwrap();
        assert!(error.kind() == Kind::Conflict && error.to_string().contains("lockgate repair"), "{error}");
    }
    assert_eq!(lake.lake.status(&name(), Layer::Current).await.unwrap().version, version + 1);
}

#[tokio::test]
async fn a_foreign_table_feature_stops_the_table() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    let version = done(commit_stream(&mut writer, 11).await).version;
    drop(writer);
    let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors","domainMetadata","checkConstraints"]}}"#;
    foreign_commit(&lake, version + 1, "ADD CONSTRAINT", &[protocol.to_owned()]);
    let error = lake.open(&door, Layer::Current).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.what().contains("checkConstraints"), "{error}");
}

#[tokio::test]
async fn another_key_stops_the_table() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    drop(writer);
    let other = Door::new(
        &[("id", DataType::Int64), ("name", DataType::Utf8), ("note", DataType::Utf8)],
        Identity::Key(vec![1]),
    );
    let error = lake.open(&other, Layer::Current).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Contract);
    assert!(error.to_string().contains("identified by id and now by name"), "{error}");
}

#[tokio::test]
async fn a_column_of_another_type_stops_the_table() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    let other = Door::new(
        &[("id", DataType::Int64), ("name", DataType::Int64), ("note", DataType::Utf8)],
        Identity::Key(vec![0]),
    );
    let error = writer.evolve(&other.schema()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Contract);
    assert!(error.to_string().contains("`name`"), "{error}");
}

#[tokio::test]
async fn columns_with_dots_are_found_again() {
    let (lake, door) = (
        TestLake::new().await,
        Door::new(&[("a.id", DataType::Int64), ("a.note", DataType::Utf8)], Identity::Key(vec![0])),
    );
    let mut writer = lake.writer(&door, Layer::Current).await;
    writer.write(&door.batch(Origin::Stream, &[row(Op::Insert, 10, 1, &[Cell::Int(1), text("long")])])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    drop(writer);
    std::fs::remove_dir_all(lake.index()).unwrap();
    let mut writer = lake.writer(&door, Layer::Current).await;
    let rows = [row(Op::MoveOut, 20, 1, &[Cell::Int(1)]), row(Op::Insert, 20, 2, &[Cell::Int(2), Cell::Unsent])];
    writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    let rows = lake.read(Layer::Current).await;
    assert_eq!((rows.len(), rows[0]["a.id"].as_str(), rows[0]["a.note"].as_str()), (1, "2", "long"));
}

#[tokio::test]
async fn a_table_that_loses_its_key_stops() {
    for layer in [Layer::Current, Layer::Changes] {
        let (lake, door) = (TestLake::new().await, keyed());
        let mut writer = lake.writer(&door, layer).await;
        writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
        done(commit_stream(&mut writer, 11).await);
        let columns = [("id", DataType::Int64), ("a", DataType::Utf8), ("b", DataType::Utf8)];
        let keyless = Door::new(&columns, Identity::WholeRow);
        let evolved = writer.evolve(&keyless.schema()).await;
        drop(writer);
        let opened = lake.open(&keyless, layer).await.err();
        // The change log takes rows of any identity.
        assert_eq!(evolved.err().map(|error| error.kind()), (layer == Layer::Current).then_some(Kind::Contract));
        assert_eq!(opened.map(|error| error.kind()), (layer == Layer::Current).then_some(Kind::Contract));
    }
}

#[tokio::test]
async fn names_that_delta_cannot_tell_apart_stop_the_table_with_both_names() {
    let lake = TestLake::new().await;
    for (columns, said) in [(["id", "Name", "name"], "`Name` and `name`"), (["id", "a", "_lg_op"], "`_lg_op`")] {
        let columns = columns.map(|name| (name, DataType::Int64));
        let error = lake.open(&Door::new(&columns, Identity::Key(vec![0])), Layer::Current).await.err().unwrap();
        assert!(error.kind() == Kind::Contract && error.what().contains(said), "{error}");
    }
}
