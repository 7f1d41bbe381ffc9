use std::collections::BTreeSet;
use std::sync::Arc;

use change::{Clock, Error, Kind, Result, Severity, TableName, TableSchema};
use gate::{KeyRing, Policy, RowKey, Sealed, Suppressed, TableGate};

use crate::held::{HeldLine, HeldStore};
use crate::project::Project;
use crate::{assemble, entities};

/// Tells held rows of suppressed persons by gates that keep those persons out.
#[derive(Clone, Copy)]
pub(super) struct Finder<'a> {
    pub(super) project: &'a Project,
    pub(super) policy: &'a Policy,
    pub(super) keys: &'a KeyRing,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) persons: &'a [Suppressed],
}

impl Finder<'_> {
    /// Erases the held rows of the persons, with what is held behind one of them and has nothing else to stand on: an update that leaves
    /// values out, a delete. Returns how many rows that were.
    ///
    /// # Errors
    /// `Config` while a release is on its way, or when a row is of a table that the policy does not let in any more; `Privacy` when a
    /// record does not open.
    pub(super) fn erase(&self, store: &HeldStore) -> Result<u64> {
        let (mut gates, mut doomed) = (Vec::new(), Vec::new());
        let mut bare: BTreeSet<(TableName, RowKey)> = BTreeSet::new();
        for line in store.lines()? {
            if line.state == "taken" {
                let what = "held rows are on their way into the lake, and some may be of the persons";
                return Err(Error::new(Kind::Config, what).fix("Run `lockgate run --once`, then erase."));
            }
            let keys = line.keys.iter().map(|key| (line.table.clone(), *key));
            let follows = keys.clone().any(|key| bare.contains(&key)) && (!line.whole || line.op == "d");
            if follows || self.is_theirs(&line, store, &mut gates)? {
                bare.extend(keys);
                doomed.push(line.id);
            } else {
                bare.retain(|(table, key)| *table != line.table || !line.keys.contains(key));
            }
        }
        if !doomed.is_empty() {
            store.erase(&doomed)?;
        }
        Ok(doomed.len() as u64)
    }

    /// Of whom there are held rows, among these persons: their numbers, which ascend.
    ///
    /// # Errors
    /// As [`Finder::erase`].
    pub(super) fn of_whom(&self, store: &HeldStore, among: &[usize]) -> Result<Vec<usize>> {
        let mut persons = self.persons.to_vec();
        persons.iter_mut().for_each(|persons| persons.retain(|number| among.binary_search(&number).is_ok()));
        if !(Finder { persons: &persons, ..*self }).finds_any(store)? {
            return Ok(Vec::new());
        }
        if among.len() == 1 {
            return Ok(among.to_vec());
        }
        // A gate tells that a row is one of theirs, not whose: halves of them are asked for.
        let (some, others) = among.split_at(among.len() / 2);
        let mut found = self.of_whom(store, some)?;
        found.extend(self.of_whom(store, others)?);
        Ok(found)
    }

    fn finds_any(&self, store: &HeldStore) -> Result<bool> {
        let mut gates = Vec::new();
        for line in store.lines()? {
            if self.is_theirs(&line, store, &mut gates)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_theirs(
        &self,
        line: &HeldLine,
        store: &HeldStore,
        gates: &mut Vec<(Arc<TableSchema>, TableGate)>,
    ) -> Result<bool> {
        let Some(record) = store.record(line.id)? else { return Ok(false) };
        let sealed = Sealed { table: &line.table, position: &line.position, keys: &line.keys, record: &record };
        let structure = sealed.structure(self.keys)?;
        let known = gates.iter().position(|(schema, _)| *schema == structure);
        let number = match known {
            Some(number) => number,
            None => {
                let gate = self.gate(&structure)?;
                gates.push((structure, gate));
                gates.len() - 1
            }
        };
        gates[number].1.is_suppressed(&sealed)
    }

    fn gate(&self, structure: &Arc<TableSchema>) -> Result<TableGate> {
        let left_out: BTreeSet<TableName> =
            self.policy.tables().filter(|table| **table != structure.table).cloned().collect();
        let tables = std::slice::from_ref(structure);
        let keys = Some(self.keys.clone());
        let policy = self.policy.of_then(structure);
        // Whose a row is, no text tells.
        let model = entities::absent(&policy);
        let compiled = assemble::compile(&policy, keys, model, self.project, &left_out, tables, self.clock);
        let gate = compiled.map_err(|problems| {
            let why = problems.into_iter().find(|problem| problem.severity == Severity::Error);
            let why = why.map_or_else(String::new, |problem| format!(": {}", problem.what));
            let what = format!("rows of {} are held that its rules do not fit any more{why}", structure.table);
            Error::new(Kind::Config, what)
                .fix("Release or drop them first (lockgate held list), or mend policy.yaml (lockgate check).")
        })?;
        gate.suppressing(self.persons.to_vec())?.table(structure)
    }
}
