//! The one way into a lake table.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use change::{Clock, Error, Identity, Position, Result, RowMeta, TableCheckpoint, Timestamp};
use deltalake::logstore::LogStoreRef;
use gate::{ClearedBatch, ClearedSchema};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::changes::{Changes, Waiting};
use crate::copied::{CopiedFiles, CopyArea};
use crate::current::{Current, stream_area};
use crate::encode::Statistics;
use crate::held_bytes::{HeldBytes, HeldTogether};
use crate::index::{BootId, KeyIndex, Shape};
use crate::log::{Committed as Written, TableLog};
use crate::naming::{LakeTable, Layer};
use crate::record::{HeldBack, Record};
use crate::schema::{self, COMMITTED_AT, OP, ORDINAL, TXID};
use crate::stored::StoredRows;
use crate::{area, foreign, rebuild, upkeep};

mod structure;

use structure::{allow, check_key, identity_names};

/// How tables are written.
#[derive(Clone)]
pub struct WriterOptions {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index_dir: PathBuf,
    pub(crate) boot: Option<String>,
    pub(crate) folder: Option<String>,
    /// Rows that other programs have changed are no reason to stop: the writer compares and mends them.
    pub(crate) mends: bool,
}

impl WriterOptions {
    /// `index_dir` is a folder on a local disk for key indexes. `boot` is any text that differs from one boot of the machine to the next
    /// (`/proc/sys/kernel/random/boot_id`): without it an index is built anew at every start.
    pub fn new(clock: Arc<dyn Clock>, index_dir: PathBuf, boot: Option<String>) -> Self {
        Self { clock, index_dir, boot, folder: None, mends: false }
    }

    /// For the processes of one project folder, which `id` tells from all others. They write a table one after the other, each from where the one
    /// before has left it, and so do not fence each other: what one finds committed by another is the last word of one that is gone.
    pub fn of_folder(self, id: String) -> Self {
        Self { folder: Some(id), ..self }
    }

    /// For a writer that compares the table with its source and mends what differs: it takes the rows as other programs have left them.
    pub fn mending(self) -> Self {
        Self { mends: true, ..self }
    }
}

/// What the tables of a lake share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Copied rows, encoded once for both tables of a source table.
    pub(crate) copied: Arc<CopiedFiles>,
    /// Bytes of streamed rows in memory.
    pub(crate) held: Arc<HeldTogether>,
    /// Held by the table whose files are joined.
    pub(crate) upkeep: Arc<Mutex<()>>,
    /// Held by the table whose key index is opened: one that is built anew takes memory.
    pub(crate) rebuild: Arc<Mutex<()>>,
}

impl Shared {
    pub(crate) fn of(root: &LogStoreRef) -> Self {
        let copied = Arc::new(CopiedFiles::new(root.clone()));
        Self { copied, held: Arc::default(), upkeep: Arc::default(), rebuild: Arc::default() }
    }
}

/// What a commit makes durable.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The table's checkpoint with these rows in it.
    pub checkpoint: TableCheckpoint,
    /// Whether the streamed rows that were written are part of it.
    pub stream: bool,
    /// Whether the copied rows that were written are part of it.
    pub copy: bool,
    /// The policy that cleared the rows: kept in the commit for auditors.
    pub stamp: serde_json::Value,
}

/// A commit that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The table's version.
    pub version: u64,
    /// Changes in the commit.
    pub rows: u64,
    /// The newest commit time of the source among them, microseconds since the Unix epoch.
    pub newest: Option<Timestamp>,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Outcome {
    /// Rows and checkpoint are durable.
    Done(Committed),
    /// There was nothing to make durable.
    Nothing,
    /// Another Lockgate owns the table: this one must stop.
    Conflicted(Error),
    /// The store did not take it; the same commit may be tried again.
    Retryable(Error),
}

/// Writes one lake table. Rows are staged by [`TableWriter::write`] and become visible with their checkpoint in one
/// [`TableWriter::commit`].
pub struct TableWriter {
    layers: Layers,
    /// How many rows of the table the project folder holds back, as each commit says.
    held_back: u64,
    /// Another project folder was the last to write rows of the table.
    from_elsewhere: bool,
    /// The key index is damaged or behind: this writer is of no use any more.
    lost: bool,
    options: WriterOptions,
    upkeep: upkeep::State,
}

enum Layers {
    Current(Box<Current>),
    Changes(Box<Changes>),
}

