use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::calendar::Date;
use crate::canonical::Form;
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
    /// Columns of timestamps under `date_shift`: only a limited data set has their time of day. Older releases did not write it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shifted_times: BTreeSet<String>,
}

/// Whether two spellings of a rule mean the same. Older releases did not write the canonical forms of places within documents: theirs are
/// taken for those of now.
pub(crate) fn is_same(before: &str, now: &str) -> bool {
    let is_document = ["json_paths(", "x12_map("].iter().any(|document| now.starts_with(document));
    let without = |text: String, form: &Form| text.replace(&format!(") of {}", form.versioned()), ")");
    before == now || is_document && before == Form::ALL.iter().fold(now.to_owned(), without)
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
            shifted_times: gate.shifted_times(),
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
        self.shifted_times.extend(now.shifted_times);
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
            rule == transform
                || rule.starts_with(&format!("{transform} "))
                || rule.contains(&format!("={transform}"))
                || rule.starts_with("x12_map(")
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
    /// [`Kind::Privacy`] when the key, its epoch or the rule of a stored column is another one, or the profile lets another part of it pass: old
    /// and new rows would not mean the same, a row under another token of its key would be stored twice, and what a stricter rule hides would
    /// stay in the old rows.
    pub fn after(mut self, previous: &TableStamp) -> Result<Self> {
        self.policy.continues(&previous.policy)?;
        check_renamed((&previous.numbers, &previous.rules), (&self.numbers, &self.rules))?;
        self.check_beside(previous)?;
        self.check_times(previous)?;
        for (column, before) in &previous.rules {
            let now = self.rules.entry(column.clone()).or_insert_with(|| before.clone());
            if before != "drop" && !is_same(before, now) {
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
        self.shifted_times.extend(previous.shifted_times.iter().cloned());
        Ok(self)
    }

    /// The time of day of shifted timestamps comes and goes with the profile: some rows would have theirs and others not.
    fn check_times(&self, previous: &TableStamp) -> Result<()> {
        let (before, now) = (previous.policy.profile, self.policy.profile);
        if before.keeps_time() == now.keeps_time() {
            return Ok(());
        }
        let is_shifted =
            |column: &&String| previous.rules.get(*column).is_some_and(|rule| rule.starts_with("date_shift("));
        let Some(column) = self.shifted_times.union(&previous.shifted_times).find(is_shifted) else { return Ok(()) };
        let (how, comes, remask) = match before.keeps_time() {
            true => ("with", "without it", "run `lockgate remask`, which takes the time of day away; or "),
            false => ("without", "with it", ""),
        };
        let what = format!(
            "column `{column}` is stored {how} the time of day, and new rows come {comes}, as the profile is `{now}` now"
        );
        Err(Error::new(Kind::Privacy, what).fix(format!(
            "Claim `{before}` again; or {remask}take both folders of the table out of the lake: it is then copied anew under the new profile."
        )))
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
mod tests;
