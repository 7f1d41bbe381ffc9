//! A table's Delta log: its files and our record, kept in memory and moved on by our own commits.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use change::{Error, Kind, Result};
use deltalake::DeltaTable;
use deltalake::errors::DeltaResult;
use deltalake::kernel::transaction::TransactionError;
use deltalake::kernel::{Action, Add, DomainMetadata, LogicalFileView, Metadata, Protocol, Remove, Transaction};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use uuid::Uuid;

use crate::failure::Explain;
use crate::naming::LakeTable;
use crate::offload;
use crate::record::{DOMAIN, Record};

/// Where the version of the newest log checkpoint stands.
const HINT: &str = "_delta_log/_last_checkpoint";
/// Before a commit is given up whose entry stands and of which one more thing is to be read, it is read again after these.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// A data file of the table's current version.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    pub(crate) add: Add,
    /// Rows in the file, deleted ones counted.
    pub(crate) rows: u64,
}

impl DataFile {
    /// Rows that are not deleted.
    pub(crate) fn live(&self) -> u64 {
        let gone = self.add.deletion_vector.as_ref().map_or(0, |vector| vector.cardinality);
        self.rows.saturating_sub(u64::try_from(gone).unwrap_or_default())
    }
}

/// One version of one table.
pub(crate) struct TableLog {
    pub(crate) table: LakeTable,
    pub(crate) store: LogStoreRef,
    pub(crate) version: u64,
    pub(crate) id: Uuid,
    pub(crate) schema: SchemaRef,
    pub(crate) files: BTreeMap<String, DataFile>,
    pub(crate) record: Record,
    pub(crate) metadata: Metadata,
    pub(crate) protocol: Protocol,
    /// The commit that was tried last, when nobody has heard how that ended.
    doubtful: Option<u128>,
}

/// How a commit ended.
pub(crate) enum Committed {
    Done,
    /// Another process of ours has the table now.
    Fenced(Error),
    /// Something else made the version that we wanted.
    Foreign(Error),
}

impl TableLog {
    /// Reads the table's newest version; `None` when there is no table.
    pub(crate) async fn load(table: &LakeTable, store: &LogStoreRef) -> Result<Option<Self>> {
        let doing = || format!("{table}: cannot read the Delta log");
        if !store.is_delta_table_location().await.explain(doing)? {
            return Ok(None);
        }
        let mut delta = DeltaTable::new(store.clone());
        offload::outside(delta.load()).await.explain(doing)?;
        let state = delta.snapshot().explain(doing)?;
        let record = match record_at(state.version(), store).await.explain(doing)? {
            Some(record) => record,
            None => {
                let text = state.snapshot().domain_metadata(store.as_ref(), DOMAIN);
                read_record(table, offload::outside(text).await.explain(doing)?.as_deref())?
            }
        };
        let file = |add: Add| {
            let rows = add.stats.as_deref().and_then(rows_of).ok_or_else(|| {
                Error::new(
                    Kind::Conflict,
                    format!("{table}: a data file was added by something else, without its number of rows"),
                )
                .fix("Restore the table to the last version that Lockgate wrote.")
            })?;
            Ok((add.path.clone(), DataFile { add, rows }))
        };
        let files = state.log_data().iter().map(|view| file(add_of(&view))).collect::<Result<_>>()?;
        let id = Uuid::parse_str(state.metadata().id()).unwrap_or_default();
        Ok(Some(Self {
            table: table.clone(),
            store: store.clone(),
            version: state.version(),
            id,
            schema: state.snapshot().arrow_schema(),
            files,
            record,
            metadata: state.metadata().clone(),
            protocol: state.protocol().clone(),
            doubtful: None,
        }))
    }

