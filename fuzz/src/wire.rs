//! What Postgres sends.

use arrow::array::RecordBatch;
use change::{ChangeBatch, Error, Identity, Kind, Position, Result, TableName};

use crate::postgres::copy_binary::CopyReader;
use crate::postgres::pgoutput::{Message, OldTuple, Relation, Tuple, parse};
use crate::postgres::rows::{RowAt, TableDecoder};
use crate::postgres::table::{PgColumn, PgTable, ReplicaIdentity};
use crate::postgres::types::{OnUnfit, PgType, PgTypeKind};

/// The first oid that is not built in.
const FIRST_NORMAL_OID: u32 = 16_384;

/// A column of each kind of value that a decoder tells apart: oid and modifier.
const TYPES: [(u32, i32); 16] = [
    (16, -1),        // bool
    (21, -1),        // int2
    (23, -1),        // int4
    (20, -1),        // int8
    (26, -1),        // oid
    (700, -1),       // float4
    (701, -1),       // float8
    (1700, 786_438), // numeric(12,2)
    (1700, -1),      // numeric
    (1082, -1),      // date
    (1114, -1),      // timestamp
    (1184, -1),      // timestamptz
    (17, -1),        // bytea
    (25, -1),        // text
    (2950, -1),      // uuid
    (3802, -1),      // jsonb
];

/// A stream: the first byte chooses what becomes of unfit values, then messages, each with its length (u16, big-endian) before it.
pub fn pgoutput(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let on_unfit = if first & 1 == 0 { OnUnfit::Halt } else { OnUnfit::Null };
    let mut at = RowAt { epoch: 0, lsn: 1, ordinal: 1, committed_at: 0, txid: 1 };
    let (mut in_block, mut table) = (first & 2 != 0, None);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (message, behind) = behind.split_at(length);
        rest = behind;
        match parse(message, in_block) {
            Ok(Message::StreamStart { .. }) => in_block = true,
            Ok(Message::StreamStop) => in_block = false,
            Ok(Message::Relation(relation)) => {
                finish(&mut table);
                table = announced(&relation, on_unfit).ok();
            }
            Ok(message) => apply(&message, table.as_mut(), &mut at),
            Err(error) => assert_eq!(error.kind(), Kind::Data),
        }
    }
    finish(&mut table);
}

fn announced(relation: &Relation, on_unfit: OnUnfit) -> Result<TableDecoder> {
    let name = TableName::new("db", &relation.schema, &relation.name);
    let table = PgTable::from_relation(name, relation, resolve)?;
    TableDecoder::for_stream(&table, relation, on_unfit)
}

/// Types that are not built in are of every kind, by their number.
fn resolve(oid: u32, typmod: i32) -> Result<PgType> {
    let builtin = |oid, typmod| PgType { oid, typmod, name: format!("oid {oid}"), kind: PgTypeKind::Builtin };
    if oid < FIRST_NORMAL_OID {
        return Ok(builtin(oid, typmod));
    }
    let inner = || Box::new(builtin(TYPES[oid as usize % TYPES.len()].0, typmod));
    let kind = match oid % 8 {
        0 => PgTypeKind::Enum,
        1 => PgTypeKind::Domain(inner()),
        2 => PgTypeKind::Array(inner()),
        3 => PgTypeKind::Range,
        4 => PgTypeKind::Multirange,
        5 => PgTypeKind::Composite,
        6 => PgTypeKind::Extension,
        _ => return Err(Error::new(Kind::Contract, format!("type {oid} is unknown"))),
    };
    Ok(PgType { kind, ..builtin(oid, typmod) })
}

/// A row that is refused leaves the rows before it as they were.
fn apply(message: &Message<'_>, table: Option<&mut TableDecoder>, at: &mut RowAt) {
    let tuples: [Option<&Tuple<'_>>; 2] = match message {
        Message::Insert { new, .. } => [Some(new), None],
        Message::Update { old, new, .. } => [Some(new), old.as_ref().map(tuple)],
        Message::Delete { old, .. } => [Some(tuple(old)), None],
        _ => [None, None],
    };
    for tuple in tuples.into_iter().flatten() {
        assert_eq!(tuple.cells().count(), tuple.len());
    }
    let Some(table) = table else { return };
    let before = (table.rows(), table.bytes());
    let done = match message {
        Message::Insert { new, .. } => table.insert(new, at).map(|()| 1),
        Message::Update { old, new, .. } => table.update(old.as_ref(), new, at),
        Message::Delete { old, .. } => table.delete(old, at).map(|()| 1),
        _ => Ok(0),
    };
    match done {
        Ok(rows) => {
            assert_eq!(table.rows(), before.0 + rows as usize);
            at.ordinal += rows;
        }
        Err(_) => assert_eq!((table.rows(), table.bytes()), before),
    }
}

fn tuple<'a, 'b>(old: &'b OldTuple<'a>) -> &'b Tuple<'a> {
    match old {
        OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
    }
}

fn finish(table: &mut Option<TableDecoder>) {
    let Some(table) = table else { return };
    let rows = table.rows();
    let batch = finished(table);
    assert_eq!((table.rows(), table.bytes()), (0, 0));
    if let Some(batch) = batch {
        assert_eq!((batch.meta().len(), batch.rows().expose().num_rows()), (rows, rows));
    }
}

/// Text is checked for UTF-8 as a whole: a batch is refused then.
fn finished(table: &mut TableDecoder) -> Option<ChangeBatch> {
    table.finish().unwrap_or_else(|error| {
        assert_eq!(error.kind(), Kind::Data, "{error}");
        None
    })
}

/// A binary copy: two bytes choose the columns, one the size of the frames in which the rest comes. It is read alike in one frame.
pub fn copy_binary(bytes: &[u8]) {
    let Some(([first, second, size], rest)) = bytes.split_first_chunk::<3>() else { return };
    let chosen = u16::from_be_bytes([*first, *second]);
    let columns =
        TYPES.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(at, (oid, typmod))| PgColumn {
            name: format!("c{at}"),
            attnum: Some(at as i16 + 1),
            pg_type: PgType { oid: *oid, typmod: *typmod, name: format!("oid {oid}"), kind: PgTypeKind::Builtin },
            not_null: false,
            generated: false,
        });
    let table = PgTable {
        oid: 1,
        table: TableName::new("db", "public", "t"),
        columns: columns.collect(),
        identity: Identity::InsertOnly,
        replica_identity: ReplicaIdentity::Nothing,
    };
    let in_frames = copied(&table, rest, usize::from(*size) + 1);
    let at_once = copied(&table, rest, rest.len().max(1));
    assert!(in_frames == at_once, "frames change what is read");
}

/// The rows, and whether the copy came to its end. A failed copy's rows are not compared: a frame's end may come before the failure.
fn copied(table: &PgTable, bytes: &[u8], frame: usize) -> Option<(u64, Option<RecordBatch>)> {
    let mut decoder = TableDecoder::for_copy(table, 0, OnUnfit::Null).unwrap();
    let mut reader = CopyReader::new(Position::from_bytes(&[0; 20]), 0);
    for frame in bytes.chunks(frame) {
        reader.push(frame, &mut decoder).ok()?;
    }
    let rows = reader.end(&decoder).ok()?;
    let batch = finished(&mut decoder);
    Some((rows, batch.map(|batch| batch.rows().expose().clone())))
}
