//! Statements that are signed, each in a line: `{"signature":"<128 digits>","<word>":{...}}`.

use change::{Error, Kind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hex::{decode, encode};
use crate::{Hash, PublicKey, SigningKey};

/// What can be signed.
pub(crate) trait Statement: Serialize + DeserializeOwned {
    /// Bound into every signature, so that it is good for nothing else.
    const PURPOSE: &'static [u8];
    /// What it is called in its line.
    const WORD: &'static str;
}

/// A statement and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed<T> {
    pub(crate) said: T,
    /// SHA-256 of the statement's bytes.
    pub(crate) hash: Hash,
    signature: [u8; 64],
    body: String,
}

const OPEN: &str = "{\"signature\":\"";

impl<T: Statement> Signed<T> {
    /// Reads a line without its line break; `None` for what is no such statement.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (digits, rest) = line.strip_prefix(OPEN)?.split_at_checked(128)?;
        let rest = rest.strip_prefix("\",\"")?.strip_prefix(T::WORD)?;
        let body = rest.strip_prefix("\":")?.strip_suffix('}')?;
        let mut signature = [0; 64];
        if !decode(digits.as_bytes(), &mut signature) {
            return None;
        }
        let said = serde_json::from_str(body).ok()?;
        Some(Self { said, hash: Hash::of(&[body.as_bytes()]), signature, body: body.to_owned() })
    }

    /// Signs.
    pub(crate) fn sign(said: T, key: &SigningKey) -> Result<Self> {
        let body = serde_json::to_string(&said).map_err(|error| {
            Error::new(Kind::Bug, format!("a {} of the audit log is not JSON", T::WORD)).source(error)
        })?;
        let signature = key.sign(&[T::PURPOSE, body.as_bytes()].concat())?;
        Ok(Self { said, hash: Hash::of(&[body.as_bytes()]), signature, body })
    }

    /// The line, without a line break.
    pub(crate) fn line(&self) -> String {
        format!("{OPEN}{}\",\"{}\":{}}}", encode(&self.signature), T::WORD, self.body)
    }

    /// Whether the key signed it.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.proves(&[T::PURPOSE, self.body.as_bytes()].concat(), &self.signature)
    }
}
