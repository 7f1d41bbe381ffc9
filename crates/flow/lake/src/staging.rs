//! The longest part of a remasking, beside whoever writes the table: its data files, which never change, are written again one by one into
//! files that no commit names yet. A journal in the lake says which is whose counterpart, so that a kill costs little.
//!
//! Rows keep their numbers, deleted ones among them: at the switch each counterpart gets the deletion vector that the table has then. Staged
//! files hold nothing that a table under the new policy would not. An erasure, the end of the table's history and another policy throw them
//! away.

use std::collections::BTreeMap;

use change::{Result, Timestamp};
use deltalake::kernel::Add;
use gate::TableStamp;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::changes::without_date;
use crate::encode::fit;
use crate::erase::statistics_of;
use crate::failure::Explain;
use crate::lake::{Lake, objects};
use crate::log::TableLog;
use crate::naming::{LakeTable, Layer};
use crate::press::{Again, again};
use crate::remask::Strict;

/// Where the journals are: not in the tables' folders, so that all are found at once.
const FOLDER: [&str; 2] = ["_lockgate", "staged"];
/// How long a staged file is of use. The sweep takes what no version needs after a week and a day, and so does a `VACUUM` with the usual
/// retention.
const KEPT_MICROS: i64 = 6 * 24 * 3600 * 1_000_000;
/// The journal is written after so many files or bytes: what a kill leaves without a line in it goes with the end of the table's history.
const UNSAVED_FILES: usize = 16;
const UNSAVED_BYTES: u64 = 128 << 20;

/// Which staged file stands for which data file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Journal {
    /// What the commits of these rows will say. Under another one nothing here is of use.
    stamp: TableStamp,
    /// The release that wrote them.
    lockgate: String,
    files: BTreeMap<String, Staged>,
}

#[derive(Serialize, Deserialize)]
struct Staged {
    add: Add,
    at: Timestamp,
}

/// Counterparts of a table's data files that no commit names yet.
pub struct Staging<'a> {
    lake: &'a Lake,
    strict: &'a Strict,
    journal: Journal,
    unsaved_files: usize,
    unsaved_bytes: u64,
}

/// Data files without a counterpart, and all of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Data files that are to be written again.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// All data files of the table.
    pub files_in_all: usize,
}

impl Lake {
    /// What is staged for a table and still of use; the rest is removed. May be called while the table is written.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn staging<'a>(&'a self, strict: &'a Strict, now: Timestamp) -> Result<Staging<'a>> {
        let Strict { log, remask, .. } = strict;
        let new = || Journal { stamp: remask.stamp().clone(), lockgate: version(), files: BTreeMap::new() };
        let mut unsaved_files = 0;
        let mut journal = match self.journal(&log.table).await? {
            Some(journal) if journal.stamp == *remask.stamp() && journal.lockgate == version() => journal,
            Some(void) => {
                self.remove_staged(log, void.files.values()).await?;
                unsaved_files = UNSAVED_FILES;
                new()
            }
            None => new(),
        };
        let of_use = |path: &str, staged: &Staged| log.files.contains_key(path) && now - staged.at < KEPT_MICROS;
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            journal.files.into_iter().partition(|(path, staged)| of_use(path, staged));
        if !gone.is_empty() {
            self.remove_staged(log, gone.values()).await?;
            unsaved_files = UNSAVED_FILES;
        }
        journal.files = kept;
        Ok(Staging { lake: self, strict, journal, unsaved_files, unsaved_bytes: 0 })
    }

    /// Removes everything that is staged for a table.
    ///
    /// # Errors
    /// Those of the store. Doing it again goes on.
    pub async fn discard_staged(&self, table: &LakeTable) -> Result<()> {
        let Some(journal) = self.journal(table).await? else { return Ok(()) };
        if let Some(log) = TableLog::load(table, &self.store(table)?).await? {
            self.remove_staged(&log, journal.files.values()).await?;
        }
        self.forget_staged(table).await
    }

    /// The counterparts that can take the places of a table's files now, by the paths of these.
    pub(crate) async fn staged(&self, strict: &Strict, now: Timestamp) -> Result<BTreeMap<String, Add>> {
        let staging = self.staging(strict, now).await?;
        if staging.journal.files.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Somebody may have cleaned up: what is not there as it was written is written again.
        let there: BTreeMap<String, u64> = objects(&strict.log.store)
            .await?
            .into_iter()
            .map(|object| (object.location.to_string(), object.size))
            .collect();
        let whole = |add: &Add| there.get(&add.path).copied() == u64::try_from(add.size).ok();
        let staged = staging.journal.files.into_iter().map(|(path, staged)| (path, staged.add));
        Ok(staged.filter(|(_, add)| whole(add)).collect())
    }

    /// The staged files are those of the table now, or are gone.
    pub(crate) async fn forget_staged(&self, table: &LakeTable) -> Result<()> {
        self.remove_object(&[FOLDER[0], FOLDER[1], &name_of(table)]).await
    }

    async fn journal(&self, table: &LakeTable) -> Result<Option<Journal>> {
        let path = [FOLDER[0], FOLDER[1], &name_of(table)].join("/");
        let Some(text) = self.object_at(&path).await? else { return Ok(None) };
        match serde_json::from_slice(&text) {
            Ok(journal) => Ok(Some(journal)),
            // Of another release: its files go with the end of the table's history.
            Err(_) => {
                tracing::warn!(%table, "what was staged for the table cannot be read and is made anew");
                Ok(None)
            }
        }
    }

    /// A file that has become part of the table stays, whatever the journal says: a kill may have come before it was removed.
    async fn remove_staged(&self, log: &TableLog, staged: impl Iterator<Item = &Staged>) -> Result<()> {
        for Staged { add, .. } in staged.filter(|staged| !log.files.contains_key(&staged.add.path)) {
            match log.store.object_store(None).delete(&Path::from(add.path.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error).explain(|| format!("cannot remove {}", add.path)),
            }
        }
        Ok(())
    }
}

