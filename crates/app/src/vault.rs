//! Where vault codes are kept: a SQLite file in the project's state folder, written before the rows that carry the codes.
//!
//! The file maps a keyed index of a value to a random code; without the key file neither says anything about a value. Losing it means
//! that known values get new codes, so it belongs in the backup, like the key file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use change::{Error, Kind, Result};
use gate::Vault;
use rand::TryRngCore;
use rand::rngs::OsRng;
use rusqlite::{Connection, OptionalExtension, params};

/// The vault file.
pub(crate) struct VaultFile(Mutex<Connection>);

impl VaultFile {
    /// Opens or makes `vault.sqlite` in the folder, mode 0600.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened or is not a vault.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("vault.sqlite");
        let failed = |error: std::io::Error| unavailable(&path).source(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let connection = Connection::open(&path).map_err(|error| unavailable(&path).source(error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        // FULL: a code is durable before the row that carries it.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE IF NOT EXISTS code (
                     domain TEXT NOT NULL, value_index BLOB NOT NULL, code BLOB NOT NULL UNIQUE,
                     PRIMARY KEY (domain, value_index)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS vault (id TEXT NOT NULL);
                 INSERT INTO vault SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM vault);",
            )
            .map_err(|error| unavailable(&path).source(error))?;
        Ok(Self(Mutex::new(connection)))
    }
}

impl Vault for VaultFile {
    fn id(&self) -> Result<String> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.query_row("SELECT id FROM vault", [], |row| row.get(0)).map_err(broken)
    }

    fn codes(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<[u8; 16]>> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
                    .query_row(params![domain, index], |row| row.get::<_, [u8; 16]>(0))
                    .optional()
                    .map_err(broken)?;
                codes.push(match known {
                    Some(code) => code,
                    None => {
                        let code = fresh()?;
                        add.execute(params![domain, index, code]).map_err(broken)?;
                        code
                    }
                });
            }
        }
        transaction.commit().map_err(broken)?;
        Ok(codes)
    }

    fn find(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<[u8; 16]>>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut find = connection
            .prepare_cached("SELECT code FROM code WHERE domain = ?1 AND value_index = ?2")
            .map_err(broken)?;
        let code = |index| find.query_row(params![domain, index], |row| row.get(0)).optional().map_err(broken);
        index.iter().map(code).collect()
    }
}

impl VaultFile {
    /// Removes the codes of these values for good; tells how many there were. The file keeps no trace of them.
    ///
    /// # Errors
    /// `Unavailable` when the vault cannot be written.
    pub(crate) fn forget(&self, domain: &str, index: &[[u8; 32]]) -> Result<u64> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute_batch("PRAGMA secure_delete = ON;").map_err(broken)?;
        let transaction = connection.transaction().map_err(broken)?;
        let mut gone = 0;
        for index in index {
            let removed =
                transaction.execute("DELETE FROM code WHERE domain = ?1 AND value_index = ?2", params![domain, index]);
            gone += removed.map_err(broken)? as u64;
        }
        transaction.commit().map_err(broken)?;
        // The journal still has the pages as they were.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(broken)?;
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
    use super::*;

    #[test]
    fn a_code_never_changes_and_differs_by_value_and_domain() {
        let folder = std::env::temp_dir().join(format!("lockgate-vault-{}", std::process::id()));
        let vault = VaultFile::open(&folder).unwrap();
        let first = vault.codes("member", &[[1; 32], [2; 32], [1; 32]]).unwrap();
        assert_eq!(first[0], first[2]);
        assert_ne!(first[0], first[1]);
        assert_ne!(vault.codes("claim", &[[1; 32]]).unwrap()[0], first[0]);
        assert_eq!(vault.find("member", &[[1; 32], [9; 32]]).unwrap(), [Some(first[0]), None]);
        assert_eq!(vault.forget("member", &[[1; 32], [9; 32]]).unwrap(), 1);
        assert_eq!(vault.find("member", &[[1; 32]]).unwrap(), [None]);
        let held =
            |file: &str| std::fs::read(folder.join(file)).unwrap_or_default().windows(16).any(|code| code == first[0]);
        assert!(!held("vault.sqlite") && !held("vault.sqlite-wal"));
        drop(vault);
        assert_eq!(VaultFile::open(&folder).unwrap().codes("member", &[[2; 32]]).unwrap()[0], first[1]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
