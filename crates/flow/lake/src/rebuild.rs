//! The key index from the table's own rows, when it is missing, behind or damaged.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use change::{Kind, Position, Result};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::deleted;
use crate::encode::fit;
use crate::failure::Explain;
use crate::identity::{Identifier, index_id};
use crate::index::{BootId, Builder, Entry, KeyHash, KeyIndex, KeySeed, Opened, Place, Shape};
use crate::log::TableLog;
use crate::rows;
use crate::schema::POSITION;

const MEMORY_BYTES: usize = 64 << 20;

/// The index at the table's version: as it lies on disk, or built anew.
pub(crate) async fn open(
    log: &TableLog,
    names: &[String],
    shape: Shape,
    path: &Path,
    boot: Option<BootId>,
) -> Result<(KeyIndex, Identifier)> {
    let id = index_id(log.id, &log.schema, names, shape);
    match KeyIndex::open(path, id, boot)? {
        Opened::Ready(mut index) => match settle(&mut index, log) {
            Ok(()) if index.version() == log.version && index.shape() == shape => {
                let identifier = Identifier::new(&log.schema, names, shape, index.seed())?;
                return Ok((*index, identifier));
            }
            Ok(()) => tracing::info!(table = %log.table, "the key index is behind the table and is built anew"),
            Err(why) if why.kind() == Kind::Data => {
                tracing::warn!(table = %log.table, %why, "the key index is built anew");
            }
            Err(error) => return Err(error),
        },
        Opened::Missing if log.files.is_empty() => {}
        Opened::Missing => tracing::info!(table = %log.table, "the key index is missing and is built anew"),
        Opened::Unusable { why } => tracing::warn!(table = %log.table, %why, "the key index is built anew"),
    }
    build(log, names, shape, path, boot, None).await
}

/// Finishes the step that was under way when the index was left, if the table has its commit.
fn settle(index: &mut KeyIndex, log: &TableLog) -> Result<()> {
    match index.prepared() {
        Some(step) if step.to_version == log.version && step.stamp == log.record.commit => index.finish(),
        Some(_) => index.abandon(),
        None => Ok(()),
    }
}

/// The index from the table's rows, whatever lies on disk.
pub(crate) async fn build(
    log: &TableLog,
    names: &[String],
    shape: Shape,
    path: &Path,
    boot: Option<BootId>,
    seed: Option<KeySeed>,
) -> Result<(KeyIndex, Identifier)> {
    let seed = seed.unwrap_or_else(|| KeySeed::new(Uuid::new_v4().as_u64_pair().0));
    let id = index_id(log.id, &log.schema, names, shape);
    let mut builder = Builder::create(path, id, shape, seed, boot, MEMORY_BYTES)?;
    let identifier = Identifier::new(&log.schema, names, shape, builder.seed())?;
    let low = log.record.checkpoint.copy.as_ref().map(|copy| copy.low.clone());
    let remembers = shape == Shape::Unique && log.record.copying();
    let mut columns: Vec<&str> = names.iter().map(String::as_str).collect();
    columns.push(POSITION);
    for (path, file) in &log.files {
        let number = builder.file_id(path)?;
        let gone = match &file.add.deletion_vector {
            Some(descriptor) => deleted::read(&log.store, descriptor).await?,
            None => Default::default(),
        };
        let mut batches = rows::read(&log.store, path, &columns, None).await?;
        let mut row = 0_u32;
        while let Some(batch) = batches.try_next().await? {
            let keys = identifier.hashes(&fit(&log.schema, &batch)?)?;
            let positions = positions(&batch)?;
            for (key, position) in keys.into_iter().zip(positions) {
                if !gone.contains(u64::from(row)) {
                    let copied = low.as_ref().is_some_and(|low| position.as_ref() == Some(low));
                    builder.push(key, Entry::Row { place: Place { file: number, row }, copied })?;
                } else if remembers {
                    // Deleted by the stream, unless a live row of the key says otherwise: that one counts.
                    builder.push(key, Entry::Tombstone)?;
                }
                row += 1;
            }
        }
    }
    Ok((builder.finish(log.version)?, identifier))
}

/// What identifies the rows of a data file, in their order, deleted ones among them.
pub(crate) async fn keys_of(log: &TableLog, path: &str, identifier: &Identifier) -> Result<Vec<KeyHash>> {
    let names = identifier.names(&log.schema);
    let columns: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut batches = rows::read(&log.store, path, &columns, None).await?;
    let mut keys = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        keys.extend(identifier.hashes(&fit(&log.schema, &batch)?)?);
    }
    Ok(keys)
}

fn positions(batch: &RecordBatch) -> Result<Vec<Option<Position>>> {
    let column = batch.column_by_name(POSITION).explain_missing(POSITION)?;
    Ok(column.as_binary::<i32>().iter().map(|bytes| bytes.map(Position::from_bytes)).collect())
}

trait ExplainMissing<T> {
    fn explain_missing(self, column: &str) -> Result<T>;
}

impl<T> ExplainMissing<T> for Option<T> {
    fn explain_missing(self, column: &str) -> Result<T> {
        self.ok_or_else(|| std::io::Error::other(format!("no column {column}")))
            .explain(|| "a data file is not ours".into())
    }
}
