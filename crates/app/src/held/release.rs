//! Held rows on their way into the lake.

use std::collections::BTreeSet;

use change::{Checkpoint, CopyProgress, Error, Kind, Position, Result, TableName, Timestamp};
use gate::{RowKey, Sealed};
use rusqlite::{OptionalExtension, params};

use super::store::{Choice, HeldStore, broken, keys, name, position};

/// Rows of one release: so many are opened and cleared at a time.
const ROWS_AT_ONCE: usize = 5_000;

/// Rows that go into both tables of a source table under one number.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) table: TableName,
    pub(crate) number: u64,
    /// The rows come behind everything at or below this boundary, and before everything above it.
    pub(crate) boundary: Checkpoint,
    pub(crate) rows: Vec<TakenRow>,
}

/// What [`HeldStore::take`] gives.
pub(crate) struct Taken {
    pub(crate) release: Option<Release>,
    /// Where the next marked row is that may come in at a later boundary.
    pub(crate) later: Option<Position>,
}

/// A row of a [`Release`].
#[derive(Clone, Debug)]
pub(crate) struct TakenRow {
    pub(crate) id: i64,
    pub(crate) position: Position,
    pub(crate) keys: Vec<RowKey>,
    pub(crate) copied: bool,
    record: Vec<u8>,
}

impl Release {
    /// The rows as the gate reads them.
    pub(crate) fn sealed(&self) -> Vec<Sealed<'_>> {
        let sealed = |row| {
            let TakenRow { position, keys, record, .. }: &TakenRow = row;
            Sealed { table: &self.table, position, keys, record }
        };
        self.rows.iter().map(sealed).collect()
    }
}

impl HeldStore {
    /// Marks rows for release.
    pub(crate) fn mark(&self, choice: &Choice) -> Result<u64> {
        let mut marked = 0;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        let sql = "UPDATE held SET state = 'released', refused = NULL WHERE state = 'held'";
        match choice {
            Choice::All => marked += transaction.execute(sql, []).map_err(broken)?,
            Choice::These(ids) => {
                for id in ids {
                    marked += transaction.execute(&format!("{sql} AND id = ?1"), params![id]).map_err(broken)?;
                }
            }
        }
        transaction.commit().map_err(broken)?;
        Ok(marked as u64)
    }

    /// Whether rows of a table wait that are marked for release.
    pub(crate) fn has_marked(&self, table: &TableName) -> Result<bool> {
        let sql = "SELECT 1 FROM held WHERE tbl = ?1 AND state = 'released' LIMIT 1";
        let found = self.connection().query_row(sql, params![name(table)?], |_| Ok(())).optional();
        Ok(found.map_err(broken)?.is_some())
    }

