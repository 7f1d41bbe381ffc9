//! `encrypt_cell`: the value itself, under a random key of its person that can be destroyed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result, TableName};

use super::column::Passed;
use super::keyed_hash::KeyedHash;
use super::subject::{Beside, SubjectCells};
use crate::canonical::{self, Cell, Form};
use crate::cell::{CellSeal, Content, NONCE};
use crate::keys::Purpose;
use crate::{CellKey, CellKeys, KeyRing, OpenedCell};

/// Encrypts the values of one column.
pub(crate) struct CellSealer {
    seal: CellSeal,
    persons: KeyedHash,
    /// By which values are compared without anybody seeing them.
    digest: KeyedHash,
    form: Form,
    store: Arc<dyn CellKeys>,
}

/// Whose value one row holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// There is no value.
    None,
    /// The row does not say, or the source did not send it.
    Unknown,
    Person(usize),
}

/// Makes the index of persons in a store of data keys.
pub(crate) fn person_index(keys: &KeyRing, domain: &str, form: Form) -> Result<KeyedHash> {
    // As with the vault's index: a new epoch must not give a person a second key.
    KeyedHash::new(keys, Purpose::CellIndex, domain, keys.oldest_epoch(), form)
}

impl CellSealer {
    pub(crate) fn new(
        keys: &KeyRing,
        store: Arc<dyn CellKeys>,
        domain: &str,
        form: Form,
        (table, column): (&TableName, &str),
    ) -> Result<Self> {
        let digest = KeyedHash::new(keys, Purpose::CellDigest, domain, keys.current_epoch(), Form::Exact)?;
        let persons = person_index(keys, domain, form)?;
        Ok(Self { seal: CellSeal::new(keys, domain, table, column), persons, digest, form, store })
    }

    /// A value of which nobody knows whose it is cannot be read; one of a person whose key was destroyed is null.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        let cells = beside.subject.ok_or_else(|| Error::new(Kind::Bug, "a cell was encrypted without a subject"))?;
        let (owners, index) = self.owners(array, cells)?;
        let keys = if index.is_empty() { Vec::new() } else { self.store.of_persons(self.seal.domain(), &index)? };
        if keys.len() != index.len() {
            let what = format!("the store gave another number of data keys for domain {}", self.seal.domain());
            return Err(Error::new(Kind::Bug, what));
        }
        let invalid = owners.iter().filter(|owner| **owner == Owner::Unknown).count() as u64;
        let values = self.sealed(array, &owners, &keys)?;
        Ok(Passed { values: Arc::new(values), invalid })
    }

    /// The owner of each row, by number among the persons whose index comes with it.
    fn owners(&self, array: &dyn Array, cells: SubjectCells<'_>) -> Result<(Vec<Owner>, Vec<[u8; 32]>)> {
        let (mut owners, mut index) = (Vec::with_capacity(array.len()), Vec::new());
        let mut known: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        canonical::for_each(cells.values, self.form, |cell| {
            let row = owners.len();
            let unsent = cells.unsent.is_some_and(|unsent| unsent.value(row));
            owners.push(match cell {
                _ if array.is_null(row) => Owner::None,
                Cell::Bytes(bytes) if !unsent => {
                    let hash = self.persons.of(bytes);
                    Owner::Person(*known.entry(hash).or_insert_with(|| {
                        index.push(hash);
                        index.len() - 1
                    }))
                }
                _ => Owner::Unknown,
            });
        })?;
        Ok((owners, index))
    }

    fn sealed(&self, array: &dyn Array, owners: &[Owner], keys: &[Option<Arc<CellKey>>]) -> Result<BinaryArray> {
        let content = content(array.data_type());
        let mut nonces = vec![0; owners.len() * NONCE];
        self.store.random(&mut nonces)?;
        let mut nonces = nonces.as_chunks::<NONCE>().0.iter();
        let mut locators = self.seal.locators();
        let mut column = BinaryBuilder::with_capacity(owners.len(), owners.len() * 80);
        let (mut cell, mut failed, mut row) = (Vec::new(), None, 0);
        canonical::for_each(array, Form::Exact, |value| {
            let key = match owners.get(row) {
                Some(Owner::Person(person)) => keys[*person].as_ref(),
                _ => None,
            };
            row += 1;
            match (value, key, nonces.next()) {
                (Cell::Bytes(bytes), Some(key), Some(nonce)) => {
                    cell.clear();
                    match self.seal.seal(&mut locators, key, *nonce, (content, bytes), &mut cell) {
                        Ok(()) => column.append_value(&cell),
                        Err(error) => failed = Some(error),
                    }
                }
                _ => column.append_null(),
            }
        })?;
        failed.map_or_else(|| Ok(column.finish()), Err)
    }

    /// What cells hold.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn open(&self, cells: &BinaryArray) -> Result<Vec<OpenedCell>> {
        let mut locators = self.seal.locators();
        let ids: Vec<Option<[u8; 16]>> = cells
            .iter()
            .map(|cell| cell.map_or(Ok(None), |cell| self.seal.key_id(&mut locators, cell)))
            .collect::<Result<_>>()?;
        let mut asked: Vec<[u8; 16]> = ids.iter().flatten().copied().collect();
        asked.sort_unstable();
        asked.dedup();
        let found = if asked.is_empty() { Vec::new() } else { self.store.find(self.seal.domain(), &asked)? };
        let keys: BTreeMap<[u8; 16], Arc<CellKey>> =
            asked.into_iter().zip(found).filter_map(|(id, key)| Some((id, key?))).collect();
        let open = |(cell, id): (Option<&[u8]>, Option<[u8; 16]>)| match (cell, id) {
            (None, _) => OpenedCell::Null,
            (Some(_), None) => OpenedCell::Foreign,
            (Some(cell), Some(id)) => match keys.get(&id) {
                None => OpenedCell::NoKey,
                Some(key) => match self.seal.open(key, cell) {
                    Some((Content::Text, value)) => OpenedCell::Text(value),
                    Some((Content::Bytes, value)) => OpenedCell::Bytes(value),
                    None => OpenedCell::Foreign,
                },
            },
        };
        Ok(cells.iter().zip(ids).map(open).collect())
    }

    /// A keyed hash of each cell's value: equal for equal values, although no two cells are. Null for a value that nobody can open any
    /// more; a cell that is none of this column is its own hash.
    pub(crate) fn comparable(&self, cells: &ArrayRef) -> Result<ArrayRef> {
        let cells: &BinaryArray = cells
            .as_binary_opt::<i32>()
            .ok_or_else(|| Error::new(Kind::Contract, "an encrypted column of the lake is not binary"))?;
        let opened = self.open(cells)?;
        let hashes = opened.iter().zip(cells.iter()).map(|(opened, cell)| match opened {
            OpenedCell::Null | OpenedCell::NoKey => None,
            OpenedCell::Text(value) | OpenedCell::Bytes(value) => Some(self.digest.of(value).to_vec()),
            OpenedCell::Foreign => cell.map(<[u8]>::to_vec),
        });
        Ok(Arc::new(hashes.collect::<BinaryArray>()))
    }
}

fn content(data_type: &DataType) -> Content {
    match data_type {
        DataType::Binary | DataType::LargeBinary => Content::Bytes,
        _ => Content::Text,
    }
}

#[cfg(test)]
pub(crate) mod tests;
