use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Problem, TableName, TableSchema, Timestamp};

use crate::EntityFinder;
use crate::KGate;
use crate::Profile;
use crate::TableStamp;
use crate::Transform;
use crate::calendar::Date;
use crate::canonical::Form;
use crate::class::Declared;

mod claims;
mod reader;

/// `policy.yaml`, read and right in itself; [`Policy::compile`] meets it with the tables.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) file: String,
    pub(crate) profile: Profile,
    pub(crate) expert: Option<Expert>,
    pub(crate) keys: Option<String>,
    pub(crate) model: Option<NerModel>,
    pub(crate) invalid_percent_max: f64,
    pub(crate) held_days: u32,
    pub(crate) tables: BTreeMap<TableName, TableRules>,
}

/// The model that [`crate::Tier::DetectNer`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NerModel {
    /// Where its folder is, as written: `./models/deid`. The gate does not read it.
    pub folder: String,
    /// SHA-256 of its files, 64 hexadecimal digits: the policy is for this model and no other.
    pub sha256: String,
    /// The line of the policy that names it.
    pub line: u64,
}

/// The determination that [`Profile::Expert`] rests on.
#[derive(Clone, Debug)]
pub(crate) struct Expert {
    pub(crate) line: u64,
    pub(crate) expires: Date,
}

/// What the lake has of a column that the source has dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Values from before.
    Stored,
    /// Nothing: its rule was `drop`.
    NeverStored,
    /// The lake could not be asked, and the column may be one that never was.
    Unasked,
}

/// The rules of one table.
#[derive(Clone, Debug)]
pub(crate) struct TableRules {
    pub(crate) line: u64,
    pub(crate) columns: Vec<Rule>,
    /// How the table is released.
    pub(crate) k_gate: Option<KGate>,
    pub(crate) new_columns: NewColumns,
    /// Columns with a rule that the source has dropped: they are null from here on.
    pub(crate) gone: BTreeMap<String, Gone>,
}

/// What becomes of a column that no rule names. It never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewColumns {
    /// It is not stored, and said.
    Drop,
    /// The table stops until a rule names it.
    Halt,
}

impl NewColumns {
    pub(crate) const ALL: [NewColumns; 2] = [NewColumns::Drop, NewColumns::Halt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            NewColumns::Drop => "drop",
            NewColumns::Halt => "halt",
        }
    }
}

/// What the policy says of one column, or of one place in a column's documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The column's name, or the path within its documents.
    pub(crate) column: String,
    /// The column that holds the documents, when `column` is a path.
    pub(crate) within: Option<String>,
    pub(crate) line: u64,
    pub(crate) transform: Transform,
    pub(crate) on_invalid: OnInvalid,
    pub(crate) form: Form,
    /// The column that says whom a row is about.
    pub(crate) subject: Option<String>,
    /// The epoch of the key that it stays on, whatever the current one is.
    pub(crate) pin: Option<u32>,
    /// The older epoch whose tokens stand in a column beside it.
    pub(crate) dual: Option<u32>,
    /// What stands in the lake for null, when not null.
    pub(crate) null_as: Option<String>,
    /// What the officer says that the column holds.
    pub(crate) class: Option<Declared>,
    pub(crate) reason: Option<String>,
    pub(crate) reviewer: Option<String>,
}

impl Rule {
    /// What the rule makes of a value, in one spelling: transform, canonical form, whose value it is and what stands for null. Of a place within documents the form
    /// is always said, so that a text of a release that did not say it can be told.
    pub(crate) fn meaning(&self) -> String {
        let form = match self.form {
            Form::Exact if self.within.is_none() || !self.transform.takes_form() => String::new(),
            form => format!(" of {}", form.versioned()),
        };
        let subject = self.subject.as_ref().map(|subject| format!(" by {subject}")).unwrap_or_default();
        let null_as = self.null_as.as_ref().map(|constant| format!(" null as {constant}")).unwrap_or_default();
        format!("{}{form}{subject}{null_as}", self.transform.meaning())
    }
}

/// What becomes of a value that a transform cannot read. It never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInvalid {
    /// It becomes null and is counted.
    Null,
    /// Its row is kept back, sealed, until somebody decides.
    Hold,
    /// The table stops.
    Halt,
}

impl OnInvalid {
    pub(crate) const ALL: [OnInvalid; 3] = [OnInvalid::Null, OnInvalid::Hold, OnInvalid::Halt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            OnInvalid::Null => "null",
            OnInvalid::Hold => "hold",
            OnInvalid::Halt => "halt",
        }
    }
}

