use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Kind, Result};

use super::catalog::CatalogTable;
use super::client::{Address, Session};
use super::failure;
use super::slot::COPY_AGAIN;
use super::standing::Standing;
use super::table::quoted;

/// The row of a publication in `pg_publication`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Head {
    /// Another one after it was dropped and made again.
    pub(crate) oid: u32,
    /// `xmin`: another one after every `ALTER PUBLICATION` but those of its tables and schemas.
    pub(crate) version: u32,
    pub(crate) operations_missing: Vec<&'static str>,
    pub(crate) via_root: bool,
}

/// A publication as the catalog shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Publication {
    pub(crate) head: Head,
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
    Refuse(Refusal),
}

/// Why a publication cannot be used as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    what: String,
    /// The statement that mends it.
    fix: String,
    /// What was changed meanwhile may not have been published.
    loses: bool,
}

impl Refusal {
    /// The error; with `recorded`, something was followed before.
    pub(crate) fn error(self, recorded: bool) -> Error {
        let Self { what, fix, loses } = self;
        match loses && recorded {
            true => Error::new(Kind::SourceGone, what).fix(format!("{fix} {COPY_AGAIN}")),
            false => Error::new(Kind::Config, what).fix(fix),
        }
    }
}

/// Reads the publication's row; `None` when there is none.
pub(crate) async fn head(address: &Address, session: &Session, name: &str) -> Result<Option<Head>> {
    let sql = "select pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, oid, xmin::text::int8
               from pg_publication where pubname = $1";
    let row = session.client.query_opt(sql, &[&name]).await;
    Ok(row.map_err(|e| failure::asking(address, "reading the publication", e))?.map(|row| {
        let names = ["insert", "update", "delete", "truncate"];
        let operations_missing = (0..4).filter(|i| !row.get::<_, bool>(*i)).map(|i| names[i]).collect();
        Head { oid: row.get(5), version: row.get::<_, i64>(6) as u32, operations_missing, via_root: row.get(4) }
    }))
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
    let Some(head) = head(address, session, name).await? else { return Ok(None) };
    let mut publication = Publication { head, ..Publication::default() };
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
    let Head { operations_missing, via_root, .. } = &found.head;
    if !operations_missing.is_empty() {
        steps.push(Step::Refuse(Refusal {
            what: format!("the publication {name} leaves out {}", operations_missing.join(", ")),
            fix: format!("Run: ALTER PUBLICATION {quoted_name} SET (publish = 'insert, update, delete, truncate');"),
            loses: true,
        }));
    }
    if !via_root && tables.iter().any(|table| table.partitioned) {
        steps.push(Step::Refuse(Refusal {
            what: format!("the publication {name} publishes partitions by their own names"),
            fix: format!("Run: ALTER PUBLICATION {quoted_name} SET (publish_via_partition_root = true);"),
            loses: true,
        }));
        return steps;
    }
    for table in tables.iter().filter(|table| found.filtered.contains(&table.table.oid)) {
        steps.push(Step::Refuse(Refusal {
            what: format!("the publication {name} has a row filter on {}, which the first copy would not follow", table.table.table),
            fix: format!(
                "Publish the table whole: ALTER PUBLICATION {quoted_name} DROP TABLE {table}; ALTER PUBLICATION {quoted_name} ADD TABLE {table};",
                table = table.quoted()
            ),
            // Its new entry makes it copied anew.
            loses: false,
        }));
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

/// Why changes may be missing from what was published through `before` until now; `None` when none are.
pub(crate) fn gap(name: &str, before: &Standing, now: Option<&Head>) -> Option<Error> {
    let Some(now) = now else { return Some(gone(name)) };
    if now.oid != before.publication {
        return Some(made_again(name));
    }
    if before.version.is_none_or(|version| version == now.version) {
        return None;
    }
    let left_out = match now.operations_missing.as_slice() {
        [] => "meanwhile it may not have published everything".to_owned(),
        missing => format!("it leaves out {}", missing.join(", ")),
    };
    let what = format!("the publication {name} was altered since the tables were copied through it: {left_out}");
    Some(Error::new(Kind::SourceGone, what).fix(COPY_AGAIN))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_publication_that_was_left_alone_has_published_everything() {
        let before = Standing { table: 1, publication: 7, version: Some(20), entries: vec![3] };
        let now = Head { oid: 7, version: 20, operations_missing: Vec::new(), via_root: true };
        let said = |before: &Standing, now: Option<&Head>| {
            gap("p", before, now).map(|error| {
                assert_eq!((error.kind(), error.how_to_fix()), (Kind::SourceGone, Some(COPY_AGAIN)));
                error.what().to_owned()
            })
        };
        assert_eq!(said(&before, Some(&now)), None);
        // Records of older versions know the number of the publication alone.
        let older = Standing { version: None, ..before.clone() };
        assert_eq!(said(&older, Some(&Head { version: 21, ..now.clone() })), None);
        for (now, part) in [
            (None, "is gone"),
            (Some(Head { oid: 8, ..now.clone() }), "made again"),
            (Some(Head { version: 21, ..now.clone() }), "may not have published everything"),
            (Some(Head { version: 21, operations_missing: vec!["update"], ..now.clone() }), "leaves out update"),
        ] {
            let said = said(&before, now.as_ref()).unwrap();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn what_is_left_out_is_a_setting_to_correct_only_while_nothing_was_followed() {
        let head = Head { operations_missing: vec!["update", "delete"], via_root: true, ..Head::default() };
        let found = Publication { head, ..Publication::default() };
        for (recorded, kind) in [(false, Kind::Config), (true, Kind::SourceGone)] {
            let [Step::Refuse(refusal)] = &steps("p", Some(&found), &[])[..] else { panic!("not refused") };
            let error = refusal.clone().error(recorded);
            let fix = error.how_to_fix().unwrap();
            assert_eq!((error.kind(), fix.contains("lockgate repair")), (kind, recorded), "{error}");
            assert!(fix.contains("SET (publish = 'insert, update, delete, truncate')"), "{error}");
        }
    }
}
