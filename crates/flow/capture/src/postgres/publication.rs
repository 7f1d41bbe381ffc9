use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Result};

use super::catalog::CatalogTable;
use super::client::{Address, Session};
use super::failure;
use super::slot::COPY_AGAIN;
use super::table::quoted;

/// A publication as the catalog shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Publication {
    /// `pg_publication.oid`: another one after it was dropped and made again.
    pub(crate) oid: u32,
    pub(crate) operations_missing: Vec<&'static str>,
    pub(crate) via_root: bool,
    /// Oids of the tables that it publishes.
    pub(crate) tables: BTreeSet<u32>,
    /// Oids of tables of which it publishes some rows only.
    pub(crate) filtered: BTreeSet<u32>,
    /// By table, the numbers of the columns that it publishes, where it has a column list.
    pub(crate) columns: BTreeMap<u32, BTreeSet<i16>>,
}

/// What has to be done before the tables are published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Run this statement. Tables that it adds are new to the stream.
    Run { sql: String },
    /// The publication cannot be used as it is.
    Refuse { what: String, fix: String },
}

/// Reads the publication; `None` when there is none.
pub(crate) async fn read(
    address: &Address,
    session: &Session,
    name: &str,
    version: u32,
) -> Result<Option<Publication>> {
    let ask = |e| failure::asking(address, "reading the publication", e);
    let client = &session.client;
    let sql =
        "select pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, oid from pg_publication where pubname = $1";
    let Some(row) = client.query_opt(sql, &[&name]).await.map_err(ask)? else { return Ok(None) };
    let names = ["insert", "update", "delete", "truncate"];
    let operations_missing = (0..4).filter(|i| !row.get::<_, bool>(*i)).map(|i| names[i]).collect();
    let via_root: bool = row.get(4);
    let mut publication = Publication { oid: row.get(5), operations_missing, via_root, ..Publication::default() };
    let members = "select c.oid from pg_publication_tables t join pg_namespace n on n.nspname = t.schemaname
                   join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename where t.pubname = $1";
    publication.tables = client.query(members, &[&name]).await.map_err(ask)?.iter().map(|row| row.get(0)).collect();
    if version >= 150_000 {
        let limits = "select r.prrelid, r.prqual is not null, r.prattrs::int2[] from pg_publication_rel r
                      join pg_publication p on p.oid = r.prpubid where p.pubname = $1";
        for row in client.query(limits, &[&name]).await.map_err(ask)? {
            if row.get(1) {
                publication.filtered.insert(row.get(0));
            }
            if let Some(columns) = row.get::<_, Option<Vec<i16>>>(2) {
                publication.columns.insert(row.get(0), columns.into_iter().collect());
            }
        }
    }
    Ok(Some(publication))
}

/// What has to be done so that the publication carries the tables whole; pure.
pub(crate) fn steps(name: &str, found: Option<&Publication>, tables: &[CatalogTable]) -> Vec<Step> {
    let list = |tables: &[&CatalogTable]| {
        tables.iter().map(|table| format!("ONLY {}", table.quoted())).collect::<Vec<_>>().join(", ")
    };
    let quoted_name = quoted(name);
    let Some(found) = found else {
        let all: Vec<&CatalogTable> = tables.iter().collect();
        let sql = format!(
            "CREATE PUBLICATION {quoted_name} FOR TABLE {} WITH (publish_via_partition_root = true)",
            list(&all)
        );
        return vec![Step::Run { sql }];
    };
    let mut steps = Vec::new();
    if !found.operations_missing.is_empty() {
        steps.push(Step::Refuse {
            what: format!("the publication {name} leaves out {}", found.operations_missing.join(", ")),
            fix: format!("Run: ALTER PUBLICATION {quoted_name} SET (publish = 'insert, update, delete, truncate');"),
        });
    }
    if !found.via_root && tables.iter().any(|table| table.partitioned) {
        steps.push(Step::Refuse {
            what: format!("the publication {name} publishes partitions by their own names"),
            fix: format!("Run: ALTER PUBLICATION {quoted_name} SET (publish_via_partition_root = true);"),
        });
        return steps;
    }
    for table in tables.iter().filter(|table| found.filtered.contains(&table.table.oid)) {
        steps.push(Step::Refuse {
            what: format!("the publication {name} has a row filter on {}, which the first copy would not follow", table.table.table),
            fix: format!(
                "Publish the table whole: ALTER PUBLICATION {quoted_name} DROP TABLE {table}; ALTER PUBLICATION {quoted_name} ADD TABLE {table};",
                table = table.quoted()
            ),
        });
    }
    let missing: Vec<&CatalogTable> = tables.iter().filter(|table| !found.tables.contains(&table.table.oid)).collect();
    if !missing.is_empty() {
        steps.push(Step::Run { sql: format!("ALTER PUBLICATION {quoted_name} ADD TABLE {}", list(&missing)) });
    }
    steps
}

