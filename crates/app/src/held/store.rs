//! The file of held rows: SQLite in the project's state folder. Raw values are in it as sealed records only.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use change::{Error, Kind, Position, Result, TableName, Timestamp};
use gate::{HeldIndex, HeldRow, RowKey, Why};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The store of one project.
pub struct HeldStore(Mutex<Connection>);

const FILE: &str = "held.sqlite";
/// Held rows of one table above which somebody has to look before more come.
const ROWS_MAX: i64 = 100_000;

/// An empty key in `passed_at` stands for every one. `state`: `held`, `released` (marked by a user), `taken` (part of a release that is on its way), `gone` (known, not held).
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
    CREATE TABLE IF NOT EXISTS held (
        id INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT NOT NULL, position BLOB NOT NULL, last BLOB NOT NULL,
        copied INTEGER NOT NULL, keys BLOB NOT NULL, op TEXT NOT NULL, column_name TEXT, transform TEXT, whole INTEGER NOT NULL,
        committed_at INTEGER NOT NULL, held_at INTEGER NOT NULL, policy TEXT NOT NULL, state TEXT NOT NULL, refused TEXT,
        release_number INTEGER, record BLOB);
    CREATE UNIQUE INDEX IF NOT EXISTS held_streamed ON held (tbl, position) WHERE copied = 0;
    CREATE UNIQUE INDEX IF NOT EXISTS held_copied ON held (tbl, keys) WHERE copied = 1;
    CREATE TABLE IF NOT EXISTS release_begun (tbl TEXT PRIMARY KEY, number INTEGER NOT NULL, boundary TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS copy_watched (tbl TEXT PRIMARY KEY, low BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS passed_at (tbl TEXT NOT NULL, key BLOB NOT NULL, position BLOB NOT NULL, PRIMARY KEY (tbl, key)) WITHOUT ROWID;";

/// What anybody may know of a held row.
#[derive(Clone, Debug)]
pub struct HeldLine {
    /// The number that commands know it by.
    pub id: i64,
    /// Its table.
    pub table: TableName,
    /// Where it was; of a change of key, where the first half was.
    pub position: Position,
    /// What happened, as the change log spells it.
    pub op: String,
    /// The unreadable column and its transform; `None` for a row that waits behind another.
    pub unreadable: Option<(String, String)>,
    /// Microseconds since the Unix epoch.
    pub committed_at: Timestamp,
    /// Microseconds since the Unix epoch.
    pub held_at: Timestamp,
    /// SHA-256 of the policy that it was held under.
    pub policy: String,
    /// `held`, `released` or `taken`.
    pub state: String,
    /// Why a release did not let it in.
    pub refused: Option<String>,
    /// Whether it needs no earlier row to be complete.
    pub whole: bool,
    /// The keyed hashes of its key; two for a change of key.
    pub keys: Vec<RowKey>,
}

/// Which held rows a command is about.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Every one.
    All,
    /// Those with these numbers.
    These(Vec<i64>),
}

impl Choice {
    pub(crate) fn takes(&self, id: i64) -> bool {
        match self {
            Choice::All => true,
            Choice::These(ids) => ids.contains(&id),
        }
    }
}

impl HeldStore {
    /// Opens or makes `held.sqlite` in the folder, mode 0600.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is something else.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let failed = || Error::new(Kind::Unavailable, format!("cannot open the held rows {}", path.display()));
        std::fs::create_dir_all(folder).map_err(|error| failed().source(error))?;
        let connection = Connection::open(&path).map_err(|error| failed().source(error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed().source(error))?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(|error| failed().source(error))?;
        connection.execute_batch(SCHEMA).map_err(|error| failed().source(error))?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Opens the store when there is one.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is something else.
    pub fn existing(folder: &Path) -> Result<Option<Self>> {
        if folder.join(FILE).exists() { Self::open(folder).map(Some) } else { Ok(None) }
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that differs after another process has written.
    pub(crate) fn version(&self) -> Result<i64> {
        self.connection().query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(broken)
    }

    /// What the gate has to know of a table. `taken_wait`: rows of a release that was begun hold up others.
    pub(crate) fn index(&self, table: &TableName, taken_wait: bool) -> Result<HeldIndex> {
        let connection = self.connection();
        let mut index = HeldIndex::default();
        let mut rows = connection
            .prepare("SELECT position, last, copied, keys, state FROM held WHERE tbl = ?1")
            .map_err(broken)?;
        let mut rows = rows.query(params![name(table)?]).map_err(broken)?;
        while let Some(row) = rows.next().map_err(broken)? {
            let (first, last) = (position(row, 0)?, position(row, 1)?);
            let (keys, state) = (keys(row, 3)?, row.get::<_, String>(4).map_err(broken)?);
            let held = state != "gone" && (state != "taken" || taken_wait);
            match (row.get::<_, bool>(2).map_err(broken)?, keys.as_slice()) {
                (true, [key, ..]) => index.add_copied(first, *key, held),
                _ => index.add_streamed(first, last, &keys, held),
            }
        }
        Ok(index)
    }

    /// Makes rows durable, each once. A copied row of which a change has passed beside the copy is out of date and is not kept; a copied
    /// row that was read again replaces the one that is held. Returns the places of those that are out of date.
    ///
    /// # Errors
    /// `Data` when the table has too many held rows.
    pub(crate) fn keep(&self, table: &TableName, rows: &[HeldRow], at: Timestamp, policy: &str) -> Result<Vec<usize>> {
        let (tbl, mut connection) = (name(table)?, self.connection());
        let transaction = connection.transaction().map_err(broken)?;
        let mut out_of_date = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let bytes = flat(&row.keys);
            if row.copied {
                let passed = "SELECT 1 FROM passed_at WHERE tbl = ?1 AND key IN (?2, x'') AND position > ?3";
                let low = row.position.as_bytes();
                let found = transaction.query_row(passed, params![tbl, bytes, low], |_| Ok(())).optional();
                if found.map_err(broken)?.is_some() {
                    out_of_date.push(place);
                    continue;
                }
                let again =
                    "DELETE FROM held WHERE tbl = ?1 AND keys = ?2 AND copied = 1 AND state IN ('held', 'released')";
                transaction.execute(again, params![tbl, bytes]).map_err(broken)?;
            }
            let (column, transform) = match &row.why {
                Why::Unreadable { column, transform } => (Some(column), Some(transform)),
                Why::Behind => (None, None),
            };
            let values = params![
                tbl,
                row.position.as_bytes(),
                row.last.as_bytes(),
                row.copied,
                bytes,
                row.op.letter(),
                column,
                transform,
                row.whole,
                row.committed_at,
                at,
                policy,
                row.sealed
            ];
            let insert = "INSERT OR IGNORE INTO held (tbl, position, last, copied, keys, op, column_name, transform, whole, committed_at,
                held_at, policy, record, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'held')";
            transaction.execute(insert, values).map_err(broken)?;
        }
        let count = "SELECT count(*) FROM held WHERE tbl = ?1 AND state <> 'gone'";
        let count: i64 = transaction.query_row(count, params![tbl], |row| row.get(0)).map_err(broken)?;
        transaction.commit().map_err(broken)?;
        if count > ROWS_MAX {
            return Err(Error::new(Kind::Data, format!("more than {ROWS_MAX} rows are held"))
                .fix("Look at them (lockgate held list), then release or drop them."));
        }
        Ok(out_of_date)
    }

    /// Rows that are held or marked for release, by table and position.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read.
    pub fn lines(&self) -> Result<Vec<HeldLine>> {
        let connection = self.connection();
        let sql = "SELECT id, tbl, position, op, column_name, transform, committed_at, held_at, policy, state, refused, whole, keys
            FROM held WHERE state <> 'gone' ORDER BY tbl, position, id";
        let mut statement = connection.prepare(sql).map_err(broken)?;
        let mut rows = statement.query([]).map_err(broken)?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next().map_err(broken)? {
            let column: Option<String> = row.get(4).map_err(broken)?;
            let transform: Option<String> = row.get(5).map_err(broken)?;
            lines.push(HeldLine {
                id: row.get(0).map_err(broken)?,
                table: named(&row.get::<_, String>(1).map_err(broken)?)?,
                position: position(row, 2)?,
                op: row.get(3).map_err(broken)?,
                unreadable: column.zip(transform),
                committed_at: row.get(6).map_err(broken)?,
                held_at: row.get(7).map_err(broken)?,
                policy: row.get(8).map_err(broken)?,
                state: row.get(9).map_err(broken)?,
                refused: row.get(10).map_err(broken)?,
                whole: row.get(11).map_err(broken)?,
                keys: keys(row, 12)?,
            });
        }
        Ok(lines)
    }

    /// How many rows are held.
    pub(crate) fn count(&self) -> Result<u64> {
        Ok(self.counts()?.into_values().sum())
    }

    /// How many rows of each table are held.
    pub(crate) fn counts(&self) -> Result<BTreeMap<TableName, u64>> {
        let mut counts = BTreeMap::new();
        for line in self.lines()? {
            *counts.entry(line.table).or_default() += 1;
        }
        Ok(counts)
    }

    /// How many rows of a table are held.
    pub(crate) fn rows_of(&self, table: &TableName) -> Result<u64> {
        let sql = "SELECT count(*) FROM held WHERE tbl = ?1 AND state <> 'gone'";
        let rows: i64 = self.connection().query_row(sql, params![name(table)?], |row| row.get(0)).map_err(broken)?;
        Ok(rows.unsigned_abs())
    }

    /// Whether rows of a table are held that the lake is beyond, when it stands at `through`. What was read by a copy that goes on, or stood above,
    /// may have been held by a process that was killed before it could say so in the lake.
    pub(crate) fn is_overtaken(&self, table: &TableName, through: &Position, copying: bool) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM held WHERE tbl = ?1 AND state <> 'gone'
            AND (copied = 0 AND last <= ?2 OR copied = 1 AND NOT ?3))";
        let asked = params![name(table)?, through.as_bytes(), copying];
        self.connection().query_row(sql, asked, |row| row.get(0)).map_err(broken)
    }

    /// The sealed record of a row that is held.
    pub(crate) fn record(&self, id: i64) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT record FROM held WHERE id = ?1 AND record IS NOT NULL";
        self.connection().query_row(sql, params![id], |row| row.get(0)).optional().map_err(broken)
    }

    /// Puts the same rows, sealed under another epoch of the key, in place of their records.
    pub(crate) fn put_records(&self, records: &[(i64, Vec<u8>)]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        for (id, record) in records {
            let sql = "UPDATE held SET record = ?2 WHERE id = ?1 AND record IS NOT NULL";
            transaction.execute(sql, params![id, record]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)
    }

    /// Whether the keys of rows are known: those of held ones, of those that were, and of those that passed beside a copy.
    pub(crate) fn knows_keys(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM held) OR EXISTS (SELECT 1 FROM passed_at)";
        self.connection().query_row(sql, [], |row| row.get(0)).map_err(broken)
    }

    /// Erases the records of rows, but for those that are on their way into the lake; that they were there stays known. Says how many went.
    pub(crate) fn erase(&self, ids: &[i64]) -> Result<usize> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(broken)?;
        let mut gone = 0;
        for id in ids {
            let sql = "UPDATE held SET state = 'gone', record = NULL WHERE id = ?1 AND state NOT IN ('taken', 'gone')";
            gone += transaction.execute(sql, params![id]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        // What was erased must not be left in the log beside the file.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)?;
        Ok(gone)
    }

    /// Gives rows up. Those that a release has taken go into the lake all the same: returns how many of the chosen ones went, and how many
    /// are on their way.
    ///
    /// # Errors
    /// `Config` when a row that stays would have lost what it stands on; `Unavailable` when the file cannot be read or written.
    pub fn discard(&self, choice: &Choice) -> Result<(usize, usize)> {
        let (mut bare, mut chosen) = (BTreeSet::new(), Vec::new());
        for line in self.lines()? {
            let stands = line.whole || !line.keys.iter().any(|key| bare.contains(&(line.table.clone(), *key)));
            let keys = line.keys.iter().map(|key| (line.table.clone(), *key));
            if choice.takes(line.id) {
                bare.extend(keys);
                chosen.push(line.id);
            } else if stands {
                for key in keys {
                    bare.remove(&key);
                }
            } else {
                let what = format!("row {} leaves out values that are in a row to be dropped", line.id);
                return Err(Error::new(Kind::Config, what).fix(format!("Drop {} as well, or release both.", line.id)));
            }
        }
        let gone = self.erase(&chosen)?;
        Ok((gone, chosen.len() - gone))
    }

    /// Rows held since before `before`, and those behind them that are not whole: they would have nothing to stand on.
    pub(crate) fn expired(&self, before: Timestamp) -> Result<Vec<HeldLine>> {
        let (mut gone, mut bare) = (Vec::new(), BTreeSet::new());
        for line in self.lines()? {
            let stands = line.whole || !line.keys.iter().any(|key| bare.contains(&(line.table.clone(), *key)));
            let old = line.held_at < before && line.state == "held";
            if old || !stands {
                bare.extend(line.keys.iter().map(|key| (line.table.clone(), *key)));
                gone.push(line);
            } else {
                for key in &line.keys {
                    bare.remove(&(line.table.clone(), *key));
                }
            }
        }
        Ok(gone)
    }
}

pub(super) fn name(table: &TableName) -> Result<String> {
    serde_json::to_string(table).map_err(|error| Error::new(Kind::Bug, "a table's name is not JSON").source(error))
}

fn named(text: &str) -> Result<TableName> {
    serde_json::from_str(text).map_err(|_| Error::new(Kind::Data, "the held rows name a table that cannot be read"))
}

pub(super) fn flat(keys: &[RowKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_bytes()).collect()
}

pub(super) fn keys(row: &Row<'_>, column: usize) -> Result<Vec<RowKey>> {
    let bytes: Vec<u8> = row.get(column).map_err(broken)?;
    Ok(bytes.as_chunks::<16>().0.iter().map(|key| RowKey::from_bytes(*key)).collect())
}

pub(super) fn position(row: &Row<'_>, column: usize) -> Result<Position> {
    row.get::<_, Vec<u8>>(column).map(|bytes| Position::from_bytes(&bytes)).map_err(broken)
}

pub(super) fn broken(error: rusqlite::Error) -> Error {
    Error::new(Kind::Unavailable, "the held rows cannot be read or written")
        .source(error)
        .fix("Free disk space, or restore held.sqlite.")
}
