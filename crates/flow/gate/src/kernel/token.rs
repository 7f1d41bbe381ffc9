//! `hmac_token` and `vault_code`: names for values that are the same wherever the value is the same, and tell nothing of it.

use std::sync::Arc;

use arrow::array::Array;
use change::{Error, Kind, Result};

use super::base32;
use super::coded::{self, Row};
use super::column::Passed;
use super::keyed_hash::KeyedHash;
use crate::canonical::Form;
use crate::keys::Purpose;
use crate::transform::CodeType;
use crate::{KeyRing, Vault};

/// Makes tokens of one domain: 128 bits of the keyed hash, as text behind `domain.epoch.`. An epoch that wraps another hashes that one's
/// 128 bits once more, so that a stored token becomes a new one without its value, and the value becomes the same.
pub(crate) struct Tokenizer {
    hash: KeyedHash,
    wraps: Vec<KeyedHash>,
    form: Form,
    prefix: Vec<u8>,
    code: CodeType,
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
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form, epoch: u32, code: CodeType) -> Result<Self> {
        let chain = keys.chain(epoch);
        let first = chain.first().copied().unwrap_or(epoch);
        let hash = KeyedHash::new(keys, Purpose::Token, domain, first, form)?;
        let wraps = wraps(keys, domain, &chain)?;
        Ok(Self { hash, wraps, form, prefix: format!("{domain}.{epoch}.").into_bytes(), code })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut codes = Vec::new();
        let mut hashing = self.hash.together(|hash| codes.push(first_half(hash)));
        let rows = coded::rows(array, self.form, |bytes| {
            hashing.push(bytes);
            true
        })?;
        hashing.finish();
        written(self.code, &self.prefix, &rows, &wrapped(codes, &self.wraps))
    }
}

/// Tokens or codes of 128 bits as a column.
pub(super) fn written(code: CodeType, prefix: &[u8], rows: &[Row], codes: &[[u8; 16]]) -> Result<Passed> {
    match code {
        CodeType::Text => coded::texts(prefix, rows, codes),
        CodeType::Binary => coded::bytes(rows, codes),
        CodeType::Int64 => Err(Error::new(Kind::Bug, "128 bits were to be a number")),
    }
}

/// Makes vault codes of one domain: the 128 random bits that the vault keeps for the value, as text behind `domain.`, or its number.
pub(crate) struct VaultCoder {
    hash: KeyedHash,
    form: Form,
    domain: String,
    prefix: Vec<u8>,
    vault: Arc<dyn Vault>,
    code: CodeType,
}

impl VaultCoder {
    pub(crate) fn new(keys: &KeyRing, vault: Arc<dyn Vault>, domain: &str, form: Form, code: CodeType) -> Result<Self> {
        let hash = vault_index(keys, domain, form)?;
        Ok(Self { hash, form, domain: domain.into(), prefix: format!("{domain}.").into_bytes(), vault, code })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut index = Vec::new();
        let mut hashing = self.hash.together(|hash| index.push(hash));
        let rows = coded::rows(array, self.form, |bytes| {
            hashing.push(bytes);
            true
        })?;
        hashing.finish();
        if self.code == CodeType::Int64 {
            let numbers = if index.is_empty() { Vec::new() } else { self.vault.numbers(&self.domain, &index)? };
            self.check(numbers.len(), index.len())?;
            return coded::numbers(&rows, &numbers);
        }
        let codes = if index.is_empty() { Vec::new() } else { self.vault.codes(&self.domain, &index)? };
        self.check(codes.len(), index.len())?;
        written(self.code, &self.prefix, &rows, &codes)
    }

    fn check(&self, codes: usize, values: usize) -> Result<()> {
        let other = || format!("the vault gave another number of codes for domain {}", self.domain);
        if codes == values { Ok(()) } else { Err(Error::new(Kind::Bug, other())) }
    }
}

/// Makes the vault's index of a domain.
pub(crate) fn vault_index(keys: &KeyRing, domain: &str, form: Form) -> Result<KeyedHash> {
    KeyedHash::new(keys, Purpose::VaultIndex, domain, keys.oldest_epoch(), form)
}

/// A vault's code of 128 bits as it is spelled.
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
        let tokenizer = Tokenizer::new(&keys(0).unwrap(), domain, form, 1, CodeType::Text).unwrap();
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
