//! A table meets another structure of its source: columns come and grow, and rows are found by others.

use arrow::datatypes::SchemaRef;
use change::{Error, Identity, Result};
use gate::ClearedSchema;

use super::{Layers, TableWriter, WriterOptions, index_place};
use crate::current::Current;
use crate::encode::Statistics;
use crate::identity::Identifier;
use crate::log::{Committed, TableLog};
use crate::naming::Layer;
use crate::schema::{self, Evolution};
use crate::{rebuild, widen};

impl TableWriter {
    /// Meets the structure of the rows that will follow: new columns are added; a column that is gone stays, null from here on.
    ///
    /// # Errors
    /// `Contract` when a column's type changed in a way that cannot be stored without loss, or the identity is another one.
    pub async fn evolve(&mut self, cleared: &ClearedSchema) -> Result<()> {
        let now_ms = self.now_ms();
        schema::check_names(cleared)?;
        let layer = match self.layers {
            Layers::Current(_) => Layer::Current,
            Layers::Changes(_) => Layer::Changes,
        };
        if let Layers::Current(current) = &mut self.layers {
            check_key(&current.log, cleared)?;
        }
        let Some(Evolution { columns, widened }) = schema::evolve(&self.log().schema, cleared, layer)? else {
            return self.reidentify(cleared).await;
        };
        match &mut self.layers {
            Layers::Current(current) => {
                // Rows that wait have the old structure.
                current.stream.flush(&current.log.store, &current.log.schema, &current.statistics, now_ms).await?;
                current.copy.flush(&current.log, &current.statistics, now_ms).await?;
                allow(&mut current.statistics, cleared);
                let mut added = identity_names(cleared);
                added.retain(|name| current.log.schema.index_of(name).is_err());
                if widened {
                    widen_current(current, columns, added, &self.options, now_ms).await?;
                    return self.reidentify(cleared).await;
                }
                change_schema(&mut current.log, columns, now_ms).await?;
                if let Some((index, identifier)) = &mut current.index {
                    index.advance(current.log.version)?;
                    let names = [identifier.names(&current.log.schema), added].concat();
                    *identifier = Identifier::new(&current.log.schema, &names, index.shape(), index.seed())?;
                }
                self.reidentify(cleared).await
            }
            Layers::Changes(changes) => {
                changes.flush_all(now_ms).await?;
                allow(&mut changes.statistics, cleared);
                if widened {
                    return changes.widen(columns, now_ms).await;
                }
                change_schema(&mut changes.log, columns, now_ms).await
            }
        }
    }

    async fn reidentify(&mut self, cleared: &ClearedSchema) -> Result<()> {
        let Layers::Current(current) = &mut self.layers else { return Ok(()) };
        current.reidentify(identity_names(cleared).into_iter().collect(), &self.options).await
    }
}

/// Goes over to a structure in which a type grew, and which may have `added` more columns to the identity of a row. The index is built anew:
/// places have moved to other files.
async fn widen_current(
    current: &mut Current,
    columns: SchemaRef,
    added: Vec<String>,
    options: &WriterOptions,
    now_ms: i64,
) -> Result<()> {
    let known = current.index.take();
    for staged in current.stream.staged.iter_mut().chain(&mut current.copy.staged) {
        staged.add = widen::file(&current.log.store, &staged.add, &columns, &current.statistics, now_ms).await?;
    }
    let renamed = widen::table(&mut current.log, columns.clone(), &columns, &current.statistics, now_ms).await?;
    current.vectors.clear();
    if let Some((index, identifier)) = known {
        // Rows that wait are known by hashes with this seed.
        let (shape, seed) = (index.shape(), index.seed());
        let names = [identifier.names(&current.log.schema), added].concat();
        drop(index);
        let (path, boot) = index_place(&current.log, options);
        current.index = Some(rebuild::build(&current.log, &names, shape, &path, boot, Some(seed)).await?);
    }
    current.follow_parted(&renamed).await
}

/// The names of the columns that rows are found by.
pub(super) fn identity_names(schema: &ClearedSchema) -> Vec<String> {
    schema.identity_columns().into_iter().map(|index| schema.columns[index].name.clone()).collect()
}

/// The rows that the table has were found by one key, and cannot be found by another.
pub(super) fn check_key(log: &TableLog, cleared: &ClearedSchema) -> Result<()> {
    let known = &log.record.key;
    let key = match &cleared.identity {
        Identity::Key(_) => identity_names(cleared),
        Identity::WholeRow | Identity::InsertOnly => Vec::new(),
    };
    if log.files.is_empty() && log.version == 0 || *known == key {
        return Ok(());
    }
    let named = |key: &[String]| if key.is_empty() { "no key".to_owned() } else { key.join(", ") };
    Err(Error::new(
        change::Kind::Contract,
        format!("{}: rows were identified by {} and now by {}", cleared.table, named(known), named(&key)),
    )
    .fix("Give the source table its key back, or remove the table's folders from the lake so that it is copied anew."))
}

/// Lets files have statistics of the columns of which the gate allows them.
pub(super) fn allow(statistics: &mut Statistics, cleared: &ClearedSchema) {
    for column in cleared.columns.iter().filter(|column| column.statistics) {
        if !statistics.0.contains(&column.name) {
            statistics.0.push(column.name.clone());
        }
    }
}

async fn change_schema(log: &mut TableLog, columns: SchemaRef, now_ms: i64) -> Result<()> {
    let actions = schema::changed(log, &columns)?;
    match log.commit("ADD COLUMNS", actions, log.record.clone(), now_ms).await? {
        Committed::Done => {
            log.schema = columns;
            Ok(())
        }
        Committed::Fenced(error) | Committed::Foreign(error) => Err(error),
    }
}
