//! Stored tokens under another epoch of the key, without the values behind them.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use super::base32;
use super::column::{Passed, TextColumn};
use super::keyed_hash::KeyedHash;
use super::siv::sealing;
use super::token::{wrapped, wraps};
use crate::KeyRing;
use crate::canonical::Form;
use crate::siv::Siv;

/// Brings the tokens of one domain from one epoch to another.
pub(crate) struct Retoken {
    before: String,
    prefix: Vec<u8>,
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
    pub(crate) fn wrap(keys: &KeyRing, domain: &str, before: u32, epoch: u32) -> Result<Option<Self>> {
        let chain = keys.chain(epoch);
        let Some(at) = chain.iter().position(|step| *step == before) else { return Ok(None) };
        Ok(Some(Self::new(domain, before, epoch, Step::Wrap(wraps(keys, domain, &chain[at..])?))))
    }

    /// For `siv_token`.
    pub(crate) fn seal(keys: &KeyRing, domain: &str, form: Form, before: u32, epoch: u32) -> Result<Self> {
        let opens = Box::new(sealing(keys, domain, form, before)?);
        let seals = Box::new(sealing(keys, domain, form, epoch)?);
        Ok(Self::new(domain, before, epoch, Step::Seal { opens, seals }))
    }

    fn new(domain: &str, before: u32, epoch: u32, step: Step) -> Self {
        Self { before: format!("{domain}.{before}."), prefix: format!("{domain}.{epoch}.").into_bytes(), step }
    }

    /// What is no token of the epoch before cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        if *array.data_type() != DataType::Utf8 {
            let what = format!("tokens were expected in a column of type {}", array.data_type());
            return Err(Error::new(Kind::Bug, what));
        }
        let mut column = TextColumn::with_capacity(array.len(), self.prefix.len() + 48);
        let (mut stored, mut sealed, mut code) = (Vec::new(), Vec::new(), Vec::new());
        for token in array.as_string::<i32>() {
            let Some(token) = token else {
                column.push_null();
                continue;
            };
            code.clear();
            let read = token.strip_prefix(&self.before).and_then(|text| base32::read(text, &mut stored));
            match read.and_then(|()| self.step.bytes(&stored, &mut sealed)) {
                Some(()) => {
                    base32::push(&mut code, &sealed);
                    column.push(&self.prefix, &code);
                }
                None => column.push_invalid(),
            }
        }
        column.finish()
    }
}

impl Step {
    fn bytes(&self, stored: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        match self {
            Step::Wrap(steps) => out.extend_from_slice(&wrapped(stored.try_into().ok()?, steps)),
            Step::Seal { opens, seals } => seals.seal(&opens.open(stored)?, out),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