    /// The record of the table's newest version; `None` when there is no table. A newest commit of ours says it by itself, so that the
    /// rest of the log need not be read.
    pub(crate) async fn newest_record(table: &LakeTable, store: &LogStoreRef) -> Result<Option<Record>> {
        let doing = || format!("{table}: cannot read the Delta log");
        let newest = newest_file(&store.object_store(None)).await.explain(doing)?;
        // A version whose last file is no commit has been cleaned up to a checkpoint.
        if let Some(version) = newest.and_then(|name| name.strip_suffix(".json")?.parse().ok())
            && let Some(record) = record_at(version, store).await.explain(doing)?
        {
            return Ok(Some(record));
        }
        Ok(Self::load(table, store).await?.map(|log| log.record))
    }

    /// Commits `actions` with `record` as the next version and moves this log there.
    ///
    /// # Errors
    /// `Unavailable`, `Full` or `Auth` when the store did not take it; the table is unchanged then.
    pub(crate) async fn commit(
        &mut self,
        operation: &str,
        actions: Vec<Action>,
        mut record: Record,
        now_ms: i64,
    ) -> Result<Committed> {
        record.sequence = self.record.sequence + 1;
        record.commit = Uuid::new_v4().as_u128();
        self.commit_as(operation, actions, record, now_ms).await
    }

    /// As [`TableLog::commit`], with sequence and commit id as they stand in `record`.
    pub(crate) async fn commit_as(
        &mut self,
        operation: &str,
        actions: Vec<Action>,
        record: Record,
        now_ms: i64,
    ) -> Result<Committed> {
        let bytes = self.entry(operation, &actions, &record, now_ms)?;
        let version = self.version + 1;
        self.doubtful = Some(record.commit);
        let stands = write_entry(&self.table, &self.store, version, bytes).await? && !self.is_past(version).await?;
        self.doubtful = None;
        if !stands {
            return Ok(self.overtaken(version).await);
        }
        self.version = version;
        self.record = record;
        for action in actions {
            match action {
                Action::Remove(remove) => drop(self.files.remove(&remove.path)),
                Action::Metadata(metadata) => self.metadata = metadata,
                Action::Protocol(protocol) => self.protocol = protocol,
                _ => {}
            }
        }
        Ok(Committed::Done)
    }

    /// Whether the try before, of which nobody has heard how it ended, was taken after all. Then the table is to be opened again: what waits
    /// may have grown since. Ask before the key index is prepared for another try, which would forget the step of that one.
    pub(crate) async fn taken_after_all(&mut self) -> Result<Option<Committed>> {
        let Some(commit) = self.doubtful else { return Ok(None) };
        let version = self.version + 1;
        let there = record_at(version, &self.store).await;
        let there = there.explain(|| format!("{}: cannot read commit {version}", self.table))?;
        Ok(there.filter(|record| record.commit == commit).map(|_| Committed::Foreign(self.taken(version))))
    }

    /// Adds come back into the log after removes of the same path, which a new deletion vector makes.
    pub(crate) fn add_files(&mut self, adds: impl IntoIterator<Item = Add>) {
        for add in adds {
            let rows = add.stats.as_deref().and_then(rows_of).unwrap_or_default();
            self.files.insert(add.path.clone(), DataFile { add, rows });
        }
    }

    fn entry(&self, operation: &str, actions: &[Action], record: &Record, now_ms: i64) -> Result<Bytes> {
        let bug = |error: serde_json::Error| {
            Error::new(Kind::Bug, format!("{}: a commit is not JSON", self.table)).source(error)
        };
        let record_text = serde_json::to_string(record).map_err(bug)?;
        let info = serde_json::json!({ "commitInfo": {
            "timestamp": now_ms,
            "operation": operation,
            "operationParameters": {},
            "isBlindAppend": false,
            "engineInfo": concat!("lockgate/", env!("CARGO_PKG_VERSION")),
            "lockgate": record,
        }});
        let fixed = [
            Action::Txn(Transaction::new_with_last_update(DOMAIN, record.sequence, Some(now_ms))),
            Action::DomainMetadata(DomainMetadata {
                domain: DOMAIN.into(),
                configuration: record_text,
                removed: false,
            }),
        ];
        let mut text = serde_json::to_string(&info).map_err(bug)?;
        for action in fixed.iter().chain(actions) {
            text.push('\n');
            text += &serde_json::to_string(action).map_err(bug)?;
        }
        Ok(Bytes::from(text))
    }

