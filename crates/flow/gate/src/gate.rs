use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use change::{
    Clock, Column, Error, Identity, Kind, Problem, Result, Severity, StoppedClock, TableName, TableSchema, Timestamp,
};
use sha2::{Digest, Sha256};

use crate::canonical::{self, Form};
use crate::class::words;
use crate::kernel::place::ZIP3_VINTAGE;
use crate::keys::hex;
use crate::policy::{Gone, NewColumns, Policy, Rule, TableRules};
use crate::report::{Report, did_you_mean};
use crate::suppress::{Suppressed, Suppression};
use crate::table::TableGate;
use crate::{CellKeys, EntityFinder, KeyRing, PolicyStamp, Transform, Vault, null_as};

/// What the gate needs from outside: it does no I/O itself.
pub(crate) struct Means {
    pub(crate) keys: Option<Arc<KeyRing>>,
    pub(crate) vault: Option<Arc<dyn Vault>>,
    pub(crate) cell_keys: Option<Arc<dyn CellKeys>>,
    pub(crate) entities: Option<Arc<dyn EntityFinder>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) suppression: Suppression,
}

impl Means {
    /// For kernels that need nothing.
    pub(crate) fn none() -> Self {
        Self {
            keys: None,
            vault: None,
            cell_keys: None,
            entities: None,
            clock: Arc::new(StoppedClock(0)),
            suppression: Suppression::default(),
        }
    }

    /// For kernels that need keys alone.
    pub(crate) fn for_keys(keys: KeyRing) -> Self {
        Self { keys: Some(Arc::new(keys)), ..Self::none() }
    }
}

/// A policy that fits its tables: makes the [`TableGate`] of each, and again at every change of a table's structure.
pub struct Gate {
    policy: Arc<Policy>,
    left_out: BTreeSet<TableName>,
    means: Means,
    stamp: PolicyStamp,
    notes: Vec<Problem>,
}

