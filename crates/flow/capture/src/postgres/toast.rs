//! Values that an update did not change and the stream therefore leaves out, read again for changes that commit before a table's first copy
//! had read its last chunk.
//!
//! For later changes the lake has every base row and fills such values itself. For earlier ones the base row may not be copied yet, or the
//! copy may have seen it under a later key only, so the row is sent whole. What is read may be newer than the update: then the change that made it follows in the stream, and carries it.
//! A row that is gone by now keeps its gaps: its delete, or the update that moved it, follows too. So does a value whose column is gone by the
//! name that the stream still has: what removed or renamed it stands in the log after the update.

use std::collections::{BTreeMap, BTreeSet};

use change::{Error, Identity, Kind, Result};

use super::apply::Followed;
use super::catalog::sql_name;
use super::client::{Address, Session};
use super::failure;
use super::pgoutput::{Cell, Message, OldTuple, Tuple};
use super::table::quoted;

/// The update message with its gaps filled; `None` when it has none, or when the row, its table or a column is gone.
///
/// `Unavailable` when the connection broke; every other error is of this table alone.
pub(crate) async fn filled(
    address: &Address,
    session: &Session,
    table: &Followed,
    message: &Message<'_>,
) -> Result<Option<Vec<u8>>> {
    let Message::Update { relation: oid, old, new, .. } = message else { return Ok(None) };
    let Some(relation) = table.relation() else { return Ok(None) };
    let gaps: Vec<usize> = unchanged(new);
    let Identity::Key(key) = &table.schema.identity else { return Ok(None) };
    if gaps.is_empty() || matches!(old, Some(OldTuple::Full(_))) {
        return Ok(None);
    }
    let name_of = |index: usize| relation.columns.get(index).map(|column| column.name.as_str()).unwrap_or_default();
    let cells: Vec<Cell<'_>> = new.cells().collect();
    let mut row = Row { conditions: Vec::new(), values: Vec::new() };
    for index in key {
        let column = &table.schema.columns[*index];
        let at = relation.columns.iter().position(|announced| announced.name == column.name);
        let Some(Cell::Text(text)) = at.and_then(|at| cells.get(at)) else { return Ok(None) };
        row.values.push(std::str::from_utf8(text).map_err(|_| not_text(table))?);
        let (name, number) = (quoted(&column.name), row.values.len());
        row.conditions.push(format!("{name} = cast(${number}::text as {})", column.source_type));
    }
    let names: Vec<(usize, &str)> = gaps.iter().map(|index| (*index, name_of(*index))).collect();
    let ask = |e| failure::asking(address, &format!("{}: reading unchanged values again", table.name()), e);
    let read = match row.read(session, &sql_name(table.name()), &names).await {
        Err(error) if is_gone(&error) => {
            let Some((now, columns)) = present(session, *oid).await.map_err(ask)? else { return Ok(None) };
            let left: Vec<(usize, &str)> = names.into_iter().filter(|(_, name)| columns.contains(*name)).collect();
            match row.read(session, &now, &left).await {
                // A column of the key, or another change of the structure in this moment.
                Err(error) if is_gone(&error) => None,
                read => read.map_err(ask)?,
            }
        }
        read => read.map_err(ask)?,
    };
    let Some(read) = read else { return Ok(None) };
    let whole = cells.iter().enumerate().map(|(index, cell)| match (cell, read.get(&index)) {
        (Cell::Unchanged, Some(Some(text))) => Cell::Text(text.as_bytes()),
        (Cell::Unchanged, Some(None)) => Cell::Null,
        _ => *cell,
    });
    Ok(Some(encoded(*oid, old.as_ref(), whole)))
}

/// A row by its key.
struct Row<'a> {
    conditions: Vec<String>,
    values: Vec<&'a str>,
}

impl Row<'_> {
    /// Its values of some columns, by the columns' indexes; `None` when it is gone.
    async fn read(
        &self,
        session: &Session,
        table: &str,
        columns: &[(usize, &str)],
    ) -> Result<Option<BTreeMap<usize, Option<String>>>, tokio_postgres::Error> {
        let selected: Vec<String> = columns.iter().map(|(_, name)| printed(name)).collect();
        let sql = format!("select {} from {table} where {}", selected.join(", "), self.conditions.join(" and "));
        let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            self.values.iter().map(|value| value as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
        let row = session.client.query_opt(&sql, &parameters).await?;
        Ok(row.map(|row| columns.iter().enumerate().map(|(at, (index, _))| (*index, row.get(at))).collect()))
    }
}

/// Whether the column, the table or its schema is not there by that name.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["42703", "42P01", "3F000"].contains(&code.code()))
}

/// The table's name and columns now; `None` when it is gone.
async fn present(session: &Session, oid: u32) -> Result<Option<(String, BTreeSet<String>)>, tokio_postgres::Error> {
    let sql = "select format('%I.%I', n.nspname, c.relname),
                      array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
               from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1";
    let row = session.client.query_opt(sql, &[&oid]).await?;
    Ok(row.map(|row| (row.get(0), row.get::<_, Vec<String>>(1).into_iter().collect())))
}

fn unchanged(tuple: &Tuple<'_>) -> Vec<usize> {
    tuple.cells().enumerate().filter(|(_, cell)| *cell == Cell::Unchanged).map(|(index, _)| index).collect()
}

