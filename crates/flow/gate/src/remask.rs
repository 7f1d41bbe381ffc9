//! Stored rows under a stricter policy or profile, another epoch of the key, a later year or another census table, from what is stored alone:
//! nothing raw is needed to drop a column, to transform one that was kept, to bring tokens to the epoch that wraps theirs, to cut the time of
//! day, or to see from a year that its person is above 89 by now.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use change::{Clock, Error, Kind, Result, TableName, Timestamp};

use crate::calendar::Date;
use crate::gate::Means;
use crate::kernel::place::ZIP3_VINTAGE;
use crate::kernel::subject::Beside;
use crate::kernel::{Kernel, Setup, Stored};
use crate::policy::Rule;
use crate::stamp::is_same;
use crate::{EntityFinder, KeyRing, Policy, PolicyStamp, TableStamp, Transform, Vault};

/// Makes a [`Remask`] for each table of a policy.
pub struct Remasker {
    policy: Policy,
    means: Means,
    today: Date,
}

/// What a table's stored rows have to go through to be as if they had been cleared by the policy as it is now.
pub struct Remask {
    table: TableName,
    dropped: Vec<String>,
    changed: Vec<Changed>,
    /// Columns that come, each behind the one that it is made of.
    added: Vec<(String, Changed)>,
    stamp: TableStamp,
    today: Date,
}

struct Changed {
    column: String,
    kernel: Kernel,
    data_type: DataType,
    statistics: bool,
    /// Not one value may be lost: rows are found again by the column, or its tokens stood there before.
    whole: bool,
}

impl Policy {
    /// With the keys and the vault of a run; `clock` tells the day of processing.
    pub fn remasker(&self, keys: Option<KeyRing>, vault: Option<Arc<dyn Vault>>, clock: Arc<dyn Clock>) -> Remasker {
        let today = Date::from_timestamp(clock.now());
        let means = Means { keys: keys.map(Arc::new), vault, clock, ..Means::none() };
        Remasker { policy: self.clone(), means, today }
    }

    /// Whether a table's rows lie in the lake as the policy wants them: every column that is stored under the rule that it has now, and
    /// nothing that shows by the day of `now` what the rule hides.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when not; [`Kind::Contract`] when the table does not say under which rules its rows were stored.
    pub fn check_stored(&self, table: &TableName, stored: &TableStamp, now: Timestamp) -> Result<()> {
        if stored.rules.is_empty() {
            let what = format!("{table} does not say under which rules its rows are stored");
            return Err(Error::new(Kind::Contract, what).fix("Run: lockgate run"));
        }
        let remask = "Run `lockgate remask` first";
        let rules: Vec<Rule> =
            self.tables.get(table).iter().flat_map(|rules| &rules.columns).flat_map(Rule::with_beside).collect();
        for (column, before) in stored.rules.iter().filter(|(_, before)| *before != "drop") {
            let now = meaning_of(&rules, column);
            if now != *before {
                let what = format!("{table}.{column} is stored under `{before}`, and the policy now says `{now}`");
                return Err(Error::new(Kind::Privacy, what).fix(format!("{remask}, or put `{before}` back.")));
            }
        }
        match stored.outdated(now).as_slice() {
            [] => Ok(()),
            columns => {
                let columns = columns.join(", ");
                let what = format!("{table}: made in an earlier or unknown year, or by an older ZIP table: {columns}");
                Err(Error::new(Kind::Privacy, what).fix(format!("{remask}.")))
            }
        }
    }
}

impl Remasker {
    /// The same with the model that the policy names, which texts that were kept so far are searched with.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is another model.
    pub fn with_entities(mut self, finder: Arc<dyn EntityFinder>) -> Result<Self> {
        self.policy.check_model(&*finder)?;
        self.means.entities = Some(finder);
        Ok(self)
    }

    /// The stamp of what is remasked.
    ///
    /// # Errors
    /// What the vault says.
    pub fn stamp(&self) -> Result<PolicyStamp> {
        self.policy.stamp(&self.means)
    }