impl Policy {
    /// Meets the policy with the tables as they are now. `keys` is `None` when the policy names none, `vault` when there is none to keep
    /// codes in; `clock` tells the day of processing (UTC), on which ages depend. Reports all problems at once; what stops nothing is in
    /// [`Gate::notes`].
    pub fn compile(
        &self,
        tables: &[Arc<TableSchema>],
        keys: Option<KeyRing>,
        vault: Option<Arc<dyn Vault>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Gate, Vec<Problem>> {
        self.compile_without(&BTreeSet::new(), tables, keys, vault, clock)
    }

    /// As [`Policy::compile`], for the policy's other tables than `left_out`, which the gate then does not capture.
    pub fn compile_without(
        &self,
        left_out: &BTreeSet<TableName>,
        tables: &[Arc<TableSchema>],
        keys: Option<KeyRing>,
        vault: Option<Arc<dyn Vault>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Gate, Vec<Problem>> {
        let means = Means { keys: keys.map(Arc::new), vault, clock, ..Means::none() };
        let mut report = Report::new(&self.file);
        self.check_means(&means, &mut report);
        for (name, rules) in self.tables.iter().filter(|(name, _)| !left_out.contains(*name)) {
            match tables.iter().find(|schema| schema.table == *name) {
                Some(schema) => check_table(schema, rules, &mut report),
                None => {
                    let fix = match meant(name, tables) {
                        Some(meant) => format!("Did you mean `{meant}`?"),
                        None => "Add the table to the source in lockgate.yaml, or remove its rules.".into(),
                    };
                    report.error(rules.line, format!("no source captures a table `{name}`"), fix);
                }
            }
        }
        for schema in tables.iter().filter(|schema| !self.tables.contains_key(&schema.table)) {
            let what = format!("{} has no rule and is not captured", schema.table);
            report.note(None, what, "Add its columns to the policy, or remove it from the source's tables.");
        }
        self.check_twins(&mut report);
        if let Some(paperwork) = self.profile.paperwork() {
            report.note(None, format!("`{}` is claimed", self.profile), paperwork);
        }
        let stamp = self.stamp(&means).unwrap_or_else(|error| {
            report.error(None, error.what(), error.how_to_fix().unwrap_or_default());
            self.unkeyed_stamp()
        });
        if report.has_errors() {
            return Err(report.problems);
        }
        Ok(Gate { policy: Arc::new(self.clone()), left_out: left_out.clone(), means, stamp, notes: report.problems })
    }

    /// What is wrong between the rules of one table and its structure. A table without rules has nothing wrong.
    pub fn table_problems(&self, schema: &TableSchema) -> Vec<Problem> {
        let mut report = Report::new(&self.file);
        if let Some(rules) = self.tables.get(&schema.table) {
            check_table(schema, rules, &mut report);
        }
        report.problems.retain(|problem| problem.severity == Severity::Error);
        report.problems
    }

    /// A value that one table codes and another keeps under the same name: who reads both has the key to the code.
    fn check_twins(&self, report: &mut Report) {
        for (table, kept) in self.rules().filter(|(_, rule)| rule.transform == Transform::Keep) {
            let is_coded = |rule: &Rule| {
                rule.column == kept.column && rule.transform.is_injective() && rule.transform != Transform::Keep
            };
            let coded = self.rules().find(|(_, rule)| words(&rule.column).len() > 1 && is_coded(rule));
            if let Some((other, rule)) = coded {
                let what = format!(
                    "{table}.{} is kept, and {other}.{} is `{}`: rows of the two tables can tell which value is behind which code",
                    kept.place(),
                    rule.place(),
                    rule.transform
                );
                report.warning(
                    kept.line,
                    what,
                    "Use the same transform and domain for both, unless they hold different things.",
                );
            }
        }
    }

    fn check_means(&self, means: &Means, report: &mut Report) {
        if self.needs_keys() && means.keys.is_none() {
            let reference = self.keys.as_deref().unwrap_or_default();
            let what = format!("the policy makes tokens, and its keys `{reference}` are not there");
            report.error(None, what, "Put the key file back, or let `lockgate init` make one for a new lake.");
        }
        let vaulted = self.rules().find(|(_, rule)| matches!(rule.transform, Transform::VaultCode { .. }));
        if let (Some((table, rule)), None) = (vaulted, &means.vault) {
            let what = format!("{table}.{} needs a vault, and none is configured", rule.place());
            report.error(rule.line, what, "Configure a vault in lockgate.yaml, or use hmac_token(domain) or drop.");
        }
        if let (Some((table, rule)), None) = (self.rules().find(|(_, rule)| rule.holds()), &means.keys) {
            let what = format!("{table}.{} holds rows back, and there is no key to seal them with", rule.place());
            report.error(rule.line, what, "Add `keys: file:./keys/dev.key` to the policy.");
        }
        if let Some(keys) = &means.keys {
            self.check_epochs(keys, report);
        }
        if let (Err(error), Some(expert)) = (self.still_claims(means.clock.now()), &self.expert) {
            report.error(expert.line, error.what(), error.how_to_fix().unwrap_or_default());
        }
    }

    pub(crate) fn stamp(&self, means: &Means) -> Result<PolicyStamp> {
        let mut stamp = self.unkeyed_stamp();
        if let (true, Some(keys)) = (self.needs_keys(), &means.keys) {
            stamp.key_epoch = Some(keys.current_epoch());
            stamp.key_fingerprint = Some(keys.fingerprint()?);
            let all = keys.epochs()?;
            if all.len() > 1 {
                stamp.key_fingerprints =
                    all.into_iter().map(|epoch| (epoch.epoch.to_string(), epoch.fingerprint)).collect();
            }
        }
        let vaulted = self.rules().any(|(_, rule)| matches!(rule.transform, Transform::VaultCode { .. }));
        if let (true, Some(vault)) = (vaulted, &means.vault) {
            stamp.vault = Some(vault.id()?);
        }
        Ok(stamp)
    }

    fn unkeyed_stamp(&self) -> PolicyStamp {
        PolicyStamp {
            profile: self.profile,
            policy_hash: self.hash(),
            key_epoch: None,
            key_fingerprint: None,
            key_fingerprints: BTreeMap::new(),
            vault: None,
            cells: None,
            zip3_table: ZIP3_VINTAGE.into(),
        }
    }

    /// SHA-256 over the rules in one order and one spelling, so that only a change of meaning changes it.
    pub(crate) fn hash(&self) -> String {
        let mut lines: Vec<String> = self
            .rules()
            .map(|(table, rule)| {
                format!(
                    "{table}\t{}\t{}\t{:?}\t{}{}{}{}{}\n",
                    rule.place(),
                    rule.transform,
                    rule.on_invalid,
                    rule.form.versioned(),
                    rule.subject.as_ref().map(|subject| format!("\t{subject}")).unwrap_or_default(),
                    rule.pin.map(|epoch| format!("\tepoch {epoch}")).unwrap_or_default(),
                    rule.dual.map(|epoch| format!("\tdual {epoch}")).unwrap_or_default(),
                    rule.null_as.as_ref().map(|constant| format!("\tnull as {constant}")).unwrap_or_default()
                )
            })
            .collect();
        let gated = self.tables.iter().filter_map(|(table, rules)| Some((table, rules.k_gate.as_ref()?)));
        lines.extend(gated.map(|(table, k_gate)| format!("{table}\tk_gate\t{k_gate}\n")));
        lines.extend(self.unusual());
        lines.sort();
        let mut digest = Sha256::new().chain_update(format!("policy 1\n{}\n{ZIP3_VINTAGE}\n", self.profile));
        lines.iter().for_each(|line| digest.update(line));
        hex(&digest.finalize())
    }
}

/// The table that was probably meant: another one of the same schema, or one of that name elsewhere.
fn meant<'a>(wrong: &TableName, tables: &'a [Arc<TableSchema>]) -> Option<&'a TableName> {
    let tables = || tables.iter().map(|schema| &schema.table);
    let beside = tables().filter(|table| table.source == wrong.source && table.schema == wrong.schema);
    let near = did_you_mean(&wrong.table, beside.clone().map(|table| table.table.as_str()));
    let near = near.and_then(|near| beside.clone().find(|table| table.table == near));
    near.or_else(|| tables().find(|table| table.table == wrong.table))
}

