//! Where vault codes are kept: a SQLite file in the project's state folder, written before the rows that carry the codes.
//!
//! The file maps a keyed index of a value to a random code. The codes are sealed: who has the file and the lake, and not the key, cannot
//! tell which of the lake's codes two projects or two columns have in common. Losing it means that known values get new codes, so it
//! belongs in the backup, like the key file. A file of an older release, with codes in clear, is sealed when it is opened.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use change::{Error, Kind, Result};
use gate::{KeyRing, Sealer, Vault, sealed_epoch};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rusqlite::{Connection, OptionalExtension, params};

/// The vault file.
pub(crate) struct VaultFile {
    connection: Mutex<Connection>,
    /// `None` when the policy names no keys: then it has no codes either.
    keys: Option<KeyRing>,
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
    pub(crate) fn open(folder: &Path, keys: Option<KeyRing>) -> Result<Self> {
        let path = folder.join(FILE);
        let failed = |error: std::io::Error| unavailable(&path).source(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let connection = Connection::open(&path).map_err(|error| unavailable(&path).source(error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        // FULL: a code is durable before the row that carries it.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
                 CREATE TABLE IF NOT EXISTS code (
                     domain TEXT NOT NULL, value_index BLOB NOT NULL, code BLOB NOT NULL,
                     PRIMARY KEY (domain, value_index)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS vault (id TEXT NOT NULL);
                 INSERT INTO vault SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM vault);",
            )
            .map_err(|error| unavailable(&path).source(error))?;
        let vault = Self { connection: Mutex::new(connection), keys };
        vault.seal_clear_codes()?;
        Ok(vault)
    }

    fn sealer(&self) -> Result<Sealer<'_>> {
        let keys = self.keys.as_ref();
        let missing = || Error::new(Kind::Privacy, "the vault's codes cannot be opened without keys");
        keys.map(|keys| keys.sealer(WHAT)).ok_or_else(missing)
    }

    /// Seals what an older release has left in clear, in one transaction, and lets nothing of it stay in the file.
    fn seal_clear_codes(&self) -> Result<()> {
        let Ok(sealer) = self.sealer() else { return Ok(()) };
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
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
            let record = seal(&sealer, &domain, &index, code)?;
            let sql = "UPDATE code SET code = ?3 WHERE domain = ?1 AND value_index = ?2";
            transaction.execute(sql, params![domain, index, record]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        connection.execute_batch("VACUUM").map_err(broken)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)
    }
}

fn seal(sealer: &Sealer<'_>, domain: &str, index: &[u8], code: [u8; CODE]) -> Result<Vec<u8>> {
    sealer.seal(fresh()?, &context(domain, index), &code)
}

fn open(sealer: &Sealer<'_>, domain: &str, index: &[u8], record: &[u8]) -> Result<[u8; CODE]> {
    let code = sealer.open(&context(domain, index), record)?;
    code.as_slice().try_into().map_err(|_| Error::new(Kind::Privacy, "a code of the vault has another length"))
}

/// A code opens in its own place only.
fn context(domain: &str, index: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), &[0], index].concat()
}