    /// What a table needs whose rows were stored under `stored`, with these columns and this key; `None` when nothing.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when it cannot be computed from what is stored, or the key is another one.
    pub fn table(
        &self,
        table: &TableName,
        stored: &TableStamp,
        columns: &Schema,
        key: &[String],
    ) -> Result<Option<Remask>> {
        let Some(rules) = self.policy.tables.get(table) else { return Ok(None) };
        let mut policy = self.stamp()?;
        policy.continues(&stored.policy)?;
        // Nothing is encrypted here: cells that are stored stay as they are.
        policy.cells.clone_from(&stored.policy.cells);
        let processed_in = Some(self.today.year);
        let mut stamp = TableStamp {
            policy,
            processed_in,
            rules: stored.rules.clone(),
            epochs: stored.epochs.clone(),
            numbers: stored.numbers.clone(),
            shifted_times: stored.shifted_times.clone(),
        };
        let (mut dropped, mut changed, mut added) = (Vec::new(), Vec::new(), Vec::new());
        // What was not stored so far begins to be with the rows that come; it is no matter of the rows that are there.
        let wanted: Vec<Rule> = rules.columns.iter().flat_map(Rule::with_beside).collect();
        for (column, before) in stored.rules.iter().filter(|(_, before)| *before != "drop") {
            let rule = wanted.iter().find(|rule| rule.column == *column);
            let now = meaning_of(&wanted, column);
            let refuse = |why: &str| {
                let what = format!("{table}.{column} is stored under `{before}`, and `{now}` {why}");
                Err(Error::new(Kind::Privacy, what).fix(
                    "Copy the table anew: take both of its folders out of the lake, and delete them for good when the new rule hides more.",
                ))
            };
            let identifies = key.contains(column);
            if let Some(rule) = rule {
                stamp.epochs.extend(self.means.keys.iter().flat_map(|keys| rule.epochs(keys)));
            }
            if is_same(before, &now) {
                if rule.is_some_and(|rule| shifts_times(rule, columns) && self.lacks_times(stored)) {
                    return refuse("keeps the time of day under this profile, which is not stored");
                }
                if let Some(rule) = rule.filter(|rule| self.moves(rule, stored, columns)) {
                    changed.push(self.moved(table, rule, stored, columns)?);
                }
                let is_new = |beside: &Rule| stored.rules.get(&beside.column).is_none_or(|rule| rule == "drop");
                if let Some(beside) = rule.and_then(Rule::beside).filter(is_new) {
                    added.push((column.clone(), self.beside(table, column, &beside, stored, columns)?));
                    stamp.rules.insert(beside.column.clone(), beside.meaning());
                    stamp.epochs.extend(self.means.keys.iter().flat_map(|keys| beside.epochs(keys)));
                }
                stamp.rules.insert(column.clone(), now);
                continue;
            }
            let stays = rule.filter(|rule| rule.transform != Transform::Drop);
            if let Some(why) = obstacle(stays, before, identifies) {
                return refuse(why);
            }
            match stays {
                None => dropped.push(column.clone()),
                Some(rule) => changed.push(self.changed(table, rule, columns, identifies)?),
            }
            stamp.rules.insert(column.clone(), now);
        }
        let nothing = dropped.is_empty() && changed.is_empty() && added.is_empty();
        let remask = Remask { table: table.clone(), dropped, changed, added, stamp, today: self.today };
        Ok((!nothing).then_some(remask))
    }

    /// Whether something of a column is stored as the rule does not make it any more: under another epoch, in another year, by another census
    /// table or with a time of day.
    fn moves(&self, rule: &Rule, stored: &TableStamp, columns: &Schema) -> bool {
        let (old_years, old_zips) = (self.has_old_years(stored), has_old_zips(stored));
        let is_old =
            |rule: &Rule| old_years && rule.transform.is_year() || old_zips && rule.transform == Transform::Zip3;
        if is_old(rule) || rule.inner().any(is_old) || self.has_old_times(rule, stored, columns) {
            return true;
        }
        let Some(keys) = &self.means.keys else { return false };
        let other =
            |(place, epoch): (String, u32)| stored.epoch_of(&rule.column, &place).is_some_and(|before| before != epoch);
        rule.epochs(keys).into_iter().any(other)
    }

    /// Whether years were made in an earlier year, or nobody knows when.
    fn has_old_years(&self, stored: &TableStamp) -> bool {
        stored.processed_in.is_none_or(|year| year < self.today.year)
    }

