//! Which table a copy is of. Names come back, and so does a place in the publication, while the changes between are lost; the numbers that the
//! catalog gives them do not come back.

use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Result, TableName};
use serde::{Deserialize, Serialize};

use super::client::{Address, Session};
use super::failure;

/// A table and its place in the publication, by the numbers of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// `pg_class.oid` of the table, the root when it is partitioned.
    pub(crate) table: u32,
    /// `pg_publication.oid`.
    pub(crate) publication: u32,
    /// `xmin` of the publication's row; records of older versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// What publishes it: `pg_publication_rel.oid`, `pg_publication_namespace.oid` of its schema, and the publication itself when it is for all
    /// tables. Each is new whenever it is taken out and put back.
    pub(crate) entries: Vec<u32>,
}

impl Standing {
    /// Whether everything that happened to the table between the two was published.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        (self.table, self.publication) == (before.table, before.publication)
            && self.entries.iter().any(|entry| before.entries.contains(entry))
    }
}

/// What the catalog has now under the number of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `None` when it is in no publication of the name.
    pub(crate) standing: Option<Standing>,
    /// The oids that its rows lie under: its own and its partitions'.
    pub(crate) parts: BTreeSet<u32>,
}

/// A followed table now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As it was.
    Same,
    /// It was dropped.
    Dropped,
    /// It cannot be followed on; the error says why.
    Lost(&'static str),
    /// A partition was detached or dropped, and the stream does not say which rows left with it.
    Shrunk,
}

/// What became of the table that was followed as `name`, stood as `before` and had `parts`. `namesake`: another table has its name now.
pub(crate) fn fate(
    name: &TableName,
    before: &Standing,
    parts: &BTreeSet<u32>,
    now: Option<&Found>,
    namesake: bool,
) -> Fate {
    match now {
        None if namesake => Fate::Lost("it was dropped and made again"),
        None => Fate::Dropped,
        Some(found) if (&found.schema, &found.name) != (&name.schema, &name.table) => {
            Fate::Lost("the table has another name now, and the old name may be another table's")
        }
        Some(Found { standing: None, .. }) => Fate::Lost("it was taken out of the publication"),
        Some(Found { standing: Some(standing), .. }) if !standing.continues(before) => {
            Fate::Lost("it was taken out of the publication and put back")
        }
        Some(found) if !parts.is_subset(&found.parts) => Fate::Shrunk,
        Some(_) => Fate::Same,
    }
}

/// The error that stops a table of this fate.
pub(crate) fn lost(name: &TableName, why: &str) -> Error {
    Error::new(Kind::Contract, format!("{name}: {why}, so changes of it are missing from here on")).fix(
        "Check that `tables` names the table that is meant, and start again: a table that is not the one that was copied, or was not \
         published all the time, is copied anew.",
    )
}

/// The error that stops a table of which a partition left.
pub(crate) fn shrunk(name: &TableName) -> Error {
    let what = format!(
        "{name}: a partition was detached or dropped, and the log does not say which rows left with it, so the lake may still hold them"
    );
    Error::new(Kind::Contract, what)
        .fix("Copy the table again: remove its folders (the table's and its `__changes`) from the lake and start.")
}

/// Looks tables up by oid, with their places in the publication; those that are gone are left out.
pub(crate) async fn find(
    address: &Address,
    session: &Session,
    publication: &str,
    version: u32,
    oids: &[u32],
) -> Result<BTreeMap<u32, Found>> {
    let schemas = if version >= 150_000 {
        "union all select s.oid from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace"
    } else {
        ""
    };
    let sql = format!(
        "select c.oid, n.nspname, c.relname, p.oid as publication, p.xmin::text::int8 as version,
                array(select r.oid from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid {schemas}
                      union all select p.oid where p.puballtables) as entries,
                array(select relid::oid from pg_partition_tree(c.oid) union select c.oid) as parts
         from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_publication p on p.pubname = $2
         where c.oid = any ($1)"
    );
    let rows = session.client.query(&sql, &[&oids, &publication]).await;
    let rows = rows.map_err(|e| failure::asking(address, "looking the tables up in the publication", e))?;
    let found = rows.iter().map(|row| {
        let (table, publication): (u32, Option<u32>) = (row.get("oid"), row.get("publication"));
        let entries: Vec<u32> = row.get("entries");
        let version = row.get::<_, Option<i64>>("version").map(|version| version as u32);
        let standing = publication.filter(|_| !entries.is_empty()).map(|publication| Standing {
            table,
            publication,
            version,
            entries,
        });
        let parts = row.get::<_, Vec<u32>>("parts").into_iter().collect();
        (table, Found { schema: row.get("nspname"), name: row.get("relname"), standing, parts })
    });
    Ok(found.collect())
}

/// Which of the names a table has now.
pub(crate) async fn present<'a>(
    address: &Address,
    session: &Session,
    names: impl Iterator<Item = &'a TableName>,
) -> Result<Vec<TableName>> {
    let mut present = Vec::new();
    for name in names {
        let sql = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                                  where n.nspname = $1 and c.relname = $2)";
        let row = session.client.query_one(sql, &[&name.schema, &name.table]).await;
        if row.map_err(|e| failure::asking(address, "looking for dropped tables", e))?.get(0) {
            present.push(name.clone());
        }
    }
    Ok(present)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(entries: &[u32]) -> Standing {
        Standing { table: 1, publication: 2, version: Some(3), entries: entries.to_vec() }
    }

    #[test]
    fn goes_on_as_long_as_one_entry_does() {
        assert!(standing(&[4, 5]).continues(&standing(&[3, 4])));
        assert!(!standing(&[5]).continues(&standing(&[3, 4])));
        assert!(!standing(&[]).continues(&standing(&[])));
        assert!(!standing(&[4]).continues(&Standing { table: 9, ..standing(&[4]) }));
        assert!(!standing(&[4]).continues(&Standing { publication: 9, ..standing(&[4]) }));
    }

    #[test]
    fn every_way_to_lose_a_table_is_told_apart() {
        let name = TableName::new("db", "public", "t");
        let parts = BTreeSet::from([1, 7]);
        let with = |table: &str, standing, parts: &[u32]| Found {
            schema: "public".into(),
            name: table.into(),
            standing,
            parts: parts.iter().copied().collect(),
        };
        let found = |table: &str, standing| with(table, standing, &[1, 7]);
        let fate = |now: Option<Found>, namesake| fate(&name, &standing(&[3]), &parts, now.as_ref(), namesake);
        assert_eq!(fate(Some(with("t", Some(standing(&[3])), &[1])), false), Fate::Shrunk);
        assert_eq!(fate(Some(with("t", Some(standing(&[3])), &[1, 7, 8])), false), Fate::Same);
        assert_eq!(fate(Some(found("t", Some(standing(&[3])))), false), Fate::Same);
        assert_eq!(fate(None, false), Fate::Dropped);
        for (now, namesake, why) in [
            (None, true, "made again"),
            (Some(found("u", Some(standing(&[3])))), false, "another name"),
            (Some(found("t", None)), false, "out of the publication"),
            (Some(found("t", Some(standing(&[4])))), false, "put back"),
        ] {
            assert!(matches!(fate(now, namesake), Fate::Lost(text) if text.contains(why)), "{why}");
        }
    }
}
