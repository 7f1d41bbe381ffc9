//! What keeps columns in the database: a publication with column lists, and the right to read those columns alone.

use std::collections::{BTreeMap, BTreeSet};

use change::{Identity, Result, TableName};
use tokio_postgres::Row;

use super::catalog::{CatalogTable, PLACE};
use super::client::{Address, Session};
use super::config::PostgresConfig;
use super::describe::named;
use super::failure;
use super::publication::{self, Publication};
use super::server::Server;
use super::table::{ReplicaIdentity, quoted};

/// The statements after which the database gives out the columns that are read, and no others. Nothing was run.
#[derive(Debug, Default)]
pub struct Least {
    /// For the owner of the tables, in one transaction; empty when it is so already.
    pub statements: Vec<String>,
    /// Tables that are published anew, and so copied anew by the next run.
    pub copied_anew: Vec<TableName>,
    /// Tables that give out everything all the same, and why.
    pub whole: Vec<(TableName, &'static str)>,
}

/// Connects, reads the catalog, and says what has to be done so that of the tables for which `ruled` holds only those columns can be read
/// and are published that identify a row or for which `reads` holds.
///
/// <https://www.postgresql.org/docs/current/logical-replication-col-lists.html>
///
/// # Errors
/// `Config`, `Auth` and `Unavailable` as for any connection.
pub async fn least(
    config: &PostgresConfig,
    ruled: impl Fn(&TableName) -> bool,
    reads: impl Fn(&TableName, &str) -> bool,
) -> Result<Least> {
    let address = Address::of(config)?;
    let session = address.connect("grants").await?;
    let server = Server::read(&address, &session).await?;
    let found = publication::read(&address, &session, config.publication(), server.version).await?;
    let tables = named(&address, &session, config).await?;
    let tables = tables.into_iter().filter(|table| table.refused.is_none() && ruled(&table.table.table));
    let tables: Vec<Wanted> = tables.map(|table| Wanted::new(table, server.version, &reads)).collect();
    let held = held(&address, &session, config.publication(), &tables).await?;
    let mut least = Least::default();
    least.publish(config.publication(), found.as_ref(), &tables, &held);
    least.grant(&quoted(address.user()), &tables, &held);
    Ok(least)
}

const OWNER: &str = "its owner and superusers may read everything: give Lockgate a user of its own";
const NOT_NAMED: &str = "the publication names its schema or all tables, and only one that names tables has lists";

/// A table, and what of it is wanted.
struct Wanted {
    table: CatalogTable,
    /// The names of all its columns.
    columns: BTreeSet<String>,
    /// The names of those that are wanted, in the table's order; `None` for the whole table.
    list: Option<Vec<String>>,
    /// Why it is the whole table, though some of its columns are not wanted.
    why_whole: Option<&'static str>,
}

/// What a role and a publication have of a table now.
#[derive(Default)]
struct Held {
    /// The publication names the table itself, and not its schema or all tables.
    is_named: bool,
    /// The role owns the table, or is a superuser's.
    is_owner: bool,
    /// The table and its partitions as SQL names them, with what the role may read of each.
    parts: BTreeMap<String, Part>,
}

#[derive(Default)]
struct Part {
    /// The right to the whole table.
    whole: bool,
    columns: BTreeSet<String>,
}

impl Wanted {
    fn new(table: CatalogTable, version: u32, reads: impl Fn(&TableName, &str) -> bool) -> Self {
        let columns = &table.table.columns;
        let key: &[usize] = match &table.table.identity {
            Identity::Key(key) => key,
            _ => &[],
        };
        let wanted = |(at, name): &(usize, &str)| key.contains(at) || reads(&table.table.table, name);
        let names = columns.iter().map(|column| column.name.as_str()).enumerate();
        let list: Vec<String> = names.filter(wanted).map(|(_, name)| name.to_owned()).collect();
        let all: BTreeSet<String> =
            columns.iter().map(|column| &column.name).chain(&table.generated).cloned().collect();
        let why_whole = if key.is_empty() || table.table.replica_identity == ReplicaIdentity::Full {
            // A list must have all columns of the replica identity, or the server refuses the application's updates.
            Some("its changed rows are named by all their columns (REPLICA IDENTITY FULL)")
        } else {
            (version < 150_000).then_some("column lists came with PostgreSQL 15")
        };
        match (list.len() < columns.len(), why_whole) {
            (true, None) => Self { columns: all, list: Some(list), why_whole, table },
            (unwanted, why) => Self { columns: all, list: None, why_whole: why.filter(|_| unwanted), table },
        }
    }

    fn name(&self) -> &TableName {
        &self.table.table.table
    }

    /// As a publication names it: `ONLY "public"."members" ("id", "zip")`.
    fn entry(&self) -> String {
        let list = self.list.as_ref().map(|list| format!(" ({})", comma(list))).unwrap_or_default();
        format!("ONLY {}{list}", self.table.quoted())
    }