    /// Whether a column has the time of day of shifted timestamps, and the profile does not let it pass any more.
    fn has_old_times(&self, rule: &Rule, stored: &TableStamp, columns: &Schema) -> bool {
        let goes = stored.policy.profile.keeps_time() && !self.policy.profile.keeps_time();
        goes && shifts_times(rule, columns)
    }

    /// Whether the time of day of shifted timestamps was not stored, and passes from now on.
    fn lacks_times(&self, stored: &TableStamp) -> bool {
        self.policy.profile.keeps_time() && !stored.policy.profile.keeps_time()
    }

    /// The way of a column from what is stored to what the rule makes now.
    fn moved(&self, table: &TableName, rule: &Rule, stored: &TableStamp, columns: &Schema) -> Result<Changed> {
        self.beside(table, &rule.column, rule, stored, columns)
    }

    /// A column made of what `of` has stored, brought to what its own rule makes.
    fn beside(
        &self,
        table: &TableName,
        of: &str,
        rule: &Rule,
        stored: &TableStamp,
        columns: &Schema,
    ) -> Result<Changed> {
        let field = field(table, of, columns)?;
        let place = |inner: &Rule| if inner.within.is_some() { inner.place() } else { of.to_owned() };
        let made = Stored {
            keys: self.means.keys.as_deref(),
            epoch: &|inner: &Rule| stored.epoch_of(of, &place(inner)),
            old_years: self.has_old_years(stored),
            old_zips: has_old_zips(stored),
            old_times: self.has_old_times(rule, stored, columns),
        };
        let kernel = Kernel::moved(rule, &made)?.ok_or_else(|| {
            let what = format!(
                "{table}.{of} is stored under another key epoch, and `{}` cannot be brought from there to that of `{}`",
                rule.transform, rule.column
            );
            Error::new(Kind::Privacy, what).fix(
                "Write the stored epoch to the rule (epoch: 1) so that it stays; or copy the table anew: take both of its folders out of the lake.",
            )
        })?;
        let data_type = field.data_type().clone();
        let statistics = rule.transform.statistics(&data_type);
        Ok(Changed { column: rule.column.clone(), kernel, data_type, statistics, whole: true })
    }

    fn changed(&self, table: &TableName, rule: &Rule, columns: &Schema, identifies: bool) -> Result<Changed> {
        let place = || format!("{table}.{}", rule.column);
        let input = field(table, &rule.column, columns)?.data_type();
        let output = rule.transform.output(input).map_err(|reads| {
            Error::new(
                Kind::Contract,
                format!("{} is {input} in the lake, and `{}` reads {reads}", place(), rule.transform),
            )
            .fix("Choose a transform that fits the type, or `drop`.")
        })?;
        let setup = Setup { profile: self.policy.profile, means: &self.means, table: Some(table) };
        let kernel = Kernel::new(rule, input, &setup)?;
        let (Some(data_type), Some(kernel)) = (output, kernel) else {
            return Err(Error::new(Kind::Bug, format!("{}: a rule that drops was to be computed", place())));
        };
        let statistics = !identifies && rule.transform.statistics(&data_type);
        Ok(Changed { column: rule.column.clone(), kernel, data_type, statistics, whole: identifies })
    }
}

/// Why a stored column cannot be brought under another rule from what is stored; `stays` is that rule, `None` when the column goes.
fn obstacle(stays: Option<&Rule>, before: &str, identifies: bool) -> Option<&'static str> {
    match stays {
        None => identifies.then_some("would take away what identifies its rows"),
        Some(_) if before != Transform::Keep.to_string() => Some("cannot be computed from that"),
        Some(rule) if rule.null_as.is_some() => {
            Some("has a constant for what is null in the source, which not every stored null is")
        }
        Some(rule) if rule.subject.is_some() => Some("needs to know whose row it is"),
        Some(rule) if !rule.transform.known_columns().is_empty() => {
            Some("searches for values of other columns, which are not stored in clear")
        }
        Some(rule) if identifies && !rule.transform.is_injective() => Some("would make rows the same"),
        Some(_) => None,
    }
}