/// Takes tables out of the publication where it names them one by one. What happens to them from here on is not kept, so they have to be copied
/// anew when they are put back; that is seen by their new entry.
pub(crate) async fn leave(address: &Address, session: &Session, name: &str, oids: &[u32]) -> Result<()> {
    let named = "select format('%I.%I', n.nspname, c.relname) from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
                 join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
                 where p.pubname = $1 and c.oid = any ($2) order by 1";
    let found = session.client.query(named, &[&name, &oids]).await;
    for row in found.map_err(|e| failure::asking(address, "reading the publication", e))? {
        let table: String = row.get(0);
        run(address, session, &format!("ALTER PUBLICATION {} DROP TABLE ONLY {table}", quoted(name))).await?;
        tracing::warn!(
            table,
            "it is not named by `tables` any more and leaves the publication; put back, it is copied anew"
        );
    }
    Ok(())
}

/// The publication that the stream was read through is not there any more.
pub(crate) fn gone(name: &str) -> Error {
    Error::new(Kind::SourceGone, format!("the publication {name} is gone")).fix(COPY_AGAIN)
}

/// There is a publication of the name, but not the one that the stream was read through: the log before it cannot be read through it.
/// <https://www.postgresql.org/docs/current/logicaldecoding-output-plugin.html>
pub(crate) fn made_again(name: &str) -> Error {
    let what = format!("the publication {name} was dropped and made again (or `publication` names another one now)");
    Error::new(Kind::SourceGone, what).fix(COPY_AGAIN)
}

/// The oid of the publication now.
pub(crate) async fn oid(address: &Address, session: &Session, name: &str) -> Result<Option<u32>> {
    let row = session.client.query_opt("select oid from pg_publication where pubname = $1", &[&name]).await;
    Ok(row.map_err(|e| failure::asking(address, "reading the publication", e))?.map(|row| row.get(0)))
}

/// How long [`reads_from`] may take: the server decodes what the slot holds up to the first change that is published.
const TRIAL: &str = "set statement_timeout = '5s'";

/// Whether the slot's log can be read through the publication: it cannot where it comes from before the publication was made. Taken for readable
/// when that is not found out soon, or the slot is in use.
pub(crate) async fn reads_from(address: &Address, session: &Session, slot: &str, name: &str) -> Result<bool> {
    let ask = |e| failure::asking(address, "reading the publication", e);
    let client = &session.client;
    let newer =
        "select coalesce((select age(p.xmin) <= age(s.catalog_xmin) from pg_publication p, pg_replication_slots s
                                  where p.pubname = $1 and s.slot_name = $2), false)";
    // The row is as old as the publication, or as its last change.
    if !client.query_one(newer, &[&name, &slot]).await.map_err(ask)?.get::<_, bool>(0) {
        return Ok(true);
    }
    client.batch_execute(TRIAL).await.map_err(ask)?;
    let sql = "select count(*) from pg_logical_slot_peek_binary_changes($1, null, 1, 'proto_version', '1', 'publication_names', $2)";
    let read = client.query_one(sql, &[&slot, &quoted(name)]).await;
    client.batch_execute("reset statement_timeout").await.map_err(ask)?;
    Ok(!read.is_err_and(|error| error.code().is_some_and(|code| code.code() == failure::NO_SUCH_OBJECT)))
}

/// Runs a statement of [`Step::Run`]; when this user may not, the error carries the statement for someone who may.
pub(crate) async fn run(address: &Address, session: &Session, sql: &str) -> Result<()> {
    session.client.batch_execute(sql).await.map_err(|error| match error.code() {
        Some(code) if code.code() == "42501" => {
            Error::new(Kind::Auth, format!("{} may not change the publication on {}", address.user(), address.place()))
                .fix(format!("Run this as the owner of the tables: {sql};"))
        }
        _ => failure::asking(address, "changing the publication", error),
    })
}

/// Whether this user may make a publication of the tables: CREATE on the database, and the ownership of each.
/// <https://www.postgresql.org/docs/current/logical-replication-security.html>
pub(crate) async fn allowed(address: &Address, session: &Session, tables: &[CatalogTable]) -> Result<bool> {
    let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
    let sql = "select (select rolsuper from pg_roles where rolname = current_user)
                      or (has_database_privilege(current_database(), 'CREATE')
                          and not exists (select from pg_class where oid = any ($1) and not pg_has_role(relowner, 'USAGE')))";
    let row = session.client.query_one(sql, &[&oids]).await;
    Ok(row.map_err(|e| failure::asking(address, "reading the rights to publish", e))?.get(0))
}
