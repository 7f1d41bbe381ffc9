//! Values that an update did not change and the stream therefore leaves out, read again for changes that commit before a table's first copy
//! had read its last chunk.
//!
//! For later changes the lake has every base row and fills such values itself. For earlier ones the base row may not be copied yet, or the
//! copy may have seen it under a later key only, so the row is sent whole. What is read may be newer than the update: then the change that made it follows in the stream, and carries it.
//! A row that is gone by now keeps its gaps: its delete, or the update that moved it, follows too.

use change::{Error, Identity, Kind, Result};

use super::apply::Followed;
use super::catalog::sql_name;
use super::client::{Address, Session};
use super::failure;
use super::pgoutput::{Cell, Message, OldTuple, Tuple};
use super::table::quoted;

/// The update message with its gaps filled; `None` when it has none, or when the row is gone.
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
    let selected: Vec<String> = gaps.iter().map(|index| printed(name_of(*index))).collect();
    let cells: Vec<Cell<'_>> = new.cells().collect();
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for index in key {
        let column = &table.schema.columns[*index];
        let at = relation.columns.iter().position(|announced| announced.name == column.name);
        let Some(Cell::Text(text)) = at.and_then(|at| cells.get(at)) else { return Ok(None) };
        let text = std::str::from_utf8(text).map_err(|_| not_text(table))?;
        values.push(text);
        conditions.push(format!("{} = cast(${}::text as {})", quoted(&column.name), values.len(), column.source_type));
    }
    let sql =
        format!("select {} from {} where {}", selected.join(", "), sql_name(table.name()), conditions.join(" and "));
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        values.iter().map(|value| value as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
    let row = session
        .client
        .query_opt(&sql, &parameters)
        .await
        .map_err(|e| failure::asking(address, &format!("{}: reading unchanged values again", table.name()), e))?;
    let Some(row) = row else { return Ok(None) };
    let read: Vec<Option<String>> = (0..gaps.len()).map(|i| row.get(i)).collect();
    let mut fill = gaps.iter().zip(&read);
    let whole = cells.iter().map(|cell| match cell {
        Cell::Unchanged => match fill.next() {
            Some((_, Some(text))) => Cell::Text(text.as_bytes()),
            _ => Cell::Null,
        },
        cell => *cell,
    });
    Ok(Some(encoded(*oid, old.as_ref(), whole)))
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
