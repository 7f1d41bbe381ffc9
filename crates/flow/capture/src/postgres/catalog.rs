use std::collections::{BTreeSet, HashMap};

use change::{Error, Identity, Kind, Result, TableName};
use tokio_postgres::Row;

use super::client::{Address, Session};
use super::failure;
use super::publication::Publication;
use super::table::{PgColumn, PgTable, ReplicaIdentity, quoted};
use super::types::{PgType, PgTypeKind};

/// A table as the catalog shows it now.
#[derive(Clone, Debug)]
pub(crate) struct CatalogTable {
    pub(crate) table: PgTable,
    /// Whether its rows lie in partitions.
    pub(crate) partitioned: bool,
    /// Rights to read that this user lacks.
    pub(crate) lacking: Lacking,
    /// Columns that the server computes and that the stream does not carry.
    pub(crate) generated: Vec<String>,
    /// Whether the publication has a column list for it: `table` has the columns of that.
    pub(crate) listed: bool,
    /// Why its changes cannot be followed, with the statement that mends it.
    pub(crate) refused: Option<Refusal>,
}

/// Rights to read a table, and its partitions, that this user lacks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lacking {
    /// The statements that open their schemas to it.
    schemas: Vec<String>,
    /// The table and partitions as SQL names them, each with columns of it.
    columns: Vec<(String, Vec<String>)>,
    /// Row-level security may hide rows.
    rows: bool,
    /// The user as SQL names it.
    role: String,
}

/// Where a row lies: the copies read by it, so that it has to be granted where columns are granted one by one.
pub(crate) const PLACE: &str = "ctid";

/// Why a table cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl CatalogTable {
    /// `"schema"."table"`.
    pub(crate) fn quoted(&self) -> String {
        sql_name(&self.table.table)
    }
}

impl CatalogTable {
    /// That this user lacks rights to read the table's columns, with the statements that give them; `None` when it lacks none.
    pub(crate) fn unreadable(&self, user: &str) -> Option<Error> {
        let grants = self.grants();
        if grants.is_empty() {
            return None;
        }
        let all = self.table.columns.len() + self.generated.len() + 1;
        let some = !self.listed && self.lacking.columns.iter().any(|(_, columns)| columns.len() < all);
        let error = Error::new(Kind::Auth, format!("{}: {user} may not read the table", self.table.table));
        Some(match some {
            true => {
                error.fix("It has the right to some columns only. Run `lockgate policy grants`, and what that prints.")
            }
            false => error.fix(format!("Run: {}", grants.join(" "))),
        })
    }

    /// The user whose rights these are, as SQL names it.
    pub(crate) fn role(&self) -> &str {
        &self.lacking.role
    }

    /// The statements that open their schemas to this user.
    pub(crate) fn closed_schemas(&self) -> &[String] {
        &self.lacking.schemas
    }

    /// Whether this user may read every row and column.
    pub(crate) fn is_readable(&self) -> bool {
        self.grants().is_empty() && !self.lacking.rows
    }

    /// The statements that give the rights that are lacking: to all columns, or to those of a column list.
    fn grants(&self) -> Vec<String> {
        let names = self.table.columns.iter().map(|column| column.name.as_str());
        let read: Vec<&str> = std::iter::once(PLACE).chain(names).collect();
        let lacked = |columns: &[String]| columns.iter().any(|column| read.contains(&column.as_str()));
        let parts = self.lacking.columns.iter().filter(|(_, columns)| lacked(columns));
        let list: Vec<String> = read.iter().map(|column| quoted(column)).collect();
        let list = if self.listed { format!(" ({})", list.join(", ")) } else { String::new() };
        let role = &self.lacking.role;
        let tables = parts.map(|(part, _)| format!("GRANT SELECT{list} ON {part} TO {role};"));
        self.lacking.schemas.iter().cloned().chain(tables).collect()
    }

    /// The table with the columns that the publication has of it.
    pub(crate) fn as_published(&self, publication: Option<&Publication>) -> Self {
        let mut table = self.clone();
        if let Some(columns) = publication.and_then(|publication| publication.columns.get(&self.table.oid)) {
            table.limit_to(columns);
        }
        table
    }

    /// The columns of `whole`, the same table before it was limited, that are not here.
    pub(crate) fn withheld_of(&self, whole: &Self) -> Vec<String> {
        let here: BTreeSet<&str> = self.table.columns.iter().map(|column| column.name.as_str()).collect();
        let names = whole.table.columns.iter().map(|column| column.name.clone());
        names.filter(|name| !here.contains(name.as_str())).collect()
    }

