//! The same on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use change::Kind;

use super::*;
use crate::index::ScratchMap;

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockgate-index-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn index_on_a_real_disk_is_private_locked_and_outlasts_its_process() {
    let folder = Folder::new("whole");
    let path = folder.0.join("deep/members");
    assert!(matches!(KeyIndex::open(&path, TABLE, boot()).unwrap(), Opened::Missing));
    let mut builder = Builder::create(&path, TABLE, Shape::Unique, seed(), boot(), 1).unwrap();
    let file = builder.file_id("a.parquet").unwrap();
    (0..5_000).for_each(|number| builder.push(key(number), row(Place { file, row: number as u32 })).unwrap());
    let mut index = builder.finish(1).unwrap();
    assert_eq!(KeyIndex::open(&path, TABLE, boot()).err().unwrap().kind(), Kind::Unavailable);
    apply(&mut index, 2, &[Change::Put { key: key(5_000), entry: Entry::Tombstone }, Change::Remove { key: key(0) }])
        .unwrap();
    index.close().unwrap();

    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);

    let mut index = ready(KeyIndex::open(&path, TABLE, None).unwrap());
    let found = index.lookup(&[key(5_000), key(0), key(1)]).unwrap();
    assert_eq!(found, [Some(Entry::Tombstone), None, Some(row(Place { file, row: 1 }))]);
    // Enough for several doublings.
    let changes: Vec<Change> = (5_000..40_000)
        .map(|number| Change::Put { key: key(number), entry: row(Place { file, row: number as u32 }) })
        .collect();
    apply(&mut index, 3, &changes).unwrap();
    index.clear_tombstones().unwrap();
    index.verify().unwrap();
    assert_eq!(index.entries(), 39_999);
    drop(index);
    KeyIndex::delete(&path).unwrap();
    KeyIndex::delete(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn rows_are_found_in_files_that_were_written_again() {
    let folder = Folder::new("renamed");
    let path = folder.0.join("members");
    let mut builder = Builder::create(&path, TABLE, Shape::Unique, seed(), boot(), 1).unwrap();
    let files = ["a.parquet", "b.parquet"].map(|path| builder.file_id(path).unwrap());
    (0..2).for_each(|at| builder.push(key(at), row(Place { file: files[at as usize], row: 7 })).unwrap());
    builder.finish(1).unwrap().close().unwrap();
    let mut index = ready(KeyIndex::open(&path, TABLE, None).unwrap());
    index.rename_files([("a.parquet", "c.parquet"), ("nothing.parquet", "d.parquet")]).unwrap();
    index.advance(3).unwrap();
    index.close().unwrap();
    let mut index = ready(KeyIndex::open(&path, TABLE, boot()).unwrap());
    assert_eq!(index.version(), 3);
    let found = index.lookup(&[key(0), key(1)]).unwrap();
    assert_eq!(found, [0, 1].map(|at: usize| Some(row(Place { file: files[at], row: 7 }))));
    assert_eq!(files.map(|file| index.file_path(file)), [Some("c.parquet"), Some("b.parquet")]);
    assert_eq!(["a.parquet", "d.parquet"].map(|path| index.existing_file_id(path)), [None; 2]);
    assert_ne!(index.file_id("a.parquet").unwrap(), files[0], "the number belongs to the new file alone");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = Folder::new("file-in-the-way");
    fs::write(folder.0.join("file"), "x").unwrap();
    let path = folder.0.join("file/index");
    let error = KeyIndex::open(&path, TABLE, boot()).err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.what().contains("file/index") && error.how_to_fix().is_some(), "{error}");
}

#[test]
fn scratch_leaves_nothing_behind() {
    let folder = Folder::new("scratch");
    let path = folder.0.join("commit");
    let mut scratch = ScratchMap::create(&path, 10).unwrap();
    scratch.set(&(0..10_000).map(|number| (key(number), Some(number))).collect::<Vec<_>>()).unwrap();
    assert_eq!(scratch.get(&[key(9_999), key(10_000)]).unwrap(), [Some(9_999), None]);
    let names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["lock"]);
}
