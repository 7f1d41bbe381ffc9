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
    /// The publication is there, and others may read it too.
    pub alters_publication: bool,
    /// Tables that are published anew, and so copied anew by the next run.
    pub copied_anew: Vec<TableName>,
    /// Tables that give out more all the same, and why.
    pub more: BTreeMap<TableName, &'static str>,
    /// Tables that are published and not followed.
    pub not_followed: Vec<String>,
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
    let name = config.publication();
    let found = publication::read(&address, &session, name, server.version).await?;
    let tables = named(&address, &session, config).await?;
    let tables: Vec<CatalogTable> =
        tables.into_iter().filter(|table| table.refused.is_none() && ruled(&table.table.table)).collect();
    let looked = Looked::at(&address, &session, server.version, name, &tables).await?;
    let mut least = Least { not_followed: looked.not_followed.clone(), ..Least::default() };
    let tables: Vec<Wanted> = tables.into_iter().map(|table| Wanted::new(table, &looked, &reads)).collect();
    least.publish(name, found.as_ref(), &tables, &looked);
    least.grant(&tables, &looked);
    Ok(least)
}

const OWNER: &str = "its owner and superusers may read everything: give Lockgate a user of its own";
const INHERITED: &str = "the user may read more of it through another role or PUBLIC: revoke it there";
const NOT_NAMED: &str = "its publication names schemas or all tables, and has no lists: make one that names tables";
const FULL: &str = "its changed rows are named by all their columns (REPLICA IDENTITY FULL)";
const OLD: &str = "column lists came with PostgreSQL 15";

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

/// What the catalog says beside the tables.
struct Looked {
    version: u32,
    /// The publication names schemas, or all tables.
    is_wide: bool,
    not_followed: Vec<String>,
    /// By the table's oid, the table and its partitions.
    parts: BTreeMap<u32, Vec<Part>>,
}

/// A table or partition, and who may read it.
struct Part {
    /// As SQL names it.
    name: String,
    /// Every column names its changed rows.
    is_full: bool,
    /// The columns that do, when not every one.
    identity: Vec<String>,
    /// The publication names the table itself.
    is_named: bool,
    /// The user owns it, or is a superuser's.
    is_owner: bool,
    /// The user was given the right to all of it.
    whole: bool,
    /// The columns to which the user was given the right one by one.
    given: Vec<String>,
    /// The columns that the user may read, however.
    readable: BTreeSet<String>,
    /// The columns to which others that the user stands for were given the right.
    inherited: BTreeSet<String>,
}