    /// Keeps the columns that a publication's column list names.
    fn limit_to(&mut self, numbers: &BTreeSet<i16>) {
        self.listed = true;
        let kept: Vec<usize> = (0..self.table.columns.len())
            .filter(|i| self.table.columns[*i].attnum.is_some_and(|attnum| numbers.contains(&attnum)))
            .collect();
        if let Identity::Key(key) = &mut self.table.identity {
            // The server refuses updates of a table whose column list lacks a column of its identity, so all of them are found.
            *key = key.iter().filter_map(|index| kept.iter().position(|at| at == index)).collect();
        }
        self.table.columns = kept.iter().map(|index| self.table.columns[*index].clone()).collect();
    }
}

/// A table's name as SQL: `"schema"."table"`.
pub(crate) fn sql_name(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

const NAMES: &str = "
    select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
      and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'";

const TABLES: &str = "
    select c.oid, n.nspname, c.relname, c.relkind = 'p' as partitioned, c.relreplident, current_user::text as role,
           quote_ident(current_user) as quoted_role,
           array(select distinct format('GRANT USAGE ON SCHEMA %I TO %I;', m.nspname, current_user) from unnest(p.parts) as part
                 join pg_class d on d.oid = part join pg_namespace m on m.oid = d.relnamespace
                 where not has_schema_privilege(m.oid, 'USAGE')) as schemas,
           exists (select from unnest(p.parts) as part where row_security_active(part)) as hidden
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (select array(select relid::oid from pg_partition_tree(c.oid) union select c.oid) as parts) p
    where c.oid = any ($1)
    order by n.nspname, c.relname";

const LACKING: &str = "
    select p.root, format('%I.%I', m.nspname, d.relname) as part, array_agg(a.attname::text) as columns
    from (select r.oid as root, t.part from unnest($1::oid[]) r(oid)
          cross join lateral (select relid::oid as part from pg_partition_tree(r.oid::regclass) union select r.oid) t) p
    join pg_class d on d.oid = p.part join pg_namespace m on m.oid = d.relnamespace
    join pg_attribute a on a.attrelid = p.part and not a.attisdropped and (a.attnum > 0 or a.attname = 'ctid')
    where not has_table_privilege(p.part, 'SELECT') and not has_column_privilege(p.part, a.attnum, 'SELECT')
    group by p.root, m.nspname, d.relname order by m.nspname, d.relname";

const COLUMNS: &str = "
    select a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '' as generated,
           exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey)) as in_primary,
           exists (select from pg_index i where i.indrelid = a.attrelid and i.indisreplident and i.indisvalid
                   and a.attnum = any (i.indkey)) as in_replica
    from pg_attribute a
    where a.attrelid = any ($1) and a.attnum > 0 and not a.attisdropped
    order by a.attrelid, a.attnum";

