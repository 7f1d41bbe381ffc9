//! Held rows on their way into the lake.

use std::collections::BTreeSet;

use change::{Checkpoint, CopyProgress, Error, Kind, Position, Result, TableName, Timestamp};
use gate::{RowKey, Sealed};
use rusqlite::{OptionalExtension, params};

use super::store::{Choice, HeldStore, broken, keys, name, position};

/// Rows of one release: so many are opened and cleared at a time.
const ROWS_AT_ONCE: usize = 5_000;
/// SQL of a row that may come in once nothing of its key is before it: somebody marked it, or nothing was wrong with it but its place.
const WILLING: &str = "(state = 'released' OR state = 'held' AND column_name IS NULL AND refused IS NULL)";

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
    /// Where the next row is that may come in at a boundary: a later one, or this one when there were too many rows for one release.
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
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be written.
    pub fn mark(&self, choice: &Choice) -> Result<u64> {
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

    /// Whether rows of a table may come in: marked ones, or some that waited behind others of their key.
    pub(crate) fn may_release(&self, table: &TableName) -> Result<bool> {
        let sql = format!("SELECT 1 FROM held WHERE tbl = ?1 AND ({WILLING}) LIMIT 1");
        let found = self.connection().query_row(&sql, params![name(table)?], |_| Ok(())).optional();
        Ok(found.map_err(broken)?.is_some())
    }

    /// Begins a release at or below a boundary of marked rows and of those that only waited behind others: in their order, and none
    /// before an earlier one of its key.
    pub(crate) fn take(&self, table: &TableName, boundary: &Checkpoint, now: Timestamp) -> Result<Taken> {
        let tbl = name(table)?;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        let on_its_way = "SELECT 1 FROM held WHERE tbl = ?1 AND state = 'taken' LIMIT 1";
        let on_its_way = transaction.query_row(on_its_way, params![tbl], |_| Ok(())).optional().map_err(broken)?;
        if on_its_way.is_some() {
            // One release at a time: this one would carry its rows as well, into a table that may have them.
            return Ok(Taken { release: None, later: None });
        }
        let (mut taken, mut waiting, mut later) = (Vec::new(), BTreeSet::new(), None);
        {
            let sql = format!(
                "SELECT id, last, keys, {WILLING} FROM held WHERE tbl = ?1 AND state IN ('held', 'released') ORDER BY position, id"
            );
            let mut statement = transaction.prepare(&sql).map_err(broken)?;
            let mut rows = statement.query(params![tbl]).map_err(broken)?;
            while let Some(row) = rows.next().map_err(broken)? {
                let (keys, willing) = (keys(row, 2)?, row.get::<_, bool>(3).map_err(broken)?);
                let free = willing && !keys.iter().any(|key| waiting.contains(key));
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

    /// Rows that a release did not let in are held again. Those `behind` them wait as they did before: what somebody has marked stays marked,
    /// and what only waited follows by itself as soon as nothing of its key is before it.
    pub(crate) fn refuse(&self, refused: &[(i64, String)], behind: &[i64]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        for (id, why) in refused {
            let sql = "UPDATE held SET state = 'held', refused = ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, why]).map_err(broken)?;
        }
        for id in behind {
            let sql = "UPDATE held SET state = CASE WHEN column_name IS NULL THEN 'held' ELSE 'released' END,
                refused = NULL, release_number = NULL WHERE id = ?1";
            transaction.execute(sql, params![id]).map_err(broken)?;
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

    /// The table is made what its source is, at or above a position: rows that were held or on their way at or below it, and rows of an
    /// earlier copy, stand for nothing any more. Returns how many there were.
    pub(crate) fn superseded(&self, table: &TableName, through: &Position) -> Result<u64> {
        let (tbl, mut connection) = (name(table)?, self.connection());
        let transaction = connection.transaction().map_err(broken)?;
        let old = "FROM held WHERE tbl = ?1 AND (copied = 1 OR last <= ?2)";
        let of = params![tbl, through.as_bytes()];
        let count = format!("SELECT count(*) {old} AND state <> 'gone'");
        let rows: i64 = transaction.query_row(&count, of, |row| row.get(0)).map_err(broken)?;
        transaction.execute(&format!("DELETE {old}"), of).map_err(broken)?;
        transaction.commit().map_err(broken)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)?;
        Ok(rows.unsigned_abs())
    }

    /// Both tables are beyond a position: what is gone at or below it cannot come again.
    pub(crate) fn forget(&self, table: &TableName, through: &Position) -> Result<()> {
        let sql = "DELETE FROM held WHERE tbl = ?1 AND state = 'gone' AND copied = 0 AND last <= ?2";
        self.connection().execute(sql, params![name(table)?, through.as_bytes()]).map(|_| ()).map_err(broken)
    }

    /// Every row of the table was removed at a position: held rows from before it stand for nothing, and so do rows of a copy with a lower LOW
    /// that come after this. Returns how many were held.
    pub(crate) fn truncated(&self, table: &TableName, at: &Position) -> Result<u64> {
        let (tbl, mut connection) = (name(table)?, self.connection());
        let transaction = connection.transaction().map_err(broken)?;
        let sql = "UPDATE held SET state = 'gone', record = NULL WHERE tbl = ?1 AND position < ?2 AND state IN ('held', 'released')";
        let rows = transaction.execute(sql, params![tbl, at.as_bytes()]).map_err(broken)?;
        let every_key =
            "INSERT INTO passed_at SELECT ?1, x'', ?2 WHERE EXISTS (SELECT 1 FROM copy_watched WHERE tbl = ?1)
            ON CONFLICT (tbl, key) DO UPDATE SET position = max(position, excluded.position)";
        transaction.execute(every_key, params![tbl, at.as_bytes()]).map_err(broken)?;
        transaction.commit().map_err(broken)?;
        Ok(rows as u64)
    }

    /// Notes keys of which a change has passed beside a first copy, and where: it is newer than rows copied with a lower LOW only.
    pub(crate) fn note_passed(&self, table: &TableName, passed: &[(RowKey, Position)]) -> Result<()> {
        let (tbl, mut connection) = (name(table)?, self.connection());
        let transaction = connection.transaction().map_err(broken)?;
        {
            let add = "INSERT INTO passed_at VALUES (?1, ?2, ?3)
                ON CONFLICT (tbl, key) DO UPDATE SET position = max(position, excluded.position)";
            let mut add = transaction.prepare(add).map_err(broken)?;
            for (key, position) in passed {
                add.execute(params![tbl, key.to_bytes(), position.as_bytes()]).map_err(broken)?;
            }
        }
        transaction.commit().map_err(broken)
    }

    /// A copy begins or goes on: what was held before its LOW is in what it reads. `holds`: the rules of now hold rows back. `reached`: where the
    /// stream of the table stood in the lake when it was opened.
    ///
    /// # Errors
    /// `Data` when the copy began while nobody noted here which changes passed beside it.
    pub(crate) fn copy_begins(
        &self,
        table: &TableName,
        copy: &CopyProgress,
        holds: bool,
        reached: Option<&Position>,
    ) -> Result<()> {
        let (tbl, low, mut connection) = (name(table)?, copy.low.as_bytes(), self.connection());
        let watched = "SELECT low FROM copy_watched WHERE tbl = ?1";
        let watched: Option<Vec<u8>> =
            connection.query_row(watched, params![tbl], |row| row.get(0)).optional().map_err(broken)?;
        if watched.as_deref() == Some(low) {
            return Ok(());
        }
        let goes_on = !copy.done.is_empty() || reached.is_some_and(|reached| *reached > copy.low);
        if goes_on && !holds && watched.is_none() {
            return Ok(());
        }
        if goes_on && holds {
            let what = "the first copy began under rules that held nothing back, or in another project folder";
            return Err(Error::new(Kind::Data, what)
                .fix("Finish it under those rules or there, or take both folders of the table out of the lake."));
        }
        let transaction = connection.transaction().map_err(broken)?;
        let void = "DELETE FROM held WHERE tbl = ?1 AND (copied = 1 OR last <= ?2)";
        transaction.execute(void, params![tbl, low]).map_err(broken)?;
        let watch = "INSERT INTO copy_watched VALUES (?1, ?2) ON CONFLICT (tbl) DO UPDATE SET low = ?2";
        if holds {
            transaction.execute(watch, params![tbl, low]).map_err(broken)?;
        } else {
            transaction.execute("DELETE FROM copy_watched WHERE tbl = ?1", params![tbl]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)
    }

    /// Changes passed beside a copy that nobody noted here.
    pub(crate) fn copy_unwatched(&self, table: &TableName) -> Result<()> {
        self.connection().execute("DELETE FROM copy_watched WHERE tbl = ?1", params![name(table)?]).map_err(broken)?;
        Ok(())
    }

    /// The copy is finished: none of its rows can come again.
    pub(crate) fn copy_ends(&self, table: &TableName) -> Result<()> {
        let (tbl, connection) = (name(table)?, self.connection());
        for sql in [
            "DELETE FROM passed_at WHERE tbl = ?1",
            "DELETE FROM copy_watched WHERE tbl = ?1",
            "DELETE FROM held WHERE tbl = ?1 AND copied = 1 AND state = 'gone'",
        ] {
            connection.execute(sql, params![tbl]).map_err(broken)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use change::{ChunkSet, CopyProgress, Op, Position};
    use gate::{HeldRow, RowKey, Why};

    use super::*;

    /// A row that was held at a place in the stream, because of itself or of an earlier one of its key.
    fn held(place: u8, key: u8, why: Why) -> HeldRow {
        let position = Position::from_bytes(&[place]);
        HeldRow {
            last: position.clone(),
            position,
            copied: false,
            keys: vec![RowKey::from_bytes([key; 16])],
            op: Op::Update,
            committed_at: 0,
            whole: true,
            why,
            sealed: vec![0],
        }
    }

    fn unreadable() -> Why {
        Why::Unreadable { column: "born".into(), transform: "date_year".into() }
    }

    fn boundary(place: u8) -> Checkpoint {
        Checkpoint { stream: "db".into(), through: Position::from_bytes(&[place]), identity: String::new() }
    }

    fn places(taken: Taken) -> Vec<u8> {
        let rows = taken.release.map(|release| release.rows).unwrap_or_default();
        rows.iter().map(|row| row.position.as_bytes()[0]).collect()
    }

    fn store(name: &str, rows: &[HeldRow]) -> (HeldStore, TableName, std::path::PathBuf) {
        let folder = std::env::temp_dir().join(format!("lockgate-release-{name}-{}", std::process::id()));
        let (store, table) = (HeldStore::open(&folder).unwrap(), TableName::new("db", "public", "person"));
        store.keep(&table, rows, 0, "policy").unwrap();
        (store, table, folder)
    }

    #[test]
    fn one_release_of_a_table_at_a_time() {
        let rows = [held(1, 1, unreadable()), held(2, 2, unreadable())];
        let (store, table, folder) = store("one", &rows);
        store.mark(&Choice::These(vec![2])).unwrap();
        assert_eq!(places(store.take(&table, &boundary(9), 1).unwrap()), [2]);
        store.mark(&Choice::All).unwrap();
        // The first may be in one of the two lake tables: its rows must not come again under another number.
        assert!(places(store.take(&table, &boundary(9), 2).unwrap()).is_empty());
        assert_eq!(store.begun(&table).unwrap().unwrap().rows.len(), 1);
        store.released(&table).unwrap();
        assert_eq!(places(store.take(&table, &boundary(9), 3).unwrap()), [1]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_change_outdates_rows_of_the_copy_that_it_passed_beside_and_not_of_a_later_one() {
        let (store, table, folder) = store("passed", &[]);
        let position = |place: u8| Position::from_bytes(&[place]);
        store.note_passed(&table, &[(RowKey::from_bytes([1; 16]), position(5))]).unwrap();
        store.note_passed(&table, &[(RowKey::from_bytes([1; 16]), position(4))]).unwrap();
        let copied = |low: u8| HeldRow { copied: true, ..held(low, 1, unreadable()) };
        assert_eq!(store.keep(&table, &[copied(4)], 0, "policy").unwrap(), [0]);
        assert_eq!(store.count().unwrap(), 0);
        // The first copy was given up; what it had is gone, and the change with it.
        assert!(store.keep(&table, &[copied(7)], 0, "policy").unwrap().is_empty());
        assert_eq!(store.count().unwrap(), 1);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_superseded_is_gone_whatever_became_of_it_and_what_came_later_stays() {
        let copied = HeldRow { copied: true, ..held(4, 2, unreadable()) };
        let rows = [held(1, 1, unreadable()), copied, held(3, 3, unreadable()), held(8, 1, Why::Behind)];
        let (store, table, folder) = store("superseded", &rows);
        store.mark(&Choice::These(vec![1])).unwrap();
        assert_eq!(places(store.take(&table, &boundary(7), 1).unwrap()), [1]);
        store.erase(&[3]).unwrap();
        assert_eq!(store.superseded(&table, &Position::from_bytes(&[5])).unwrap(), 2);
        assert!(store.begun(&table).unwrap().is_none());
        let left: Vec<i64> = store.lines().unwrap().iter().map(|line| line.id).collect();
        assert_eq!(left, [4]);
        assert_eq!(store.superseded(&TableName::new("db", "public", "other"), &Position::from_bytes(&[9])).unwrap(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_truncate_outdates_rows_of_the_copy_that_come_after_it_and_not_of_a_later_one() {
        let (store, table, folder) = store("truncated", &[]);
        let position = |place: u8| Position::from_bytes(&[place]);
        let copied = |low: u8, key: u8| HeldRow { copied: true, ..held(low, key, unreadable()) };
        let copy = |low: u8| CopyProgress {
            low: position(low),
            plan: String::new(),
            chunks: 1,
            done: ChunkSet::default(),
            finished: None,
        };
        store.copy_begins(&table, &copy(4), true, None).unwrap();
        assert!(store.keep(&table, &[copied(4, 1)], 0, "policy").unwrap().is_empty());
        assert_eq!(store.truncated(&table, &position(6)).unwrap(), 1);
        // Read before the truncate, handed over after it.
        assert_eq!(store.keep(&table, &[copied(4, 2)], 0, "policy").unwrap(), [0]);
        assert_eq!(store.count().unwrap(), 0);
        store.copy_begins(&table, &copy(7), true, None).unwrap();
        assert!(store.keep(&table, &[copied(7, 2)], 0, "policy").unwrap().is_empty());
        store.copy_ends(&table).unwrap();
        // No copy goes on: there is nothing to note.
        store.truncated(&table, &position(9)).unwrap();
        let noted = "SELECT count(*) FROM passed_at";
        assert_eq!(store.connection().query_row(noted, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_copy_that_begins_anew_passes_over_nothing_that_an_earlier_one_kept_back() {
        for holds in [true, false] {
            let copied = HeldRow { copied: true, ..held(4, 1, unreadable()) };
            let (store, table, folder) = store(&format!("anew-{holds}"), &[copied]);
            let copy = |low: u8| CopyProgress {
                low: Position::from_bytes(&[low]),
                plan: String::new(),
                chunks: 1,
                done: ChunkSet::default(),
                finished: None,
            };
            let known = || {
                let count = "SELECT count(*) FROM held";
                store.connection().query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
            };
            store.copy_begins(&table, &copy(4), true, None).unwrap();
            store.keep(&table, &[HeldRow { copied: true, ..held(4, 1, unreadable()) }], 0, "policy").unwrap();
            store.truncated(&table, &Position::from_bytes(&[6])).unwrap();
            // It may be read again while this copy goes on.
            store.copy_begins(&table, &copy(4), holds, None).unwrap();
            assert_eq!((store.count().unwrap(), known()), (0, 1));
            store.copy_begins(&table, &copy(8), holds, None).unwrap();
            assert_eq!(known(), 0);
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn what_only_waited_follows_by_itself() {
        let rows =
            [held(1, 1, unreadable()), held(2, 2, unreadable()), held(3, 1, Why::Behind), held(4, 2, Why::Behind)];
        let (store, table, folder) = store("follows", &rows);
        assert!(places(store.take(&table, &boundary(9), 1).unwrap()).is_empty());
        store.mark(&Choice::These(vec![1])).unwrap();
        assert_eq!(places(store.take(&table, &boundary(9), 2).unwrap()), [1, 3]);
        assert_eq!(store.discard(&Choice::These(vec![1, 3])).unwrap(), (0, 2), "they are on their way");
        store.released(&table).unwrap();
        assert_eq!(store.discard(&Choice::These(vec![2])).unwrap(), (1, 0));
        assert_eq!(places(store.take(&table, &boundary(9), 3).unwrap()), [4]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_waited_behind_a_refused_row_follows_when_that_goes() {
        let rows =
            [held(1, 1, unreadable()), held(2, 1, Why::Behind), held(3, 1, unreadable()), held(4, 1, Why::Behind)];
        let (store, table, folder) = store("behind", &rows);
        store.mark(&Choice::These(vec![1, 3])).unwrap();
        assert_eq!(places(store.take(&table, &boundary(9), 1).unwrap()), [1, 2, 3, 4]);
        store.refuse(&[(1, "cannot read the value".into())], &[2, 3, 4]).unwrap();
        assert!(places(store.take(&table, &boundary(9), 2).unwrap()).is_empty(), "none comes before the refused one");
        let states: Vec<_> =
            store.lines().unwrap().into_iter().map(|line| (line.state, line.refused.is_some())).collect();
        let state = |state: &str, refused| (state.to_owned(), refused);
        assert_eq!(states, [state("held", true), state("held", false), state("released", false), state("held", false)]);
        store.discard(&Choice::These(vec![1])).unwrap();
        assert_eq!(places(store.take(&table, &boundary(9), 3).unwrap()), [2, 3, 4]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
