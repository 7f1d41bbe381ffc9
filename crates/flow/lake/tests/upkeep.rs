//! Upkeep: log checkpoints keep what Lockgate wrote beside the rows, and nothing that a version needs is removed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use change::{Op, Origin};
use lake::{Layer, TableVersion};

use crate::table::{
    Cell, START, TestLake, commit_copy, commit_stream, done, keyed, name, position, progress, row, text,
};

#[tokio::test]
async fn the_checkpoint_outlasts_the_log_it_was_written_in() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    for lsn in 1..=55_u64 {
        let id = (lsn % 5) as i64;
        writer
            .write(&door.batch(Origin::Stream, &[row(Op::Update, lsn * 10, 1, &[Cell::Int(id), text("a"), text("b")])]))
            .await
            .unwrap();
        done(commit_stream(&mut writer, lsn * 10 + 1).await);
        writer.maintain().await.unwrap();
    }
    let (before, version) = (writer.checkpoint().clone(), writer.version());
    drop(writer);
    let log = lake.folder(Layer::Current).join("_delta_log");
    let hint: serde_json::Value = serde_json::from_slice(&fs::read(log.join("_last_checkpoint")).unwrap()).unwrap();
    let last = hint["version"].as_u64().unwrap();
    assert!(last >= 50, "no checkpoint of the log was made");
    (0..last).for_each(|version| fs::remove_file(log.join(format!("{version:020}.json"))).unwrap());
    let mut writer = lake.writer(&door, Layer::Current).await;
    assert_eq!((writer.checkpoint(), writer.version()), (&before, version));
    assert_eq!(lake.read(Layer::Current).await.len(), 5);
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 900, 1, &[Cell::Int(1)])])).await.unwrap();
    done(commit_stream(&mut writer, 901).await);
    assert_eq!(lake.read(Layer::Current).await.len(), 4);
}

const DAY: i64 = 24 * 3600 * 1_000_000;

/// Sets the time of files that have come since this was last called.
fn age(folder: &Path, micros: i64, known: &mut HashSet<PathBuf>) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(micros as u64);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, micros, known);
        } else if known.insert(path.clone()) {
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
    }
}

#[tokio::test]
async fn versions_within_the_retention_stay_readable_and_older_files_go() {
    let (lake, door) = (TestLake::new().await, keyed());
    let folder = lake.folder(Layer::Current);
    let mut aged = HashSet::new();
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    let rows: Vec<_> =
        (0..4).map(|id| row(Op::Insert, 10, id + 1, &[Cell::Int(id as i64), text("a"), text("b")])).collect();
    writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 20, 1, &[Cell::Int(0)])])).await.unwrap();
    let old = done(commit_stream(&mut writer, 21).await).version;
    age(&folder, START - 1, &mut aged);
    fs::write(folder.join("part-orphan.zstd.parquet"), b"left by a crash").unwrap();
    age(&folder, START - 1, &mut aged);
    let vectors = |folder: &Path| {
        fs::read_dir(folder)
            .unwrap()
            .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".bin"))
            .count()
    };
    lake.clock.0.store(START + 5 * DAY, Ordering::Relaxed);
    writer.write(&door.batch(Origin::Stream, &[row(Op::Delete, 30, 1, &[Cell::Int(1)])])).await.unwrap();
    done(commit_stream(&mut writer, 31).await);
    age(&folder, START + 5 * DAY, &mut aged);
    lake.clock.0.store(START + 9 * DAY, Ordering::Relaxed);
    writer.maintain().await.unwrap();
    assert!(folder.join("part-orphan.zstd.parquet").exists(), "by the store's clock it is not old");
    lake.clock.0.store(START + 16 * DAY, Ordering::Relaxed);
    fs::write(folder.join("part-of-another.zstd.parquet"), b"staged by another process").unwrap();
    age(&folder, START + 9 * DAY, &mut aged);
    writer.maintain().await.unwrap();
    assert!(folder.join("part-of-another.zstd.parquet").exists(), "a clock that is ahead made it old");
    assert_eq!(vectors(&folder), 2, "a version within the retention lost its deletion vector");
    assert!(!folder.join("part-orphan.zstd.parquet").exists());
    lake.lake.table_provider(&name(), Layer::Current, Some(TableVersion::Version(old))).await.unwrap();
    lake.clock.0.store(START + 20 * DAY, Ordering::Relaxed);
    writer
        .write(&door.batch(Origin::Stream, &[row(Op::Insert, 40, 1, &[Cell::Int(9), text("a"), text("b")])]))
        .await
        .unwrap();
    done(commit_stream(&mut writer, 41).await);
    age(&folder, START + 20 * DAY, &mut aged);
    writer.maintain().await.unwrap();
    assert_eq!(vectors(&folder), 1, "a vector that no version needs is still there");
    assert_eq!(lake.read(Layer::Current).await.len(), 3);
}