/// Reads every table of the database that `wanted` accepts by schema and name, with its columns and types.
pub(crate) async fn tables(
    address: &Address,
    session: &Session,
    source: &str,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Vec<CatalogTable>> {
    let ask = |e| failure::asking(address, "reading the catalog", e);
    let names = session.client.query(NAMES, &[]).await.map_err(ask)?;
    let named = names.iter().filter(|row| wanted(row.get("nspname"), row.get("relname")));
    let oids: Vec<u32> = named.map(|row| row.get("oid")).collect();
    let rows = session.client.query(TABLES, &[&oids]).await.map_err(ask)?;
    let mut lacking: HashMap<u32, Vec<(String, Vec<String>)>> = HashMap::new();
    for row in session.client.query(LACKING, &[&oids]).await.map_err(ask)? {
        lacking.entry(row.get("root")).or_default().push((row.get("part"), row.get("columns")));
    }
    let columns = session.client.query(COLUMNS, &[&oids]).await.map_err(ask)?;
    let types: Vec<(u32, i32)> = columns.iter().map(|row| (row.get("atttypid"), row.get("atttypmod"))).collect();
    let types = read_types(address, session, &types).await?;
    let mut by_table: HashMap<u32, Vec<Row>> = HashMap::new();
    for column in columns {
        by_table.entry(column.get("attrelid")).or_default().push(column);
    }
    Ok(rows
        .iter()
        .map(|row| {
            let oid = row.get("oid");
            let columns = by_table.remove(&oid).unwrap_or_default();
            table(source, row, columns, lacking.remove(&oid).unwrap_or_default(), &types)
        })
        .collect())
}

/// Reads one table by oid; `None` when it is gone.
pub(crate) async fn table_by_oid(
    address: &Address,
    session: &Session,
    source: &str,
    oid: u32,
) -> Result<Option<CatalogTable>> {
    let row = session
        .client
        .query_opt("select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1", &[&oid])
        .await
        .map_err(|e| failure::asking(address, "reading the catalog", e))?;
    let Some(row) = row else { return Ok(None) };
    let (schema, name): (String, String) = (row.get(0), row.get(1));
    let found = tables(address, session, source, |s, t| s == schema && t == name).await?;
    Ok(found.into_iter().next())
}

fn table(
    source: &str,
    row: &Row,
    columns: Vec<Row>,
    lacking: Vec<(String, Vec<String>)>,
    types: &HashMap<(u32, i32), PgType>,
) -> CatalogTable {
    let name = TableName::new(source, row.get::<_, String>("nspname"), row.get::<_, String>("relname"));
    let letter = row.get::<_, i8>("relreplident") as u8;
    let replica_identity = ReplicaIdentity::from_letter(letter).unwrap_or(ReplicaIdentity::Nothing);
    let generated = columns.iter().filter(|c| c.get("generated")).map(|c| c.get("attname")).collect();
    let kept: Vec<&Row> = columns.iter().filter(|c| !c.get::<_, bool>("generated")).collect();
    let key = |flag: &str| -> Vec<usize> { (0..kept.len()).filter(|i| kept[*i].get(flag)).collect() };
    let (primary, replica) = (key("in_primary"), key("in_replica"));
    let identity = match replica_identity {
        ReplicaIdentity::Default | ReplicaIdentity::Full if !primary.is_empty() => Identity::Key(primary),
        ReplicaIdentity::Index if !replica.is_empty() => Identity::Key(replica),
        ReplicaIdentity::Full => Identity::WholeRow,
        _ => Identity::InsertOnly,
    };
    let columns = kept.iter().map(|c| column(c, types)).collect();
    let hidden: bool = row.get("hidden");
    let refused = refusal(&name, replica_identity, &identity)
        .or_else(|| hidden.then(|| hides_rows(&name, row.get::<_, &str>("role"))));
    let lacking = Lacking { schemas: row.get("schemas"), columns: lacking, rows: hidden, role: row.get("quoted_role") };
    CatalogTable {
        table: PgTable { oid: row.get("oid"), table: name, columns, identity, replica_identity },
        partitioned: row.get("partitioned"),
        lacking,
        generated,
        listed: false,
        refused,
    }
}

fn column(row: &Row, types: &HashMap<(u32, i32), PgType>) -> PgColumn {
    let (oid, typmod): (u32, i32) = (row.get("atttypid"), row.get("atttypmod"));
    PgColumn {
        name: row.get("attname"),
        attnum: Some(row.get("attnum")),
        pg_type: types.get(&(oid, typmod)).cloned().unwrap_or_else(|| unknown(oid, typmod)),
        not_null: row.get("attnotnull"),
        generated: false,
    }
}

/// A published table whose changed rows cannot be named makes the *application's* updates and deletes fail, so it is refused before it is
/// published. <https://www.postgresql.org/docs/current/logical-replication-publication.html>
fn refusal(name: &TableName, replica_identity: ReplicaIdentity, identity: &Identity) -> Option<Refusal> {
    if *identity != Identity::InsertOnly {
        return None;
    }
    let sql = sql_name(name);
    let why = match replica_identity {
        ReplicaIdentity::Nothing => "its REPLICA IDENTITY is NOTHING",
        ReplicaIdentity::Index => "the index that its REPLICA IDENTITY names is gone",
        ReplicaIdentity::Default | ReplicaIdentity::Full => "it has no primary key",
    };
    let fix = match replica_identity {
        ReplicaIdentity::Default => {
            format!("Add a primary key, or run: ALTER TABLE {sql} REPLICA IDENTITY FULL;")
        }
        _ => format!(
            "Run: ALTER TABLE {sql} REPLICA IDENTITY DEFAULT; (with a primary key) or REPLICA IDENTITY FULL; (without)"
        ),
    };
    Some(Refusal {
        what: format!(
            "{name}: {why}, so a changed row cannot be named and Postgres would refuse updates once it is published"
        ),
        fix,
    })
}

/// Row-level security hides rows from a copy, while the stream carries all of them.
fn hides_rows(name: &TableName, role: &str) -> Refusal {
    Refusal {
        what: format!("{name}: row-level security may hide rows of it from {role}, so its first copy would be partial"),
        fix: format!("Run as a superuser: ALTER ROLE {} BYPASSRLS;", quoted(role)),
    }
}

const TYPES: &str = "
    select w.oid, w.typmod, coalesce(format_type(w.oid, w.typmod), 'type ' || w.oid) as name, t.typtype, t.typcategory = 'A' as is_array,
           t.typelem, t.typbasetype, t.typtypmod, t.typisdefined
    from unnest($1::oid[], $2::int4[]) as w(oid, typmod) left join pg_type t on t.oid = w.oid";

/// First oid of an object that is not part of Postgres itself (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16384;

/// Reads types with what they are made of, by oid and modifier.
pub(crate) async fn read_types(
    address: &Address,
    session: &Session,
    wanted: &[(u32, i32)],
) -> Result<HashMap<(u32, i32), PgType>> {
    let mut rows: HashMap<(u32, i32), Row> = HashMap::new();
    let mut missing: Vec<(u32, i32)> = wanted.to_vec();
    while !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        let (oids, typmods): (Vec<u32>, Vec<i32>) = missing.drain(..).unzip();
        let found = session
            .client
            .query(TYPES, &[&oids, &typmods])
            .await
            .map_err(|e| failure::asking(address, "reading the types", e))?;
        for row in found {
            let key = (row.get("oid"), row.get("typmod"));
            missing.extend(inner_type(&row));
            rows.insert(key, row);
        }
        missing.retain(|key| !rows.contains_key(key));
    }
    Ok(rows.keys().map(|key| (*key, assemble(*key, &rows))).collect())
}