impl Staging<'_> {
    /// What is left to be staged of the table as it was when it was looked at.
    pub fn left(&self) -> Left {
        let (mut left, files) = (Left::default(), &self.strict.log.files);
        left.files_in_all = files.len();
        for file in files.iter().filter(|(path, _)| !self.journal.files.contains_key(*path)).map(|(_, file)| file) {
            left.files += 1;
            left.bytes += u64::try_from(file.add.size).unwrap_or_default();
        }
        left
    }

    /// Stages one data file more; the largest first, for small ones may be joined meanwhile. Whether there was one.
    ///
    /// # Errors
    /// Those of the store, of keys and vault.
    pub async fn stage_one(&mut self, now: Timestamp) -> Result<bool> {
        let left = self.strict.log.files.values().map(|file| &file.add);
        let left = left.filter(|add| !self.journal.files.contains_key(&add.path));
        let Some(add) = left.max_by_key(|add| add.size) else { return Ok(false) };
        let staged = Staged { add: self.strict.counterpart(add, now / 1000).await?, at: now };
        self.unsaved_files += 1;
        self.unsaved_bytes += u64::try_from(staged.add.size).unwrap_or_default();
        self.journal.files.insert(add.path.clone(), staged);
        if self.unsaved_files >= UNSAVED_FILES || self.unsaved_bytes >= UNSAVED_BYTES {
            self.save().await?;
        }
        Ok(true)
    }

    /// Writes the journal down.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn save(&mut self) -> Result<()> {
        if self.unsaved_files == 0 {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.journal).explain(|| "the journal of staged files is not JSON".into())?;
        self.lake.put_object(&[FOLDER[0], FOLDER[1], &name_of(&self.strict.log.table)], text).await?;
        (self.unsaved_files, self.unsaved_bytes) = (0, 0);
        Ok(())
    }
}

impl Strict {
    /// Writes one data file again as the policy wants it, into a file that no commit names. Row numbers and deletion vector are kept.
    pub(crate) async fn counterpart(&self, add: &Add, now_ms: i64) -> Result<Add> {
        let Self { log, remask, .. } = self;
        let after = remask.schema(&log.schema);
        let [stored, wanted] = [&log.schema, &after].map(|columns| match log.table.layer {
            Layer::Current => columns.clone(),
            Layer::Changes => without_date(columns),
        });
        let names: Vec<&str> = stored.fields().iter().map(|field| field.name().as_str()).collect();
        let mut statistics = statistics_of(add);
        statistics.0.retain(|column| remask.allows_statistics(column, true));
        let more = remask.columns().filter(|column| remask.allows_statistics(column, false)).collect::<Vec<_>>();
        let statistics = statistics.and(&more);
        let target = Again { names: &names, schema: &wanted, statistics: &statistics };
        let become_of = |batch| fit(&wanted, &remask.apply(&fit(&stored, &batch)?)?);
        again(&log.store, add, target, become_of, now_ms).await
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn name_of(table: &LakeTable) -> String {
    format!("{}.json", table.folders().join("."))
}
