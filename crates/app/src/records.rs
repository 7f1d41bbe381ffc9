//! What the lake has made durable of a source: from there its next run goes on.

use std::collections::{BTreeMap, BTreeSet};

use capture::postgres::Resume;
use change::{
    Checkpoint, CopyProgress, Error, FreshStart, Kind, Position, RepairMark, Result, TableCheckpoint, TableName,
};
use futures::{StreamExt, TryStreamExt, stream};
use lake::{Lake, LakeTable, Layer};

use crate::error_policy::{Action, table_action};

/// From where a run of a source goes on: what the lake has made durable of it, but for tables that a repair has left behind.
///
/// # Errors
/// Those of the lake; `SourceGone` while a repair is not finished.
pub(crate) async fn resume(lake: &Lake, source: &str) -> Result<Records> {
    let mut records = readable(lake, source).await?;
    match lake.repair_mark(source).await? {
        Some(RepairMark { start: Some(start), finished: true }) => {
            for table in records.common.tables.values_mut().filter(|table| !stands_at(table, &start)) {
                // Its changes in the gap were not found: the source copies it anew.
                table.copy = None;
            }
            Ok(records)
        }
        Some(_) => Err(Error::new(Kind::SourceGone, format!("the repair of {source} is not finished"))
            .fix("Run: lockgate repair. It goes on where it was.")),
        None => Ok(records),
    }
}

/// Readings of the records until the source agrees with them.
const RECORDS_TRIES: u32 = 5;

/// Opens a source where the lake's records end, as [`crate::assemble::Means::open`] says.
pub(crate) async fn open_where_recorded<S, F: Future<Output = Result<S>>>(
    lake: &Lake,
    source: &str,
    open: impl Fn(Records) -> F,
) -> Result<S> {
    let mut recorded = resume(lake, source).await?;
    for _ in 0..RECORDS_TRIES {
        match open(recorded.clone()).await {
            Err(error) if error.kind() == Kind::SourceGone => {
                let now = resume(lake, source).await?;
                if now == recorded {
                    return Err(error);
                }
                recorded = now;
            }
            opened => return opened,
        }
    }
    Err(Error::new(Kind::Unavailable, format!("{source}: another process writes what it brings into the lake"))
        .fix("Stop the other Lockgate; this one goes on when it has ended."))
}

/// Whether a table was repaired since the stream began anew, or copied.
pub(crate) fn stands_at(table: &TableCheckpoint, start: &FreshStart) -> bool {
    let streamed = table.stream.as_ref().is_some_and(|stream| stream.through >= start.stream.through);
    streamed || table.copy.as_ref().is_some_and(|copy| copy.low >= start.stream.through)
}

/// Tables whose records are read at a time: each is a few short requests to the store.
const RECORDS_AT_ONCE: usize = 16;

/// What the lake has made durable of a source.
#[derive(Clone, PartialEq)]
pub(crate) struct Records {
    /// What both lake tables of each table have.
    pub(crate) common: Resume,
    /// How far the stream has come into the one that is further.
    pub(crate) reached: BTreeMap<TableName, Position>,
    /// Tables whose records cannot be read, and why: only they stop.
    pub(crate) unreadable: BTreeMap<TableName, String>,
    /// The lake tables that were there.
    pub(crate) there: BTreeSet<(TableName, Layer)>,
}

/// Reads what the lake has made durable of a source, of every table.
///
/// # Errors
/// Those of the lake; `Data` when a table's records cannot be read.
pub(crate) async fn recorded(lake: &Lake, source: &str) -> Result<Records> {
    let records = readable(lake, source).await?;
    match records.unreadable.values().next() {
        Some(why) => Err(Error::new(Kind::Data, why)),
        None => Ok(records),
    }
}

/// Reads what the lake has made durable of a source, of the tables whose records can be read.
async fn readable(lake: &Lake, source: &str) -> Result<Records> {
    let mut unreadable = BTreeMap::new();
    let mut layers: BTreeMap<TableName, Vec<(Layer, TableCheckpoint)>> = BTreeMap::new();
    let tables: Vec<LakeTable> = lake.tables().await?.into_iter().filter(|table| table.name.source == source).collect();
    let there = tables.iter().map(|table| (table.name.clone(), table.layer)).collect();
    let read = |table: LakeTable| async move {
        match lake.checkpoint(&table.name, table.layer).await {
            Err(error) if table_action(error.kind()) != Action::StopTable => Err(error),
            checkpoint => Ok((table, checkpoint)),
        }
    };
    let mut reading = stream::iter(tables.into_iter().map(read)).buffered(RECORDS_AT_ONCE);
    while let Some((table, checkpoint)) = reading.try_next().await? {
        match checkpoint {
            Ok(Some(checkpoint)) => layers.entry(table.name).or_default().push((table.layer, checkpoint)),
            Ok(None) => {}
            Err(error) => drop(unreadable.insert(table.name, format!("{}: {error}", table.layer))),
        }
    }
    layers.retain(|table, _| !unreadable.contains_key(table));
    let through = |(_, checkpoint): &(Layer, TableCheckpoint)| Some(checkpoint.stream.as_ref()?.through.clone());
    let furthest =
        |(table, layers): (&TableName, &Vec<_>)| Some((table.clone(), layers.iter().filter_map(through).max()?));
    let reached: BTreeMap<TableName, Position> = layers.iter().filter_map(furthest).collect();
    let tables = layers.into_iter().filter_map(|(table, layers)| Some((table, common(&layers)?))).collect();
    let common =
        Resume { tables, stream: lake.stream_checkpoint(source).await?, reached: reached.values().max().cloned() };
    Ok(Records { common, reached, unreadable, there })
}