impl Wanted {
    fn new(table: CatalogTable, looked: &Looked, reads: impl Fn(&TableName, &str) -> bool) -> Self {
        let columns = &table.table.columns;
        let key: &[usize] = match &table.table.identity {
            Identity::Key(key) => key,
            _ => &[],
        };
        let parts = looked.parts_of(&table);
        // The server looks at the list for the replica identity of the partition that is written, and refuses the application's update.
        let identity: BTreeSet<&String> = parts.iter().flat_map(|part| &part.identity).collect();
        let wanted =
            |at: usize, name: &String| key.contains(&at) || identity.contains(name) || reads(&table.table.table, name);
        let names = columns.iter().map(|column| &column.name).enumerate();
        let list: Vec<String> = names.filter(|(at, name)| wanted(*at, name)).map(|(_, name)| name.clone()).collect();
        let all: BTreeSet<String> =
            columns.iter().map(|column| &column.name).chain(&table.generated).cloned().collect();
        let is_full = key.is_empty() || parts.iter().any(|part| part.is_full);
        let why_whole = match (is_full, looked.version < 150_000, looked.is_wide) {
            (true, ..) => Some(FULL),
            (_, true, _) => Some(OLD),
            (.., true) => Some(NOT_NAMED),
            _ => None,
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
    fn publish(&mut self, name: &str, found: Option<&Publication>, tables: &[Wanted], looked: &Looked) {
        let name = quoted(name);
        let entries = |tables: &[&Wanted]| tables.iter().map(|table| table.entry()).collect::<Vec<_>>().join(", ");
        let Some(found) = found else {
            let all: Vec<&Wanted> = tables.iter().collect();
            if !all.is_empty() {
                let entries = entries(&all);
                self.statements.push(format!(
                    "CREATE PUBLICATION {name} FOR TABLE {entries} WITH (publish_via_partition_root = true);"
                ));
            }
            return;
        };
        if !found.head.via_root && tables.iter().any(|table| table.table.partitioned) {
            self.statements.push(format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);"));
        }
        let mut add = Vec::new();
        for table in tables.iter().filter(|table| !table.is_in(found)) {
            if looked.parts_of(&table.table).iter().any(|part| part.is_named) {
                self.statements.push(format!("ALTER PUBLICATION {name} DROP TABLE ONLY {};", table.table.quoted()));
                self.copied_anew.push(table.name().clone());
            }
            add.push(table);
        }
        if !add.is_empty() {
            self.statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {};", entries(&add)));
        }
        self.alters_publication = !self.statements.is_empty();
    }

    fn grant(&mut self, tables: &[Wanted], looked: &Looked) {
        let schemas: BTreeSet<&String> = tables.iter().flat_map(|table| table.table.closed_schemas()).collect();
        self.statements.extend(schemas.into_iter().cloned());
        for table in tables {
            let (parts, role) = (looked.parts_of(&table.table), table.table.role());
            let Some(list) = &table.list else {
                let closed = parts.iter().filter(|part| !part.reads(&table.columns));
                self.statements.extend(closed.map(|part| format!("GRANT SELECT ON {} TO {role};", part.name)));
                self.more.extend(table.why_whole.map(|why| (table.name().clone(), why)));
                continue;
            };
            if parts.iter().any(|part| part.is_owner) {
                self.more.insert(table.name().clone(), OWNER);
                continue;
            }
            let surplus: BTreeSet<String> = table.columns.iter().filter(|name| !list.contains(name)).cloned().collect();
            for part in parts {
                self.statements.extend(part.limited(role, list, &surplus));
                if !part.inherited.is_disjoint(&surplus) {
                    self.more.insert(table.name().clone(), INHERITED);
                }
            }
        }
    }
}

impl Part {
    fn reads(&self, columns: &BTreeSet<String>) -> bool {
        columns.iter().all(|name| self.readable.contains(name)) && self.readable.contains(PLACE)
    }

    /// The statements that leave the user the columns of the list, and take what is more.
    fn limited(&self, role: &str, list: &[String], surplus: &BTreeSet<String>) -> Vec<String> {
        let name = &self.name;
        let wanted: Vec<String> = std::iter::once(PLACE.to_owned()).chain(list.iter().cloned()).collect();
        let given: Vec<String> = self.given.iter().filter(|name| surplus.contains(*name)).cloned().collect();
        let mut statements = Vec::new();
        if self.whole {
            statements.push(format!("REVOKE SELECT ON {name} FROM {role};"));
        } else if !given.is_empty() {
            statements.push(format!("REVOKE SELECT ({}) ON {name} FROM {role};", comma(&given)));
        }
        if self.whole || wanted.iter().any(|column| !self.readable.contains(column)) {
            statements.push(format!("GRANT SELECT ({}) ON {name} TO {role};", comma(&wanted)));
        }
        statements
    }

    fn of(row: &Row) -> Self {
        let set = |column: &str| row.get::<_, Vec<String>>(column).into_iter().collect();
        Self {
            name: row.get("name"),
            is_full: ReplicaIdentity::from_letter(row.get::<_, i8>("relreplident") as u8)
                == Some(ReplicaIdentity::Full),
            identity: row.get("identity"),
            is_named: row.get("is_named"),
            is_owner: row.get("is_owner"),
            whole: row.get("whole"),
            given: row.get("given"),
            readable: set("readable"),
            inherited: set("inherited"),
        }
    }
}

const WIDE: &str = "select puballtables from pg_publication where pubname = $1";

const SCHEMAS: &str = "select exists (select from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid
                                      where p.pubname = $1)";

const NOT_FOLLOWED: &str = "
    select format('%I.%I', t.schemaname, t.tablename) from pg_publication_tables t join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    where t.pubname = $1 and c.oid <> all ($2) order by 1";

const PARTS: &str = "
    with me as (select oid, rolsuper from pg_roles where rolname = current_user)
    select r.oid as root, format('%I.%I', n.nspname, d.relname) as name, d.relreplident,
           array(select a.attname::text from pg_index i join pg_attribute a on a.attrelid = d.oid and a.attnum = any (i.indkey)
                 where i.indrelid = d.oid and case d.relreplident when 'd' then i.indisprimary else i.indisreplident end) as identity,
           d.oid = r.oid and exists (select from pg_publication_rel x join pg_publication p on p.oid = x.prpubid
                   where p.pubname = $2 and x.prrelid = d.oid) as is_named,
           pg_has_role(d.relowner, 'USAGE') or me.rolsuper as is_owner,
           exists (select from aclexplode(d.relacl) x where x.grantee = me.oid and x.privilege_type = 'SELECT') as whole,
           array(select a.attname::text from pg_attribute a cross join aclexplode(a.attacl) x
                 where a.attrelid = d.oid and x.grantee = me.oid and x.privilege_type = 'SELECT') as given,
           array(select a.attname::text from pg_attribute a where a.attrelid = d.oid and not a.attisdropped
                 and (a.attnum > 0 or a.attname = 'ctid') and has_column_privilege(d.oid, a.attnum, 'SELECT')) as readable,
           array(select a.attname::text from pg_attribute a where a.attrelid = d.oid and not a.attisdropped and a.attnum > 0
                 and (pg_has_role('pg_read_all_data', 'USAGE')
                      or exists (select from (select * from aclexplode(a.attacl) union all select * from aclexplode(d.relacl)) x
                                 where x.privilege_type = 'SELECT' and x.grantee <> me.oid
                                   and (x.grantee = 0 or pg_has_role(x.grantee, 'USAGE'))))) as inherited
    from unnest($1::oid[]) r(oid)
    cross join lateral (select relid::oid as part from pg_partition_tree(r.oid::regclass) union select r.oid) t
    join pg_class d on d.oid = t.part join pg_namespace n on n.oid = d.relnamespace cross join me
    order by 1, 2";

impl Looked {
    async fn at(
        address: &Address,
        session: &Session,
        version: u32,
        publication: &str,
        tables: &[CatalogTable],
    ) -> Result<Self> {
        let ask = |e| failure::asking(address, "reading the rights to tables", e);
        let client = &session.client;
        let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
        let all = client.query_opt(WIDE, &[&publication]).await.map_err(ask)?;
        // Before PostgreSQL 15 a publication named no schemas.
        let schemas = match version >= 150_000 {
            true => client.query_one(SCHEMAS, &[&publication]).await.map_err(ask)?.get(0),
            false => false,
        };
        let others = client.query(NOT_FOLLOWED, &[&publication, &oids]).await.map_err(ask)?;
        let mut parts: BTreeMap<u32, Vec<Part>> = BTreeMap::new();
        for row in client.query(PARTS, &[&oids, &publication]).await.map_err(ask)? {
            parts.entry(row.get("root")).or_default().push(Part::of(&row));
        }
        Ok(Self {
            is_wide: schemas || all.is_some_and(|row| row.get(0)),
            not_followed: others.iter().map(|row| row.get(0)).collect(),
            version,
            parts,
        })
    }

    fn parts_of(&self, table: &CatalogTable) -> &[Part] {
        self.parts.get(&table.table.oid).map_or(&[], Vec::as_slice)
    }
}

fn comma(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}