/// Whether a rule shifts timestamps, which have a time of day.
fn shifts_times(rule: &Rule, columns: &Schema) -> bool {
    let is_time = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..));
    matches!(rule.transform, Transform::DateShift { .. }) && columns.field_with_name(&rule.column).is_ok_and(is_time)
}

/// What the rules make of a column; one that they do not name is dropped.
fn meaning_of(rules: &[Rule], column: &str) -> String {
    let rule = rules.iter().find(|rule| rule.column == column);
    rule.map_or_else(|| Transform::Drop.to_string(), Rule::meaning)
}

fn has_old_zips(stored: &TableStamp) -> bool {
    stored.policy.zip3_table != ZIP3_VINTAGE
}

fn field<'a>(table: &TableName, column: &str, columns: &'a Schema) -> Result<&'a Field> {
    columns.field_with_name(column).map_err(|_| {
        Error::new(Kind::Contract, format!("{table}.{column}: the lake has no such column"))
            .fix("Copy the table anew: take both of its folders out of the lake.")
    })
}

impl Remask {
    /// The columns that change, come or go.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let now = self.changed.iter().chain(self.added.iter().map(|(_, added)| added)).map(|changed| &changed.column);
        self.dropped.iter().chain(now).map(String::as_str)
    }

    /// What the commits of these rows say from then on.
    pub fn stamp(&self) -> &TableStamp {
        &self.stamp
    }

    /// Whether minimum and maximum of a column may be written down: as before, for columns that do not change.
    pub fn allows_statistics(&self, column: &str, before: bool) -> bool {
        self.changed.iter().find(|changed| changed.column == column).map_or(before, |changed| changed.statistics)
    }

    /// The structure afterwards.
    pub fn schema(&self, before: &Schema) -> SchemaRef {
        let kept = before.fields().iter().filter(|field| self.stays(field.name()));
        let after = |field: &Arc<Field>| match self.changed.iter().find(|changed| changed.column == *field.name()) {
            Some(changed) => Arc::new(Field::new(field.name(), changed.data_type.clone(), true)),
            None => field.clone(),
        };
        let new = |added: &Changed| Arc::new(Field::new(&added.column, added.data_type.clone(), true));
        let with_added = |field: &Arc<Field>| {
            std::iter::once(after(field)).chain(self.made_of(field.name()).map(new)).collect::<Vec<_>>()
        };
        Arc::new(Schema::new(kept.flat_map(with_added).collect::<Vec<_>>()))
    }

    /// Whether a column is kept or transformed. A run that was refused may have made one that is to come, with nulls in it.
    fn stays(&self, column: &str) -> bool {
        let comes = self.added.iter().any(|(_, added)| added.column == column);
        !comes && !self.dropped.iter().any(|dropped| dropped == column)
    }

    fn made_of<'a>(&'a self, column: &'a str) -> impl Iterator<Item = &'a Changed> {
        self.added.iter().filter(move |(of, _)| of == column).map(|(_, added)| added)
    }

    /// Stored rows as the policy wants them now.
    ///
    /// # Errors
    /// [`Kind::Data`] when a value of the key cannot be read; what the vault says.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let before = rows.schema();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (field, column) in before.fields().iter().zip(rows.columns()) {
            if !self.stays(field.name()) {
                continue;
            }
            match self.changed.iter().find(|changed| changed.column == *field.name()) {
                Some(changed) => columns.push(self.apply_to(changed, column)?),
                None => columns.push(column.clone()),
            }
            for added in self.made_of(field.name()) {
                columns.push(self.apply_to(added, column)?);
            }
        }
        RecordBatch::try_new(self.schema(&before), columns)
            .map_err(|_| Error::new(Kind::Bug, format!("{}: a transform gave another type or length", self.table)))
    }

    fn apply_to(&self, changed: &Changed, column: &ArrayRef) -> Result<ArrayRef> {
        let passed = changed.kernel.apply(column, Beside { today: self.today, subject: None, known: &[] })?;
        if passed.invalid > 0 && changed.whole {
            let what = format!("{}.{}: {} stored values cannot be read", self.table, changed.column, passed.invalid);
            return Err(Error::new(Kind::Data, what).fix(
                "Choose another transform for the column, copy the table anew, or look whether something else has written it (lockgate verify).",
            ));
        }
        Ok(passed.values)
    }
}

#[cfg(test)]
mod tests;
