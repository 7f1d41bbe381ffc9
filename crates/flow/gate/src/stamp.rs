use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::calendar::Date;
use crate::epoch::is_beside;
use crate::kernel::place::ZIP3_VINTAGE;
use crate::{Profile, TableGate};

/// Under which policy and keys rows were cleared: goes into every commit's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStamp {
    /// The claimed profile.
    pub profile: Profile,
    /// SHA-256 of the compiled rules, hexadecimal. Reasons, comments and the order of lines are not in it.
    pub policy_hash: String,
    /// The epoch of new tokens; `None` when the policy needs no keys.
    pub key_epoch: Option<u32>,
    /// The fingerprint of that epoch's key, see [`crate::KeyRing::fingerprint`].
    pub key_fingerprint: Option<String>,
    /// The fingerprints of all epochs of the key file, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub key_fingerprints: BTreeMap<String, String>,
    /// The vault that gave the codes, see [`crate::Vault::id`]; `None` when the policy has no vault codes.
    #[serde(default)]
    pub vault: Option<String>,
    /// The store of the data keys of cells, see [`crate::CellKeys::id`]; `None` when no cell is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<String>,
    /// The vintage of the ZIP table; of a table in the lake, that by which its oldest prefixes were made.
    pub zip3_table: String,
}

impl PolicyStamp {
    /// Whether rows cleared under this stamp can join rows that were cleared under `previous`.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the vault, or the key of an epoch, is another: every known row would come in again under another token.
    pub fn continues(&self, previous: &PolicyStamp) -> Result<()> {
        if let (Some(vault), Some(before)) = (&self.vault, &previous.vault)
            && vault != before
        {
            return Err(Error::new(
                Kind::Privacy,
                "the lake's codes are from another vault than .lockgate/vault.sqlite",
            )
            .fix("Restore that file from its backup, or copy the tables again into an empty lake."));
        }
        if let (Some(cells), Some(before)) = (&self.cells, &previous.cells)
            && cells != before
        {
            return Err(Error::new(
                Kind::Privacy,
                "the lake's encrypted cells have their keys in another store than .lockgate/cells.sqlite",
            )
            .fix("Restore that file from its backup: without it nobody can open them. Or copy the tables again into an empty lake."));
        }
        let (Some(_), Some(epoch), Some(before)) = (self.key_epoch, previous.key_epoch, &previous.key_fingerprint)
        else {
            return Ok(());
        };
        let what = match self.fingerprint_of(epoch) {
            Some(now) if now == before => return Ok(()),
            Some(_) => format!("the key of epoch {epoch} is not the one that the lake's tokens were made with"),
            None => format!("the lake's tokens are of key epoch {epoch}, which the key file does not have"),
        };
        Err(Error::new(Kind::Privacy, what)
            .fix("Use the key file that the lake was written with, or copy the tables again into an empty lake."))
    }

    fn fingerprint_of(&self, epoch: u32) -> Option<&String> {
        if self.key_epoch == Some(epoch) {
            return self.key_fingerprint.as_ref();
        }
        self.key_fingerprints.get(&epoch.to_string())
    }
}

/// How rules begin whose transforms an epoch of the key makes.
const KEYED: [&str; 5] = ["hmac_token(", "siv_token(", "fpe_ff1(", "date_shift(", "dict_surrogate("];

/// Transforms whose years later show an age above 89.
const YEARS: [&str; 2] = ["date_year", "dob_generalise"];

/// Transforms that go by the census table.
const ZIPS: [&str; 1] = ["zip3"];

/// What a table's commits say of how its rows were cleared: the policy, and the rule of each column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStamp {
    /// The whole policy.
    #[serde(flatten)]
    pub policy: PolicyStamp,
    /// The year of processing in which the oldest of its years were made: in a later one they may show an age above 89. Older
    /// releases did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_in: Option<i32>,
    /// The rule of every column that the source has or had, as [`crate::TableGate::rules`] spells it.
    #[serde(default)]
    pub rules: BTreeMap<String, String>,
    /// The epoch of the key that made what stands in a column, or at a place within its documents; only where one did. Releases before
    /// there were rotations did not write it: theirs is the epoch of the policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, u32>,
    /// What the source knows each column by, whatever its name is ([`change::Column::number`]), those that left included. Nothing where it
    /// does not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, i64>,
}

