//! The one way into a lake table.

use std::path::PathBuf;
use std::sync::Arc;

use change::{Clock, Error, Identity, Position, Result, TableCheckpoint, Timestamp};
use deltalake::kernel::Action;
use deltalake::logstore::LogStoreRef;
use gate::{ClearedBatch, ClearedSchema};
use uuid::Uuid;

use crate::changes::{Changes, Waiting};
use crate::current::{Current, copy_area, stream_area};
use crate::encode::Statistics;
use crate::index::{BootId, Shape};
use crate::log::{Committed as Written, TableLog};
use crate::naming::{LakeTable, Layer};
use crate::record::Record;
use crate::schema::{self, COMMITTED_AT, OP, ORDINAL, TXID};
use crate::{rebuild, upkeep};

/// How tables are written.
#[derive(Clone)]
pub struct WriterOptions {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) index_dir: PathBuf,
    pub(crate) boot: Option<String>,
}

impl WriterOptions {
    /// `index_dir` is a folder on a local disk for key indexes. `boot` is any text that differs from one boot of the machine to the next
    /// (`/proc/sys/kernel/random/boot_id`): without it an index is built anew at every start.
    pub fn new(clock: Arc<dyn Clock>, index_dir: PathBuf, boot: Option<String>) -> Self {
        Self { clock, index_dir, boot }
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
    ) -> Result<Self> {
        let table = LakeTable::new(schema.table.clone(), layer)?;
        let now_ms = options.clock.now() / 1000;
        let writer = Uuid::new_v4().to_string();
        let log = match TableLog::load(&table, &store).await? {
            Some(mut log) => {
                // The claim is made by the first commit: whoever commits second finds that its version is taken.
                log.record.epoch += 1;
                log.record.writer = writer;
                log
            }
            None => {
                let columns = schema::of(schema, layer);
                let (actions, metadata) = schema::creation(&columns, &table, now_ms)?;
                let record = Record { epoch: 1, writer, ..Record::default() };
                TableLog::create(&table, &store, columns, actions, metadata, record, now_ms).await?
            }
        };
        let mut statistics = Statistics(vec![COMMITTED_AT.to_owned()]);
        statistics.0.extend(schema.columns.iter().filter(|column| column.statistics).map(|column| column.name.clone()));
        let layers = match layer {
            Layer::Changes => {
                statistics.0.extend([TXID, ORDINAL, OP].map(str::to_owned));
                Layers::Changes(Box::new(Changes {
                    log,
                    statistics,
                    stream: Waiting::default(),
                    copy: Waiting::default(),
                }))
            }
            Layer::Current => Layers::Current(Box::new(open_current(log, schema, statistics, &options).await?)),
        };
        let mut opened = Self { layers, options, upkeep: upkeep::State::default() };
        opened.evolve(schema).await?;
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

    /// The stamp of the last commit, as it was handed to it; null before the first.
    pub fn stamp(&self) -> &serde_json::Value {
        &self.log().record.stamp
    }

    /// The table's version.
    pub fn version(&self) -> u64 {
        self.log().version
    }

    /// Meets the structure of the rows that will follow: new columns are added; a column that is gone stays, null from here on.
    ///
    /// # Errors
    /// `Contract` when a column's type changed in a way that cannot be stored without loss, or the identity is another one.
    pub async fn evolve(&mut self, cleared: &ClearedSchema) -> Result<()> {
        let now_ms = self.now_ms();
        let layer = match self.layers {
            Layers::Current(_) => Layer::Current,
            Layers::Changes(_) => Layer::Changes,
        };
        if let Layers::Current(current) = &self.layers {
            check_identity(current, cleared)?;
        }
        let Some(columns) = schema::evolve(&self.log().schema, cleared, layer)? else { return Ok(()) };
        match &mut self.layers {
            Layers::Current(current) => {
                // Rows that wait have the old structure.
                current.stream.flush(&current.log.store, &current.log.schema, &current.statistics, now_ms).await?;
                current.copy.flush(&current.log.store, &current.log.schema, &current.statistics, now_ms).await?;
                allow(&mut current.statistics, cleared);
                change_schema(&mut current.log, columns, now_ms).await?;
                if let Some((index, identifier)) = &mut current.index {
                    index.advance(current.log.version)?;
                    *identifier =
                        crate::identity::Identifier::new(&current.log.schema, &identity_names(cleared), index.seed())?;
                }
                Ok(())
            }
            Layers::Changes(changes) => {
                changes.flush_all(now_ms).await?;
                allow(&mut changes.statistics, cleared);
                change_schema(&mut changes.log, columns, now_ms).await
            }
        }
    }

    /// Stages rows; nobody sees them before the commit. Rows at or below the checkpoint and rows of chunks that are done are passed over.
    ///
    /// # Errors
    /// Those of the store, and `SourceGone` when an update leaves out values of a row that the table does not have.
    pub async fn write(&mut self, batch: &ClearedBatch) -> Result<()> {
        let now_ms = self.now_ms();
        match &mut self.layers {
            Layers::Current(current) => current.write(batch, now_ms).await,
            Layers::Changes(changes) => changes.write(batch, now_ms).await,
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
                current.stream = crate::area::Area::new(crate::area::Seats::Append, false);
                current.stream = stream_area(shape, &current.scratch)?;
                current.stream.truncated = true;
                current.stream.changes = changes;
                current.stream.newest = Some(committed_at);
                current.copy = copy_area();
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
        let now_ms = self.now_ms();
        let record = Record { checkpoint: commit.checkpoint, stamp: commit.stamp, ..self.log().record.clone() };
        let (rows, newest) = self.waiting(commit.copy && !commit.stream);
        if rows == 0 && record.checkpoint == self.log().record.checkpoint {
            return Ok(Outcome::Nothing);
        }
        let copied = commit.copy && !commit.stream;
        let written = match &mut self.layers {
            Layers::Current(current) => current.commit(copied, record, now_ms).await,
            Layers::Changes(changes) => changes.commit(copied, record, now_ms).await,
        };
        match written {
            Ok(Written::Done) => {
                self.upkeep.committed();
                Ok(Outcome::Done(Committed { version: self.version(), rows, newest }))
            }
            Ok(Written::Fenced(error)) => Ok(Outcome::Conflicted(error)),
            // The index and the list of files are of another version: only a new start makes them right.
            Ok(Written::Foreign(error)) => Err(error),
            Err(error) if error.kind() == change::Kind::Unavailable => Ok(Outcome::Retryable(error)),
            Err(error) => Err(error),
        }
    }

    fn waiting(&self, copied: bool) -> (u64, Option<Timestamp>) {
        match (&self.layers, copied) {
            (Layers::Current(current), false) => (current.stream.changes, current.stream.newest),
            (Layers::Current(current), true) => (current.copy.changes, current.copy.newest),
            (Layers::Changes(changes), false) => (changes.stream.changes, changes.stream.newest),
            (Layers::Changes(changes), true) => (changes.copy.changes, changes.copy.newest),
        }
    }

    /// Does a bounded piece of the upkeep that is due: compaction, log checkpoints, removal of what no version needs. Call it when
    /// nothing else is waiting.
    ///
    /// # Errors
    /// Those of the store. The table is whole whatever fails.
    pub async fn maintain(&mut self) -> Result<()> {
        let now = self.options.clock.now();
        match &mut self.layers {
            Layers::Current(current) => upkeep::current(current, &mut self.upkeep, now).await,
            Layers::Changes(changes) => upkeep::changes(changes, &mut self.upkeep, now).await,
        }
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
    log: TableLog,
    schema: &ClearedSchema,
    statistics: Statistics,
    options: &WriterOptions,
) -> Result<Current> {
    let shape = match &schema.identity {
        Identity::Key(_) => Some(Shape::Unique),
        Identity::WholeRow => Some(Shape::Multiset),
        Identity::InsertOnly => None,
    };
    let folders = log.table.folders().join("/");
    let boot = options.boot.as_deref().map(BootId::from_text);
    let index = match shape {
        Some(shape) => {
            let path = options.index_dir.join(&folders);
            // A whole row is identified by the columns that the table has, so that old rows stay equal to themselves when one is added.
            let names = identity_names(schema);
            let names = names.into_iter().filter(|name| log.schema.index_of(name).is_ok()).collect::<Vec<_>>();
            Some(rebuild::open(&log, &names, shape, &path, boot).await?)
        }
        None => None,
    };
    let scratch = options.index_dir.join(folders).join("scratch");
    let stream = stream_area(shape, &scratch)?;
    Ok(Current { log, index, statistics, scratch, stream, copy: copy_area(), vectors: Default::default() })
}

fn identity_names(schema: &ClearedSchema) -> Vec<String> {
    schema.identity_columns().into_iter().map(|index| schema.columns[index].name.clone()).collect()
}

fn check_identity(current: &Current, cleared: &ClearedSchema) -> Result<()> {
    let Some((index, identifier)) = &current.index else { return Ok(()) };
    let known = identifier.names(&current.log.schema);
    if index.shape() == Shape::Multiset || known == identity_names(cleared) {
        return Ok(());
    }
    Err(Error::new(
        change::Kind::Contract,
        format!(
            "{}: rows were identified by {} and now by {}",
            cleared.table,
            known.join(", "),
            identity_names(cleared).join(", ")
        ),
    )
    .fix("Remove the table's folders from the lake so that it is copied anew under the new key."))
}

fn allow(statistics: &mut Statistics, cleared: &ClearedSchema) {
    for column in cleared.columns.iter().filter(|column| column.statistics) {
        if !statistics.0.contains(&column.name) {
            statistics.0.push(column.name.clone());
        }
    }
}

async fn change_schema(log: &mut TableLog, columns: arrow::datatypes::SchemaRef, now_ms: i64) -> Result<()> {
    let metadata = schema::changed(&log.metadata, &columns, &log.table)?;
    match log.commit("ADD COLUMNS", vec![Action::Metadata(metadata)], log.record.clone(), now_ms).await? {
        Written::Done => {
            log.schema = columns;
            Ok(())
        }
        Written::Fenced(error) | Written::Foreign(error) => Err(error),
    }
}
