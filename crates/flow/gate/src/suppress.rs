//! Persons whose rows no longer pass: erased ones, whom neither a replay, nor a late change, nor a new copy may bring back.
//!
//! They are known by keyed hashes of their identifiers, not by tokens: the hash outlives a change of the rule, and a vault makes no new code
//! for somebody who does not pass. Those of a domain are known at each of its places too, so that a place which leaves the domain, or is
//! dropped, goes on keeping them out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use change::{Column, Error, Identity, Kind, Op, Result, RowMeta, TableName, TableSchema, Unsent};
use serde::{Deserialize, Serialize};

use crate::KeyRing;
use crate::canonical::{self, Cell, Form};
use crate::kernel::keyed_hash::KeyedHash;
use crate::kernel::{InnerValues, Kernel};
use crate::keys::Purpose;
use crate::policy::Rule;

/// A keyed hash of an identifier.
pub(crate) type Mark = [u8; 32];

/// Which identifiers are meant: those of a domain, or of one column whose rule has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All columns of a domain.
    Domain(String),
    /// One column: `source.schema.table.column`.
    Column(String),
}

impl Scope {
    pub(crate) fn of(table: &TableName, rule: &Rule) -> Self {
        match rule.transform.domain().filter(|_| rule.transform.is_injective()) {
            Some(domain) => Self::Domain(domain.to_owned()),
            None => Self::at(table, &rule.place()),
        }
    }

    /// One place, whatever its rule.
    pub(crate) fn at(table: &TableName, place: &str) -> Self {
        Self::Column(format!("{table}.{place}"))
    }

    fn key_name(&self) -> String {
        match self {
            Self::Domain(domain) => format!("domain {domain}"),
            Self::Column(column) => format!("column {column}"),
        }
    }
}

/// Some suppressed persons, as they are kept: hashes that tell nothing without the key. Belongs into a sealed record all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// Whose identifiers they are.
    pub scope: Scope,
    /// The canonical form under which they were hashed.
    pub(crate) form: String,
    /// The hashes.
    pub(crate) marks: Vec<Mark>,
}

impl Suppressed {
    /// The number of persons.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The canonical form.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when it is not known: somebody would pass unseen.
    pub(crate) fn form(&self) -> Result<Form> {
        Form::ALL.into_iter().find(|form| form.versioned() == self.form).ok_or_else(|| {
            Error::new(Kind::Privacy, "persons are recorded in a form that this version does not know")
                .fix("Use the version of Lockgate that wrote the record, or a newer one.")
        })
    }

    /// Keeps the persons for whom `keep` holds, by their number.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let mut number = 0..;
        self.marks.retain(|_| number.next().is_some_and(&keep));
    }
}

/// Makes the hashes of one scope and form.
pub(crate) fn marker(keys: &KeyRing, scope: &Scope, form: Form) -> Result<KeyedHash> {
    // As with the vault's index: a new epoch must not forget anybody.
    KeyedHash::new(keys, Purpose::Suppress, &scope.key_name(), keys.oldest_epoch(), form)
}

/// Persons of one scope, hashed in one form.
type Persons = (Form, Arc<HashSet<Mark>>);

/// All suppressed persons of a project.
#[derive(Clone, Default)]
pub(crate) struct Suppression {
    scopes: BTreeMap<Scope, Vec<Persons>>,
}

impl Suppression {
    /// # Errors
    /// [`Kind::Privacy`] when a canonical form is not known: somebody would pass unseen.
    pub(crate) fn new(records: Vec<Suppressed>) -> Result<Self> {
        let mut scopes: BTreeMap<Scope, BTreeMap<&'static str, (Form, HashSet<Mark>)>> = BTreeMap::new();
        for record in records {
            let form = record.form()?;
            let forms = scopes.entry(record.scope).or_default();
            forms.entry(form.versioned()).or_insert_with(|| (form, HashSet::new())).1.extend(record.marks);
        }
        let shared = |(form, marks): (Form, HashSet<Mark>)| (form, Arc::new(marks));
        let scopes = scopes.into_iter().map(|(scope, forms)| (scope, forms.into_values().map(shared).collect()));
        Ok(Self { scopes: scopes.collect() })
    }

    /// The checks for values at a place: those of its domain, if it has one, and its own. Its rule may have been another one when persons were
    /// erased.
    fn at_place(
        &self,
        table: &TableName,
        place: &str,
        rule: Option<&Rule>,
        keys: Option<&KeyRing>,
    ) -> Result<Vec<Check>> {
        let scopes: BTreeSet<Scope> =
            rule.map(|rule| Scope::of(table, rule)).into_iter().chain([Scope::at(table, place)]).collect();
        let mut checks = Vec::new();
        for scope in &scopes {
            for (form, marks) in self.scopes.get(scope).into_iter().flatten() {
                let keys = keys.ok_or_else(|| {
                    Error::new(Kind::Privacy, format!("{table}: erased persons cannot be told without the key file"))
                        .fix("Put the key file back, and `keys:` into policy.yaml.")
                })?;
                checks.push(Check { hash: marker(keys, scope, *form)?, form: *form, marks: marks.clone() });
            }
        }
        Ok(checks)
    }
}

struct Check {
    hash: KeyedHash,
    form: Form,
    marks: Arc<HashSet<Mark>>,
}

