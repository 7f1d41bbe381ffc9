//! Tables that the command line names.

use std::collections::BTreeSet;

use change::{Error, Kind, Result, TableName};
use gate::Policy;

/// The tables of the policy that are meant: by `schema.table`, or by `source.schema.table`; all of them when none is named.
///
/// # Errors
/// `Config` when a name is that of no table, or the short name of several.
pub(crate) fn named(policy: &Policy, names: &[String]) -> Result<BTreeSet<TableName>> {
    match names {
        [] => Ok(policy.tables().cloned().collect()),
        names => names.iter().map(|name| one(policy, name).cloned()).collect(),
    }
}

/// The one table that is meant by a name.
///
/// # Errors
/// As [`named`].
pub(crate) fn one<'a>(policy: &'a Policy, name: &str) -> Result<&'a TableName> {
    if let Some(table) = policy.tables().find(|table| table.to_string() == *name) {
        return Ok(table);
    }
    let is_short = |table: &&TableName| format!("{}.{}", table.schema, table.table) == *name;
    match policy.tables().filter(is_short).collect::<Vec<_>>().as_slice() {
        [table] => Ok(*table),
        [] => Err(Error::new(Kind::Config, format!("policy.yaml has no table {name}"))
            .fix("Write it as schema.table or source.schema.table, in its spelling.")),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Error::new(Kind::Config, format!("{name} is a table of several sources"))
                .fix(format!("Write one of: {}.", several.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "profile: none
tables:
  a.public.t: { id: keep }
  b.public.t: { id: keep }
  b.public.u: { id: keep }
";

    fn check(names: &[&str], expected: Result<&[&str], &str>) {
        let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found = named(&policy, &names).map(|tables| tables.iter().map(ToString::to_string).collect::<Vec<_>>());
        match expected {
            Ok(tables) => assert_eq!(found.unwrap(), tables),
            Err(what) => assert!(found.unwrap_err().to_string().contains(what)),
        }
    }

    #[test]
    fn a_table_is_named_in_short_or_in_full_and_never_by_mistake() {
        check(&[], Ok(&["a.public.t", "b.public.t", "b.public.u"]));
        check(&["public.u"], Ok(&["b.public.u"]));
        check(&["b.public.u", "public.u", "a.public.t"], Ok(&["a.public.t", "b.public.u"]));
        check(&["public.u", "public.x"], Err("no table public.x"));
        check(&["public.t"], Err("a.public.t, b.public.t"));
        check(&["t"], Err("no table t"));
    }
}
