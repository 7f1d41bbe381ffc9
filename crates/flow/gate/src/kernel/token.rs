//! `hmac_token` and `vault_code`: names for values that are the same wherever the value is the same, and tell nothing of it.

use std::sync::Arc;

use arrow::array::Array;
use change::{Error, Kind, Result};

use super::base32;
use super::coded;
use super::column::Passed;
use super::keyed_hash::KeyedHash;
use crate::canonical::Form;
use crate::keys::Purpose;
use crate::{KeyRing, Vault};

/// Makes tokens of one domain: `domain.epoch.` and 128 bits of the keyed hash. An epoch that wraps another hashes that one's 128 bits once
/// more, so that a stored token becomes a new one without its value, and the value becomes the same.
pub(crate) struct Tokenizer {
    hash: KeyedHash,
    wraps: Vec<KeyedHash>,
    form: Form,
    prefix: Vec<u8>,
}

/// The steps from tokens of the first epoch of a chain to those of the last.
pub(super) fn wraps(keys: &KeyRing, domain: &str, chain: &[u32]) -> Result<Vec<KeyedHash>> {
    chain.windows(2).map(|step| KeyedHash::wrap(keys, domain, step[0], step[1])).collect()
}

/// The 128 bits of tokens after the steps.
pub(super) fn wrapped(codes: Vec<[u8; 16]>, wraps: &[KeyedHash]) -> Vec<[u8; 16]> {
    wraps.iter().fold(codes, |codes, wrap| {
        let mut next = Vec::with_capacity(codes.len());
        let mut hashing = wrap.together(|hash| next.push(first_half(hash)));
        codes.iter().for_each(|code| hashing.push(code));
        hashing.finish();
        next
    })
}

fn first_half(hash: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|index| hash[index])
}

impl Tokenizer {
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form, epoch: u32) -> Result<Self> {
        let chain = keys.chain(epoch);
        let first = chain.first().copied().unwrap_or(epoch);
        let hash = KeyedHash::new(keys, Purpose::Token, domain, first, form)?;
        let wraps = wraps(keys, domain, &chain)?;
        Ok(Self { hash, wraps, form, prefix: format!("{domain}.{epoch}.").into_bytes() })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut codes = Vec::new();
        let mut hashing = self.hash.together(|hash| codes.push(first_half(hash)));
        let rows = coded::rows(array, self.form, |bytes| {
            hashing.push(bytes);
            true
        })?;
        hashing.finish();
        coded::column(&self.prefix, &rows, &wrapped(codes, &self.wraps))
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
        let hash = vault_index(keys, domain, form)?;
        Ok(Self { hash, form, domain: domain.into(), prefix: format!("{domain}.").into_bytes(), vault })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut index = Vec::new();
        let mut hashing = self.hash.together(|hash| index.push(hash));
        let rows = coded::rows(array, self.form, |bytes| {
            hashing.push(bytes);
            true
        })?;
        hashing.finish();
        let codes = if index.is_empty() { Vec::new() } else { self.vault.codes(&self.domain, &index)? };
        if codes.len() != index.len() {
            return Err(Error::new(
                Kind::Bug,
                format!("the vault gave another number of codes for domain {}", self.domain),
            ));
        }
        coded::column(&self.prefix, &rows, &codes)
    }
}

/// Makes the vault's index of a domain.
pub(crate) fn vault_index(keys: &KeyRing, domain: &str, form: Form) -> Result<KeyedHash> {
    KeyedHash::new(keys, Purpose::VaultIndex, domain, keys.oldest_epoch(), form)
}

/// A vault's code as it stands in the lake.
pub(crate) fn spelled(domain: &str, code: &[u8; 16]) -> String {
    let mut text = format!("{domain}.");
    text.extend(base32::code(*code).map(char::from));
    text
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringArray};

    use super::*;
    use crate::policy::tests::keys;

    fn token(domain: &str, form: Form, value: &str) -> String {
        let tokenizer = Tokenizer::new(&keys(0).unwrap(), domain, form, 1).unwrap();
        let passed = tokenizer.apply(&StringArray::from(vec![value])).unwrap();
        passed.values.as_string::<i32>().value(0).to_owned()
    }

    /// Computed by another implementation (Python's hmac, hashlib and base64) from the definition: if this fails, the change breaks every
    /// join with tokens that are already in somebody's lake.
    #[test]
    fn tokens_never_change() {
        let long = "x".repeat(200);
        let golden = [
            ("member", "42", "member.1.za24bzexmxfiod3yonxuhsgg2y"),
            ("member", "", "member.1.7ba2ah2nq3jb5q7hoyvd4piznm"),
            ("member", "078-05-1120", "member.1.4zugs4xiqzghd2tmwexafz57tm"),
            ("provider", "42", "provider.1.4dwpv43mm35772ykzrdsqynnh4"),
            ("member", "Zo\u{eb}", "member.1.mtt4oaje74xsitgojwxhdlgcxq"),
            ("member", "2024-02-29", "member.1.yiumwgz5lcddkltngub2uvkuwu"),
            ("member", &long, "member.1.vs3mrcd6hqa3fkl65mokqia6mu"),
        ];
        for (domain, value, expected) in golden {
            assert_eq!(token(domain, Form::Exact, value), expected);
        }
        assert_eq!(token("ssn", Form::Alphanumeric, "078-05-1120"), "ssn.1.uncqojie2z74ozgfypuw3tml3i");
        assert_eq!(keys(0).unwrap().fingerprint().unwrap(), "8b224b441936a8e7");
    }
}
