//! Stored tokens under another epoch of the key, without the values behind them.

use arrow::array::Array;
use change::{Error, Kind, Result};

use super::base32;
use super::coded;
use super::column::{Passed, TextColumn};
use super::keyed_hash::KeyedHash;
use super::repeats::{self, Seen};
use super::siv::sealing;
use super::token::{wrapped, wraps, written};
use crate::KeyRing;
use crate::canonical::Form;
use crate::siv::Siv;
use crate::transform::CodeType;

/// Brings the tokens of one domain from one epoch to another.
pub(crate) struct Retoken {
    before: Vec<u8>,
    prefix: Vec<u8>,
    code: CodeType,
    step: Step,
}

enum Step {
    /// The token is hashed again, once for each epoch between.
    Wrap(Vec<KeyedHash>),
    /// The value is opened and sealed anew, and zeroed.
    Seal { opens: Box<Siv>, seals: Box<Siv> },
}

impl Retoken {
    /// For `hmac_token`; `None` when `epoch` is not made of `before`.
    pub(crate) fn wrap(keys: &KeyRing, domain: &str, code: CodeType, before: u32, epoch: u32) -> Result<Option<Self>> {
        let chain = keys.chain(epoch);
        let Some(at) = chain.iter().position(|step| *step == before) else { return Ok(None) };
        let step = Step::Wrap(wraps(keys, domain, &chain[at..])?);
        Ok(Some(Self { code, ..Self::new(domain, before, epoch, step) }))
    }

    /// For `siv_token`.
    pub(crate) fn seal(keys: &KeyRing, domain: &str, form: Form, before: u32, epoch: u32) -> Result<Self> {
        let opens = Box::new(sealing(keys, domain, form, before)?);
        let seals = Box::new(sealing(keys, domain, form, epoch)?);
        Ok(Self::new(domain, before, epoch, Step::Seal { opens, seals }))
    }

    fn new(domain: &str, before: u32, epoch: u32, step: Step) -> Self {
        Self {
            before: format!("{domain}.{before}.").into_bytes(),
            prefix: format!("{domain}.{epoch}.").into_bytes(),
            code: CodeType::Text,
            step,
        }
    }

    /// What is no token of the epoch before cannot be read. Bytes do not tell their epoch: that the table's stamp tells it is for the caller to
    /// know.
    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        if *array.data_type() != self.code.data_type() {
            let what = format!("tokens were expected in a column of type {}", array.data_type());
            return Err(Error::new(Kind::Bug, what));
        }
        match &self.step {
            Step::Wrap(steps) => self.wrap_tokens(array, steps),
            Step::Seal { opens, seals } => self.seal_tokens(array, opens, seals),
        }
    }

    fn wrap_tokens(&self, array: &dyn Array, steps: &[KeyedHash]) -> Result<Passed> {
        let mut codes = Vec::new();
        let rows = coded::rows(array, Form::Exact, |token| {
            let code = match self.code {
                CodeType::Text => token.strip_prefix(&*self.before).and_then(base32::read_code),
                CodeType::Binary | CodeType::Int64 => token.try_into().ok(),
            };
            codes.extend(code);
            code.is_some()
        })?;
        written(self.code, &self.prefix, &rows, &wrapped(codes, steps))
    }

    fn seal_tokens(&self, array: &dyn Array, opens: &Siv, seals: &Siv) -> Result<Passed> {
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + 48);
        let (mut stored, mut sealed, mut code) = (Vec::new(), Vec::new(), Vec::new());
        repeats::for_each(array, Form::Exact, |seen| match seen {
            Seen::Null => column.push_null(),
            Seen::Invalid => column.push_invalid(),
            Seen::Again(row) => column.push_again(row),
            Seen::New(token) => {
                let text = token.strip_prefix(&*self.before).and_then(|text| base32::read(text, &mut stored));
                match text.and_then(|()| opens.open(&stored)) {
                    Some(value) => {
                        sealed.clear();
                        code.clear();
                        seals.seal(&value, &mut sealed);
                        base32::push(&mut code, &sealed);
                        column.push(&self.prefix, &code);
                    }
                    None => column.push_invalid(),
                }
            }
        })?;
        column.finish()
    }
}

#[cfg(test)]
mod tests;
