use std::collections::BTreeMap;

use change::Result;
use sandbox::claims::{Table, TableTally};
use serve::Session;

use super::ask::{changes, texts};

/// Whether every committed change is in the change log, and once.
pub(super) struct LogProof {
    /// By `_lg_op`: what Postgres did.
    pub(super) expected: BTreeMap<String, u64>,
    /// By `_lg_op`: what the log holds.
    pub(super) found: BTreeMap<String, u64>,
}

impl LogProof {
    pub(super) fn holds(&self) -> bool {
        self.expected == self.found
    }
}

/// Compares the log with the rows that the first copy found and with the counts that Postgres gave for each statement of each committed
/// transaction. A row whose key changed is a delete and an insert.
pub(super) async fn compare(table: Table, loaded: u64, tally: &TableTally, lake: &Session) -> Result<LogProof> {
    let expected = [
        ("r", loaded),
        ("i", tally.inserted + tally.moved),
        ("u", tally.updated),
        ("d", tally.deleted + tally.moved),
        ("t", tally.truncated),
    ];
    let sql = format!("SELECT _lg_op, count(*) FROM {} GROUP BY _lg_op", changes(table));
    let found = texts(lake, &sql).await?.into_iter().filter_map(|row| match &row[..] {
        [op, count] => Some((op.clone(), count.parse().ok()?)),
        _ => None,
    });
    Ok(LogProof {
        expected: expected
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(op, count)| (op.to_owned(), count))
            .collect(),
        found: found.collect(),
    })
}
