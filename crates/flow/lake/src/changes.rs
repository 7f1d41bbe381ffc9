//! The change log: every change once, appended, partitioned by the date of the source's commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Date32Type, Schema, SchemaRef};
use change::{Error, Kind, Origin, Position, Result, RowMeta, Timestamp};
use chrono::{NaiveDate, TimeDelta};
use deltalake::kernel::{Action, Add};
use gate::ClearedBatch;

use crate::area;
use crate::copied::CopyArea;
use crate::encode::{Statistics, fit};
use crate::failure::Explain;
use crate::held_bytes::HeldBytes;
use crate::incoming::{Incoming, dates, removals, take, truncate_row};
use crate::log::{Committed, TableLog, remove};
use crate::naming::Layer;
use crate::record::Record;
use crate::schema::DATE;
use crate::stored::StoredRows;
use crate::widen;

/// Streamed rows that wait for a commit of the log.
pub(crate) struct Waiting {
    held: Vec<RecordBatch>,
    bytes: HeldBytes,
    adds: Vec<Add>,
    pub(crate) changes: u64,
    pub(crate) newest: Option<Timestamp>,
}

/// The change log of a source table.
pub(crate) struct Changes {
    pub(crate) log: TableLog,
    pub(crate) statistics: Statistics,
    pub(crate) stream: Waiting,
    pub(crate) copy: CopyArea,
}

impl Changes {
    /// Whether files wait for their commit.
    pub(crate) fn stages(&self) -> bool {
        !self.stream.adds.is_empty() || !self.copy.staged.is_empty()
    }

    /// Takes in rows; what the table has already is passed over.
    pub(crate) async fn write(&mut self, batch: &Arc<ClearedBatch>, now_ms: i64) -> Result<()> {
        let record = &self.log.record.checkpoint;
        if let Origin::Copy { chunk } = batch.origin() {
            if record.copy.as_ref().is_some_and(|copy| copy.done.contains(chunk)) {
                return Ok(());
            }
            return self.copy.hold(batch, Vec::new(), &self.log, &self.statistics, now_ms).await;
        }
        let after = record.stream.as_ref().map(|stream| &stream.through).filter(|_| batch.origin() == Origin::Stream);
        let Some(incoming) = take(batch, after, &self.log.schema, Layer::Changes)? else { return Ok(()) };
        self.take_in(incoming, now_ms).await
    }

    /// Logs removals of rows that the current table has.
    pub(crate) async fn remove(&mut self, stored: &StoredRows, meta: &RowMeta, now_ms: i64) -> Result<()> {
        let incoming = removals(stored, meta, &self.log.schema, Layer::Changes)?;
        self.take_in(incoming, now_ms).await
    }

    /// Changes that are new to the table.
    async fn take_in(&mut self, incoming: Incoming, now_ms: i64) -> Result<()> {
        self.stream.hold(incoming.rows, incoming.newest);
        if self.stream.bytes.are_too_many() {
            self.stream.flush(&self.log, &self.statistics, now_ms).await?;
        }
        Ok(())
    }

    /// Logs that every row was removed.
    pub(crate) fn truncate(
        &mut self,
        position: &Position,
        txid: u64,
        ordinal: u64,
        committed_at: Timestamp,
    ) -> Result<()> {
        let row = truncate_row(position, txid, ordinal, committed_at, &self.log.schema)?;
        self.stream.hold(row, Some(committed_at));
        Ok(())
    }

    /// Commits the streamed rows (or the copied ones) with `record`.
    pub(crate) async fn commit(&mut self, copied: bool, record: Record, now_ms: i64) -> Result<Committed> {
        let adds: Vec<Add> = if copied {
            self.copy.flush(&self.log, &self.statistics, now_ms).await?;
            self.copy.staged.iter().map(|staged| staged.add.clone()).collect()
        } else {
            self.stream.flush(&self.log, &self.statistics, now_ms).await?;
            self.stream.adds.clone()
        };
        let operation = if copied { "LOCKGATE COPY" } else { "LOCKGATE STREAM" };
        let committed =
            self.log.commit(operation, adds.iter().cloned().map(Action::Add).collect(), record, now_ms).await?;
        if matches!(committed, Committed::Done) {
            self.log.add_files(adds);
            if copied {
                self.copy = self.copy.emptied();
            } else {
                self.stream = Waiting::new(self.stream.bytes.fresh());
            }
        }
        Ok(committed)
    }