/// Numbers and rules of columns, by name.
type Known<'a> = (&'a BTreeMap<String, i64>, &'a BTreeMap<String, String>);

/// # Errors
/// [`Kind::Contract`] when a column has another name than before, and something of it is stored under the one or the other.
pub(crate) fn check_renamed((before, rules_before): Known<'_>, (now, rules): Known<'_>) -> Result<()> {
    let stored = |rules: &BTreeMap<String, String>, name: &str| rules.get(name).is_some_and(|rule| rule != "drop");
    let names: BTreeMap<i64, &String> = before.iter().map(|(name, number)| (*number, name)).collect();
    for (name, number) in now {
        let Some(was) = names.get(number).filter(|was| **was != name) else { continue };
        if stored(rules, name) || stored(rules_before, was) {
            let what = format!(
                "the column that was `{was}` is called `{name}` now: its values would come under another name's rule"
            );
            return Err(Error::new(Kind::Contract, what).fix(
                "Give each name the rule that its values need in policy.yaml, and take both folders of the table out of the lake, so that it is copied anew; or give the column its old name back.",
            ));
        }
    }
    Ok(())
}

impl TableStamp {
    /// The stamp of what a gate clears.
    pub fn of(policy: &PolicyStamp, gate: &TableGate) -> Self {
        Self {
            policy: policy.clone(),
            processed_in: Some(gate.today().year),
            rules: gate.rules().clone(),
            epochs: gate.epochs().clone(),
            numbers: gate.numbers(),
        }
    }

    /// Takes in what is cleared from here on, as the table's structure has changed. The rule of a column that is stored stays, whatever an
    /// older structure of the table is cleared by.
    pub fn evolve(&mut self, now: Self) {
        for (column, rule) in now.rules {
            let known = self.rules.entry(column).or_insert_with(|| rule.clone());
            if known == "drop" {
                *known = rule;
            }
        }
        for (place, epoch) in now.epochs {
            self.epochs.entry(place).or_insert(epoch);
        }
        self.numbers.extend(now.numbers);
    }

    /// Stored columns that may show what the day of `now` hides, until they are remasked: their years were made in an earlier or an unknown
    /// year, or their ZIP prefixes by another census table.
    pub fn outdated(&self, now: Timestamp) -> Vec<&str> {
        let year = Date::from_timestamp(now).year;
        let years = if self.processed_in.is_none_or(|before| before < year) { &YEARS[..] } else { &[] };
        let zips = if self.policy.zip3_table == ZIP3_VINTAGE { &[][..] } else { &ZIPS };
        self.made_by(&[years, zips].concat())
    }

    /// Stored columns of which a value is made by one of these transforms.
    fn made_by(&self, transforms: &[&str]) -> Vec<&str> {
        let within = |rule: &str, transform: &str| {
            rule == transform || rule.contains(&format!("={transform}")) || rule.starts_with("x12_map(")
        };
        let made = |rule: &str| transforms.iter().any(|transform| within(rule, transform));
        self.rules.iter().filter(|(_, rule)| made(rule)).map(|(column, _)| column.as_str()).collect()
    }

    /// The epoch that made what is stored at a place of a column; `None` when the column is not stored, or no key made it.
    pub(crate) fn epoch_of(&self, column: &str, place: &str) -> Option<u32> {
        let is_stored = match self.rules.get(column) {
            Some(rule) => rule != "drop",
            // A release before there were rules here.
            None => self.rules.is_empty(),
        };
        let written = self.epochs.get(place).copied();
        let of_old = || self.policy.key_epoch.filter(|_| self.epochs.is_empty());
        if is_stored { written.or_else(of_old) } else { None }
    }

