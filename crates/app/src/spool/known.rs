use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capture::postgres::Resume;
use change::{Checkpoint, CopyProgress, Position, TableName};
use lake::Layer;

use crate::records::Records;

/// What a process has learned of the lake's records of a source: enough to follow the source on while the lake is away.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<Learned>>);

#[derive(Default)]
struct Learned {
    /// `None` before the lake was read.
    records: Option<Records>,
    /// Something has become durable in this process.
    let_in: bool,
    /// Tables that have stopped in this process and were not followed again.
    stopped: BTreeSet<TableName>,
}

impl Known {
    /// The records as they were read.
    pub(crate) fn read(&self, records: Records) {
        self.lock().records = Some(records);
    }

    /// Everything at or below is durable in the lake or in the spool.
    pub(crate) fn durable(&self, stream: &Checkpoint) {
        let mut learned = self.lock();
        learned.let_in = true;
        if let Some(Records { common: resume, .. }) = &mut learned.records
            && resume.stream.as_ref().is_none_or(|known| known.through < stream.through)
        {
            resume.stream = Some(stream.clone());
        }
    }

    /// A table is stopped: what it needs is in the source's log.
    pub(crate) fn stops(&self, table: &TableName) {
        self.lock().stopped.insert(table.clone());
    }

    /// A table is followed again.
    pub(crate) fn goes_on(&self, table: &TableName) {
        self.lock().stopped.remove(table);
    }

    /// Whether a table has stopped in this process and was not followed again.
    pub(crate) fn is_stopped(&self, table: &TableName) -> bool {
        self.lock().stopped.contains(table)
    }

    /// Whether something has become durable in this process: source and lake have let it in.
    pub(crate) fn was_let_in(&self) -> bool {
        self.lock().let_in
    }

    /// A first copy is finished.
    pub(crate) fn copied(&self, table: &TableName, copy: &CopyProgress) {
        if let Some(Records { common: resume, .. }) = &mut self.lock().records {
            resume.tables.entry(table.clone()).or_default().copy = Some(copy.clone());
        }
    }

    /// Tables whose records could not be read, and why.
    pub(crate) fn unreadable(&self) -> BTreeMap<TableName, String> {
        self.lock().records.as_ref().map(|records| records.unreadable.clone()).unwrap_or_default()
    }

    /// Whether a lake table was there when the lake's records were read, as far as they were.
    pub(crate) fn was_there(&self, table: &TableName, layer: Layer) -> bool {
        self.lock().records.as_ref().is_none_or(|records| records.there.contains(&(table.clone(), layer)))
    }

    /// What is known now; `None` before the lake was read.
    pub fn resume(&self) -> Option<Resume> {
        self.lock().records.as_ref().map(|records| records.common.clone())
    }

    /// Everything of a table at or below may be in one of its lake tables, or in the spool.
    pub(crate) fn reached(&self, table: &TableName) -> Option<Position> {
        let learned = self.lock();
        let Records { common: resume, reached, .. } = learned.records.as_ref()?;
        reached.get(table).max(resume.stream.as_ref().map(|stream| &stream.through)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