    /// Begins a release of marked rows at or below a boundary, in their order and none before an earlier one of its key.
    pub(crate) fn take(&self, table: &TableName, boundary: &Checkpoint, now: Timestamp) -> Result<Taken> {
        let tbl = name(table)?;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        let (mut taken, mut waiting, mut later) = (Vec::new(), BTreeSet::new(), None);
        {
            let sql = "SELECT id, last, keys, state FROM held WHERE tbl = ?1 AND state IN ('held', 'released') ORDER BY position, id";
            let mut statement = transaction.prepare(sql).map_err(broken)?;
            let mut rows = statement.query(params![tbl]).map_err(broken)?;
            while let Some(row) = rows.next().map_err(broken)? {
                let (keys, state) = (keys(row, 2)?, row.get::<_, String>(3).map_err(broken)?);
                let free = state == "released" && !keys.iter().any(|key| waiting.contains(key));
                let last = position(row, 1)?;
                if free && last <= boundary.through && taken.len() < ROWS_AT_ONCE {
                    taken.push(row.get::<_, i64>(0).map_err(broken)?);
                    continue;
                }
                waiting.extend(keys);
                if free {
                    later.get_or_insert(last);
                }
            }
        }
        if taken.is_empty() {
            return Ok(Taken { release: None, later });
        }
        let last: Option<i64> = transaction
            .query_row("SELECT number FROM release_begun WHERE tbl = ?1", params![tbl], |row| row.get(0))
            .optional()
            .map_err(broken)?;
        // By the clock, so that a store that was lost never gives a number that a table has seen.
        let number = now.max(last.unwrap_or(0) + 1);
        let text = serde_json::to_string(boundary)
            .map_err(|error| Error::new(Kind::Bug, "a boundary is not JSON").source(error))?;
        let begun =
            "INSERT INTO release_begun VALUES (?1, ?2, ?3) ON CONFLICT (tbl) DO UPDATE SET number = ?2, boundary = ?3";
        transaction.execute(begun, params![tbl, number, text]).map_err(broken)?;
        for id in taken {
            let sql = "UPDATE held SET state = 'taken', release_number = ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, number]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        drop(connection);
        Ok(Taken { release: self.begun(table)?, later })
    }

    /// The release that has begun and has not ended.
    pub(crate) fn begun(&self, table: &TableName) -> Result<Option<Release>> {
        let (tbl, connection) = (name(table)?, self.connection());
        let begun = "SELECT number, boundary FROM release_begun WHERE tbl = ?1";
        let begun = connection
            .query_row(begun, params![tbl], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .optional()
            .map_err(broken)?;
        let Some((number, text)) = begun else { return Ok(None) };
        let sql = "SELECT id, position, keys, copied, record FROM held WHERE tbl = ?1 AND state = 'taken' ORDER BY position, id";
        let mut statement = connection.prepare(sql).map_err(broken)?;
        let mut found = statement.query(params![tbl]).map_err(broken)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(broken)? {
            rows.push(TakenRow {
                id: row.get(0).map_err(broken)?,
                position: position(row, 1)?,
                keys: keys(row, 2)?,
                copied: row.get(3).map_err(broken)?,
                record: row.get(4).map_err(broken)?,
            });
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let boundary = serde_json::from_str(&text)
            .map_err(|_| Error::new(Kind::Data, "the boundary of a release cannot be read; restore held.sqlite"))?;
        Ok(Some(Release { table: table.clone(), number: number.unsigned_abs(), boundary, rows }))
    }

    /// Rows that a release did not let in are held again.
    pub(crate) fn refuse(&self, refused: &[(i64, String)]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        for (id, why) in refused {
            let sql = "UPDATE held SET state = 'held', refused = ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, why]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)
    }

    /// No table has the release that has begun: its rows wait again.
    pub(crate) fn give_back(&self, table: &TableName) -> Result<()> {
        let sql = "UPDATE held SET state = 'released', release_number = NULL WHERE tbl = ?1 AND state = 'taken'";
        self.connection().execute(sql, params![name(table)?]).map(|_| ()).map_err(broken)
    }

    /// Every table has the release.
    pub(crate) fn released(&self, table: &TableName) -> Result<()> {
        let connection = self.connection();
        let sql = "UPDATE held SET state = 'gone', record = NULL WHERE tbl = ?1 AND state = 'taken'";
        connection.execute(sql, params![name(table)?]).map_err(broken)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)
    }

    /// Both tables are beyond a position: what is gone at or below it cannot come again.
    pub(crate) fn forget(&self, table: &TableName, through: &Position) -> Result<()> {
        let sql = "DELETE FROM held WHERE tbl = ?1 AND state = 'gone' AND copied = 0 AND last <= ?2";
        self.connection().execute(sql, params![name(table)?, through.as_bytes()]).map(|_| ()).map_err(broken)
    }

    /// Every row of the table was removed at a position: held rows from before it stand for nothing. Returns how many there were.
    pub(crate) fn truncated(&self, table: &TableName, at: &Position) -> Result<u64> {
        let sql = "UPDATE held SET state = 'gone', record = NULL WHERE tbl = ?1 AND position < ?2 AND state IN ('held', 'released')";
        self.connection().execute(sql, params![name(table)?, at.as_bytes()]).map(|rows| rows as u64).map_err(broken)
    }

    /// Notes keys of which a change has passed beside a first copy.
    pub(crate) fn note_passed(&self, table: &TableName, passed: &[RowKey]) -> Result<()> {
        let (tbl, mut connection) = (name(table)?, self.connection());
        let transaction = connection.transaction().map_err(broken)?;
        {
            let mut add = transaction.prepare("INSERT OR IGNORE INTO passed VALUES (?1, ?2)").map_err(broken)?;
            for key in passed {
                add.execute(params![tbl, key.to_bytes()]).map_err(broken)?;
            }
        }
        transaction.commit().map_err(broken)
    }

    /// A copy begins or goes on: what was held before its LOW is in what it reads.
    ///
    /// # Errors
    /// `Data` when the copy began while nobody noted which changes passed beside it.
    pub(crate) fn copy_begins(&self, table: &TableName, copy: &CopyProgress) -> Result<()> {
        let (tbl, low, connection) = (name(table)?, copy.low.as_bytes(), self.connection());
        let watched = "SELECT low FROM copy_watched WHERE tbl = ?1";
        let watched: Option<Vec<u8>> =
            connection.query_row(watched, params![tbl], |row| row.get(0)).optional().map_err(broken)?;
        if watched.as_deref() == Some(low) {
            return Ok(());
        }
        if !copy.done.is_empty() {
            return Err(Error::new(Kind::Data, "the first copy began under rules that held nothing back").fix(
                "Put the rules back until the copy is finished, or take both folders of the table out of the lake.",
            ));
        }
        let void = "DELETE FROM held WHERE tbl = ?1 AND (copied = 1 OR last <= ?2)";
        connection.execute(void, params![tbl, low]).map_err(broken)?;
        let watch = "INSERT INTO copy_watched VALUES (?1, ?2) ON CONFLICT (tbl) DO UPDATE SET low = ?2";
        connection.execute(watch, params![tbl, low]).map(|_| ()).map_err(broken)
    }

    /// The copy is finished: none of its rows can come again.
    pub(crate) fn copy_ends(&self, table: &TableName) -> Result<()> {
        let (tbl, connection) = (name(table)?, self.connection());
        for sql in [
            "DELETE FROM passed WHERE tbl = ?1",
            "DELETE FROM copy_watched WHERE tbl = ?1",
            "DELETE FROM held WHERE tbl = ?1 AND copied = 1 AND state = 'gone'",
        ] {
            connection.execute(sql, params![tbl]).map_err(broken)?;
        }
        Ok(())
    }
}