#[tokio::test]
async fn very_many_old_files_go_in_pieces() {
    let (lake, door) = (TestLake::new().await, keyed());
    let (folder, mut aged) = (lake.folder(Layer::Current), HashSet::new());
    let mut writer = lake.writer(&door, Layer::Current).await;
    let insert = |lsn: u64| row(Op::Insert, lsn, 1, &[Cell::Int(lsn as i64), text("a"), text("b")]);
    writer.write(&door.batch(Origin::Stream, &[insert(10)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    (0..2_100).for_each(|number| fs::write(folder.join(format!("part-{number}.zstd.parquet")), b"").unwrap());
    age(&folder, START - 1, &mut aged);
    lake.clock.0.store(START + 10 * DAY, Ordering::Relaxed);
    writer.write(&door.batch(Origin::Stream, &[insert(20)])).await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    age(&folder, START + 10 * DAY, &mut aged);
    let files = || fs::read_dir(&folder).unwrap().filter(|file| file.as_ref().unwrap().path().is_file()).count();
    for left in [102, 2, 2] {
        writer.maintain().await.unwrap();
        assert_eq!(files(), left);
    }
    assert_eq!(lake.read(Layer::Current).await.len(), 2);
}

#[tokio::test]
async fn a_clock_that_jumps_removes_no_file_that_waits_and_turns_nothing_back() {
    let (lake, door) = (TestLake::new().await, keyed());
    let wider = crate::table::Door::new(
        &[
            ("id", arrow::datatypes::DataType::Int64),
            ("name", arrow::datatypes::DataType::Utf8),
            ("note", arrow::datatypes::DataType::Utf8),
            ("more", arrow::datatypes::DataType::Utf8),
        ],
        change::Identity::Key(vec![0]),
    );
    let mut writer = lake.writer(&door, Layer::Current).await;
    done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
    let insert = |lsn: u64, id: i64| row(Op::Insert, lsn, 1, &[Cell::Int(id), text("a"), text("b")]);
    writer.write(&door.batch(Origin::Stream, &[insert(10, 1)])).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    // Rows of the old structure become a file that waits; then the clock jumps beyond every retention, and upkeep comes by.
    writer.write(&door.batch(Origin::Stream, &[insert(20, 2)])).await.unwrap();
    writer.evolve(&wider.schema()).await.unwrap();
    age(&lake.folder(Layer::Current), START - 1, &mut HashSet::new());
    lake.clock.0.store(START + 30 * DAY, Ordering::Relaxed);
    writer.maintain().await.unwrap();
    done(commit_stream(&mut writer, 21).await);
    // And back, before the table was made: a newer change still wins, and a late one is still passed over.
    lake.clock.0.store(START - 30 * DAY, Ordering::Relaxed);
    writer.write(&wider.batch(Origin::Stream, &[row(Op::Delete, 30, 1, &[Cell::Int(1)])])).await.unwrap();
    done(commit_stream(&mut writer, 31).await);
    writer.maintain().await.unwrap();
    writer.write(&wider.batch(Origin::Stream, &[insert(25, 1)])).await.unwrap();
    drop(writer);
    let writer = lake.writer(&wider, Layer::Current).await;
    let through = writer.checkpoint().stream.as_ref().unwrap().through.clone();
    assert_eq!(through, position(31, 0));
    let ids: Vec<String> = lake.read(Layer::Current).await.into_iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["2"]);
}

#[tokio::test]
async fn files_of_a_first_copy_without_a_live_row_go_when_it_is_finished() {
    let (lake, door) = (TestLake::new().await, keyed());
    let mut writer = lake.writer(&door, Layer::Current).await;
    let copied = [1, 2].map(|id| row(Op::Copy, 1, 0, &[Cell::Int(id), text("a"), text("b")]));
    writer.write(&door.batch(Origin::Copy { chunk: 0 }, &copied)).await.unwrap();
    done(commit_copy(&mut writer, progress(position(1, 0), 1, &[0], None)).await);
    let deletes = [1, 2].map(|id| row(Op::Delete, 10, id as u64, &[Cell::Int(id)]));
    writer.write(&door.batch(Origin::Stream, &deletes)).await.unwrap();
    done(commit_stream(&mut writer, 11).await);
    writer.maintain().await.unwrap();
    let files = async || lake.lake.status(&name(), Layer::Current).await.unwrap().files;
    assert_eq!(files().await, 2, "deleted rows tell which keys must not come back");
    done(commit_copy(&mut writer, progress(position(1, 0), 1, &[0], Some(position(12, 0)))).await);
    writer.maintain().await.unwrap();
    assert_eq!(files().await, 0);
    for (lsn, op) in [(20, Op::Insert), (30, Op::Update), (40, Op::Delete)] {
        writer.write(&door.batch(Origin::Stream, &[row(op, lsn, 1, &[Cell::Int(1), text("a")])])).await.unwrap();
        done(commit_stream(&mut writer, lsn + 1).await);
        assert_eq!(lake.read(Layer::Current).await.len(), usize::from(op != Op::Delete));
    }
}

/// The data files that an index knows, by its list: checksum, length of the path, number, path; no path when the file is gone.
fn indexed(list: &Path) -> HashSet<u32> {
    let (bytes, mut known) = (fs::read(list).unwrap(), HashSet::new());
    let mut rest = bytes.as_slice();
    while let Some((header, tail)) = rest.split_at_checked(12) {
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        match word(4) {
            0 => known.remove(&word(8)),
            _ => known.insert(word(8)),
        };
        rest = &tail[word(4) as usize..];
    }
    known
}

#[tokio::test]
async fn the_index_forgets_files_that_died_without_a_compaction() {
    let whole_row = crate::table::Door::new(
        &[("id", arrow::datatypes::DataType::Int64), ("name", arrow::datatypes::DataType::Utf8)],
        change::Identity::WholeRow,
    );
    for door in [keyed(), whole_row] {
        let lake = TestLake::new().await;
        let mut writer = lake.writer(&door, Layer::Current).await;
        done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
        for lsn in 1..=20_u64 {
            // Each commit takes the row of the one before, and leaves one of its own.
            let cells = [Cell::Int(1), text("a")];
            let mut rows = vec![row(Op::Delete, lsn * 10, 1, &cells), row(Op::Insert, lsn * 10, 2, &cells)];
            rows.drain(..usize::from(lsn == 1));
            writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
            done(commit_stream(&mut writer, lsn * 10 + 5).await);
        }
        assert_eq!(indexed(&lake.index().join("files")).len(), 1);
        writer.close().unwrap();
        let mut writer = lake.writer(&door, Layer::Current).await;
        let delete = row(Op::Delete, 900, 1, &[Cell::Int(1), text("a")]);
        writer.write(&door.batch(Origin::Stream, &[delete])).await.unwrap();
        done(commit_stream(&mut writer, 901).await);
        assert_eq!(lake.read(Layer::Current).await.len(), 0);
        assert_eq!(indexed(&lake.index().join("files")).len(), 0);
    }
}

#[tokio::test]
async fn many_small_commits_leave_few_files() {
    const COMMITS: u64 = 300;
    let (lake, door) = (TestLake::new().await, keyed());
    for layer in [Layer::Current, Layer::Changes] {
        let mut writer = lake.writer(&door, layer).await;
        done(commit_copy(&mut writer, progress(position(1, 0), 0, &[], Some(position(1, 0)))).await);
        let mut files_max = 0;
        for lsn in 1..=COMMITS {
            // Every five seconds a new row, and an old one that changes.
            lake.clock.0.store(START + lsn as i64 * 5_000_000, Ordering::Relaxed);
            let rows = [
                row(Op::Insert, lsn * 10, 1, &[Cell::Int(lsn as i64), text("a"), text("b")]),
                row(Op::Update, lsn * 10, 2, &[Cell::Int((lsn / 2) as i64 + 1), text("c"), text("d")]),
            ];
            writer.write(&door.batch(Origin::Stream, &rows)).await.unwrap();
            done(commit_stream(&mut writer, lsn * 10 + 5).await);
            writer.maintain().await.unwrap();
            if lsn % 10 == 0 {
                files_max = files_max.max(lake.lake.status(&name(), layer).await.unwrap().files);
            }
        }
        assert!(files_max <= 24, "{layer}: {files_max} files");
        let rows = if layer == Layer::Current { COMMITS } else { 2 * COMMITS };
        assert_eq!(lake.read(layer).await.len() as u64, rows);
    }
}