    /// The version of the newest log checkpoint, as the hint says; 0 when there is none.
    pub(crate) async fn last_checkpoint(&self) -> Result<u64> {
        let found = hint(&self.store.object_store(None)).await;
        Ok(found.explain(|| format!("{}: cannot read {HINT}", self.table))?.unwrap_or_default())
    }

    /// Whether the entry of a version that we have just put stands where nobody reads: the end of a history and the cleaning of a log make the
    /// names of entries free again, for a process that has not seen it. The hint comes before anything is removed, and a log checkpoint of
    /// ours is of a version that was there.
    async fn is_past(&self, version: u64) -> Result<bool> {
        let mut pauses = PAUSES.into_iter();
        loop {
            match (self.last_checkpoint().await, pauses.next()) {
                (Err(error), Some(pause)) if error.kind() == Kind::Unavailable => tokio::time::sleep(pause).await,
                (read, _) => return Ok(read? >= version),
            }
        }
    }

    async fn overtaken(&self, version: u64) -> Committed {
        let theirs = Self::load(&self.table, &self.store).await;
        match theirs {
            // Our record is still the newest, or a try of ours was taken after all.
            Ok(Some(log)) if log.record.commit == self.record.commit || log.record.writer == self.record.writer => {
                Committed::Foreign(self.taken(version))
            }
            // Of our own folder, which one process at a time follows a source from: one that is gone has said this last, its request arrived late.
            Ok(Some(log)) if self.record.folder.is_some() && log.record.folder == self.record.folder => {
                Committed::Foreign(self.taken(version))
            }
            Ok(_) => Committed::Fenced(
                Error::new(Kind::Conflict, format!("{}: another Lockgate writes this table", self.table))
                    .fix("Stop the other instance, or this one; only one may run for a project."),
            ),
            Err(error) => Committed::Foreign(error),
        }
    }

    fn taken(&self, version: u64) -> Error {
        let what = format!("{}: another program made version {version} of the table", self.table);
        Error::new(Kind::Unavailable, what).fix("Nothing to do: Lockgate reads the table again and goes on.")
    }

    /// The first version of a new table.
    pub(crate) async fn create(
        table: &LakeTable,
        store: &LogStoreRef,
        schema: SchemaRef,
        (metadata, protocol): (Metadata, Protocol),
        record: Record,
        now_ms: i64,
    ) -> Result<Self> {
        let first = vec![Action::Protocol(protocol.clone()), Action::Metadata(metadata.clone())];
        let log = Self {
            table: table.clone(),
            store: store.clone(),
            version: 0,
            id: Uuid::parse_str(metadata.id()).unwrap_or_default(),
            schema,
            files: BTreeMap::new(),
            record,
            metadata,
            protocol,
            doubtful: None,
        };
        let bytes = log.entry("CREATE TABLE", &first, &log.record, now_ms)?;
        if write_entry(table, store, 0, bytes).await? {
            return Ok(log);
        }
        // Or an earlier try of this process, whose request was carried out after all. Two that write find out at their first commits.
        Err(Error::new(Kind::Unavailable, format!("{table}: somebody else made the table at the same time"))
            .fix("Nothing to do: Lockgate reads the table and goes on."))
    }
}

/// Puts the entry of a version into the log; false when it is somebody else's. A put that timed out after it had succeeded is a success.
async fn write_entry(table: &LakeTable, store: &LogStoreRef, version: u64, bytes: Bytes) -> Result<bool> {
    let written = store.write_commit_entry(version, CommitOrBytes::LogBytes(bytes.clone()), Uuid::new_v4()).await;
    let Err(error) = written else { return Ok(true) };
    let doing = || format!("{table}: cannot commit version {version}");
    match (store.read_commit_entry(version).await, error) {
        (Ok(Some(found)), _) => Ok(found == bytes),
        (_, TransactionError::ObjectStore { source }) => Err(source).explain(doing),
        // Some stores deny a put while another one of the same name is under way.
        (Ok(None), TransactionError::VersionAlreadyExists(_)) => {
            let what = format!("{}: somebody writes it at this moment", doing());
            Err(Error::new(Kind::Unavailable, what).fix("Nothing to do: it is tried again."))
        }
        // Whose entry is there cannot be known now: that says nothing about the table.
        (Err(unread), TransactionError::VersionAlreadyExists(_)) => Err(unread).explain(doing),
        (_, error) => Err(error).explain(doing),
    }
}