/// The output function's text, which is what the stream carries.
fn printed(column: &str) -> String {
    let name = quoted(column);
    format!("case when pg_catalog.num_nulls({name}) = 0 then pg_catalog.format('%s', {name}) end")
}

fn not_text(table: &Followed) -> Error {
    Error::new(Kind::Data, format!("{}: a key value is not UTF-8", table.name()))
}

/// An update message of protocol 1. <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>
fn encoded<'a>(oid: u32, old: Option<&OldTuple<'a>>, new: impl ExactSizeIterator<Item = Cell<'a>>) -> Vec<u8> {
    let mut bytes = vec![b'U'];
    bytes.extend_from_slice(&oid.to_be_bytes());
    if let Some(old) = old {
        bytes.push(if matches!(old, OldTuple::Key(_)) { b'K' } else { b'O' });
        let cells: Vec<Cell<'_>> = old.tuple().cells().collect();
        put_tuple(&mut bytes, cells.into_iter());
    }
    bytes.push(b'N');
    put_tuple(&mut bytes, new);
    bytes
}

fn put_tuple<'a>(bytes: &mut Vec<u8>, cells: impl ExactSizeIterator<Item = Cell<'a>>) {
    bytes.extend_from_slice(&(cells.len() as u16).to_be_bytes());
    for cell in cells {
        let (kind, value) = match cell {
            Cell::Null => (b'n', None),
            Cell::Unchanged => (b'u', None),
            Cell::Text(value) => (b't', Some(value)),
            Cell::Binary(value) => (b'b', Some(value)),
        };
        bytes.push(kind);
        if let Some(value) = value {
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use pgwire_replication::Lsn;
    use sandbox::PrivatePostgres;

    use super::*;
    use crate::postgres::PostgresConfig;
    use crate::postgres::apply::{TableFlags, Tables};
    use crate::postgres::catalog;
    use crate::postgres::copy::settle::Base;
    use crate::postgres::pgoutput::{Relation, RelationColumn, parse};
    use crate::postgres::table::ReplicaIdentity;
    use crate::postgres::types::OnUnfit;

    /// The table `docs` as the stream announced it while it had all its columns.
    async fn announced(address: &Address, session: &Session) -> (u32, Tables) {
        let catalog = catalog::tables(address, session, "db", |_, table| table == "docs").await.unwrap().remove(0);
        let oid = catalog.table.oid;
        let column = |column: &crate::postgres::table::PgColumn| RelationColumn {
            name: column.name.clone(),
            type_oid: column.pg_type.oid,
            typmod: column.pg_type.typmod,
            key: column.name == "id",
        };
        let relation = Relation {
            xid: None,
            oid,
            schema: "public".into(),
            name: "docs".into(),
            replica_identity: ReplicaIdentity::Default,
            columns: catalog.table.columns.iter().map(column).collect(),
        };
        let flags = TableFlags { stopped: AtomicBool::new(false) };
        let mut tables = Tables::new(OnUnfit::default());
        tables.add(Followed::new(catalog, Lsn::ZERO, Base::Copying, Arc::new(flags)).unwrap());
        tables.announce(address, session, "db", relation).await.unwrap();
        (oid, tables)
    }

    #[tokio::test]
    async fn what_is_gone_stays_a_gap_and_what_is_left_is_read() {
        let server = PrivatePostgres::start().await.unwrap();
        server
            .execute(
                "create table docs (id int primary key, big text, other text, n int); insert into docs values (1, 'b', 'o', 1);
                 create role reader login; grant select on docs to reader",
            )
            .await
            .unwrap();
        let json = serde_json::json!({ "url": server.url_socket("reader", "postgres"), "slot": "s", "tables": ["public.docs"] });
        let address = Address::of(&serde_json::from_value::<PostgresConfig>(json).unwrap()).unwrap();
        let session = address.connect("test").await.unwrap();
        let (oid, tables) = announced(&address, &session).await;
        let (one, two) = (Cell::Text(b"1"), Cell::Text(b"2"));
        let sent = encoded(oid, None, [one, Cell::Unchanged, Cell::Unchanged, two].into_iter());
        let message = parse(&sent, false).unwrap();
        let fill = || filled(&address, &session, tables.get(oid).unwrap(), &message);
        let expect = |big, other| Some(encoded(oid, None, [one, big, other, two].into_iter()));
        let other = Cell::Text(b"o");
        assert!(fill().await.unwrap() == expect(Cell::Text(b"b"), other));
        server.execute("alter table docs drop column big").await.unwrap();
        assert!(fill().await.unwrap() == expect(Cell::Unchanged, other));
        server.execute("alter table docs rename to papers").await.unwrap();
        assert!(fill().await.unwrap() == expect(Cell::Unchanged, other));
        server.execute("revoke select on papers from reader").await.unwrap();
        assert_eq!(fill().await.unwrap_err().kind(), Kind::Auth);
        server.execute("grant select on papers to reader; alter table papers rename id to number").await.unwrap();
        assert!(fill().await.unwrap().is_none());
        server.execute("drop table papers").await.unwrap();
        assert!(fill().await.unwrap().is_none());
    }
}