/// What both layers of a table have: the lower boundary, and the chunks that are done in both. A table of which one layer is missing
/// begins again; the other layer drops what it has already.
fn common(layers: &[(Layer, TableCheckpoint)]) -> Option<TableCheckpoint> {
    let [(_, first), (_, second)] = layers else { return None };
    let stream = lower(first.stream.as_ref(), second.stream.as_ref());
    let copy = match (&first.copy, &second.copy) {
        (Some(first), Some(second)) => Some(both(first, second)),
        (Some(only), None) | (None, Some(only)) => {
            Some(CopyProgress { done: Default::default(), finished: None, ..only.clone() })
        }
        (None, None) => None,
    };
    Some(TableCheckpoint { stream, copy, released: first.released.min(second.released) })
}

fn lower(first: Option<&Checkpoint>, second: Option<&Checkpoint>) -> Option<Checkpoint> {
    let (first, second) = (first?, second?);
    Some(if first.through <= second.through { first.clone() } else { second.clone() })
}

fn both(first: &CopyProgress, second: &CopyProgress) -> CopyProgress {
    if (&first.low, &first.plan) != (&second.low, &second.plan) {
        // One layer has begun anew and the other was not told: chunks of two plans have nothing in common.
        let newer = if first.low >= second.low { first } else { second };
        return CopyProgress { done: change::ChunkSet::default(), finished: None, ..newer.clone() };
    }
    let mut done = change::ChunkSet::default();
    for chunk in (0..first.chunks).filter(|chunk| first.done.contains(*chunk) && second.done.contains(*chunk)) {
        done.insert(chunk);
    }
    let finished = first.finished.clone().zip(second.finished.clone()).map(|(first, second)| first.max(second));
    CopyProgress { done, finished, ..first.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn checkpoint(through: u8, done: &[u32]) -> TableCheckpoint {
        let position = Position::from_bytes(&[through]);
        let mut copy = CopyProgress {
            low: Position::default(),
            plan: "p".into(),
            chunks: 4,
            done: Default::default(),
            finished: None,
        };
        done.iter().for_each(|chunk| copy.done.insert(*chunk));
        TableCheckpoint {
            stream: Some(Checkpoint { stream: "s".into(), through: position, identity: "i".into() }),
            copy: Some(copy),
            released: 0,
        }
    }

    #[test]
    fn a_table_resumes_from_what_both_of_its_layers_have() {
        let mut layers = [(Layer::Current, checkpoint(3, &[0, 1, 3])), (Layer::Changes, checkpoint(5, &[1, 2, 3]))];
        (layers[0].1.released, layers[1].1.released) = (8, 6);
        let common = common(&layers).unwrap();
        assert_eq!(common.released, 6);
        assert_eq!(common.stream.unwrap().through, Position::from_bytes(&[3]));
        let copy = common.copy.unwrap();
        assert_eq!((0..4).filter(|chunk| copy.done.contains(*chunk)).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn chunks_of_two_plans_have_nothing_in_common() {
        let (mut anew, before) = (checkpoint(3, &[0]), checkpoint(3, &[0, 1, 2, 3]));
        let copy = anew.copy.as_mut().unwrap();
        (copy.plan, copy.low) = ("q".into(), Position::from_bytes(&[2]));
        for layers in [[anew.clone(), before.clone()], [before, anew]] {
            let [current, changes] = layers;
            let copy = common(&[(Layer::Current, current), (Layer::Changes, changes)]).unwrap().copy.unwrap();
            assert_eq!((copy.plan.as_str(), copy.done.is_empty(), copy.finished), ("q", true, None));
        }
    }

    #[tokio::test]
    async fn a_record_that_was_made_while_the_source_was_opened_is_read_before_it_counts_as_gone() {
        let lake = Arc::new(Lake::in_store(Arc::new(object_store::memory::InMemory::new())).unwrap());
        let at = |through: u8| Checkpoint {
            stream: "s".into(),
            through: Position::from_bytes(&[through]),
            identity: "i".into(),
        };
        lake.put_stream_checkpoint(&at(5)).await.unwrap();
        let opened = open_where_recorded(&lake, "s", |records: Records| {
            let (lake, next) = (lake.clone(), at(7));
            async move {
                if records.common.stream.is_some_and(|stream| stream == next) {
                    return Ok("opened");
                }
                lake.put_stream_checkpoint(&next).await?;
                Err(Error::new(Kind::SourceGone, "the slot is ahead"))
            }
        });
        assert_eq!(opened.await.unwrap(), "opened");
        let gone = |_| std::future::ready(Err::<(), _>(Error::new(Kind::SourceGone, "the slot is gone")));
        assert_eq!(open_where_recorded(&lake, "s", gone).await.unwrap_err().kind(), Kind::SourceGone);
    }

    #[test]
    fn a_table_with_one_layer_begins_again() {
        assert_eq!(common(&[(Layer::Current, checkpoint(3, &[0]))]), None);
    }
}