/// The version of the newest log checkpoint. One that cannot be read is none.
async fn hint(store: &dyn ObjectStore) -> object_store::Result<Option<u64>> {
    let hint = match store.get(&Path::from(HINT)).await {
        Ok(hint) => serde_json::from_slice::<serde_json::Value>(&hint.bytes().await?).ok(),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(hint.and_then(|hint| hint.get("version")?.as_u64()))
}

/// The name of the newest file of a Delta log that stands for a version. What lies before the last checkpoint is not listed: a table with a
/// commit a second has hundreds of thousands of such files.
async fn newest_file(store: &dyn ObjectStore) -> object_store::Result<Option<String>> {
    let from = hint(store).await?.unwrap_or_default();
    let offset = Path::from(format!("_delta_log/{from:020}"));
    let listed = store.list_with_offset(Some(&Path::from("_delta_log")), &offset);
    let name = |file: ObjectMeta| file.location.as_ref().strip_prefix("_delta_log/").map(str::to_owned);
    let names = listed.try_filter_map(|file| std::future::ready(Ok(name(file))));
    let names: Vec<String> = names.try_collect().await?;
    Ok(names.into_iter().filter(|name| name.as_bytes().first().is_some_and(u8::is_ascii_digit)).max())
}

/// What the log says in our domain.
fn read_record(table: &LakeTable, text: Option<&str>) -> Result<Record> {
    let text = text.ok_or_else(|| {
        Error::new(Kind::Conflict, format!("{table}: the table was not made by Lockgate"))
            .fix("Choose another prefix for the lake, or move that table away.")
    })?;
    serde_json::from_str(text).map_err(|_| {
        Error::new(Kind::Data, format!("{table}: the checkpoint in the table cannot be read"))
            .fix("Restore the table to an earlier version, or remove its folder so that it is copied anew.")
    })
}

/// The record in the commit of a version; `None` when the commit is another program's, or has been cleaned up.
async fn record_at(version: u64, store: &LogStoreRef) -> DeltaResult<Option<Record>> {
    Ok(store.read_commit_entry(version).await?.and_then(|entry| record_in(&entry)))
}

fn record_in(entry: &[u8]) -> Option<Record> {
    let lines = entry.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"domainMetadata\""));
    let mut domains = lines.filter_map(|line| match serde_json::from_slice(line) {
        Ok(Action::DomainMetadata(domain)) => Some(domain),
        _ => None,
    });
    let ours = domains.find(|domain| domain.domain == DOMAIN && !domain.removed)?;
    serde_json::from_str(&ours.configuration).ok()
}

/// The action that put a file into the table, as far as Lockgate's tables use it.
pub(crate) fn add_of(view: &LogicalFileView) -> Add {
    Add {
        path: view.path().into_owned(),
        partition_values: view.partition_values_map(),
        size: view.size(),
        modification_time: view.modification_time(),
        data_change: true,
        stats: view.stats(),
        deletion_vector: view.deletion_vector_descriptor(),
        ..Add::default()
    }
}

/// The action that takes a file out of the table.
pub(crate) fn remove(add: &Add, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: add.path.clone(),
        data_change,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values.clone()),
        size: Some(add.size),
        tags: None,
        deletion_vector: add.deletion_vector.clone(),
        base_row_id: None,
        default_row_commit_version: None,
    }
}

fn rows_of(stats: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(stats).ok()?.get("numRecords")?.as_u64()
}