impl Gate {
    /// The same gate, which these persons' rows do not pass.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when a record is not understood.
    pub fn suppressing(mut self, persons: Vec<Suppressed>) -> Result<Self> {
        self.means.suppression = Suppression::new(persons)?;
        Ok(self)
    }

    /// The same gate, with the store of the data keys of cells. A table with encrypted cells has no gate without one.
    ///
    /// # Errors
    /// What the store says.
    pub fn with_cell_keys(mut self, store: Arc<dyn CellKeys>) -> Result<Self> {
        self.stamp.cells = Some(store.id()?);
        self.means.cell_keys = Some(store);
        Ok(self)
    }

    /// The same gate, with the model that the policy names. A table whose rules ask one has no gate without it.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is another model.
    pub fn with_entities(mut self, finder: Arc<dyn EntityFinder>) -> Result<Self> {
        self.policy.check_model(&*finder)?;
        self.means.entities = Some(finder);
        Ok(self)
    }

    /// Whether a model looks at texts of the table, so that clearing a row can take a second.
    pub fn asks_model(&self, table: &TableName) -> bool {
        self.policy.asks_model(table)
    }

    /// What the user should know and nothing stops for: columns and tables that no rule names.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    #[cfg(test)]
    pub(crate) fn means(&self) -> &Means {
        &self.means
    }

    /// The keys of the policy; `None` when it names none.
    pub(crate) fn keys(&self) -> Option<&Arc<KeyRing>> {
        self.means.keys.as_ref()
    }

    /// What goes into every commit's metadata.
    pub fn stamp(&self) -> &PolicyStamp {
        &self.stamp
    }