impl TableWriter {
    pub(crate) async fn open(
        store: LogStoreRef,
        schema: &ClearedSchema,
        layer: Layer,
        options: WriterOptions,
        Shared { copied, held, upkeep, rebuild }: Shared,
    ) -> Result<Self> {
        let bytes = HeldBytes::new(held);
        let table = LakeTable::new(schema.table.clone(), layer)?;
        schema::check_names(schema)?;
        let now_ms = options.clock.now() / 1000;
        let writer = Uuid::new_v4().to_string();
        let mut from_elsewhere = false;
        let log = match TableLog::load(&table, &store).await? {
            Some(mut log) => {
                foreign::check(&log, options.mends).await?;
                foreign::check_held_back(&log, options.folder.as_deref(), options.mends)?;
                // The claim is made by the first commit: whoever commits second finds that its version is taken.
                log.record.epoch += 1;
                log.record.writer = writer;
                from_elsewhere = log.record.is_from_elsewhere(options.folder.as_deref());
                log.record.folder = options.folder.clone();
                log
            }
            None => {
                let columns = schema::of(schema, layer);
                let described = schema::creation(&columns, &table, now_ms)?;
                let record = Record { epoch: 1, writer, folder: options.folder.clone(), ..Record::default() };
                TableLog::create(&table, &store, columns, described, record, now_ms).await?
            }
        };
        let held_back = if from_elsewhere { 0 } else { log.record.held_back_rows() };
        let mut statistics = Statistics(vec![COMMITTED_AT.to_owned()]);
        allow(&mut statistics, schema);
        let layers = match layer {
            Layer::Changes => Layers::Changes(Box::new(Changes {
                log,
                statistics: statistics.and(&[TXID, ORDINAL, OP]),
                stream: Waiting::new(bytes),
                copy: CopyArea::new(copied),
            })),
            Layer::Current => {
                let _turn = rebuild.lock().await;
                Layers::Current(Box::new(open_current(log, schema, statistics, &options, (copied, bytes)).await?))
            }
        };
        let upkeep = upkeep::State::new(upkeep);
        let mut opened = Self { layers, held_back, from_elsewhere, lost: false, options, upkeep };
        opened.evolve(schema).await?;
        if let Layers::Current(current) = &mut opened.layers {
            // That was the catalog's structure.
            current.sent.clear();
        }
        Ok(opened)
    }

    fn log(&self) -> &TableLog {
        match &self.layers {
            Layers::Current(current) => &current.log,
            Layers::Changes(changes) => &changes.log,
        }
    }

    fn now_ms(&self) -> i64 {
        self.options.clock.now() / 1000
    }

    /// What the table has made durable of its source.
    pub fn checkpoint(&self) -> &TableCheckpoint {
        &self.log().record.checkpoint
    }

    /// Whether the table was there before it was opened: until this writer's first commit another one may still write it.
    pub fn was_there(&self) -> bool {
        self.log().record.epoch > 1
    }

    /// Whether another project folder was the last to write rows of the table, when it was opened.
    pub fn was_elsewhere(&self) -> bool {
        self.from_elsewhere
    }

    /// How many rows of the table this project folder holds back, as the commits that follow say.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }

    /// So many rows of the table are held back from here on: in no file of the lake, though commits go by them.
    pub fn set_held_back(&mut self, rows: u64) {
        self.held_back = rows;
    }

    /// The stamp of the last commit, as it was handed to it; null before the first.
    pub fn stamp(&self) -> &serde_json::Value {
        &self.log().record.stamp
    }

    /// The table's version.
    pub fn version(&self) -> u64 {
        self.log().version
    }

    /// Stages rows; nobody sees them before the commit. Rows at or below the checkpoint and rows of chunks that are done are passed over.
    ///
    /// # Errors
    /// Those of the store, and `SourceGone` when an update leaves out values of a row that the table does not have.
    pub async fn write(&mut self, batch: &Arc<ClearedBatch>) -> Result<()> {
        self.check_usable()?;
        let now_ms = self.now_ms();
        let written = match &mut self.layers {
            Layers::Current(current) => current.write(batch, now_ms).await,
            Layers::Changes(changes) => changes.write(batch, now_ms).await,
        };
        written.map_err(|error| self.part_with_damage(error))
    }