impl Rule {
    /// The rules of the places in the column's documents.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &Rule> {
        self.transform.inner().into_iter()
    }

    /// Where the rule holds within its table: `ssn`, `payload.patient.id`.
    pub(crate) fn place(&self) -> String {
        match &self.within {
            Some(column) => format!("{column}.{}", self.column),
            None => self.column.clone(),
        }
    }

    /// Whether a row is kept back for an unreadable value of it.
    pub(crate) fn holds(&self) -> bool {
        self.on_invalid == OnInvalid::Hold
    }

    /// Whether a person says of the column that it does not identify anybody.
    pub(crate) fn is_vouched(&self) -> bool {
        self.reason.is_some() && self.reviewer.is_some()
    }
}

/// A column of which more values cannot be read than this has probably changed its meaning.
const INVALID_PERCENT_MAX: f64 = 0.1;
/// How long a raw row may be held: no longer than somebody needs to look at it.
const HELD_DAYS: u32 = 7;

impl Policy {
    /// Reads `policy.yaml`. `file` is its name as the user knows it, for messages. Reports everything that can be said without the
    /// tables' structure, all at once: spelling, domains that contradict themselves, and a profile that the rules cannot carry.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        let (policy, mut report) = reader::read(text, file)?;
        claims::check(&policy, &mut report);
        if report.has_errors() { Err(report.problems) } else { Ok(policy) }
    }

    /// The claimed profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The strongest profile that the rules could carry. A claim also needs its paperwork, which no program can check.
    pub fn claimable(&self) -> Profile {
        let carries = |profile: &Profile| self.rules().all(|(_, rule)| profile.breach(rule).is_none());
        Profile::ALL.into_iter().find(carries).unwrap_or(Profile::None)
    }

    /// Whether a column's values have to pass the gate: something of it is stored, or a rule of another column looks at it.
    pub fn reads(&self, table: &TableName, column: &str) -> bool {
        let rules = self.tables.get(table).into_iter().flat_map(|rules| &rules.columns);
        let mut stored = rules.filter(|rule| rule.transform != Transform::Drop);
        stored.any(|rule| {
            rule.column == column
                || rule.subject.as_deref() == Some(column)
                || rule.inner().any(|inner| inner.subject.as_deref() == Some(column))
                || rule.transform.known_columns().contains(&column)
        })
    }

    /// The columns that rules name and the source's table does not have.
    pub fn missing(&self, schema: &TableSchema) -> Vec<&str> {
        let rules = self.tables.get(&schema.table).into_iter().flat_map(|rules| &rules.columns);
        rules.map(|rule| rule.column.as_str()).filter(|column| schema.index_of(column).is_none()).collect()
    }

    /// The same rules for rows of the structure that their table had once: a column that it lacked is no mistake.
    #[must_use]
    pub fn of_then(&self, structure: &TableSchema) -> Self {
        let mut policy = self.clone();
        policy.drop_unasked(structure);
        policy
    }

    /// Takes the missing columns that the table once had, by the `stamp` of its rows in the lake, for dropped at the source. A name that is only
    /// misspelt is not among them.
    pub fn drop_at_source(&mut self, schema: &TableSchema, stamp: &TableStamp) {
        let stored = |column: &str| match stamp.rules.get(column).map(String::as_str) {
            Some("drop") => Gone::NeverStored,
            _ => Gone::Stored,
        };
        let there = |column: &str| stamp.numbers.contains_key(column).then(|| stored(column));
        self.set_gone(schema, there);
    }

    /// Takes all missing columns for dropped at the source, where the lake cannot tell which of them the table once had.
    pub fn drop_unasked(&mut self, schema: &TableSchema) {
        self.set_gone(schema, |_| Some(Gone::Unasked));
    }

    fn set_gone(&mut self, schema: &TableSchema, how: impl Fn(&str) -> Option<Gone>) {
        let missing = self.missing(schema).into_iter();
        let gone = missing.filter_map(|column| Some((column.to_owned(), how(column)?))).collect();
        if let Some(rules) = self.tables.get_mut(&schema.table) {
            rules.gone = gone;
        }
    }

    /// Where the keys are, as written: `file:./keys/dev.key`. The gate does not read it.
    pub fn keys(&self) -> Option<&str> {
        self.keys.as_deref()
    }

    /// The model that free text is searched with.
    pub fn model(&self) -> Option<&NerModel> {
        self.model.as_ref()
    }

    /// Whether texts of the table are searched with the model.
    pub fn asks_model(&self, table: &TableName) -> bool {
        self.rules().any(|(of, rule)| of == table && rule.transform.asks_model())
    }

    /// # Errors
    /// [`Kind::Config`] when a finder is not the model that the policy names.
    pub(crate) fn check_model(&self, finder: &dyn EntityFinder) -> change::Result<()> {
        match &self.model {
            Some(model) if model.sha256 == finder.model() => Ok(()),
            _ => Err(Error::new(Kind::Config, "the model is not the one that the policy names")
                .fix("Put the model back that `ner` names, or write the SHA-256 of this one there.")),
        }
    }

    /// How a table is released, when not as it is.
    pub fn k_gate(&self, table: &TableName) -> Option<&KGate> {
        self.tables.get(table).and_then(|rules| rules.k_gate.as_ref())
    }

    /// The tables that leave in groups only.
    pub fn k_gated(&self) -> BTreeSet<TableName> {
        self.tables.iter().filter(|(_, rules)| rules.k_gate.is_some()).map(|(table, _)| table.clone()).collect()
    }

    /// Whether a rule keeps rows back.
    pub fn holds(&self) -> bool {
        self.rules().any(|(_, rule)| rule.holds())
    }

    /// After how many days a held row is forgotten.
    pub fn held_days(&self) -> u32 {
        self.held_days
    }

    /// Whether the claimed profile may still be claimed at `now`: an expert's determination holds through the day on which it expires (UTC).
    ///
    /// # Errors
    /// [`Kind::Privacy`] when it has expired.
    pub fn still_claims(&self, now: Timestamp) -> change::Result<()> {
        match self.determination().filter(|expires| *expires < Date::from_timestamp(now)) {
            Some(expired) => Err(Error::new(Kind::Privacy, format!("the expert's determination expired on {expired}"))
                .fix("Have it renewed, or claim less.")),
            None => Ok(()),
        }
    }

    /// The day on which the determination expires that the claim rests on, as `2027-06-30`, when that is within so many days from `now`, or
    /// has been.
    pub fn expires_within(&self, days: u16, now: Timestamp) -> Option<String> {
        let last = Date::from_timestamp(now).to_days() + i32::from(days);
        self.determination().filter(|expires| expires.to_days() <= last).map(|expires| expires.to_string())
    }

    /// When the determination expires that the claim rests on; `None` when it rests on none.
    fn determination(&self) -> Option<Date> {
        self.expert.as_ref().filter(|_| self.profile == Profile::Expert).map(|expert| expert.expires)
    }

    /// The tables that have rules.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys()
    }

    /// A line for each option beside the rules that is not as when nobody writes it.
    pub(crate) fn unusual(&self) -> impl Iterator<Item = String> {
        let percent = self.invalid_percent_max;
        let percent = (percent != INVALID_PERCENT_MAX).then(|| format!("max_invalid_percent\t{percent}\n"));
        let model = self.model.iter().map(|model| format!("ner\t{}\n", model.sha256));
        let days = (self.held_days != HELD_DAYS).then(|| format!("held_days\t{}\n", self.held_days));
        let strict = self.tables.iter().filter(|(_, rules)| rules.new_columns != NewColumns::Drop);
        let tables = strict.map(|(table, rules)| format!("{table}\tnew_columns\t{}\n", rules.new_columns.name()));
        tables.chain(percent).chain(days).chain(model)
    }

    /// Every rule with its table, those within documents behind the one of their column.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&TableName, &Rule)> {
        let columns = self.tables.iter().flat_map(|(table, rules)| rules.columns.iter().map(move |rule| (table, rule)));
        columns.flat_map(|(table, rule)| std::iter::once(rule).chain(rule.inner()).map(move |rule| (table, rule)))
    }

    /// The rules that encrypt cells, with their table and domain.
    pub(crate) fn cell_rules(&self) -> impl Iterator<Item = (&TableName, &Rule, &str)> {
        self.rules().filter_map(|(table, rule)| match &rule.transform {
            Transform::EncryptCell { domain } => Some((table, rule, domain.as_str())),
            _ => None,
        })
    }

    /// Whether a rule encrypts cells, so that a store of data keys is needed.
    pub fn encrypts_cells(&self) -> bool {
        self.cell_rules().next().is_some()
    }

    pub(crate) fn needs_keys(&self) -> bool {
        self.rules().any(|(_, rule)| rule.transform.domain().is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests;
