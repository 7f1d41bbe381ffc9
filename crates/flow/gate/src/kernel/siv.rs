//! `siv_token`: a token that the holder of the key can turn back.

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use arrow::array::Array;
use change::{Error, Kind, Result};
use zeroize::Zeroizing;

use super::base32;
use super::column::{Passed, TextColumn};
use crate::KeyRing;
use crate::canonical::{self, Cell, Form};
use crate::keys::{Purpose, push_field};

/// Makes tokens of one domain: `domain.epoch.` and base 32 of AES-256-SIV (RFC 5297) over the value; 16 bytes more than the value has.
pub(crate) struct SivTokenizer {
    key: Zeroizing<[u8; 64]>,
    /// What the token is bound to: tenant, domain and canonical form.
    associated: Vec<u8>,
    form: Form,
    prefix: Vec<u8>,
}

impl SivTokenizer {
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form) -> Result<Self> {
        let epoch = keys.current_epoch();
        let key = keys.derive_bytes::<64>(Purpose::Siv, domain, epoch)?;
        let mut associated = Vec::new();
        for field in [keys.tenant(), domain, form.versioned()] {
            push_field(&mut associated, field.as_bytes());
        }
        Ok(Self { key, associated, form, prefix: format!("{domain}.{epoch}.").into_bytes() })
    }

    /// Encrypting changes the object, so that each batch has its own.
    fn siv(&self) -> Aes256Siv {
        Aes256Siv::new(&(*self.key).into())
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut siv = self.siv();
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + 48);
        let (mut code, mut failed) = (Vec::new(), false);
        canonical::for_each(array, self.form, |cell| match cell {
            Cell::Null => column.push_null(),
            Cell::Invalid => column.push_invalid(),
            Cell::Bytes(bytes) => {
                code.clear();
                match siv.encrypt([&self.associated], bytes) {
                    Ok(encrypted) => base32::push(&mut code, &encrypted),
                    Err(_) => failed = true,
                }
                column.push(&self.prefix, &code);
            }
        })?;
        if failed { Err(Error::new(Kind::Bug, "a value could not be encrypted")) } else { column.finish() }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};

    use super::*;
    use crate::policy::tests::keys;

    fn tokens(domain: &str, array: &dyn Array) -> Vec<Option<String>> {
        let passed = SivTokenizer::new(&keys(0).unwrap(), domain, Form::Exact).unwrap().apply(array).unwrap();
        passed.values.as_string::<i32>().iter().map(|token| token.map(str::to_owned)).collect()
    }

    fn opened(domain: &str, token: &str) -> Option<Vec<u8>> {
        let tokenizer = SivTokenizer::new(&keys(0).unwrap(), domain, Form::Exact).unwrap();
        let code = token.rsplit('.').next().unwrap();
        tokenizer.siv().decrypt([&tokenizer.associated], &base32::read(code)).ok()
    }

    /// Computed by another implementation (Python's cryptography) from the definition: if this fails, tokens in somebody's lake can no
    /// longer be joined or opened.
    #[test]
    fn tokens_never_change() {
        let text = StringArray::from(vec!["42", "Zo\u{eb}", "078-05-1120"]);
        let golden = [
            "member.1.hqkvwelmatmz5rzvfixu5yetl3swi",
            "member.1.hxniifipbb7a3fxtrziq7zlk7hy4ebsk",
            "member.1.tdl5dsjzlukaulrc3lkdz5pkdwulblowxk2l3ypdahhq",
        ];
        assert_eq!(tokens("member", &text), golden.map(|token| Some(token.to_owned())));
    }

    #[test]
    fn a_token_is_the_same_for_the_same_value_and_opens_with_the_key_of_its_domain() {
        let text = StringArray::from(vec![Some("42"), Some("42"), None, Some(""), Some("Zo\u{eb}")]);
        let found = tokens("member", &text);
        assert_eq!(found[0], found[1]);
        assert_eq!(found[2], None);
        assert_eq!(found[0], tokens("member", &Int64Array::from(vec![42]))[0]);
        for (token, value) in found.iter().zip(["42", "42", "-", "", "Zo\u{eb}"]) {
            let Some(token) = token else { continue };
            assert!(token.starts_with("member.1."));
            assert_eq!(opened("member", token).unwrap(), value.as_bytes());
            assert_eq!(opened("other", token), None);
        }
        assert_ne!(
            tokens("other", &text)[0].as_ref().unwrap().rsplit('.').next(),
            found[0].as_ref().unwrap().rsplit('.').next()
        );
    }
}
