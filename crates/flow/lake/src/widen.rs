//! A column whose type grew: its data files are written again, because most readers of Delta take a file's own type at its word.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use change::Result;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::LogStoreRef;

use crate::encode::{Statistics, fit};
use crate::log::{Committed, TableLog, remove};
use crate::press::{Again, again};
use crate::schema;

/// Writes every file of the table again in the structure `columns` and commits that as one version. Rows keep their numbers, deleted ones
/// among them, so that deletion vectors stay as they are. `in_files` is the structure without the partition column.
pub(crate) async fn table(
    log: &mut TableLog,
    columns: SchemaRef,
    in_files: &SchemaRef,
    statistics: &Statistics,
    now_ms: i64,
) -> Result<HashMap<String, String>> {
    let old: Vec<Add> = log.files.values().map(|file| file.add.clone()).collect();
    tracing::info!(table = %log.table, files = old.len(), "a column grew: the table's files are written again");
    let mut new = Vec::with_capacity(old.len());
    for add in &old {
        new.push(Add { data_change: false, ..file(&log.store, add, in_files, statistics, now_ms).await? });
    }
    let mut actions = schema::changed(log, &columns)?;
    actions.extend(old.iter().map(|add| Action::Remove(remove(add, false, now_ms))));
    actions.extend(new.iter().cloned().map(Action::Add));
    match log.commit("CHANGE COLUMN", actions, log.record.clone(), now_ms).await? {
        Committed::Done => {
            let renamed = old.into_iter().zip(&new).map(|(old, new)| (old.path, new.path.clone())).collect();
            log.add_files(new);
            log.schema = columns;
            Ok(renamed)
        }
        Committed::Fenced(error) | Committed::Foreign(error) => Err(error),
    }
}

/// Writes one data file again in another structure, row by row the same.
pub(crate) async fn file(
    store: &LogStoreRef,
    add: &Add,
    columns: &SchemaRef,
    statistics: &Statistics,
    now_ms: i64,
) -> Result<Add> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let target = Again { names: &names, schema: columns, statistics };
    again(store, add, target, |rows| fit(columns, &rows), now_ms).await
}
