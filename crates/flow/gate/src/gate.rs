use std::sync::Arc;

use change::{Error, Identity, Kind, Problem, Result, TableName, TableSchema};

use crate::policy::{Policy, TableRules};
use crate::report::{Report, did_you_mean};
use crate::table::TableGate;

/// A policy that fits its tables: makes the [`TableGate`] of each, and again at every change of a table's structure.
pub struct Gate {
    policy: Arc<Policy>,
    notes: Vec<Problem>,
}

impl Policy {
    /// Meets the policy with the tables as they are now. Reports all problems at once; what does not stop is in [`Gate::notes`].
    pub fn compile(&self, tables: &[Arc<TableSchema>]) -> Result<Gate, Vec<Problem>> {
        let mut report = Report::new(&self.file);
        for (name, rules) in &self.tables {
            match tables.iter().find(|schema| schema.table == *name) {
                Some(schema) => check_table(schema, rules, &mut report),
                None => {
                    let names: Vec<String> = tables.iter().map(|schema| schema.table.to_string()).collect();
                    let fix = match did_you_mean(&name.to_string(), names.iter().map(String::as_str)) {
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
        if report.has_errors() {
            return Err(report.problems);
        }
        Ok(Gate { policy: Arc::new(self.clone()), notes: report.problems })
    }
}

impl Gate {
    /// What the user should know and nothing stops for: columns and tables that no rule names.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// Whether the policy has rules for the table. A table without rules is not captured.
    pub fn captures(&self, table: &TableName) -> bool {
        self.policy.tables.contains_key(table)
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
        if let Some(problem) = report.problems.into_iter().next() {
            return Err(Error::new(Kind::Contract, problem.what).fix(problem.fix));
        }
        TableGate::new(schema, rules)
    }
}

fn check_table(schema: &TableSchema, rules: &TableRules, report: &mut Report) {
    for rule in rules.columns.iter().filter(|rule| schema.index_of(&rule.column).is_none()) {
        let fix = match did_you_mean(&rule.column, schema.columns.iter().map(|column| column.name.as_str())) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => "Remove the rule, or correct the column's name.".into(),
        };
        report.error(rule.line, format!("{} has no column `{}`", schema.table, rule.column), fix);
    }
    check_structure(schema, rules, report);
    for column in &schema.columns {
        if !rules.columns.iter().any(|rule| rule.column == column.name) {
            let what = format!("{}.{} ({}) has no rule and is dropped", schema.table, column.name, column.source_type);
            report.note(
                rules.line,
                what,
                format!("Give it a transform; `{}: drop` says that it is meant.", column.name),
            );
        }
    }
}

/// What must hold at start and again after each change of structure.
fn check_structure(schema: &TableSchema, rules: &TableRules, report: &mut Report) {
    for column in &schema.columns {
        let Some(rule) = rules.columns.iter().find(|rule| rule.column == column.name) else { continue };
        if let Err(why) = rule.transform.output(&column.data_type) {
            let what = format!("{}.{} is {}: {why}", schema.table, column.name, column.source_type);
            report.error(rule.line, what, "Choose a transform that fits the type, or `drop`.");
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
            Some(rule) if !rule.transform.is_injective() => {
                let what = format!(
                    "{}.{} identifies the row, and `{}` would make different rows the same",
                    schema.table, column.name, rule.transform
                );
                report.error(rule.line, what, fix);
            }
            Some(_) => {}
        }
    }
}