    /// Whether the policy may go on claiming its profile at `now`.
    ///
    /// # Errors
    /// Those of [`Policy::still_claims`].
    pub fn still_claims(&self, now: Timestamp) -> Result<()> {
        self.policy.still_claims(now)
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the policy has rules for the table, and it was not left out. Other tables are not captured.
    pub fn captures(&self, table: &TableName) -> bool {
        self.policy.tables.contains_key(table) && !self.left_out.contains(table)
    }

    /// The gate of one table with this structure; to be asked again at every change of structure.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the policy has no rules for the table; [`Kind::Contract`] when a rule cannot read its column's type or the
    /// columns that identify a row would no longer do so.
    pub fn table(&self, schema: &Arc<TableSchema>) -> Result<TableGate> {
        let rules = self.policy.tables.get(&schema.table).ok_or_else(|| {
            Error::new(Kind::Privacy, format!("{}: the policy has no rules for this table", schema.table))
                .fix("Add its columns to the policy.")
        })?;
        let mut report = Report::new(&self.policy.file);
        check_structure(schema, rules, &mut report);
        if let Some(problem) = report.problems.into_iter().find(|problem| problem.severity == Severity::Error) {
            return Err(Error::new(Kind::Contract, problem.what).fix(problem.fix));
        }
        TableGate::new(schema, rules, self.policy.profile, self.policy.invalid_percent_max, &self.means)
    }
}

fn check_table(schema: &TableSchema, rules: &TableRules, report: &mut Report) {
    for rule in rules.columns.iter().filter(|rule| schema.index_of(&rule.column).is_none()) {
        if let Some(gone) = rules.gone.get(&rule.column) {
            let what = format!("{}.{} was dropped at the source", schema.table, rule.column);
            match (gone, rule.transform == Transform::Drop) {
                (Gone::NeverStored, true) => {
                    report.note(rule.line, what, "Remove the rule: nothing of it is in the lake.");
                }
                (Gone::Stored, true) => {
                    let what = format!("{what}, and its values from before are still in the lake");
                    report.warning(
                        rule.line,
                        what,
                        "Run `lockgate remask`, which takes them out; then remove the rule.",
                    );
                }
                (Gone::Stored | Gone::NeverStored, false) => {
                    let fix = "It is null from here on. Keep the rule for as long as the lake keeps its values.";
                    report.note(rule.line, what, fix);
                }
                (Gone::Unasked, _) => {
                    let what = format!("{} has no column `{}`", schema.table, rule.column);
                    report.note(rule.line, what, "Whether it ever had one is known once the lake can be read.");
                }
            }
            continue;
        }
        let fix = match did_you_mean(&rule.column, schema.columns.iter().map(|column| column.name.as_str())) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => "Remove the rule, or correct the column's name.".into(),
        };
        report.error(rule.line, format!("{} has no column `{}`", schema.table, rule.column), fix);
    }
    check_structure(schema, rules, report);
    for column in unnamed(schema, rules).filter(|_| rules.new_columns == NewColumns::Drop) {
        let what = format!("{}.{} ({}) has no rule and is dropped", schema.table, column.name, column.source_type);
        report.note(rules.line, what, format!("Give it a transform; `{}: drop` says that it is meant.", column.name));
    }
}

/// The columns that no rule names.
fn unnamed<'a>(schema: &'a TableSchema, rules: &'a TableRules) -> impl Iterator<Item = &'a Column> {
    schema.columns.iter().filter(|column| rules.columns.iter().all(|rule| rule.column != column.name))
}

/// What must hold at start and again after each change of structure.
fn check_structure(schema: &TableSchema, rules: &TableRules, report: &mut Report) {
    for column in unnamed(schema, rules).filter(|_| rules.new_columns == NewColumns::Halt) {
        let what =
            format!("{}.{} ({}) has no rule, and `new_columns: halt`", schema.table, column.name, column.source_type);
        let fix =
            format!("Give it a rule in the policy and start again; `{}: drop` keeps it out of the lake.", column.name);
        report.error(rules.line, what, fix);
    }
    for column in &schema.columns {
        let Some(rule) = rules.columns.iter().find(|rule| rule.column == column.name) else { continue };
        if let Err(reads) = rule.transform.output(&column.data_type) {
            let what = format!(
                "{}.{} is {}, and `{}` reads {reads}",
                schema.table, column.name, column.source_type, rule.transform
            );
            report.error(rule.line, what, "Choose a transform that fits the type, or `drop`.");
        }
        if let Transform::Round { step } = rule.transform
            && step.is_unit_of(&column.data_type)
        {
            let what = format!(
                "{}.{} is {}, and `{}` leaves every value as it is",
                schema.table, column.name, column.source_type, rule.transform
            );
            report.error(rule.line, what, "Choose a larger step; or write `keep`, if every value may be shown.");
        }
        check_subject(schema, rule, report);
        check_null_as(schema, column, rule, report);
        if let Some(beside) = rule.beside().filter(|beside| schema.index_of(&beside.column).is_some()) {
            let what = format!("{} has a column `{}`, and `dual` makes another", schema.table, beside.column);
            report.error(rule.line, what, "Take `dual` out of the rule, or rename the column in the source.");
        }
        check_hold(schema, rule, report);
        check_known(schema, rule, report);
        if schema.identity == Identity::WholeRow && rule.transform.is_random() {
            let what = format!(
                "{} has no key: its rows are found by all their values, and `{}` of `{}` never comes out alike",
                schema.table, rule.transform, column.name
            );
            report.error(rule.line, what, "Give the source table a primary key, or drop the column.");
        }
        if schema.identity == Identity::WholeRow && rule.transform.depends_on_today() {
            let what = format!(
                "{} has no key: its rows are found by all their values, and `{}` of `{}` changes with the years",
                schema.table, rule.transform, column.name
            );
            report.warning(rule.line, what, "Give the source table a primary key, or drop the column.");
        }
    }
    let Identity::Key(key) = &schema.identity else { return };
    for column in key.iter().map(|index| &schema.columns[*index]) {
        let rule = rules.columns.iter().find(|rule| rule.column == column.name);
        let fix = "Rows are found again by this column: use hmac_token(domain), vault_code(domain) or keep.";
        match rule {
            None => {
                let what = format!("{}.{} identifies the row and has no rule", schema.table, column.name);
                report.error(rules.line, what, fix);
            }
            Some(rule) => {
                if let Some(why) = merges_rows(rule) {
                    let what = format!("{}.{} identifies the row, and {why}", schema.table, column.name);
                    report.error(rule.line, what, fix);
                }
            }
        }
    }
}

