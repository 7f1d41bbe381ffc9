//! Where vault codes are kept: a SQLite file in the project's state folder, written before the rows that carry the codes.
//!
//! The file maps a keyed index of a value to a random code. The codes are sealed: who has the file and the lake, and not the key, cannot
//! tell which of the lake's codes two projects or two columns have in common. Losing it means that known values get new codes, so it
//! belongs in the backup, like the key file. Codes that are numbers have a table of their own, with a keyed hash of each, so that no two values
//! of a domain get the same. A file of an older release, with codes in clear, is sealed when it is opened.

mod recent;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use change::{Error, Kind, Result};
use gate::{KeyRing, NumberMarks, Sealer, Vault, sealed_epoch};
use rusqlite::{Connection, OptionalExtension, Statement, TransactionBehavior, params};

use self::recent::Recent;
use crate::audit::random;

/// The vault file.
pub struct VaultFile {
    open: Mutex<Open>,
    /// `None` when the policy names no keys: then it has no codes either.
    keys: Option<KeyRing>,
}

struct Open {
    file: Connection,
    codes: Recent<16>,
    numbers: Recent<8>,
    /// What SQLite calls the file's state: another one when another program has written.
    version: Option<i64>,
}

impl Open {
    fn forget_recent(&mut self) {
        (self.codes, self.numbers) = (Recent::default(), Recent::default());
    }
}

const WHAT: &str = "vault codes";
/// Bytes of a code in clear, as older releases have stored it.
const CODE: usize = 16;

/// The file's name in the state folder.
const FILE: &str = "vault.sqlite";

