//! Tables whose structure is announced: their lake tables are opened, several at a time, or evolve.

use std::sync::Arc;

use change::{Error, Event, Kind, Result, TableName, TableSchema};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use gate::TableGate;

use super::{Gates, Pipeline, Progress};
use crate::workers::{Workers, Writers};

/// Tables that are opened at a time. Opening waits for the store again and again, and a table that has lost its index reads its rows.
const TABLES_AT_ONCE: usize = 16;

/// Tables that are being opened, in the order in which they were announced, and the first event that has to wait for them.
#[derive(Default)]
pub(super) struct Openings {
    running: FuturesOrdered<BoxFuture<'static, Opening>>,
    tables: Vec<TableName>,
    waiting: Option<Event>,
}

/// A table's gate, and its lake tables if they could be opened.
pub(super) struct Opening {
    gate: TableGate,
    writers: Result<Writers>,
}

impl Openings {
    /// The next table; `None` when none is being opened. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Opening> {
        self.running.next().await
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether another event may be looked at.
    pub(super) fn have_room(&self) -> bool {
        self.waiting.is_none() && self.running.len() < TABLES_AT_ONCE
    }

    fn hold(&self, table: &TableName) -> bool {
        self.tables.contains(table)
    }
}

impl Pipeline {
    /// One event, once everything before it is done: other tables may be opened meanwhile, and nothing else.
    pub(super) async fn take_in_turn(&mut self, event: Event, progress: &mut Progress) -> Result<()> {
        let opens = match &event {
            Event::SchemaChanged { schema } => {
                !self.workers.is_open(&schema.table) && !progress.openings.hold(&schema.table)
            }
            _ => false,
        };
        if opens || progress.openings.is_empty() {
            return self.take(event, progress).await;
        }
        progress.openings.waiting = Some(event);
        Ok(())
    }

    /// A table has been opened, or cannot be.
    pub(super) async fn enter(&mut self, Opening { gate, writers }: Opening, progress: &mut Progress) -> Result<()> {
        let table = gate.schema().table.clone();
        progress.openings.tables.retain(|opening| *opening != table);
        let entered = writers.and_then(|writers| self.enter_writers(gate, writers, progress));
        self.hold_table(table, entered, progress)?;
        match progress.openings.waiting.take_if(|_| progress.openings.running.is_empty()) {
            Some(event) => self.take(event, progress).await,
            None => Ok(()),
        }
    }

    fn enter_writers(&mut self, gate: TableGate, writers: Writers, progress: &mut Progress) -> Result<()> {
        let table = gate.schema().table.clone();
        let opened = self.workers.enter(writers);
        if opened.there.iter().any(|layer| !self.known.was_there(&table, *layer)) {
            // Its copy may have a LOW below that of ours, and would need what we confirm before ours has begun.
            let what = format!("{table}: another process made it in the lake while this one started");
            return Err(Error::new(Kind::Unavailable, what).fix("Stop the other Lockgate; it is tried again."));
        }
        // It may have been stopped in a former try.
        self.watch.table(&table, |seen| (seen.stopped, seen.stopped_by) = (None, None));
        self.known.goes_on(&table);
        if opened.uncopied {
            // Its copy may begin after the stream has caught up.
            progress.copies.insert(table.clone(), Workers::LAYERS);
            if opened.unclaimed {
                progress.unclaimed.insert(table.clone());
            }
        } else {
            self.watch.table(&table, |seen| seen.copied = true);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.open_table(&gate, &opened)?;
        }
        progress.gates.insert(table, Gates { newest: gate, copy: None });
        Ok(())
    }

    /// The structure that a table's rows have from here on. The lake tables of one that is new are opened beside what follows.
    pub(super) async fn restructure(&mut self, schema: Arc<TableSchema>, progress: &mut Progress) -> Result<()> {
        let table = schema.table.clone();
        self.commit_before_reshape(&table, progress).await?;
        let reshaped = self.reshape(&schema, progress).await;
        self.hold_table(table, reshaped, progress)
    }

    /// What waits of a table is committed before its structure changes, so that rows wait under one structure only. In the middle of a
    /// transaction that cannot be.
    async fn commit_before_reshape(&mut self, table: &TableName, progress: &mut Progress) -> Result<()> {
        while self.workers.waits(table) && progress.boundary.is_some() {
            if progress.round.is_none() && progress.releases.is_empty() {
                return self.commit(progress).await;
            }
            let report = self.workers.report().await?;
            self.settle(report, progress).await?;
        }
        Ok(())
    }

    async fn reshape(&mut self, schema: &Arc<TableSchema>, progress: &mut Progress) -> Result<()> {
        if progress.stopped.contains_key(&schema.table) {
            return Ok(());
        }
        let gate = self.gate.table(schema)?;
        check_renamed(progress.gates.get(&schema.table).map(|gates| &gates.newest), &gate)?;
        // The source, and each segment of a spool, begin by saying what may be known.
        let changed = progress.gates.get(&schema.table).is_some_and(|gates| !gates.newest.reads(schema));
        let dropped: Vec<String> = gate.dropped().iter().map(|dropped| dropped.name.clone()).collect();
        let absent = gate.absent().to_vec();
        if !dropped.is_empty() {
            let columns = dropped.join(", ");
            tracing::warn!(table = %schema.table, columns, "not stored: no rule of policy.yaml names these columns");
        }
        if !absent.is_empty() {
            let columns = absent.join(", ");
            tracing::warn!(table = %schema.table, columns, "policy.yaml names columns that the source does not have; they are null from here on");
        }
        self.watch.table(&schema.table, |seen| {
            seen.dropped_columns = dropped;
            seen.absent_columns = absent;
            seen.schema_changes += u64::from(changed);
        });
        if self.workers.is_open(&schema.table) {
            self.workers.evolve(&gate).await?;
            progress.gates.insert(schema.table.clone(), Gates { newest: gate, copy: None });
            return Ok(());
        }
        let writers = self.workers.writers(&gate);
        progress.openings.tables.push(schema.table.clone());
        progress.openings.running.push_back(Box::pin(async move { Opening { writers: writers.await, gate } }));
        Ok(())
    }
}

/// Columns that left while others came, none of them named in the policy, were probably renamed: to go on would store null over their
/// values.
pub(crate) fn check_renamed(before: Option<&TableGate>, now: &TableGate) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    now.check_renamed(before)?;
    let left: Vec<&str> =
        now.absent().iter().filter(|column| !before.absent().contains(column)).map(String::as_str).collect();
    let was = before.dropped();
    let came: Vec<&str> = now.dropped().iter().filter(|new| !was.contains(new)).map(|new| new.name.as_str()).collect();
    if left.is_empty() || came.is_empty() {
        return Ok(());
    }
    let what = format!("column {} left and {} came: it looks renamed", left.join(", "), came.join(", "));
    Err(Error::new(Kind::Contract, what).fix(
        "Give the new name its rule in policy.yaml in place of the old one, and take both folders of the table out of the lake, so that it is copied anew.",
    ))
}
