//! What a key file says of its epochs beside their keys, and the texts that a rotation and a retirement make of it.
//!
//! ```text
//! wraps 2 1                                      tokens of epoch 2 are made of those of epoch 1
//! created 2 2026-11-21T19:30:00Z                 when the key was made and became the current one
//! compromised 1 2026-11-21T19:30:00Z             somebody else may have the key
//! retired 1 2026-12-01T08:00:00Z 8b224b44…       the key was taken out of the file; its fingerprint stays
//! ```

use std::collections::BTreeMap;

use change::{Error, Kind, Result, Timestamp};
use zeroize::Zeroizing;

use super::{KeyRing, Master, Purpose, check_digits, hex};
use crate::calendar::{Date, MICROS_PER_DAY};

/// The lines of a key file that are no keys.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    wraps: BTreeMap<u32, u32>,
    created: BTreeMap<u32, String>,
    compromised: BTreeMap<u32, String>,
    retired: BTreeMap<u32, (String, String)>,
}

/// An epoch as the ledger has it; never its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEpoch {
    /// The number.
    pub epoch: u32,
    /// New tokens carry it.
    pub current: bool,
    /// The epoch whose tokens it wraps.
    pub wraps: Option<u32>,
    /// When it was made and became current (UTC); `None` for one of an older release.
    pub created: Option<String>,
    /// Since when somebody else may have its key.
    pub compromised: Option<String>,
    /// When its key was taken out of the file.
    pub retired: Option<String>,
    /// Names its key without telling it, and those of the epochs that it wraps.
    pub fingerprint: String,
}

impl Ledger {
    /// Takes in a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, words: &[&str]) -> Result<(), &'static str> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| "the epoch is not a number");
        let known = match words {
            ["wraps", epoch, before] => self.wraps.insert(number(epoch)?, number(before)?).is_some(),
            ["created", epoch, at] => self.created.insert(number(epoch)?, instant(at)?).is_some(),
            ["compromised", epoch, at] => self.compromised.insert(number(epoch)?, instant(at)?).is_some(),
            ["retired", epoch, at, fingerprint] if is_fingerprint(fingerprint) => {
                self.retired.insert(number(epoch)?, (instant(at)?, (*fingerprint).to_owned())).is_some()
            }
            _ => return Err("the line is not understood"),
        };
        if known { Err("the file says this of the epoch twice") } else { Ok(()) }
    }

    /// What must hold between the lines.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn check(&self, current: u32, keys: &BTreeMap<u32, Master>) -> Result<(), String> {
        let known = |epoch: &u32| keys.contains_key(epoch) || self.retired.contains_key(epoch);
        for (epoch, before) in &self.wraps {
            if before >= epoch {
                return Err(format!("epoch {epoch} wraps epoch {before}, which is not an older one"));
            }
            if let Some(missing) = [epoch, before].into_iter().find(|epoch| !known(epoch)) {
                return Err(format!("epoch {epoch} wraps epoch {before}, and epoch {missing} is missing"));
            }
            if self.wraps.values().filter(|other| *other == before).count() > 1 {
                return Err(format!("two epochs wrap epoch {before}"));
            }
            if *before == current {
                return Err(format!("epoch {current} is the current one, and epoch {epoch} wraps it already"));
            }
        }
        if let Some(epoch) = self.retired.keys().find(|epoch| keys.contains_key(epoch)) {
            return Err(format!("epoch {epoch} is retired, and its key is there"));
        }
        if self.compromised.contains_key(&current) {
            return Err(format!("the current epoch {current} is compromised"));
        }
        let named = self.created.keys().chain(self.compromised.keys());
        match named.into_iter().find(|epoch| !known(epoch)) {
            Some(epoch) => Err(format!("epoch {epoch} is named and has no key")),
            None => Ok(()),
        }
    }
}

impl KeyRing {
    /// All epochs, the oldest first.
    ///
    /// # Errors
    /// [`Kind::Bug`] when a key cannot be derived.
    pub fn epochs(&self) -> Result<Vec<KeyEpoch>> {
        let mut numbers: Vec<u32> = self.epochs.keys().chain(self.ledger.retired.keys()).copied().collect();
        numbers.sort_unstable();
        let epoch = |epoch: u32| {
            Ok(KeyEpoch {
                epoch,
                current: epoch == self.current,
                wraps: self.ledger.wraps.get(&epoch).copied(),
                created: self.ledger.created.get(&epoch).cloned(),
                compromised: self.ledger.compromised.get(&epoch).cloned(),
                retired: self.ledger.retired.get(&epoch).map(|(at, _)| at.clone()),
                fingerprint: self.fingerprint_of(epoch)?,
            })
        };
        numbers.into_iter().map(epoch).collect()
    }

    /// Since when somebody else may have the key of an epoch.
    pub fn compromised(&self, epoch: u32) -> Option<&str> {
        self.ledger.compromised.get(&epoch).map(String::as_str)
    }

    /// Whether the epoch's key is in the file.
    pub(crate) fn has(&self, epoch: u32) -> bool {
        self.epochs.contains_key(&epoch)
    }

    /// The epochs whose keys are in the file.
    pub(crate) fn present(&self) -> impl Iterator<Item = u32> {
        self.epochs.keys().copied()
    }