impl VaultFile {
    /// Opens or makes `vault.sqlite` in the folder, mode 0600.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is not a vault.
    pub fn open(folder: &Path, keys: Option<KeyRing>) -> Result<Self> {
        let path = folder.join(FILE);
        let failed = |error: std::io::Error| unavailable(&path).source(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = Connection::open(&path).map_err(|error| unavailable(&path).source(error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        // FULL: a code is durable before the row that carries it.
        file.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
                 CREATE TABLE IF NOT EXISTS code (
                     domain TEXT NOT NULL, value_index BLOB NOT NULL, code BLOB NOT NULL,
                     PRIMARY KEY (domain, value_index)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS number (
                     domain TEXT NOT NULL, value_index BLOB NOT NULL, code BLOB NOT NULL, mark BLOB NOT NULL,
                     PRIMARY KEY (domain, value_index), UNIQUE (domain, mark)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS vault (id TEXT NOT NULL);
                 INSERT INTO vault SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM vault);",
        )
        .map_err(|error| unavailable(&path).source(error))?;
        let open = Open { file, codes: Recent::default(), numbers: Recent::default(), version: None };
        let vault = Self { open: Mutex::new(open), keys };
        vault.seal_clear_codes()?;
        Ok(vault)
    }

    fn sealer(&self) -> Result<Sealer<'_>> {
        self.keys.as_ref().map(|keys| keys.sealer(WHAT)).ok_or_else(no_keys)
    }

    /// Seals what an older release has left in clear, in one transaction, and lets nothing of it stay in the file.
    fn seal_clear_codes(&self) -> Result<()> {
        let Ok(sealer) = self.sealer() else { return Ok(()) };
        let connection = &mut self.locked().file;
        let clear: Vec<(String, Vec<u8>, [u8; CODE])> = {
            let mut find = connection
                .prepare("SELECT domain, value_index, code FROM code WHERE length(code) = ?1")
                .map_err(broken)?;
            let rows = find.query_map(params![CODE as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            rows.map_err(broken)?.collect::<rusqlite::Result<_>>().map_err(broken)?
        };
        if clear.is_empty() {
            return Ok(());
        }
        tracing::info!(codes = clear.len(), "the vault's codes are sealed");
        let transaction = connection.transaction().map_err(broken)?;
        for (domain, index, code) in clear {
            let record = sealer.seal(random()?, &Codes.context(&domain, &index), &code)?;
            let sql = "UPDATE code SET code = ?3 WHERE domain = ?1 AND value_index = ?2";
            transaction.execute(sql, params![domain, index, record]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        connection.execute_batch("VACUUM").map_err(broken)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)
    }
}

fn open<const N: usize>(sealer: &Sealer<'_>, context: &[u8], record: &[u8]) -> Result<[u8; N]> {
    let code = sealer.open(context, record)?;
    code.as_slice().try_into().map_err(|_| Error::new(Kind::Privacy, "a code of the vault has another length"))
}

fn no_keys() -> Error {
    Error::new(Kind::Privacy, "the vault's codes cannot be opened without keys")
}

impl Vault for VaultFile {
    fn id(&self) -> Result<String> {
        self.locked().file.query_row("SELECT id FROM vault", [], |row| row.get(0)).map_err(broken)
    }

    fn codes(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<[u8; 16]>> {
        let mut open = self.fresh()?;
        let Open { file, codes, .. } = &mut *open;
        codes.of(domain, index, |missing| self.given(file, Codes, domain, missing))
    }

    fn find(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<[u8; 16]>>> {
        self.known(&self.locked().file, Codes, domain, index)
    }

    fn numbers(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<i64>> {
        let mut open = self.fresh()?;
        let Open { file, numbers, .. } = &mut *open;
        let numbers = numbers.of(domain, index, |missing| self.given(file, Numbers, domain, missing))?;
        Ok(numbers.into_iter().map(i64::from_be_bytes).collect())
    }

    fn find_numbers(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<i64>>> {
        let numbers = self.known(&self.locked().file, Numbers, domain, index)?;
        Ok(numbers.into_iter().map(|number| number.map(i64::from_be_bytes)).collect())
    }
}

impl VaultFile {
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file, with nothing in memory that another program may have removed since.
    fn fresh(&self) -> Result<MutexGuard<'_, Open>> {
        let mut open = self.locked();
        let version = open.file.query_row("PRAGMA data_version", [], |row| row.get(0)).map_err(broken)?;
        if open.version.replace(version) != Some(version) {
            open.forget_recent();
        }
        Ok(open)
    }

    /// The codes that the file has.
    fn known<const N: usize>(
        &self,
        file: &Connection,
        kind: impl CodeKind<N>,
        domain: &str,
        index: &[[u8; 32]],
    ) -> Result<Vec<Option<[u8; N]>>> {
        let sealer = self.sealer()?;
        let sql = format!("SELECT code FROM {} WHERE domain = ?1 AND value_index = ?2", kind.table());
        let mut find = file.prepare_cached(&sql).map_err(broken)?;
        let mut code = |index: &[u8; 32]| {
            let record: Option<Vec<u8>> =
                find.query_row(params![domain, index], |row| row.get(0)).optional().map_err(broken)?;
            record.map(|record| open(&sealer, &kind.context(domain, index), &record)).transpose()
        };
        index.iter().map(&mut code).collect()
    }

    /// The codes of these values, made where there is none. They are durable when this returns.
    fn given<const N: usize>(
        &self,
        file: &mut Connection,
        kind: impl CodeKind<N>,
        domain: &str,
        index: &[[u8; 32]],
    ) -> Result<Vec<[u8; N]>> {
        let known = self.known(file, kind, domain, index)?;
        if let Some(all) = known.into_iter().collect() {
            return Ok(all);
        }
        let (sealer, marks) = (self.sealer()?, self.marks(domain)?);
        // Nobody else writes meanwhile: what is not there now is made here.
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let mut codes = Vec::with_capacity(index.len());
        {
            let known = self.known(&transaction, kind, domain, index)?;
            let mut add = transaction.prepare_cached(kind.insert()).map_err(broken)?;
            let mut made: HashMap<&[u8; 32], [u8; N]> = HashMap::new();
            for (index, known) in index.iter().zip(known) {
                if let Some(code) = known.or_else(|| made.get(index).copied()) {
                    codes.push(code);
                    continue;
                }
                let code = loop {
                    let code = kind.fresh()?;
                    let record = sealer.seal(random()?, &kind.context(domain, index), &code)?;
                    // Else another value has the number.
                    if kind.add(&mut add, (domain, index), (&code, &record), &marks).map_err(broken)? > 0 {
                        break code;
                    }
                };
                made.insert(index, code);
                codes.push(code);
            }
        }
        transaction.commit().map_err(broken)?;
        Ok(codes)
    }

    fn marks(&self, domain: &str) -> Result<NumberMarks> {
        self.keys.as_ref().ok_or_else(no_keys)?.number_marks(domain)
    }
}

/// What the file keeps codes of one length as.
trait CodeKind<const N: usize>: Copy {
    fn table(self) -> &'static str;

    fn insert(self) -> &'static str;

    /// A code opens in its own place only.
    fn context(self, domain: &str, index: &[u8]) -> Vec<u8>;

    fn fresh(self) -> Result<[u8; N]>;

    /// Adds a code and its sealed record for a domain and index by [`CodeKind::insert`]; how many rows that made.
    fn add(
        self,
        insert: &mut Statement<'_>,
        place: (&str, &[u8; 32]),
        code: (&[u8; N], &[u8]),
        marks: &NumberMarks,
    ) -> rusqlite::Result<usize>;
}

/// Codes of 128 bits. Two of them that are the same do not happen.
#[derive(Clone, Copy)]
struct Codes;

impl CodeKind<16> for Codes {
    fn table(self) -> &'static str {
        "code"
    }

    fn insert(self) -> &'static str {
        "INSERT INTO code (domain, value_index, code) VALUES (?1, ?2, ?3)"
    }

    fn context(self, domain: &str, index: &[u8]) -> Vec<u8> {
        [domain.as_bytes(), &[0], index].concat()
    }

    fn fresh(self) -> Result<[u8; 16]> {
        random()
    }

    fn add(
        self,
        insert: &mut Statement<'_>,
        (domain, index): (&str, &[u8; 32]),
        (_, record): (&[u8; 16], &[u8]),
        _: &NumberMarks,
    ) -> rusqlite::Result<usize> {
        insert.execute(params![domain, index, record])
    }
}

/// Numbers above zero, of 63 bits: among thousands of millions two are the same by chance.
#[derive(Clone, Copy)]
struct Numbers;

impl CodeKind<8> for Numbers {
    fn table(self) -> &'static str {
        "number"
    }

    fn insert(self) -> &'static str {
        "INSERT INTO number (domain, value_index, code, mark) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (domain, mark) DO NOTHING"
    }

    fn context(self, domain: &str, index: &[u8]) -> Vec<u8> {
        [domain.as_bytes(), &[1], index].concat()
    }

    fn fresh(self) -> Result<[u8; 8]> {
        loop {
            let number = i64::from_be_bytes(random()?) & i64::MAX;
            if number > 0 {
                return Ok(number.to_be_bytes());
            }
        }
    }

    fn add(
        self,
        insert: &mut Statement<'_>,
        (domain, index): (&str, &[u8; 32]),
        (number, record): (&[u8; 8], &[u8]),
        marks: &NumberMarks,
    ) -> rusqlite::Result<usize> {
        insert.execute(params![domain, index, record, marks.of(i64::from_be_bytes(*number))])
    }
}

impl VaultFile {
    /// Seals every code under the current epoch of the key; tells how many were under another. No code changes.
    ///
    /// # Errors
    /// `Privacy` when a code does not open; `Unavailable` when the vault cannot be written: nothing has changed then.
    pub(crate) fn seal_anew(&self) -> Result<u64> {
        let Ok(sealer) = self.sealer() else { return Ok(0) };
        let file = &mut self.locked().file;
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let anew = all_anew(&transaction, &sealer, Codes)? + all_anew(&transaction, &sealer, Numbers)?;
        transaction.commit().map_err(broken)?;
        cut_journal(file, FILE)?;
        Ok(anew)
    }

    /// The epochs under which codes are sealed.
    ///
    /// # Errors
    /// `Unavailable` when the vault cannot be read.
    pub(crate) fn epochs(&self) -> Result<BTreeSet<u32>> {
        let file = &self.locked().file;
        let sql = "SELECT substr(code, 1, 5) FROM code UNION SELECT substr(code, 1, 5) FROM number";
        let mut all = file.prepare(sql).map_err(broken)?;
        let heads = all.query_map([], |row| row.get::<_, Vec<u8>>(0)).map_err(broken)?;
        let heads: Vec<Vec<u8>> = heads.collect::<rusqlite::Result<_>>().map_err(broken)?;
        Ok(heads.iter().filter_map(|head| sealed_epoch(head)).collect())
    }

    /// Removes the codes of these values for good; tells how many there were. The file keeps no trace of them.
    ///
    /// # Errors
    /// `Unavailable` when the vault cannot be written.
    pub(crate) fn forget(&self, domain: &str, index: &[[u8; 32]]) -> Result<u64> {
        let mut open = self.locked();
        open.forget_recent();
        let transaction = open.file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let mut gone = 0;
        for table in [Codes.table(), Numbers.table()] {
            let sql = format!("DELETE FROM {table} WHERE domain = ?1 AND value_index = ?2");
            let mut remove = transaction.prepare(&sql).map_err(broken)?;
            for index in index {
                gone += remove.execute(params![domain, index]).map_err(broken)? as u64;
            }
        }
        transaction.commit().map_err(broken)?;
        // The journal still has the pages as they were.
        cut_journal(&open.file, FILE)?;
        Ok(gone)
    }
}

fn all_anew<const N: usize>(file: &Connection, sealer: &Sealer<'_>, kind: impl CodeKind<N>) -> Result<u64> {
    let table = kind.table();
    let mut all = file.prepare(&format!("SELECT domain, value_index, code FROM {table}")).map_err(broken)?;
    let sql = format!("UPDATE {table} SET code = ?3 WHERE domain = ?1 AND value_index = ?2");
    let mut put = file.prepare(&sql).map_err(broken)?;
    let (mut rows, mut anew) = (all.query([]).map_err(broken)?, 0);
    while let Some(row) = rows.next().map_err(broken)? {
        let (domain, index, record): (String, Vec<u8>, Vec<u8>) = row.try_into().map_err(broken)?;
        if let Some(record) = sealer.seal_anew(random()?, &kind.context(&domain, &index), &record)? {
            put.execute(params![domain, index, record]).map_err(broken)?;
            anew += 1;
        }
    }
    Ok(anew)
}

/// The journal of a SQLite file keeps pages as they were: cuts it, so that what was removed or sealed anew is nowhere.
///
/// # Errors
/// `Unavailable` when another program has the file open, and old pages may still be there.
pub(crate) fn cut_journal(file: &Connection, name: &str) -> Result<()> {
    let failed = || Error::new(Kind::Unavailable, format!("the journal of {name} could not be cut"));
    let busy: i64 = file
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|error| failed().source(error))?;
    match busy {
        0 => Ok(()),
        _ => Err(failed().fix("Another program has the file open: end it, then do this again.")),
    }
}

fn broken(error: rusqlite::Error) -> Error {
    Error::new(Kind::Unavailable, "the vault of codes cannot be read or written")
        .source(error)
        .fix("Free disk space, or restore vault.sqlite.")
}

fn unavailable(path: &Path) -> Error {
    Error::new(Kind::Unavailable, format!("cannot open the vault of codes {}", path.display()))
        .fix("Restore the file from the backup; a new one gives known values new codes.")
}

#[cfg(test)]
mod tests;