impl Vault for VaultFile {
    fn id(&self) -> Result<String> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("SELECT id FROM vault", [], |row| row.get(0)).map_err(broken)
    }

    fn codes(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<[u8; 16]>> {
        let sealer = self.sealer()?;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().map_err(broken)?;
        let mut codes = Vec::with_capacity(index.len());
        {
            let mut find = transaction
                .prepare_cached("SELECT code FROM code WHERE domain = ?1 AND value_index = ?2")
                .map_err(broken)?;
            let mut add = transaction
                .prepare_cached("INSERT INTO code (domain, value_index, code) VALUES (?1, ?2, ?3)")
                .map_err(broken)?;
            for index in index {
                let known = find
                    .query_row(params![domain, index], |row| row.get::<_, Vec<u8>>(0))
                    .optional()
                    .map_err(broken)?;
                codes.push(match known {
                    Some(record) => open(&sealer, domain, index, &record)?,
                    None => {
                        let code = fresh()?;
                        let record = seal(&sealer, domain, index, code)?;
                        add.execute(params![domain, index, record]).map_err(broken)?;
                        code
                    }
                });
            }
        }
        transaction.commit().map_err(broken)?;
        Ok(codes)
    }

    fn find(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<[u8; 16]>>> {
        let sealer = self.sealer()?;
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut find = connection
            .prepare_cached("SELECT code FROM code WHERE domain = ?1 AND value_index = ?2")
            .map_err(broken)?;
        let mut code = |index: &[u8; 32]| {
            let record: Option<Vec<u8>> =
                find.query_row(params![domain, index], |row| row.get(0)).optional().map_err(broken)?;
            record.map(|record| open(&sealer, domain, index, &record)).transpose()
        };
        index.iter().map(&mut code).collect()
    }
}

impl VaultFile {
    /// Seals every code under the current epoch of the key; tells how many were under another. No code changes.
    ///
    /// # Errors
    /// `Privacy` when a code does not open; `Unavailable` when the vault cannot be written: nothing has changed then.
    pub(crate) fn seal_anew(&self) -> Result<u64> {
        let Ok(sealer) = self.sealer() else { return Ok(0) };
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().map_err(broken)?;
        let mut anew = 0;
        {
            let mut all = transaction.prepare("SELECT domain, value_index, code FROM code").map_err(broken)?;
            let mut put = transaction
                .prepare("UPDATE code SET code = ?3 WHERE domain = ?1 AND value_index = ?2")
                .map_err(broken)?;
            let mut rows = all.query([]).map_err(broken)?;
            while let Some(row) = rows.next().map_err(broken)? {
                let (domain, index, record): (String, Vec<u8>, Vec<u8>) = row.try_into().map_err(broken)?;
                if let Some(record) = sealer.seal_anew(fresh()?, &context(&domain, &index), &record)? {
                    put.execute(params![domain, index, record]).map_err(broken)?;
                    anew += 1;
                }
            }
        }
        transaction.commit().map_err(broken)?;
        cut_journal(&connection, FILE)?;
        Ok(anew)
    }

    /// The epochs under which codes are sealed.
    ///
    /// # Errors
    /// `Unavailable` when the vault cannot be read.
    pub(crate) fn epochs(&self) -> Result<BTreeSet<u32>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = connection.prepare("SELECT DISTINCT substr(code, 1, 5) FROM code").map_err(broken)?;
        let heads = all.query_map([], |row| row.get::<_, Vec<u8>>(0)).map_err(broken)?;
        let heads: Vec<Vec<u8>> = heads.collect::<rusqlite::Result<_>>().map_err(broken)?;
        Ok(heads.iter().filter_map(|head| sealed_epoch(head)).collect())
    }

    /// Removes the codes of these values for good; tells how many there were. The file keeps no trace of them.
    ///
    /// # Errors
    /// `Unavailable` when the vault cannot be written.
    pub(crate) fn forget(&self, domain: &str, index: &[[u8; 32]]) -> Result<u64> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction().map_err(broken)?;
        let mut gone = 0;
        for index in index {
            let removed =
                transaction.execute("DELETE FROM code WHERE domain = ?1 AND value_index = ?2", params![domain, index]);
            gone += removed.map_err(broken)? as u64;
        }
        transaction.commit().map_err(broken)?;
        // The journal still has the pages as they were.
        cut_journal(&connection, FILE)?;
        Ok(gone)
    }
}

fn fresh() -> Result<[u8; 16]> {
    let mut code = [0_u8; 16];
    OsRng.try_fill_bytes(&mut code).map_err(|error| {
        Error::new(Kind::Unavailable, "the system gave no random numbers for a vault code").source(error)
    })?;
    Ok(code)
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
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn keys(seed: u8) -> Option<KeyRing> {
        let bytes = Zeroizing::new(std::array::from_fn(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)));
        Some(KeyRing::parse(&KeyRing::generate("test", bytes).unwrap()).unwrap())
    }

    fn folder(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("lockgate-vault-{name}-{}", std::process::id()))
    }

    fn is_in_a_file(folder: &Path, code: &[u8]) -> bool {
        let holds = |path: &Path| std::fs::read(path).unwrap().windows(CODE).any(|window| window == code);
        std::fs::read_dir(folder).unwrap().any(|entry| holds(&entry.unwrap().path()))
    }

    #[test]
    fn a_code_never_changes_differs_by_value_and_domain_and_is_not_in_the_file() {
        let folder = folder("codes");
        let vault = VaultFile::open(&folder, keys(1)).unwrap();
        let first = vault.codes("member", &[[1; 32], [2; 32], [1; 32]]).unwrap();
        assert_eq!(first[0], first[2]);
        assert_ne!(first[0], first[1]);
        assert_ne!(vault.codes("claim", &[[1; 32]]).unwrap()[0], first[0]);
        assert_eq!(vault.find("member", &[[1; 32], [9; 32]]).unwrap(), [Some(first[0]), None]);
        assert_eq!(vault.forget("member", &[[1; 32], [9; 32]]).unwrap(), 1);
        assert_eq!(vault.find("member", &[[1; 32]]).unwrap(), [None]);
        assert!(!is_in_a_file(&folder, &first[0]));
        drop(vault);
        assert_eq!(VaultFile::open(&folder, keys(1)).unwrap().codes("member", &[[2; 32]]).unwrap()[0], first[1]);
        let other = VaultFile::open(&folder, keys(2)).unwrap().codes("member", &[[2; 32]]).unwrap_err();
        assert_eq!(other.kind(), Kind::Privacy);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn codes_that_an_older_release_left_in_clear_are_sealed_and_stay_the_same() {
        let folder = folder("clear");
        drop(VaultFile::open(&folder, None).unwrap());
        let connection = Connection::open(folder.join("vault.sqlite")).unwrap();
        connection.execute("INSERT INTO code VALUES ('member', ?1, ?2)", params![[1_u8; 32], [0xab_u8; 16]]).unwrap();
        drop(connection);
        assert!(is_in_a_file(&folder, &[0xab; 16]));
        let vault = VaultFile::open(&folder, keys(1)).unwrap();
        assert_eq!(vault.codes("member", &[[1; 32]]).unwrap(), [[0xab; 16]]);
        assert!(!is_in_a_file(&folder, &[0xab; 16]));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