impl Check {
    /// Calls `found` with the number of each value that is a suppressed person's.
    fn values(&self, values: &dyn Array, mut found: impl FnMut(usize)) -> Result<()> {
        let mut number = 0;
        canonical::for_each(values, self.form, |cell| {
            if let Cell::Bytes(bytes) = cell
                && self.marks.contains(&self.hash.of(bytes))
            {
                found(number);
            }
            number += 1;
        })
    }
}

/// Paths within documents, by number, and the checks of each.
type Paths = Vec<(usize, Vec<Check>)>;

/// What keeps suppressed persons out of one table.
#[derive(Default)]
pub(crate) struct Keeper {
    /// By raw column.
    columns: Vec<(usize, Vec<Check>)>,
    /// By raw column of documents and the path within.
    documents: Vec<(usize, Paths)>,
    keyed: bool,
}

impl Keeper {
    /// `rules` come with the index of their raw column; a column without one is looked at all the same, for it may have had one.
    pub(crate) fn new<'a>(
        suppression: &Suppression,
        schema: &TableSchema,
        rules: impl Iterator<Item = (usize, Option<&'a Rule>)>,
        keys: Option<&KeyRing>,
    ) -> Result<Self> {
        let mut keeper = Self { keyed: matches!(schema.identity, Identity::Key(_)), ..Self::default() };
        if suppression.scopes.is_empty() {
            return Ok(keeper);
        }
        for (column, rule) in rules {
            let Column { name, data_type, .. } = &schema.columns[column];
            if canonical::can_read(data_type) {
                let checks = suppression.at_place(&schema.table, name, rule, keys)?;
                keeper.columns.extend((!checks.is_empty()).then_some((column, checks)));
            }
            let mut paths = Vec::new();
            for (path, inner) in rule.into_iter().flat_map(Rule::inner).enumerate() {
                let checks = suppression.at_place(&schema.table, &inner.place(), Some(inner), keys)?;
                paths.extend((!checks.is_empty()).then_some((path, checks)));
            }
            keeper.documents.extend((!paths.is_empty()).then_some((column, paths)));
        }
        Ok(keeper)
    }

    /// The rows that may pass; `None` when all may. `kernel` gives a raw column's kernel.
    pub(crate) fn passing<'k>(
        &self,
        rows: &RecordBatch,
        meta: &RowMeta,
        unsent: &Unsent,
        kernel: impl Fn(usize) -> Option<&'k Kernel>,
    ) -> Result<Option<BooleanArray>> {
        if self.columns.is_empty() && self.documents.is_empty() {
            return Ok(None);
        }
        let mut suppressed = vec![false; meta.len()];
        for (column, checks) in &self.columns {
            for check in checks {
                check.values(rows.column(*column), |row| suppressed[row] = true)?;
            }
        }
        for (column, paths) in &self.documents {
            let Some(values) = kernel(*column).and_then(|kernel| kernel.inner_values(rows.column(*column))) else {
                continue;
            };
            let values: Vec<InnerValues> = values?;
            for (path, checks) in paths {
                let (values, of_rows) = &values[*path];
                for check in checks {
                    check.values(values, |slot| suppressed[of_rows[slot] as usize] = true)?;
                }
            }
        }
        if !suppressed.contains(&true) {
            return Ok(None);
        }
        if self.keyed {
            // An identifier that was changed: the row goes on under the new one, unless it needs values that went with the old one.
            for row in 1..meta.len() {
                let moved = meta.ops[row - 1] == Op::MoveOut && suppressed[row - 1] && meta.ops[row] == Op::Insert;
                let lacks = (0..unsent.0.len()).any(|column| unsent.is_unsent(column, row));
                suppressed[row] |= moved && lacks;
            }
        }
        Ok(Some(suppressed.into_iter().map(|suppressed| Some(!suppressed)).collect()))
    }
}

/// The parts of a batch without the rows that do not pass.
pub(crate) fn without(
    passing: &BooleanArray,
    rows: RecordBatch,
    meta: RowMeta,
    unsent: Unsent,
) -> Result<(RecordBatch, RowMeta, Unsent)> {
    // Arrow's own message is not ours to vouch for.
    let bug = |_| Error::new(Kind::Bug, "rows of erased persons could not be taken out");
    let rows = filter_record_batch(&rows, passing).map_err(bug)?;
    let column = |array: &dyn Array| filter(array, passing).map_err(bug);
    let meta = RowMeta {
        ops: meta.ops.iter().zip(passing.values()).filter(|(_, passes)| *passes).map(|(op, _)| *op).collect(),
        positions: column(&meta.positions)?.to_data().into(),
        committed_at: TimestampMicrosecondArray::from(column(&meta.committed_at)?.to_data()),
        txids: UInt64Array::from(column(&meta.txids)?.to_data()),
        ordinals: UInt64Array::from(column(&meta.ordinals)?.to_data()),
    };
    let kept = |mask: Option<BooleanBuffer>| {
        mask.map(|mask| mask.iter().zip(passing.values()).filter(|(_, passes)| *passes).map(|(bit, _)| bit).collect())
    };
    Ok((rows, meta, Unsent(unsent.0.into_iter().map(kept).collect())))
}

#[cfg(test)]
mod tests;