/// The type that a domain or an array is made of.
fn inner_type(row: &Row) -> Option<(u32, i32)> {
    let kind: i8 = row.get::<_, Option<i8>>("typtype")?;
    match kind as u8 {
        b'd' => Some((row.get("typbasetype"), row.get("typtypmod"))),
        _ if row.get::<_, bool>("is_array") && row.get::<_, u32>("typelem") != 0 => {
            Some((row.get("typelem"), row.get("typmod")))
        }
        _ => None,
    }
}

fn assemble(key: (u32, i32), rows: &HashMap<(u32, i32), Row>) -> PgType {
    let (oid, typmod) = key;
    let Some(row) = rows.get(&key) else { return unknown(oid, typmod) };
    let Some(letter) = row.get::<_, Option<i8>>("typtype") else { return unknown(oid, typmod) };
    let inner = inner_type(row).map(|key| Box::new(assemble(key, rows)));
    let kind = match (letter as u8, inner) {
        _ if !row.get::<_, bool>("typisdefined") => PgTypeKind::Unreadable,
        (b'd', Some(inner)) => PgTypeKind::Domain(inner),
        (b'b', Some(inner)) => PgTypeKind::Array(inner),
        (b'b', None) if oid < FIRST_USER_OID => PgTypeKind::Builtin,
        (b'b', None) => PgTypeKind::Extension,
        (b'e', _) => PgTypeKind::Enum,
        (b'r', _) => PgTypeKind::Range,
        (b'm', _) => PgTypeKind::Multirange,
        (b'c', _) => PgTypeKind::Composite,
        _ => PgTypeKind::Unreadable,
    };
    PgType { oid, typmod, name: row.get("name"), kind }
}

/// A type that the catalog no longer has: a log that is older than a `DROP TYPE` can still mention it, and its values come as text.
fn unknown(oid: u32, typmod: i32) -> PgType {
    PgType { oid, typmod, name: format!("type {oid}"), kind: PgTypeKind::Extension }
}

/// Whether `schema.table` is named by one of the patterns, in which `*` stands for any characters.
pub(crate) fn is_wanted(patterns: &[String], schema: &str, table: &str) -> bool {
    patterns.iter().filter_map(|pattern| pattern.split_once('.')).any(|(s, t)| matches(s, schema) && matches(t, table))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_tables() {
        let patterns = ["public.*".to_string(), "hr.emp*_v?".into(), "a.b".into()];
        assert!(is_wanted(&patterns, "public", "anything"));
        assert!(is_wanted(&patterns, "a", "b"));
        assert!(!is_wanted(&patterns, "hr", "emp_v1"));
        assert!(!is_wanted(&patterns, "a", "bc"));
        assert!(matches("*aims*", "claims_é") && matches("c*s", "cs") && !matches("c*s", "c"));
    }

    #[test]
    fn a_table_without_identity_is_refused_with_the_statement_that_mends_it() {
        let name = TableName::new("db", "public", "My Log");
        let refusal_of = |replica| refusal(&name, replica, &Identity::InsertOnly).unwrap();
        for replica in [ReplicaIdentity::Default, ReplicaIdentity::Nothing, ReplicaIdentity::Index] {
            assert!(refusal_of(replica).fix.contains(r#"ALTER TABLE "public"."My Log" REPLICA IDENTITY"#));
        }
        assert_eq!(refusal(&name, ReplicaIdentity::Full, &Identity::WholeRow), None);
    }
}
