//! Stored rows under a stricter policy, from what is stored alone: nothing raw is needed to drop a column, or to transform one that was kept.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use change::{Clock, Error, Kind, Result, TableName};

use crate::calendar::Date;
use crate::gate::Means;
use crate::kernel::subject::Beside;
use crate::kernel::{Kernel, Setup};
use crate::policy::Rule;
use crate::suppress::Suppression;
use crate::{KeyRing, Policy, PolicyStamp, TableStamp, Transform, Vault};

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
    stamp: TableStamp,
    today: Date,
}

struct Changed {
    column: String,
    kernel: Kernel,
    data_type: DataType,
    statistics: bool,
    /// Not one value may be lost: rows are found again by the column.
    identifies: bool,
}

impl Policy {
    /// With the keys and the vault of a run; `clock` tells the day of processing.
    pub fn remasker(&self, keys: Option<KeyRing>, vault: Option<Arc<dyn Vault>>, clock: Arc<dyn Clock>) -> Remasker {
        let today = Date::from_timestamp(clock.now());
        let suppression = Suppression::default();
        let means = Means { keys: keys.map(Arc::new), vault, cell_keys: None, clock, suppression };
        Remasker { policy: self.clone(), means, today }
    }
}

impl Remasker {
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
        let mut stamp = TableStamp { policy, rules: stored.rules.clone() };
        let (mut dropped, mut changed) = (Vec::new(), Vec::new());
        // What was not stored so far begins to be with the rows that come; it is no matter of the rows that are there.
        for (column, before) in stored.rules.iter().filter(|(_, before)| *before != "drop") {
            let rule = rules.columns.iter().find(|rule| rule.column == *column);
            let now = rule.map_or_else(|| Transform::Drop.to_string(), Rule::meaning);
            if now == *before {
                continue;
            }
            let refuse = |why: &str| {
                let what = format!("{table}.{column} is stored under `{before}`, and `{now}` {why}");
                Err(Error::new(Kind::Privacy, what).fix(
                    "Copy the table anew: take both of its folders out of the lake, and delete them for good when the new rule hides more.",
                ))
            };
            let identifies = key.contains(column);
            match rule.filter(|rule| rule.transform != Transform::Drop) {
                None if identifies => return refuse("would take away what identifies its rows"),
                None => dropped.push(column.clone()),
                Some(_) if *before != Transform::Keep.to_string() => return refuse("cannot be computed from that"),
                Some(rule) if rule.subject.is_some() => return refuse("needs to know whose row it is"),
                Some(rule) if !rule.transform.known_columns().is_empty() => {
                    return refuse("searches for values of other columns, which are not stored in clear");
                }
                Some(rule) if identifies && !rule.transform.is_injective() => {
                    return refuse("would make rows the same");
                }
                Some(rule) => changed.push(self.changed(table, rule, columns, identifies)?),
            }
            stamp.rules.insert(column.clone(), now);
        }
        let nothing = dropped.is_empty() && changed.is_empty();
        let remask = Remask { table: table.clone(), dropped, changed, stamp, today: self.today };
        Ok((!nothing).then_some(remask))
    }

    fn changed(&self, table: &TableName, rule: &Rule, columns: &Schema, identifies: bool) -> Result<Changed> {
        let place = || format!("{table}.{}", rule.column);
        let field = columns.field_with_name(&rule.column).map_err(|_| {
            Error::new(Kind::Contract, format!("{}: the lake has no such column", place()))
                .fix("Copy the table anew: take both of its folders out of the lake.")
        })?;
        let input = field.data_type();
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
        Ok(Changed { column: rule.column.clone(), kernel, data_type, statistics, identifies })
    }
}

impl Remask {
    /// The columns that change or go.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.dropped.iter().chain(self.changed.iter().map(|changed| &changed.column)).map(String::as_str)
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
        let kept = before.fields().iter().filter(|field| !self.dropped.contains(field.name()));
        let after = |field: &Arc<Field>| match self.changed.iter().find(|changed| changed.column == *field.name()) {
            Some(changed) => Arc::new(Field::new(field.name(), changed.data_type.clone(), true)),
            None => field.clone(),
        };
        Arc::new(Schema::new(kept.map(after).collect::<Vec<_>>()))
    }

    /// Stored rows as the policy wants them now.
    ///
    /// # Errors
    /// [`Kind::Data`] when a value of the key cannot be read; what the vault says.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let before = rows.schema();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (field, column) in before.fields().iter().zip(rows.columns()) {
            if self.dropped.contains(field.name()) {
                continue;
            }
            let Some(changed) = self.changed.iter().find(|changed| changed.column == *field.name()) else {
                columns.push(column.clone());
                continue;
            };
            let passed = changed.kernel.apply(column, Beside { today: self.today, subject: None, known: &[] })?;
            if passed.invalid > 0 && changed.identifies {
                let what =
                    format!("{}.{}: {} values of the key cannot be read", self.table, field.name(), passed.invalid);
                return Err(Error::new(Kind::Data, what).fix("Choose another transform for the column."));
            }
            columns.push(passed.values);
        }
        RecordBatch::try_new(self.schema(&before), columns)
            .map_err(|_| Error::new(Kind::Bug, format!("{}: a transform gave another type or length", self.table)))
    }
}
