//! Which of some values stand in a table at all.

use std::collections::HashSet;

use change::{Result, TableName};
use futures::TryStreamExt;

use crate::erase::Doomed;
use crate::lake::Lake;
use crate::log::TableLog;
use crate::naming::{LakeTable, Layer};
use crate::rows;

impl Lake {
    /// The values that are in a row of either lake table of a source table, whether readers still see the row or not.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn found(&self, name: &TableName, doomed: &Doomed) -> Result<HashSet<String>> {
        let mut found = HashSet::new();
        let names: Vec<&str> = doomed.columns.iter().map(|(name, _)| name.as_str()).collect();
        for layer in [Layer::Current, Layer::Changes] {
            let table = LakeTable::new(name.clone(), layer)?;
            let Some(log) = TableLog::load(&table, &self.store(&table)?).await? else { continue };
            for path in log.files.keys() {
                let mut batches = rows::read(&log.store, path, &names, None).await?;
                while let Some(batch) = batches.try_next().await? {
                    doomed.meet(&batch, |_, wanted| {
                        if !found.contains(wanted) {
                            found.insert(wanted.to_owned());
                        }
                    })?;
                }
            }
        }
        Ok(found)
    }
}
