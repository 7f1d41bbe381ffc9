//! The signature of a written report.

use std::io::BufRead;

use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entry::Line;
use crate::signed::{Signed, Statement};
use crate::{Hash, Hex, PublicKey, Report, SigningKey};

/// What the signature of a written report binds it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// SHA-256 of the report's text.
    pub text: Hash,
    /// The log, see [`crate::Head::log`].
    pub log: Hash,
    /// Entries that it had.
    pub entries: u64,
    /// The hash of the last of them.
    pub last: Hash,
    /// When the report was made, microseconds since the Unix epoch.
    pub at: Timestamp,
    /// The key, see [`PublicKey::fingerprint`].
    pub key: Hex,
}

impl Statement for Review {
    const PURPOSE: &'static [u8] = b"lockgate audit report 1\0";
    const WORD: &'static str = "report";
}

impl Review {
    /// Signs a report's text about a log as it was proven; the line is what stands in the file beside the text.
    ///
    /// # Errors
    /// `Config` when the log is empty.
    pub fn sign(text: &[u8], proven: &Report, at: Timestamp, key: &SigningKey) -> Result<String> {
        let log = proven.log.ok_or_else(|| {
            Error::new(Kind::Config, "the audit log has no entry to report on").fix("Start a run first.")
        })?;
        let key_name = key.public().fingerprint();
        let (entries, last) = (proven.entries, proven.last);
        let review = Self { text: Hash::of(&[text]), log, entries, last, at, key: key_name };
        Ok(Signed::sign(review, key)?.line())
    }

    /// Reads the line beside a text; `None` when the key did not sign it, or another text.
    pub fn read(text: &[u8], line: &str, key: &PublicKey) -> Option<Self> {
        let signed = Signed::<Self>::read(line.strip_suffix('\n').unwrap_or(line))?;
        (signed.is_signed_by(key) && signed.said.text == Hash::of(&[text])).then_some(signed.said)
    }

    /// Whether a log, which has been proven, begins with the entries that were reported on.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub fn is_of<L: BufRead>(&self, log: L) -> Result<bool> {
        let unreadable = |error| Error::new(Kind::Unavailable, "the audit log cannot be read").source(error);
        let mut first = None;
        for (line, number) in log.split(b'\n').zip(1..) {
            let line = line.map_err(unreadable)?;
            let Some(line) = Line::read(&line) else { return Ok(false) };
            if *first.get_or_insert(line.hash) != self.log {
                return Ok(false);
            }
            if number == self.entries {
                return Ok(line.hash == self.last);
            }
        }
        Ok(false)
    }
}
