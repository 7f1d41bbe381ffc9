//! T5 `hmac_token` and T7 `vault_code`: names for values that are the same wherever the value is the same, and tell nothing of it.

use std::sync::Arc;

use arrow::array::Array;
use change::{Error, Kind, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::column::{Passed, TextColumn};
use crate::canonical::{self, Cell, Form};
use crate::keys::{Purpose, push_field};
use crate::{KeyRing, Vault};

/// Characters of 128 bits in base 32.
const CODE_CHARACTERS: usize = 26;

/// RFC 4648's alphabet in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// HMAC-SHA-256 over length-prefixed fields: tenant, domain, canonical form, value. The state after the first three is kept.
struct KeyedHash(Hmac<Sha256>);

impl KeyedHash {
    fn new(keys: &KeyRing, purpose: Purpose, domain: &str, epoch: u32, form: Form) -> Result<Self> {
        let key = keys.derive(purpose, domain, epoch)?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*key)
            .map_err(|_| Error::new(Kind::Bug, "HMAC refused a key of 32 bytes"))?;
        let mut fields = Vec::new();
        for field in [keys.tenant(), domain, form.versioned()] {
            push_field(&mut fields, field.as_bytes());
        }
        mac.update(&fields);
        Ok(Self(mac))
    }

    fn of(&self, value: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(&(value.len() as u32).to_be_bytes());
        mac.update(value);
        mac.finalize().into_bytes().into()
    }
}

/// Makes tokens of one domain: `domain.epoch.` and 128 bits of the keyed hash.
pub(crate) struct Tokenizer {
    hash: KeyedHash,
    form: Form,
    prefix: Vec<u8>,
}

impl Tokenizer {
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form) -> Result<Self> {
        let epoch = keys.current_epoch();
        let hash = KeyedHash::new(keys, Purpose::Token, domain, epoch, form)?;
        Ok(Self { hash, form, prefix: format!("{domain}.{epoch}.").into_bytes() })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + CODE_CHARACTERS);
        canonical::for_each(array, self.form, |cell| match cell {
            Cell::Null => column.push_null(),
            Cell::Invalid => column.push_invalid(),
            Cell::Bytes(bytes) => {
                let hash = self.hash.of(bytes);
                let mut code = [0; 16];
                code.copy_from_slice(&hash[..16]);
                column.push(&self.prefix, &base32(code));
            }
        })?;
        column.finish()
    }
}

/// Makes vault codes of one domain: `domain.` and the 128 random bits that the vault keeps for the value.
pub(crate) struct VaultCoder {
    hash: KeyedHash,
    form: Form,
    domain: String,
    prefix: Vec<u8>,
    vault: Arc<dyn Vault>,
}

impl VaultCoder {
    pub(crate) fn new(keys: &KeyRing, vault: Arc<dyn Vault>, domain: &str, form: Form) -> Result<Self> {
        let hash = KeyedHash::new(keys, Purpose::VaultIndex, domain, keys.oldest_epoch(), form)?;
        Ok(Self { hash, form, domain: domain.into(), prefix: format!("{domain}.").into_bytes(), vault })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut index = Vec::with_capacity(array.len());
        let mut rows = Vec::with_capacity(array.len());
        canonical::for_each(array, self.form, |cell| {
            rows.push(match cell {
                Cell::Null => Row::Null,
                Cell::Invalid => Row::Invalid,
                Cell::Bytes(bytes) => {
                    index.push(self.hash.of(bytes));
                    Row::Coded
                }
            });
        })?;
        let codes = if index.is_empty() { Vec::new() } else { self.vault.codes(&self.domain, &index)? };
        if codes.len() != index.len() {
            return Err(Error::new(
                Kind::Bug,
                format!("the vault gave another number of codes for domain {}", self.domain),
            ));
        }
        let mut codes = codes.into_iter();
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + CODE_CHARACTERS);
        for row in rows {
            match row {
                Row::Null => column.push_null(),
                Row::Invalid => column.push_invalid(),
                Row::Coded => codes.next().into_iter().for_each(|code| column.push(&self.prefix, &base32(code))),
            }
        }
        column.finish()
    }
}

enum Row {
    Null,
    Invalid,
    Coded,
}

/// 128 bits as 26 characters, most significant bits first, two zero bits at the end.
fn base32(code: [u8; 16]) -> [u8; CODE_CHARACTERS] {
    let bits = u128::from_be_bytes(code);
    let mut text = [0; CODE_CHARACTERS];
    for (index, character) in text.iter_mut().take(CODE_CHARACTERS - 1).enumerate() {
        *character = BASE32[((bits >> (123 - 5 * index)) & 31) as usize];
    }
    text[CODE_CHARACTERS - 1] = BASE32[((bits << 2) & 31) as usize];
    text
}