    /// Stages the removal of rows that this table's current rows have, as the changes of `meta` (one for each row, all of them
    /// [`change::Op::Delete`], above the checkpoint). What has no raw row any more is removed this way: the lake alone knows its key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&mut self, stored: &StoredRows, meta: &RowMeta) -> Result<()> {
        self.check_usable()?;
        let now_ms = self.now_ms();
        let removed = match &mut self.layers {
            Layers::Current(current) => current.remove(stored, meta, now_ms).await,
            Layers::Changes(changes) => changes.remove(stored, meta, now_ms).await,
        };
        removed.map_err(|error| self.part_with_damage(error))
    }

    /// Stages whole rows of the table's change log, above the checkpoint, that its current rows lack. A change log has them by itself.
    ///
    /// # Errors
    /// Those of the store; `Conflict` when the rows are not those of a change log.
    pub async fn replay(&mut self, logged: &StoredRows) -> Result<()> {
        self.check_usable()?;
        let now_ms = self.now_ms();
        match &mut self.layers {
            Layers::Current(current) => {
                let replayed = current.replay(logged, now_ms).await;
                replayed.map_err(|error| self.part_with_damage(error))
            }
            Layers::Changes(_) => Ok(()),
        }
    }

    fn check_usable(&mut self) -> Result<()> {
        if self.lost {
            return Err(index_lost(self.log()));
        }
        let Layers::Current(current) = &mut self.layers else { return Ok(()) };
        if current.stream.torn {
            return Err(area::torn());
        }
        match current.failed.take() {
            Some(error) => {
                let error = self.part_with_damage(error);
                self.lost = true;
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// A damaged key index, or one of another table state, is removed: it is a cache, and the next start builds it anew.
    fn part_with_damage(&mut self, error: Error) -> Error {
        let Layers::Current(current) = &mut self.layers else { return error };
        let damaged = |current: &Current| current.index.as_ref().is_some_and(|(index, _)| index.verify().is_err());
        if !current.stale && (error.kind() != change::Kind::Data || !damaged(current)) {
            return error;
        }
        self.lost = true;
        current.index = None;
        let (path, _) = index_place(&current.log, &self.options);
        match KeyIndex::delete(&path) {
            Ok(()) => index_lost(&current.log).source(error),
            Err(undeleted) => undeleted,
        }
    }

    /// Stages the removal of every row, at `position`; does nothing when the checkpoint is beyond it.
    pub async fn truncate(
        &mut self,
        position: &Position,
        txid: u64,
        ordinal: u64,
        committed_at: Timestamp,
    ) -> Result<()> {
        if self.checkpoint().stream.as_ref().is_some_and(|stream| *position <= stream.through) {
            return Ok(());
        }
        match &mut self.layers {
            Layers::Changes(changes) => changes.truncate(position, txid, ordinal, committed_at),
            Layers::Current(current) => {
                let shape = current.index.as_ref().map(|(index, _)| index.shape());
                let changes = current.stream.changes + 1;
                let bytes = current.stream.empty();
                current.stream = stream_area(shape, &current.scratch, bytes)?;
                current.stream.truncated = true;
                current.stream.changes = changes;
                current.stream.newest = Some(committed_at);
                current.copy = current.copy.emptied();
                current.log.record.truncated = Some(position.clone());
                Ok(())
            }
        }
    }

    /// Makes rows and checkpoint durable in one Delta commit.
    ///
    /// # Errors
    /// What cannot be mended by trying the same commit again.
    pub async fn commit(&mut self, commit: Commit) -> Result<Outcome> {
        self.check_usable()?;
        let now_ms = self.now_ms();
        let before = &self.log().record;
        let said = before.held_back_rows();
        let held_back = match self.options.folder.clone() {
            Some(folder) => Some(HeldBack { folder, rows: self.held_back }),
            None => before.held_back.clone(),
        };
        let same = commit.checkpoint == before.checkpoint && said == self.held_back;
        let record = Record { checkpoint: commit.checkpoint, stamp: commit.stamp, held_back, ..before.clone() };
        let (rows, newest) = self.waiting(commit.copy && !commit.stream);
        if rows == 0 && same {
            return Ok(Outcome::Nothing);
        }
        let copied = commit.copy && !commit.stream;
        let written = match &mut self.layers {
            Layers::Current(current) => current.commit(copied, record, now_ms).await,
            Layers::Changes(changes) => changes.commit(copied, record, now_ms).await,
        };
        match written {
            Ok(Written::Done) => {
                if let Layers::Current(current) = &mut self.layers {
                    let met = current.meet_identity(&self.options).await.err();
                    current.failed = current.failed.take().or(met);
                }
                Ok(Outcome::Done(Committed { version: self.version(), rows, newest }))
            }
            Ok(Written::Fenced(error)) => Ok(Outcome::Conflicted(error)),
            // The index and the list of files are of another version: only a new start makes them right.
            Ok(Written::Foreign(error)) => Err(error),
            Err(error) if error.kind() == change::Kind::Unavailable && !self.is_torn() => Ok(Outcome::Retryable(error)),
            Err(error) => Err(self.part_with_damage(error)),
        }
    }

    fn is_torn(&self) -> bool {
        matches!(&self.layers, Layers::Current(current) if current.stream.torn)
    }

    fn waiting(&self, copied: bool) -> (u64, Option<Timestamp>) {
        match (&self.layers, copied) {
            (Layers::Current(current), false) => (current.stream.changes, current.stream.newest),
            (Layers::Current(current), true) => (current.copy.rows, current.copy.newest),
            (Layers::Changes(changes), false) => (changes.stream.changes, changes.stream.newest),
            (Layers::Changes(changes), true) => (changes.copy.rows, changes.copy.newest),
        }
    }

    /// Whether [`TableWriter::maintain`] should be called after this commit even if something else is waiting.
    pub fn upkeep_presses(&self) -> bool {
        upkeep::presses(self.log(), &self.upkeep)
    }

    /// Does a bounded piece of the upkeep that is due: compaction, log checkpoints, removal of what no version needs. Call it when
    /// nothing else is waiting, and between a commit and the next rows when it presses.
    ///
    /// # Errors
    /// Those of the store. The table is whole whatever fails.
    pub async fn maintain(&mut self) -> Result<()> {
        self.check_usable()?;
        let now = self.options.clock.now();
        let kept = match &mut self.layers {
            Layers::Current(current) => upkeep::current(current, &mut self.upkeep, now).await,
            Layers::Changes(changes) => upkeep::changes(changes, &mut self.upkeep, now).await,
        };
        kept.map_err(|error| self.part_with_damage(error))
    }

    /// Lets go of the table; its index then outlasts a stop of the machine.
    pub fn close(self) -> Result<()> {
        match self.layers {
            Layers::Current(current) => current.index.map_or(Ok(()), |(index, _)| index.close()),
            Layers::Changes(_) => Ok(()),
        }
    }
}

async fn open_current(
    mut log: TableLog,
    schema: &ClearedSchema,
    statistics: Statistics,
    options: &WriterOptions,
    (copied, bytes): (Arc<CopiedFiles>, HeldBytes),
) -> Result<Current> {
    let shape = match &schema.identity {
        Identity::Key(_) => Some(Shape::Unique),
        Identity::WholeRow => Some(Shape::Multiset),
        Identity::InsertOnly => None,
    };
    check_key(&log, schema)?;
    log.record.key = if shape == Some(Shape::Unique) { identity_names(schema) } else { Vec::new() };
    let (path, boot) = index_place(&log, options);
    let index = match shape {
        Some(shape) => {
            // A column that is new is added to the table afterwards, and is null in the rows that are there.
            let names =
                identity_names(schema).into_iter().filter(|name| log.schema.index_of(name).is_ok()).collect::<Vec<_>>();
            Some(rebuild::open(&log, &names, shape, &path, boot).await?)
        }
        None => None,
    };
    let scratch = path.join("scratch");
    let stream = stream_area(shape, &scratch, bytes)?;
    Ok(Current {
        log,
        index,
        statistics,
        scratch,
        stream,
        copy: CopyArea::new(copied),
        vectors: HashMap::new(),
        owed: HashMap::new(),
        identity: BTreeSet::new(),
        sent: BTreeSet::new(),
        behind: false,
        mixed: false,
        stale: false,
        failed: None,
    })
}

/// The folder of a table's key index, and the boot that it is of.
pub(crate) fn index_place(log: &TableLog, options: &WriterOptions) -> (PathBuf, Option<BootId>) {
    (options.index_dir.join(log.table.folders().join("/")), options.boot.as_deref().map(BootId::from_text))
}

fn index_lost(log: &TableLog) -> Error {
    Error::new(
        change::Kind::Unavailable,
        format!("{}: the key index on the local disk was not that of the table and is removed", log.table),
    )
    .fix("Nothing to do: it is built anew. Look at the disk's state if it happens again.")
}
