//! Which epoch of the key makes what a rule stores.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::Rule;
use crate::report::Report;
use crate::{KeyRing, Policy, Transform};

/// How what a transform makes hangs on the epochs of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// Not at all, or through what never rotates (the vault's index).
    Free,
    /// New values carry the current epoch, and stored ones can be brought there.
    Moves,
    /// It cannot be computed again without the person: it stays where the current epoch's chain began.
    Stays,
}

impl Transform {
    /// How it hangs on the epochs. A document's places are asked by their own rules.
    pub(crate) fn rotation(&self) -> Rotation {
        use Transform as T;
        match self {
            // A cell says its own epoch, and its data key is sealed anew.
            T::VaultCode { .. } | T::EncryptCell { .. } => Rotation::Free,
            T::DateShift { .. } | T::DictSurrogate { .. } => Rotation::Stays,
            other if other.domain().is_some() => Rotation::Moves,
            _ => Rotation::Free,
        }
    }
}

impl Rule {
    /// The epoch that makes its values; `None` when none does.
    pub(crate) fn epoch(&self, keys: &KeyRing) -> Option<u32> {
        match self.transform.rotation() {
            Rotation::Free => None,
            Rotation::Moves => Some(self.pin.unwrap_or(keys.current_epoch())),
            Rotation::Stays => Some(self.pin.unwrap_or(keys.beginning())),
        }
    }

    /// The epoch of each place whose values hang on one: the column itself, or places in its documents.
    pub(crate) fn epochs(&self, keys: &KeyRing) -> Vec<(String, u32)> {
        let rules = std::iter::once(self).chain(self.inner());
        rules.filter_map(|rule| Some((rule.place(), rule.epoch(keys)?))).collect()
    }

    /// The rule of the column that stands beside it, with the tokens of an older epoch.
    pub(crate) fn beside(&self) -> Option<Rule> {
        let epoch = self.dual?;
        Some(Rule { column: beside(&self.column, epoch), pin: Some(epoch), dual: None, ..self.clone() })
    }

    /// The rule, and that of the column beside it.
    pub(crate) fn with_beside(&self) -> impl Iterator<Item = Rule> {
        std::iter::once(self.clone()).chain(self.beside())
    }
}

/// What the column is called that has a column's tokens of another epoch.
pub(crate) fn beside(column: &str, epoch: u32) -> String {
    format!("{column}__epoch{epoch}")
}

/// Whether a column has another's tokens of this epoch.
pub(crate) fn is_beside(column: &str, epoch: u32) -> bool {
    column.strip_suffix(&beside("", epoch)).is_some_and(|of| !of.is_empty())
}

impl Policy {
    /// The epochs without which rules cannot make their values, each with the columns and places that need it.
    pub fn epochs_needed(&self, keys: &KeyRing) -> BTreeMap<u32, Vec<String>> {
        let mut needed: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (table, rule) in self.rules().flat_map(|(table, rule)| rule.with_beside().map(move |rule| (table, rule))) {
            let epochs = match (&rule.transform, rule.epoch(keys)) {
                (Transform::HmacToken { .. }, Some(epoch)) => keys.chain(epoch),
                // Known values are found by an index that never rotates.
                (Transform::VaultCode { .. }, _) => vec![keys.oldest_epoch()],
                (_, epoch) => epoch.into_iter().collect(),
            };
            for epoch in epochs {
                needed.entry(epoch).or_default().push(format!("{table}.{}", rule.place()));
            }
        }
        needed
    }

    /// The domains whose values are made by a key.
    pub fn key_domains(&self) -> BTreeSet<&str> {
        self.rules().filter_map(|(_, rule)| rule.transform.domain()).collect()
    }

    /// Rules whose epoch has no key, or one that somebody else may have.
    pub(crate) fn check_epochs(&self, keys: &KeyRing, report: &mut Report) {
        for (table, rule) in self.rules() {
            if rule.dual.is_some() && rule.dual == rule.epoch(keys) {
                let what =
                    format!("{table}.{}: its tokens are of the epoch that is to stand beside them", rule.place());
                report.error(rule.line, what, "Rotate first (lockgate keys rotate), or take `dual` out of the rule.");
            }
        }
        for (table, rule) in self.rules().flat_map(|(table, rule)| rule.with_beside().map(move |rule| (table, rule))) {
            if let Some(epoch) = rule.pin.filter(|epoch| !keys.has(*epoch)) {
                let what = format!("{table}.{} is on epoch {epoch}, and the key file has no key for it", rule.place());
                report.error(rule.line, what, "`lockgate keys show` prints the epochs that there are.");
                continue;
            }
            let wrapped = rule.epoch(keys).filter(|_| matches!(rule.transform, Transform::HmacToken { .. }));
            if let Some(retired) = wrapped.and_then(|epoch| keys.broken_at(epoch)) {
                let what = format!(
                    "{table}.{}: its tokens are made through epoch {retired}, whose key was retired",
                    rule.place()
                );
                report.error(rule.line, what, "Put the key file of before back, or use siv_token(domain).");
                continue;
            }
            let Some(epoch) = rule.epoch(keys).filter(|epoch| keys.compromised(*epoch).is_some()) else { continue };
            let what = format!("{table}.{} is made by the key of epoch {epoch}, which is compromised", rule.place());
            let fix = match rule.transform.rotation() {
                Rotation::Stays => format!(
                    "It cannot be computed anew from what is stored: write `epoch: {}` to the rule, and copy the table anew.",
                    keys.current_epoch()
                ),
                Rotation::Moves | Rotation::Free => {
                    "Take `epoch` or `dual` out of the rule, then run `lockgate remask`.".into()
                }
            };
            report.error(rule.line, what, fix);
        }
    }
}
