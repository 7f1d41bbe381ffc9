use anyhow::{Result, ensure};

use crate::backlog::{BATCH, make_changes};
use crate::claims::{ClaimLines, TABLE};
use crate::stage::Stage;

/// The key of the table.
pub(super) const KEY: [&str; 2] = ["claim_id", "line_number"];
/// The column that every insert and update of the backlog sets, so that a reader by cursor can find them.
pub(super) const CURSOR: &str = "repriced_at";
/// The column that a mark is written into.
pub(super) const MARKED: &str = "remark";

/// The table that all contenders read, and what has happened to it.
pub(super) struct History {
    pub(super) source: ClaimLines,
    /// Name and type of each column, as Postgres spells it.
    pub(super) columns: Vec<(String, String)>,
    /// Changes since the first copy.
    pub(super) changes: u64,
    /// Changes that the backlog is to have.
    backlog: u64,
    marks: u64,
}

impl History {
    /// The loaded table, before any change.
    pub(super) async fn begin(stage: &Stage) -> Result<Self> {
        let backlog = stage.options.changes / BATCH * BATCH;
        ensure!(
            backlog > 0 && backlog * 3 / 4 <= stage.options.rows,
            "--changes is to be 1000 or more and less than the rows"
        );
        let source = ClaimLines::load(stage, "peers").await?;
        let sql = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
                   WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let columns = source.client.query(sql, &[&TABLE]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(Self { source, columns, changes: 0, backlog, marks: 0 })
    }

    /// The backlog: inserts, updates and deletes, each row once.
    pub(super) async fn make_backlog(&mut self) -> Result<()> {
        make_changes(&self.source.client, self.backlog).await?;
        self.changes += self.backlog;
        Ok(())
    }

    /// One more change, of the row that stands first; a contender that has it has everything before it. Returns its text.
    pub(super) async fn mark(&mut self) -> Result<String> {
        self.marks += 1;
        let (mark, seconds) = (format!("mark {}", self.marks), self.marks);
        let sql = format!(
            "UPDATE {TABLE} SET {MARKED} = '{mark}', {CURSOR} = '2026-10-01 10:00:00+00'::timestamptz + {seconds} * interval '1 second'
             WHERE ({key}) = (SELECT {key} FROM {TABLE} ORDER BY {key} LIMIT 1)",
            key = KEY.join(", ")
        );
        let changed = self.source.client.execute(&sql, &[]).await?;
        ensure!(changed == 1, "{changed} rows were marked");
        self.changes += changed;
        Ok(mark)
    }
}