    /// An epoch that tokens of `epoch` are made through and whose key was taken out of the file.
    pub(crate) fn broken_at(&self, epoch: u32) -> Option<u32> {
        self.chain(epoch).into_iter().find(|step| !self.has(*step))
    }

    /// The epochs that a token of `epoch` is made through, the oldest first; `epoch` is the last.
    pub(crate) fn chain(&self, epoch: u32) -> Vec<u32> {
        let mut chain: Vec<u32> =
            std::iter::successors(Some(epoch), |epoch| self.ledger.wraps.get(epoch).copied()).collect();
        chain.reverse();
        chain
    }

    /// Where the chain of the current epoch began: what cannot be computed anew without the person stays there. A key is taken out of the
    /// file only when nothing was made there.
    pub(crate) fn beginning(&self) -> u32 {
        self.chain(self.current).into_iter().find(|step| self.has(*step)).unwrap_or(self.current)
    }

    /// Names the key of an epoch and of those that it wraps. Of an epoch that wraps none it is the same as before there were chains.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the file does not know the epoch.
    pub fn fingerprint_of(&self, epoch: u32) -> Result<String> {
        if let Some((_, fingerprint)) = self.ledger.retired.get(&epoch) {
            return Ok(fingerprint.clone());
        }
        let wraps = match self.ledger.wraps.get(&epoch) {
            Some(before) => format!("wraps {before} {}", self.fingerprint_of(*before)?),
            None => String::new(),
        };
        Ok(hex(&self.derive(Purpose::Fingerprint, &wraps, epoch)?[..8]))
    }

    /// The text of a key file after a rotation: a new epoch that wraps the current one and takes its place. `random` must come from the
    /// operating system's generator; `now` goes into the ledger. `compromised`: somebody else may have the file, and so every key in it.
    ///
    /// # Errors
    /// Those of [`KeyRing::parse`].
    pub fn rotated(
        text: &str,
        random: &Zeroizing<[u8; 32]>,
        now: Timestamp,
        compromised: bool,
    ) -> Result<Zeroizing<String>> {
        let ring = Self::parse(text)?;
        let before = ring.current;
        let newest = ring.epochs.keys().chain(ring.ledger.retired.keys()).max().copied().unwrap_or(before);
        let Some(epoch) = newest.checked_add(1) else {
            return Err(Error::new(Kind::Config, "there is no higher number for a new epoch"));
        };
        let key: Zeroizing<String> = Zeroizing::new(hex(&**random));
        let mut lines = Zeroizing::new(without_lines(text, |words| matches!(words, ["current", _])));
        let at = spelled(now);
        let check = check_digits(epoch, random);
        let added = format!("epoch {epoch} {} {check}\nwraps {epoch} {before}\ncreated {epoch} {at}\n", &*key);
        lines.push_str(&Zeroizing::new(added));
        for exposed in ring.epochs.keys().filter(|epoch| compromised && ring.compromised(**epoch).is_none()) {
            lines.push_str(&format!("compromised {exposed} {at}\n"));
        }
        lines.push_str(&format!("current {epoch}\n"));
        Self::parse(&lines).map(|_| lines)
    }

    /// The text of a key file without the key of an epoch; that it was there, and its fingerprint, stay.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is no such key, or it is the current one; those of [`KeyRing::parse`].
    pub fn retired(text: &str, epoch: u32, now: Timestamp) -> Result<Zeroizing<String>> {
        let ring = Self::parse(text)?;
        if epoch == ring.current {
            return Err(Error::new(Kind::Config, format!("epoch {epoch} is the current one"))
                .fix("Rotate first (lockgate keys rotate), then remask, then retire it."));
        }
        if !ring.has(epoch) {
            return Err(Error::new(Kind::Config, format!("the key file has no key for epoch {epoch}"))
                .fix("`lockgate keys show` prints those that it has."));
        }
        let fingerprint = ring.fingerprint_of(epoch)?;
        let number = epoch.to_string();
        let is_key = |words: &[&str]| matches!(words, ["epoch", of, ..] if *of == number);
        let mut lines = Zeroizing::new(without_lines(text, is_key));
        lines.push_str(&format!("retired {epoch} {} {fingerprint}\n", spelled(now)));
        Self::parse(&lines).map(|_| lines)
    }
}

/// The lines of a text but those that are meant, with room for what comes behind, so that no copy of a key is left in freed memory.
fn without_lines(text: &str, is_meant: impl Fn(&[&str]) -> bool) -> String {
    let mut kept = String::with_capacity(2 * text.len() + 512);
    for line in text.lines().filter(|line| !is_meant(&line.split_whitespace().collect::<Vec<_>>())) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// A time as the ledger spells it: seconds, UTC.
fn spelled(at: Timestamp) -> String {
    let seconds = at.rem_euclid(MICROS_PER_DAY) / 1_000_000;
    format!("{}T{:02}:{:02}:{:02}Z", Date::from_timestamp(at), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn instant(text: &str) -> Result<String, &'static str> {
    let fits = text.len() == 20 && text.ends_with('Z') && text.is_ascii() && Date::parse(text).is_some();
    fits.then(|| text.to_owned()).ok_or("the time is not spelt like 2026-11-21T19:30:00Z")
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
