//! Where the data keys of encrypted cells are kept: a SQLite file in the project's state folder, written before the rows that carry the cells.
//!
//! The file maps the keyed index of a person to a random key, sealed with the project's keys: the file alone opens nothing. Losing it means
//! that no cell opens again, so it belongs in the backup, and a copy of it keeps what an erasure destroys: let copies expire. Of a person whose
//! key was destroyed the index stays, so that no key is made anew.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use change::{Error, Kind, Result};
use gate::{CellKey, CellKeys, KeyRing, Sealer, sealed_epoch};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::audit::random;
use crate::vault::cut_journal;

/// The file's name in the state folder.
const FILE: &str = "cells.sqlite";
const WHAT: &str = "data keys of cells";
/// Opened keys that are kept in memory, about 10 MiB; then all are let go.
const CACHED_MAX: usize = 65_536;

/// A domain and the index of a person in it.
type Person = (String, [u8; 32]);

/// The store of data keys.
pub(crate) struct CellStore {
    file: Mutex<Connection>,
    keys: KeyRing,
    cache: Mutex<HashMap<Person, Arc<CellKey>>>,
}

impl CellStore {
    /// Opens or makes `cells.sqlite` in the folder, mode 0600.
    ///
    /// # Errors
    /// `Privacy` without keys to seal with, `Unavailable` when the file cannot be opened or is no such store.
    pub(crate) fn open(folder: &Path, keys: Option<KeyRing>) -> Result<Self> {
        let keys = keys.ok_or_else(|| {
            Error::new(Kind::Privacy, "data keys of cells cannot be sealed without keys")
                .fix("Add `keys: file:./keys/dev.key` to the policy.")
        })?;
        let path = folder.join(FILE);
        let failed = |error: std::io::Error| unavailable(&path).source(error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = Connection::open(&path).map_err(|error| unavailable(&path).source(error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        // FULL: a key is durable before the row that carries the cell.
        file.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             CREATE TABLE IF NOT EXISTS data_key (
                 domain TEXT NOT NULL, person BLOB NOT NULL, id BLOB, record BLOB,
                 PRIMARY KEY (domain, person)) WITHOUT ROWID;
             CREATE UNIQUE INDEX IF NOT EXISTS data_key_id ON data_key (domain, id) WHERE id IS NOT NULL;
             CREATE TABLE IF NOT EXISTS store (id TEXT NOT NULL);
             INSERT INTO store SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT * FROM store);",
        )
        .map_err(|error| unavailable(&path).source(error))?;
        Ok(Self { file: Mutex::new(file), keys, cache: Mutex::default() })
    }

    /// Destroys the keys of these persons for good, and lets none be made again; tells how many keys there were. The file keeps no trace.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be written, or somebody else has it open: then old pages may still be in its journal.
    pub(crate) fn destroy(&self, domain: &str, persons: &[[u8; 32]]) -> Result<u64> {
        let mut file = self.locked();
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let mut destroyed = 0;
        for person in persons {
            let sql =
                "UPDATE data_key SET id = NULL, record = NULL WHERE domain = ?1 AND person = ?2 AND id IS NOT NULL";
            destroyed += transaction.execute(sql, params![domain, person]).map_err(broken)? as u64;
            let sql = "INSERT OR IGNORE INTO data_key (domain, person) VALUES (?1, ?2)";
            transaction.execute(sql, params![domain, person]).map_err(broken)?;
        }
        transaction.commit().map_err(broken)?;
        cut_journal(&file, FILE)?;
        self.cached().clear();
        Ok(destroyed)
    }

    /// Opens the store when there is one.
    ///
    /// # Errors
    /// As [`CellStore::open`].
    pub(crate) fn existing(folder: &Path, keys: &KeyRing) -> Result<Option<Self>> {
        if folder.join(FILE).exists() { Self::open(folder, Some(keys.clone())).map(Some) } else { Ok(None) }
    }

    /// Seals every data key under the current epoch of the key; tells how many were under another. The data keys stay.
    ///
    /// # Errors
    /// `Privacy` when one does not open; `Unavailable` when the file cannot be written: nothing has changed then.
    pub(crate) fn seal_anew(&self) -> Result<u64> {
        let sealer = self.keys.sealer(WHAT);
        let mut file = self.locked();
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let mut anew = 0;
        {
            let all = "SELECT domain, person, id, record FROM data_key WHERE id IS NOT NULL";
            let mut all = transaction.prepare(all).map_err(broken)?;
            let mut put = transaction
                .prepare("UPDATE data_key SET record = ?3 WHERE domain = ?1 AND person = ?2")
                .map_err(broken)?;
            let mut rows = all.query([]).map_err(broken)?;
            while let Some(row) = rows.next().map_err(broken)? {
                let (domain, person, id, record): (String, [u8; 32], [u8; 16], Vec<u8>) =
                    row.try_into().map_err(broken)?;
                if let Some(record) = sealer.seal_anew(random()?, &context(&domain, &person, &id), &record)? {
                    put.execute(params![domain, person, record]).map_err(broken)?;
                    anew += 1;
                }
            }
        }
        transaction.commit().map_err(broken)?;
        cut_journal(&file, FILE)?;
        Ok(anew)
    }

    /// The epochs under which data keys are sealed.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be read.
    pub(crate) fn epochs(&self) -> Result<BTreeSet<u32>> {
        let file = self.locked();
        let heads = "SELECT DISTINCT substr(record, 1, 5) FROM data_key WHERE record IS NOT NULL";
        let mut heads = file.prepare(heads).map_err(broken)?;
        let heads = heads.query_map([], |row| row.get::<_, Vec<u8>>(0)).map_err(broken)?;
        let heads: Vec<Vec<u8>> = heads.collect::<rusqlite::Result<_>>().map_err(broken)?;
        Ok(heads.iter().filter_map(|head| sealed_epoch(head)).collect())
    }

    fn locked(&self) -> MutexGuard<'_, Connection> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<Person, Arc<CellKey>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, domain: &str, key: &Arc<CellKey>) {
        let mut cache = self.cached();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        cache.insert((domain.to_owned(), *key.index()), key.clone());
    }