    /// Whether the publication has just this of it.
    fn is_in(&self, publication: &Publication) -> bool {
        let oid = self.table.table.oid;
        let has = self.table.as_published(Some(publication)).table.columns;
        let has = has.iter().map(|column| column.name.as_str());
        publication.tables.contains(&oid)
            && match &self.list {
                Some(list) => has.eq(list.iter().map(String::as_str)),
                None => !publication.columns.contains_key(&oid),
            }
    }
}

impl Least {
    fn publish(&mut self, name: &str, found: Option<&Publication>, tables: &[Wanted], held: &BTreeMap<u32, Held>) {
        let name = quoted(name);
        let entries = |tables: &[&Wanted]| tables.iter().map(|table| table.entry()).collect::<Vec<_>>().join(", ");
        let Some(found) = found else {
            let all: Vec<&Wanted> = tables.iter().collect();
            if !all.is_empty() {
                self.statements.push(format!(
                    "CREATE PUBLICATION {name} FOR TABLE {} WITH (publish_via_partition_root = true);",
                    entries(&all)
                ));
            }
            return;
        };
        let mut add = Vec::new();
        for table in tables.iter().filter(|table| !table.is_in(found)) {
            let oid = table.table.table.oid;
            if found.tables.contains(&oid) {
                if !held.get(&oid).is_some_and(|held| held.is_named) {
                    self.whole.push((table.name().clone(), NOT_NAMED));
                    continue;
                }
                self.statements.push(format!("ALTER PUBLICATION {name} DROP TABLE ONLY {};", table.table.quoted()));
                self.copied_anew.push(table.name().clone());
            }
            add.push(table);
        }
        if !add.is_empty() {
            self.statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {};", entries(&add)));
        }
    }

    fn grant(&mut self, role: &str, tables: &[Wanted], held: &BTreeMap<u32, Held>) {
        let schemas: BTreeSet<&String> = tables.iter().flat_map(|table| table.table.closed_schemas()).collect();
        self.statements.extend(schemas.into_iter().cloned());
        for table in tables {
            let Some(held) = held.get(&table.table.table.oid) else { continue };
            match &table.list {
                Some(_) if held.is_owner => self.whole.push((table.name().clone(), OWNER)),
                Some(list) => {
                    held.parts.iter().for_each(|(part, now)| self.grant_columns(role, part, now, list, &table.columns));
                }
                None => {
                    let closed = held.parts.iter().filter(|(_, part)| !part.whole);
                    self.statements.extend(closed.map(|(part, _)| format!("GRANT SELECT ON {part} TO {role};")));
                    self.whole.extend(table.why_whole.map(|why| (table.name().clone(), why)));
                }
            }
        }
    }

    fn grant_columns(&mut self, role: &str, part: &str, now: &Part, list: &[String], all: &BTreeSet<String>) {
        let wanted: Vec<String> = std::iter::once(PLACE.to_owned()).chain(list.iter().cloned()).collect();
        let surplus = now.columns.iter().filter(|name| all.contains(*name) && !list.contains(name));
        let surplus: Vec<String> = surplus.cloned().collect();
        if now.whole {
            self.statements.push(format!("REVOKE SELECT ON {part} FROM {role};"));
        } else if !surplus.is_empty() {
            self.statements.push(format!("REVOKE SELECT ({}) ON {part} FROM {role};", comma(&surplus)));
        }
        if now.whole || wanted.iter().any(|name| !now.columns.contains(name)) {
            self.statements.push(format!("GRANT SELECT ({}) ON {part} TO {role};", comma(&wanted)));
        }
    }
}

fn comma(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

const HELD: &str = "
    select c.oid, format('%I.%I', n.nspname, d.relname) as part, has_table_privilege(d.oid, 'SELECT') as whole,
           array(select a.attname::text from pg_attribute a where a.attrelid = d.oid and not a.attisdropped
                     and (a.attnum > 0 or a.attname = 'ctid') and has_column_privilege(d.oid, a.attnum, 'SELECT')) as columns,
           pg_has_role(d.relowner, 'USAGE') or (select rolsuper from pg_roles where rolname = current_user) as is_owner,
           exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
                   where p.pubname = $2 and r.prrelid = c.oid) as is_named
    from pg_class c cross join lateral (select relid::oid as part from pg_partition_tree(c.oid) union select c.oid) p
    join pg_class d on d.oid = p.part join pg_namespace n on n.oid = d.relnamespace
    where c.oid = any ($1)";

async fn held(
    address: &Address,
    session: &Session,
    publication: &str,
    tables: &[Wanted],
) -> Result<BTreeMap<u32, Held>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.table.table.oid).collect();
    let rows = session.client.query(HELD, &[&oids, &publication]).await;
    let mut held: BTreeMap<u32, Held> = BTreeMap::new();
    for row in rows.map_err(|e| failure::asking(address, "reading the rights to tables", e))? {
        let table = held.entry(row.get("oid")).or_default();
        table.is_named = row.get("is_named");
        table.is_owner |= row.get::<_, bool>("is_owner");
        table.parts.insert(row.get("part"), Part::of(&row));
    }
    Ok(held)
}

impl Part {
    fn of(row: &Row) -> Self {
        Self { whole: row.get("whole"), columns: row.get::<_, Vec<String>>("columns").into_iter().collect() }
    }
}
