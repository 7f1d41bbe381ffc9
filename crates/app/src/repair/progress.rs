//! What a repair has seen of one table's source, kept in the project folder until the table is done.
//!
//! It says nothing of the lake: whatever is in the lake is read again after a kill, and compared with what was seen. So nothing here can promise
//! rows that are not there, and all of it may be lost. See `docs/adr/0011-repair-by-range.md`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use capture::postgres::Reread;
use change::{CopyProgress, Error, FreshStart, Kind, Result, TableName};
use gate::{TableGate, TableStamp};
use lake::{LakeTable, Layer, StoredTable};
use serde::{Deserialize, Serialize};

use super::Limits;
use super::fingerprint::seed;
use super::runs::Runs;
use crate::turn::unusable;

const FOLDER: &str = "repair";
const BEGUN_FILE: &str = "begun.json";
const SOURCE_FILE: &str = "source";

/// What fingerprints of a table rest upon. Those of another ground mean nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ground {
    /// The release that made them.
    lockgate: String,
    /// Where the new stream begins: nothing was read before.
    start: FreshStart,
    /// How rows are cleared, in whatever year: a row that another year shows otherwise is looked at again, and is equal then.
    stamp: TableStamp,
    /// The columns that come out of the gate, with their types.
    cleared: Vec<(String, String)>,
    /// The columns of the lake's table, with their types.
    stored: Vec<(String, String)>,
    key: Vec<String>,
}

/// How a comparison was begun.
#[derive(Serialize, Deserialize)]
struct Begun {
    ground: Ground,
    seed: u64,
    plan: CopyProgress,
}

/// How far the comparison of one table is.
pub(crate) struct Progress {
    folder: PathBuf,
    begun: Begun,
    /// The rows of the source, by chunk.
    pub(crate) source: Runs,
}

impl Ground {
    /// What a table is compared upon now.
    pub(crate) fn of(start: &FreshStart, stamp: TableStamp, gate: &TableGate, stored: &StoredTable) -> Self {
        let cleared = gate.schema().columns.iter().map(|column| (column.name.clone(), column.data_type.to_string()));
        let fields = stored.columns().fields().iter();
        Self {
            lockgate: env!("CARGO_PKG_VERSION").to_owned(),
            start: start.clone(),
            stamp: TableStamp { processed_in: None, ..stamp },
            cleared: cleared.collect(),
            stored: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
            key: stored.key().to_vec(),
        }
    }
}

impl Progress {
    /// Goes on with a comparison that was begun on the same ground, under its plan; else begins one.
    ///
    /// # Errors
    /// `Full` when the folder cannot be used; those of the source.
    pub(crate) async fn open(
        state_dir: &Path,
        ground: Ground,
        (reader, table): (&Reread, &TableName),
        limits: &Limits,
    ) -> Result<Self> {
        let folder = folder(state_dir, table)?;
        let begun = match read(&folder)? {
            Some(begun) if begun.ground == ground && reader.still_fits(table, &begun.plan).await? => begun,
            _ => {
                remove(&folder)?;
                let plan = reader.plan(table, &ground.start.stream.through, limits.chunk_rows()).await?;
                let begun = Begun { ground, seed: seed()?, plan };
                write(&folder, &begun)?;
                begun
            }
        };
        clear_out(&folder)?;
        let source = Runs::open(&folder.join(SOURCE_FILE), begun.seed)?;
        Ok(Self { folder, begun, source })
    }

    /// The seed of the fingerprints.
    pub(crate) fn seed(&self) -> u64 {
        self.begun.seed
    }

    /// How the source is read.
    pub(crate) fn plan(&self) -> &CopyProgress {
        &self.begun.plan
    }

    /// An empty file for what can be found again.
    pub(crate) fn scratch(&self, name: &str) -> Result<Runs> {
        Runs::create(&self.folder.join(name), self.begun.seed)
    }

    /// The table is done: nothing of the comparison is needed any more.
    pub(crate) fn end(self) -> Result<()> {
        remove(&self.folder)
    }
}

/// Removes what unfinished repairs of any table have seen.
///
/// # Errors
/// `Full` when it cannot be removed.
pub(crate) fn forget_all(state_dir: &Path) -> Result<()> {
    remove(&state_dir.join(FOLDER))
}

/// The same for the tables of the source that `table` is of.
///
/// # Errors
/// `Full` when it cannot be removed.
pub(crate) fn forget_source_of(state_dir: &Path, table: &TableName) -> Result<()> {
    let [source, ..] = LakeTable::new(table.clone(), Layer::Current)?.folders();
    remove(&state_dir.join(FOLDER).join(source))
}

fn folder(state_dir: &Path, table: &TableName) -> Result<PathBuf> {
    let folders = LakeTable::new(table.clone(), Layer::Current)?.folders();
    Ok(state_dir.join(FOLDER).join(folders.join("/")))
}

/// How the comparison in a folder was begun; `None` when none was, or when it cannot be read.
fn read(folder: &Path) -> Result<Option<Begun>> {
    let path = folder.join(BEGUN_FILE);
    match std::fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&path, error)),
    }
}

fn write(folder: &Path, begun: &Begun) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let text = serde_json::to_vec(begun)
        .map_err(|error| Error::new(Kind::Bug, "how a comparison was begun is not JSON").source(error))?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let (path, written) = (folder.join(BEGUN_FILE), folder.join("begun.new"));
    let put = made.and_then(|()| std::fs::write(&written, text)).and_then(|()| std::fs::rename(&written, &path));
    put.map_err(|error| unusable(folder, error))
}

/// Removes what a comparison makes anew whenever it goes on.
fn clear_out(folder: &Path) -> Result<()> {
    let removed = std::fs::read_dir(folder).and_then(|mut files| {
        files.try_for_each(|file| {
            let file = file?;
            let stays = [BEGUN_FILE, SOURCE_FILE].iter().any(|name| file.file_name() == *name);
            if stays { Ok(()) } else { std::fs::remove_file(file.path()) }
        })
    });
    removed.map_err(|error| unusable(folder, error))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(folder, error)),
        _ => Ok(()),
    }
}