    /// The stamp of rows that join those stored under `previous`: columns that have left keep their rule, and what is stored stays as old as
    /// it is.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key, its epoch or the rule of a stored column is another one: old and new rows would not mean the same, a row
    /// under another token of its key would be stored twice, and what a stricter rule hides would stay in the old rows.
    pub fn after(mut self, previous: &TableStamp) -> Result<Self> {
        self.policy.continues(&previous.policy)?;
        check_renamed((&previous.numbers, &previous.rules), (&self.numbers, &self.rules))?;
        self.check_beside(previous)?;
        for (column, before) in &previous.rules {
            let now = self.rules.entry(column.clone()).or_insert_with(|| before.clone());
            if now != before && before != "drop" {
                return Err(Error::new(
                    Kind::Privacy,
                    format!("column `{column}` is stored under `{before}`, and the policy now says `{now}`"),
                )
                .fix(format!(
                    "Put `{before}` back; or run `lockgate remask` when the new rule hides more; or take both folders of the table out of the lake: it is then copied anew under the new rule. Delete the old folders for good when the new rule hides more."
                )));
            }
        }
        for (place, now) in &self.epochs {
            let column = self.column_of(place);
            if let Some(before) = previous.epoch_of(column, place).filter(|before| before != now) {
                let what =
                    format!("column `{place}` is stored under key epoch {before}, and new rows come under epoch {now}");
                return Err(Error::new(Kind::Privacy, what).fix(format!(
                    "Run `lockgate remask`: it brings what is stored to epoch {now}. Or stay: write `epoch: {before}` to the rule."
                )));
            }
        }
        if previous.rules.is_empty() || !previous.made_by(&YEARS).is_empty() {
            self.processed_in = previous.processed_in;
        }
        if previous.rules.is_empty() || !previous.made_by(&ZIPS).is_empty() {
            self.policy.zip3_table.clone_from(&previous.policy.zip3_table);
        }
        for (place, before) in &previous.epochs {
            self.epochs.entry(place.clone()).or_insert(*before);
        }
        for (column, number) in &previous.numbers {
            self.numbers.entry(column.clone()).or_insert(*number);
        }
        Ok(self)
    }

    /// Columns with the tokens of an older epoch come and go by remasking alone, or some rows would lack theirs.
    fn check_beside(&self, previous: &TableStamp) -> Result<()> {
        let stored = |stamp: &TableStamp, column: &str| stamp.rules.get(column).is_some_and(|rule| rule != "drop");
        let both = self.epochs.iter().chain(&previous.epochs);
        for (column, _) in both.filter(|(column, epoch)| is_beside(column, **epoch)) {
            let what = match (stored(previous, column), stored(self, column)) {
                (false, true) if !previous.rules.is_empty() => {
                    format!("column `{column}` is to stand beside another, and is not there yet")
                }
                (true, false) => {
                    format!("column `{column}` stands beside another, and the policy has no `dual` for it any more")
                }
                _ => continue,
            };
            return Err(Error::new(Kind::Privacy, what).fix("Run `lockgate remask`, or put `dual` back as it was."));
        }
        Ok(())
    }

    /// The epochs that made what is stored in a column and within its documents.
    pub(crate) fn epochs_within(&self, column: &str) -> BTreeSet<u32> {
        if self.epochs.is_empty() {
            return self.epoch_of(column, column).into_iter().collect();
        }
        let places = self.epochs.keys().filter(|place| self.column_of(place) == column);
        places.filter_map(|place| self.epoch_of(column, place)).collect()
    }

    /// The epochs that made something that is stored in the table, each with its columns.
    pub fn epochs_stored(&self) -> BTreeMap<u32, Vec<&str>> {
        let mut found: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (column, rule) in &self.rules {
            // A stamp of an older release does not tell which columns its epoch made.
            if self.epochs.is_empty() && !KEYED.iter().any(|keyed| rule.contains(keyed)) {
                continue;
            }
            for epoch in self.epochs_within(column) {
                found.entry(epoch).or_default().push(column);
            }
        }
        found
    }