    /// Replaces files by one with the same rows, or by none when they had none.
    pub(crate) async fn replace(
        &mut self,
        old: &[Add],
        new: Option<Add>,
        record: Record,
        now_ms: i64,
    ) -> Result<Committed> {
        let mut actions: Vec<Action> = old.iter().map(|add| Action::Remove(remove(add, false, now_ms))).collect();
        actions.extend(new.clone().map(Action::Add));
        let committed = self.log.commit("OPTIMIZE", actions, record, now_ms).await?;
        if matches!(committed, Committed::Done) {
            self.log.add_files(new);
        }
        Ok(committed)
    }
}

impl Waiting {
    pub(crate) fn new(bytes: HeldBytes) -> Self {
        Self { held: Vec::new(), bytes, adds: Vec::new(), changes: 0, newest: None }
    }

    fn hold(&mut self, rows: RecordBatch, newest: Option<Timestamp>) {
        self.changes += rows.num_rows() as u64;
        self.newest = self.newest.max(newest);
        self.bytes.add(rows.get_array_memory_size());
        self.held.push(rows);
    }

    /// Writes the rows in memory to data files. They stay in memory until the store has the files, so that a failed write may be tried
    /// again.
    async fn flush(&mut self, log: &TableLog, statistics: &Statistics, now_ms: i64) -> Result<()> {
        let inner = without_date(&log.schema);
        let mut adds = Vec::new();
        for (day, batches) in by_day(&self.held)? {
            let (folder, partition) = partition(day);
            let batches = batches.iter().map(|rows| fit(&inner, rows)).collect::<Result<Vec<_>>>()?;
            adds.push(area::write(&log.store, &folder, partition, &inner, batches, statistics, now_ms).await?);
        }
        self.adds.extend(adds);
        self.held.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// The folder and the partition values of a day (days since 1970).
pub(crate) fn partition(day: Option<i32>) -> (String, HashMap<String, Option<String>>) {
    let date = day.and_then(|day| {
        let date = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(i64::from(day))?)?;
        Some(date.format("%Y-%m-%d").to_string())
    });
    let folder = format!("{DATE}={}/", date.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__"));
    (folder, HashMap::from([(DATE.to_owned(), date)]))
}

/// The one day (days since 1970) of all these times.
///
/// # Errors
/// `Bug` when they are of two days.
pub(crate) fn day_of(times: &TimestampMicrosecondArray) -> Result<Option<i32>> {
    let days = dates(times);
    let mut days = days.iter();
    let first = days.next().flatten();
    if days.any(|day| day != first) {
        return Err(Error::new(Kind::Bug, "copied rows of one batch were read on two days"));
    }
    Ok(first)
}

/// The columns that stand in the data files: all but the partition's.
pub(crate) fn without_date(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != DATE).cloned().collect();
    Arc::new(Schema::new(fields))
}

fn by_day(held: &[RecordBatch]) -> Result<BTreeMap<Option<i32>, Vec<RecordBatch>>> {
    let mut days: BTreeMap<Option<i32>, Vec<RecordBatch>> = BTreeMap::new();
    for rows in held {
        let Some(column) = rows.column_by_name(DATE) else { continue };
        let dates = column.as_primitive::<Date32Type>();
        let mut found: Vec<Option<i32>> = dates.iter().collect();
        found.dedup();
        found.sort_unstable();
        found.dedup();
        if let [day] = found.as_slice() {
            days.entry(*day).or_default().push(rows.clone());
            continue;
        }
        for day in found {
            let of_day: BooleanArray =
                (0..dates.len()).map(|row| Some(dates.is_valid(row).then(|| dates.value(row)) == day)).collect();
            let part = filter_record_batch(rows, &of_day).explain(|| "cannot split rows by day".into())?;
            days.entry(day).or_default().push(part);
        }
    }
    Ok(days)
}

impl Changes {
    /// Writes what is held in memory to files that nobody sees yet.
    pub(crate) async fn flush_all(&mut self, now_ms: i64) -> Result<()> {
        self.stream.flush(&self.log, &self.statistics, now_ms).await?;
        self.copy.flush(&self.log, &self.statistics, now_ms).await
    }
}

impl Changes {
    /// Goes over to a structure in which a type grew. Rows that wait were written to files before.
    pub(crate) async fn widen(&mut self, columns: SchemaRef, now_ms: i64) -> Result<()> {
        let in_files = without_date(&columns);
        let copied = self.copy.staged.iter_mut().map(|staged| &mut staged.add);
        for add in self.stream.adds.iter_mut().chain(copied) {
            *add = widen::file(&self.log.store, add, &in_files, &self.statistics, now_ms).await?;
        }
        widen::table(&mut self.log, columns, &in_files, &self.statistics, now_ms).await.map(|_| ())
    }
}