    /// The keys of persons that are not in memory, made where there is none; `None` for a destroyed one.
    fn fetch(&self, domain: &str, persons: &[[u8; 32]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let sealer = self.keys.sealer(WHAT);
        let mut file = self.locked();
        let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).map_err(broken)?;
        let mut keys = Vec::with_capacity(persons.len());
        {
            let mut find = transaction
                .prepare_cached("SELECT id, record FROM data_key WHERE domain = ?1 AND person = ?2")
                .map_err(broken)?;
            let mut add = transaction
                .prepare_cached("INSERT INTO data_key (domain, person, id, record) VALUES (?1, ?2, ?3, ?4)")
                .map_err(broken)?;
            for person in persons {
                let known = find
                    .query_row(params![domain, person], |row| Ok((row.get(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))
                    .optional()
                    .map_err(broken)?;
                keys.push(match known {
                    Some((Some(id), Some(record))) => Some(Arc::new(open(&sealer, domain, *person, id, &record)?)),
                    Some(_) => None,
                    None => {
                        let key = CellKey::new(random()?, *person, Zeroizing::new(random()?));
                        let record = sealer.seal(random()?, &context(domain, person, key.id()), key.key())?;
                        add.execute(params![domain, person, key.id(), record]).map_err(broken)?;
                        Some(Arc::new(key))
                    }
                });
            }
        }
        transaction.commit().map_err(broken)?;
        Ok(keys)
    }
}

impl CellKeys for CellStore {
    fn id(&self) -> Result<String> {
        self.locked().query_row("SELECT id FROM store", [], |row| row.get(0)).map_err(broken)
    }

    fn of_persons(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let mut found: Vec<Option<Arc<CellKey>>> = {
            let cache = self.cached();
            index.iter().map(|person| cache.get(&(domain.to_owned(), *person)).cloned()).collect()
        };
        let missing: Vec<usize> = (0..index.len()).filter(|at| found[*at].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let persons: Vec<[u8; 32]> = missing.iter().map(|at| index[*at]).collect();
        for (at, key) in missing.into_iter().zip(self.fetch(domain, &persons)?) {
            if let Some(key) = &key {
                self.keep(domain, key);
            }
            found[at] = key;
        }
        Ok(found)
    }

    fn find(&self, domain: &str, ids: &[[u8; 16]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let sealer = self.keys.sealer(WHAT);
        let file = self.locked();
        let mut find =
            file.prepare_cached("SELECT person, record FROM data_key WHERE domain = ?1 AND id = ?2").map_err(broken)?;
        let mut key = |id: &[u8; 16]| {
            let known = find
                .query_row(params![domain, id], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
                .optional()
                .map_err(broken)?;
            known.map(|(person, record)| open(&sealer, domain, person, *id, &record).map(Arc::new)).transpose()
        };
        ids.iter().map(&mut key).collect()
    }

    fn random(&self, bytes: &mut [u8]) -> Result<()> {
        OsRng.try_fill_bytes(bytes).map_err(|error| {
            Error::new(Kind::Unavailable, "the system gave no random numbers for encrypted cells").source(error)
        })
    }
}

fn open(sealer: &Sealer<'_>, domain: &str, person: [u8; 32], id: [u8; 16], record: &[u8]) -> Result<CellKey> {
    let opened = sealer.open(&context(domain, &person, &id), record)?;
    let mut key = Zeroizing::new([0; 32]);
    if opened.len() != key.len() {
        return Err(Error::new(Kind::Privacy, "a data key has another length"));
    }
    key.copy_from_slice(&opened);
    Ok(CellKey::new(id, person, key))
}

/// A key opens in its own place only.
fn context(domain: &str, person: &[u8; 32], id: &[u8; 16]) -> Vec<u8> {
    [domain.as_bytes(), &[0], person, id].concat()
}

fn broken(error: rusqlite::Error) -> Error {
    Error::new(Kind::Unavailable, "the store of data keys cannot be read or written")
        .source(error)
        .fix("Free disk space, or restore cells.sqlite.")
}

fn unavailable(path: &Path) -> Error {
    Error::new(Kind::Unavailable, format!("cannot open the store of data keys {}", path.display()))
        .fix("Restore the file from the backup: without it no encrypted cell opens.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Option<KeyRing> {
        let bytes = Zeroizing::new(std::array::from_fn(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)));
        Some(KeyRing::parse(&KeyRing::generate("test", bytes).unwrap()).unwrap())
    }

    fn folder(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("lockgate-cells-{name}-{}", std::process::id()))
    }

    fn is_in_a_file(folder: &Path, part: &[u8]) -> bool {
        let holds = |path: &Path| std::fs::read(path).unwrap().windows(part.len()).any(|window| window == part);
        std::fs::read_dir(folder).unwrap().any(|entry| holds(&entry.unwrap().path()))
    }

    fn record(store: &CellStore, person: u8) -> Option<Vec<u8>> {
        let sql = "SELECT record FROM data_key WHERE person = ?1";
        store.locked().query_row(sql, params![[person; 32]], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_person_has_one_key_in_a_domain_and_it_is_not_in_the_file() {
        let folder = folder("keys");
        let store = CellStore::open(&folder, keys(1)).unwrap();
        let first = store.of_persons("person", &[[1; 32], [2; 32]]).unwrap();
        let again = store.of_persons("person", &[[2; 32], [1; 32]]).unwrap();
        let key = |keys: &[Option<Arc<CellKey>>], at: usize| *keys[at].as_ref().unwrap().key();
        assert_eq!((key(&first, 0), key(&first, 1)), (key(&again, 1), key(&again, 0)));
        assert_ne!(key(&first, 0), key(&first, 1));
        assert_ne!(key(&store.of_persons("other", &[[1; 32]]).unwrap(), 0), key(&first, 0));
        assert!(!is_in_a_file(&folder, &key(&first, 0)));
        let id = *first[0].as_ref().unwrap().id();
        let store = {
            let before = store.id().unwrap();
            drop(store);
            let store = CellStore::open(&folder, keys(1)).unwrap();
            assert_eq!(store.id().unwrap(), before);
            store
        };
        let found = store.find("person", &[id, [9; 16]]).unwrap();
        assert_eq!((key(&found, 0), found[0].as_ref().unwrap().index()), (key(&first, 0), &[1; 32]));
        assert!(found[1].is_none() && store.find("other", &[id]).unwrap()[0].is_none());
        assert_eq!(std::fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let other = CellStore::open(&folder, keys(2)).unwrap();
        let refused = [other.find("person", &[id]).err(), other.of_persons("person", &[[1; 32]]).err()];
        assert!(refused.into_iter().all(|error| error.unwrap().kind() == Kind::Privacy));
        assert_eq!(CellStore::open(&folder, None).err().unwrap().kind(), Kind::Privacy);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_destroyed_key_is_in_no_byte_of_the_file_and_is_never_made_again() {
        let folder = folder("destroy");
        let store = CellStore::open(&folder, keys(1)).unwrap();
        let persons: Vec<[u8; 32]> = (0..200).map(|person| [person; 32]).collect();
        let made = store.of_persons("person", &persons).unwrap();
        let (id, sealed) = (*made[7].as_ref().unwrap().id(), record(&store, 7).unwrap());
        assert!(is_in_a_file(&folder, &sealed) && is_in_a_file(&folder, &id));
        // One key that was there, one person who has none yet.
        assert_eq!(store.destroy("person", &[[7; 32], [250; 32]]).unwrap(), 1);
        assert!(!is_in_a_file(&folder, &sealed) && !is_in_a_file(&folder, &sealed[21..]));
        assert!(!is_in_a_file(&folder, &id));
        assert!(is_in_a_file(&folder, &record(&store, 8).unwrap()));
        assert_eq!(store.destroy("person", &[[7; 32]]).unwrap(), 0);
        for store in [store, CellStore::open(&folder, keys(1)).unwrap()] {
            let left = store.of_persons("person", &[[7; 32], [8; 32], [250; 32]]).unwrap();
            assert_eq!(left.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
            assert!(store.find("person", &[id]).unwrap()[0].is_none());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_key_that_was_put_in_another_persons_place_does_not_open() {
        let folder = folder("moved");
        let store = CellStore::open(&folder, keys(1)).unwrap();
        store.of_persons("person", &[[1; 32], [2; 32]]).unwrap();
        let sql = "UPDATE data_key SET record = (SELECT record FROM data_key WHERE person = ?1) WHERE person = ?2";
        store.locked().execute(sql, params![[1_u8; 32], [2_u8; 32]]).unwrap();
        let store = CellStore::open(&folder, keys(1)).unwrap();
        assert!(store.of_persons("person", &[[1; 32]]).is_ok());
        assert_eq!(store.of_persons("person", &[[2; 32]]).err().unwrap().kind(), Kind::Privacy);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