    /// The columns of encrypted cells.
    pub fn cells_stored(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|(_, rule)| rule.contains("encrypt_cell(")).map(|(column, _)| column.as_str())
    }

    /// The column of a place: itself, or the one whose documents it lies in.
    pub(crate) fn column_of<'a>(&'a self, place: &'a str) -> &'a str {
        let within = |column: &&String| place.strip_prefix(column.as_str()).is_some_and(|rest| rest.starts_with('.'));
        match self.rules.contains_key(place) {
            true => place,
            false => self.rules.keys().find(within).map_or(place, String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(rules: &[(&str, &str)]) -> TableStamp {
        TableStamp {
            policy: PolicyStamp {
                profile: Profile::None,
                policy_hash: String::new(),
                key_epoch: Some(1),
                key_fingerprint: Some("a".into()),
                key_fingerprints: BTreeMap::new(),
                vault: Some("v".into()),
                cells: Some("c".into()),
                zip3_table: String::new(),
            },
            processed_in: Some(2026),
            rules: rules.iter().map(|(column, rule)| ((*column).to_owned(), (*rule).to_owned())).collect(),
            epochs: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    #[test]
    fn a_column_does_not_come_under_the_rule_of_another_whose_name_it_has_taken() {
        let numbered = |columns: &[(&str, &str, i64)]| {
            let rules: Vec<_> = columns.iter().map(|(name, rule, _)| (*name, *rule)).collect();
            let numbers = columns.iter().map(|(name, _, number)| ((*name).to_owned(), *number)).collect();
            TableStamp { numbers, ..stamp(&rules) }
        };
        let before = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("plan", "keep", 3), ("x", "drop", 4)]);
        // Renamed over a column that left, and swapped.
        let taken = numbered(&[("id", "keep", 1), ("plan", "keep", 2)]);
        let swapped = numbered(&[("id", "keep", 1), ("ssn", "drop", 3), ("plan", "keep", 2)]);
        // Under a name that the policy had already and the source had not, and one whose values would stay behind.
        let named = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("plan", "keep", 3), ("y", "keep", 4)]);
        let left = numbered(&[("id", "keep", 1), ("ssn", "drop", 2), ("y", "drop", 3)]);
        for now in [taken, swapped, named, left] {
            let error = now.after(&before).unwrap_err();
            assert!(error.kind() == Kind::Contract && error.what().contains("is called"), "{error}");
        }
        // Nothing of it is stored; a column that left and came again; another table of that name.
        let harmless = numbered(&[("id", "keep", 1), ("y", "drop", 2), ("plan", "keep", 9)]).after(&before).unwrap();
        assert_eq!(harmless.numbers["plan"], 9);
        assert_eq!(harmless.numbers["ssn"], 2, "what left is remembered");
        assert!(numbered(&[("id", "keep", 101), ("plan", "keep", 102)]).after(&before).is_ok());
        assert!(before.clone().after(&stamp(&[("id", "keep")])).is_ok(), "a stamp of a release before numbers");
    }

    #[test]
    fn the_rule_of_a_stored_column_cannot_change() {
        let before = stamp(&[("id", "keep"), ("ssn", "hmac_token(a)"), ("note", "drop")]);
        assert_eq!(before.clone().after(&before).unwrap(), before);
        for changed in [("id", "drop"), ("id", "hmac_token(id)"), ("ssn", "hmac_token(b)"), ("ssn", "keep")] {
            let error = stamp(&[changed]).after(&before).unwrap_err();
            assert_eq!(error.kind(), Kind::Privacy);
            assert!(error.what().contains(changed.0) && error.what().contains(changed.1), "{error}");
        }
    }

    #[test]
    fn a_column_may_begin_to_be_stored_and_one_that_left_keeps_its_rule() {
        let before = stamp(&[("id", "keep"), ("note", "drop"), ("gone", "hmac_token(a)")]);
        let now = stamp(&[("id", "keep"), ("note", "redact([NOTE])"), ("new", "keep")]).after(&before).unwrap();
        assert_eq!(now.rules["gone"], "hmac_token(a)");
        assert!(stamp(&[("gone", "keep")]).after(&now).is_err());
        assert_eq!(now.rules["note"], "redact([NOTE])");
    }

    /// After a rotation: the current epoch is 2, and the file still has the key of epoch 1.
    fn rotated(rules: &[(&str, &str)], epochs: &[(&str, u32)]) -> TableStamp {
        let mut stamp = stamp(rules);
        (stamp.policy.key_epoch, stamp.policy.key_fingerprint) = (Some(2), Some("b".into()));
        stamp.policy.key_fingerprints = [("1".to_owned(), "a".to_owned()), ("2".to_owned(), "b".to_owned())].into();
        stamp.epochs = epochs.iter().map(|(place, epoch)| ((*place).to_owned(), *epoch)).collect();
        stamp
    }

    #[test]
    fn two_epochs_never_stand_in_one_column() {
        let rules =
            [("id", "hmac_token(a)"), ("doc", "json_paths(x.y=hmac_token(a))"), ("v", "keep"), ("gone", "drop")];
        let now = |epoch| rotated(&rules, &[("id", epoch), ("doc.x.y", epoch), ("gone", 2)]);
        let with = |epoch| TableStamp { epochs: now(epoch).epochs, ..stamp(&rules) };
        // One of a release that did not write epochs, and one that did.
        for before in [stamp(&rules), with(1)] {
            let error = now(2).after(&before).unwrap_err();
            assert!(error.what().contains("under key epoch 1") && error.what().contains("under epoch 2"), "{error}");
            assert!(error.how_to_fix().unwrap().contains("lockgate remask"));
            assert_eq!(now(1).after(&before).unwrap().epochs["doc.x.y"], 1, "pinned");
            assert_eq!(before.epochs_stored()[&1], ["doc", "id"]);
        }
        // A table in which no key made anything goes on.
        assert!(rotated(&rules[2..], &[("gone", 2)]).after(&stamp(&rules[2..])).is_ok());
        // Back to an older key file, and to one that lacks an epoch.
        let older = TableStamp { epochs: with(1).epochs, ..stamp(&rules) };
        assert!(
            older
                .clone()
                .after(&now(2))
                .unwrap_err()
                .what()
                .contains("of key epoch 2, which the key file does not have")
        );
        let mut lacks = now(2);
        lacks.policy.key_fingerprints.remove("1");
        assert!(lacks.after(&older).unwrap_err().what().contains("of key epoch 1, which the key file does not have"));
        let mut other = now(1);
        other.policy.key_fingerprints.insert("1".into(), "c".into());
        assert!(other.after(&older).unwrap_err().what().contains("the key of epoch 1 is not the one"));
    }

    #[test]
    fn a_column_beside_another_comes_and_goes_by_remasking_alone() {
        let plain = rotated(&[("id", "hmac_token(a)")], &[("id", 2)]);
        let rules = [("id", "hmac_token(a)"), ("id__epoch1", "hmac_token(a)")];
        let dual = rotated(&rules, &[("id", 2), ("id__epoch1", 1)]);
        assert!(dual.clone().after(&plain).unwrap_err().what().contains("is not there yet"));
        assert!(plain.clone().after(&dual).unwrap_err().what().contains("no `dual` for it any more"));
        assert!(dual.clone().after(&dual).is_ok());
        let ended = TableStamp { rules: [("id__epoch1".to_owned(), "drop".to_owned())].into(), ..dual.clone() };
        assert!(plain.after(&ended).is_ok());
    }

    #[test]
    fn another_key_or_vault_does_not_go_on() {
        let before = stamp(&[]);
        let mut other = before.clone();
        other.policy.key_fingerprint = Some("b".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
        let mut other = before.clone();
        other.policy.vault = Some("w".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
        let mut other = before.clone();
        other.policy.cells = Some("d".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
    }
}
