//! `siv_token`: a token that the holder of the key can turn back.

use arrow::array::Array;
use change::Result;
use zeroize::Zeroizing;

use super::base32;
use super::column::{Passed, TextColumn};
use super::repeats::{self, Seen};
use crate::KeyRing;
use crate::canonical::Form;
use crate::keys::{Purpose, push_field};
use crate::siv::Siv;

/// Makes tokens of one domain: `domain.epoch.` and base 32 of AES-256-SIV over the value; 16 bytes more than the value has.
pub(crate) struct SivTokenizer {
    siv: Siv,
    form: Form,
    prefix: Vec<u8>,
}

/// What a token is bound to beside its key.
fn associated(keys: &KeyRing, domain: &str, form: Form) -> Vec<u8> {
    let mut associated = Vec::new();
    for field in [keys.tenant(), domain, form.versioned()] {
        push_field(&mut associated, field.as_bytes());
    }
    associated
}

/// The cipher of one domain, form and epoch.
pub(super) fn sealing(keys: &KeyRing, domain: &str, form: Form, epoch: u32) -> Result<Siv> {
    let key = keys.derive_bytes(Purpose::Siv, domain, epoch)?;
    Ok(Siv::new(&key, &associated(keys, domain, form)))
}

/// The value of a token of the domain, whatever its epoch; `None` when it is none, or of an epoch without a key.
pub(crate) fn opened(keys: &KeyRing, domain: &str, form: Form, token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let rest = token.strip_prefix(domain).and_then(|rest| rest.strip_prefix('.'));
    let (epoch, code) = rest?.split_once('.')?;
    let mut sealed = Vec::new();
    base32::read(code.as_bytes(), &mut sealed)?;
    sealing(keys, domain, form, epoch.parse().ok()?).ok()?.open(&sealed)
}

impl SivTokenizer {
    pub(crate) fn new(keys: &KeyRing, domain: &str, form: Form, epoch: u32) -> Result<Self> {
        let siv = sealing(keys, domain, form, epoch)?;
        Ok(Self { siv, form, prefix: format!("{domain}.{epoch}.").into_bytes() })
    }

    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + 48);
        let (mut sealed, mut code) = (Vec::new(), Vec::new());
        repeats::for_each(array, self.form, |seen| match seen {
            Seen::Null => column.push_null(),
            Seen::Invalid => column.push_invalid(),
            Seen::Again(row) => column.push_again(row),
            Seen::New(bytes) => {
                sealed.clear();
                code.clear();
                self.siv.seal(bytes, &mut sealed);
                base32::push(&mut code, &sealed);
                column.push(&self.prefix, &code);
            }
        })?;
        column.finish()
    }
}

#[cfg(test)]
mod tests {
    use aes_siv::KeyInit;
    use aes_siv::siv::Aes256Siv;
    use arrow::array::{AsArray, Int64Array, StringArray};

    use super::*;
    use crate::policy::tests::keys;

    fn tokens(domain: &str, array: &dyn Array) -> Vec<Option<String>> {
        let passed = SivTokenizer::new(&keys(0).unwrap(), domain, Form::Exact, 1).unwrap().apply(array).unwrap();
        passed.values.as_string::<i32>().iter().map(|token| token.map(str::to_owned)).collect()
    }

    fn opened(domain: &str, token: &str) -> Option<Vec<u8>> {
        let keys = keys(0).unwrap();
        let key = keys.derive_bytes::<64>(Purpose::Siv, domain, 1).unwrap();
        let mut sealed = Vec::new();
        base32::read(token.rsplit('.').next().unwrap().as_bytes(), &mut sealed).unwrap();
        Aes256Siv::new(&(*key).into()).decrypt([associated(&keys, domain, Form::Exact)], &sealed).ok()
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