/// The column that says whom a row is about must be there and be readable; it need not be stored.
fn check_subject(schema: &TableSchema, rule: &Rule, report: &mut Report) {
    let Some(subject) = &rule.subject else { return };
    match schema.columns.iter().find(|column| column.name == *subject) {
        None => {
            let fix = match did_you_mean(subject, schema.columns.iter().map(|column| column.name.as_str())) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => "Name the column that says whose row it is.".into(),
            };
            let what =
                format!("{}.{}: there is no column `{subject}` to tell the person by", schema.table, rule.column);
            report.error(rule.line, what, fix);
        }
        Some(column) if !canonical::can_read(&column.data_type) => {
            let what = format!("{}.{subject} is {}, and names no person", schema.table, column.source_type);
            report.error(rule.line, what, "Name a column of integers or text.");
        }
        Some(_) => {}
    }
}

/// What stands for null must be a value that the transform could have written.
fn check_null_as(schema: &TableSchema, column: &Column, rule: &Rule, report: &mut Report) {
    let Ok(Some(output)) = rule.transform.output(&column.data_type) else { return };
    if let Err(why) = null_as::constant(rule, &output) {
        let what = format!("{}.{}: `null_as` {why}", schema.table, column.name);
        report.error(rule.line, what, "Write a value that cannot be taken for another, or leave `null_as` out.");
    }
    if schema.identity == Identity::WholeRow && rule.null_as.is_some() {
        let what = format!(
            "{} has no key: its rows are found by all their values, and rows of before `{}` came have null there",
            schema.table, column.name
        );
        report.error(rule.line, what, "Give the source table a primary key, or leave `null_as` out.");
    }
}

/// A row that is kept back must be known by its key, or what follows it could not wait behind it.
fn check_hold(schema: &TableSchema, rule: &Rule, report: &mut Report) {
    let known = match &schema.identity {
        Identity::Key(key) => key.iter().all(|column| canonical::can_read(&schema.columns[*column].data_type)),
        Identity::WholeRow | Identity::InsertOnly => false,
    };
    if rule.holds() && !known {
        let what =
            format!("{}.{} holds rows back, and the table has no key to know them by", schema.table, rule.column);
        report.error(rule.line, what, "Give the table a primary key, or write `on_invalid: null` or `halt`.");
    }
}

/// The columns whose values are searched in a text must be there; they need not be stored.
fn check_known(schema: &TableSchema, rule: &Rule, report: &mut Report) {
    for known in rule.transform.known_columns() {
        let place = format!("{}.{}", schema.table, rule.column);
        match schema.columns.iter().find(|column| column.name == known) {
            None => {
                let fix = match did_you_mean(known, schema.columns.iter().map(|column| column.name.as_str())) {
                    Some(meant) => format!("Did you mean `{meant}`?"),
                    None => "Name columns of the same table, with + between them.".into(),
                };
                report.error(rule.line, format!("{place}: there is no column `{known}` to search for"), fix);
            }
            Some(column) if !canonical::can_read(&column.data_type) => {
                let what = format!("{place}: `{known}` is {}, and cannot be searched in a text", column.source_type);
                report.error(rule.line, what, "Name columns of text, integers or dates.");
            }
            Some(_) => {}
        }
    }
}

/// Why different rows would become one, if they would.
fn merges_rows(rule: &Rule) -> Option<String> {
    if !rule.transform.is_injective() {
        Some(format!("`{}` would make different rows the same", rule.transform))
    } else if rule.form != Form::Exact {
        Some(format!("the canonical form `{}` would make different rows the same", rule.form))
    } else {
        None
    }
}
