use arrow::array::AsArray;
use arrow::datatypes::{Decimal128Type, Int32Type};
use change::TableName;

use super::*;
use crate::postgres::copy_binary::CopyReader;
use crate::postgres::pgoutput::{Message, RelationColumn, parse};
use crate::postgres::table::PgColumn;
use crate::postgres::types::{PgType, PgTypeKind};

const AT: RowAt = RowAt { epoch: 1, lsn: 0x10, ordinal: 5, committed_at: 77, txid: 9 };

/// `id int4`, `note text`, `price numeric(6,2)`.
fn table(identity: Identity, replica_identity: ReplicaIdentity) -> PgTable {
    let column = |name: &str, attnum: i16, oid, typmod, type_name: &str| PgColumn {
        name: name.to_owned(),
        attnum: Some(attnum),
        pg_type: PgType { oid, typmod, name: type_name.to_owned(), kind: PgTypeKind::Builtin },
        not_null: false,
        generated: false,
    };
    PgTable {
        oid: 7,
        table: TableName::new("db", "public", "claims"),
        columns: vec![
            column("id", 1, 23, -1, "integer"),
            column("note", 2, 25, -1, "text"),
            column("price", 3, 1700, (6 << 16 | 2) + 4, "numeric(6,2)"),
        ],
        identity,
        replica_identity,
    }
}

/// What the stream announces of the table: its columns in another order.
fn relation(table: &PgTable) -> Relation {
    let columns = [2, 0, 1].map(|index: usize| {
        let column = &table.columns[index];
        let key = table.replica_identity == ReplicaIdentity::Full || index == 0;
        RelationColumn { key, name: column.name.clone(), type_oid: column.pg_type.oid, typmod: column.pg_type.typmod }
    });
    let name = table.table.table.clone();
    let replica_identity = table.replica_identity;
    Relation { xid: None, oid: table.oid, schema: "public".into(), name, replica_identity, columns: columns.into() }
}

fn keyed() -> TableDecoder {
    let table = table(Identity::Key(vec![0]), ReplicaIdentity::Default);
    TableDecoder::for_stream(&table, &relation(&table), OnUnfit::Halt).unwrap()
}

/// The tuple `(price, id, note)`; `None` is null and `~` stands for unchanged TOAST.
fn tuple(price: Option<&str>, id: Option<&str>, note: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0, 3];
    for cell in [price, id, note] {
        match cell {
            None => bytes.push(b'n'),
            Some("~") => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

fn insert(decoder: &mut TableDecoder, new: &[u8]) -> Result<()> {
    let message = [b"I\0\0\0\x07N".as_slice(), new].concat();
    match parse(&message, false)? {
        Message::Insert { new, .. } => decoder.insert(&new, &AT),
        other => panic!("{other:?}"),
    }
}

fn update(decoder: &mut TableDecoder, old: Option<(u8, &[u8])>, new: &[u8]) -> Result<u64> {
    let old = old.map(|(kind, tuple)| [&[kind], tuple].concat()).unwrap_or_default();
    let message = [b"U\0\0\0\x07".as_slice(), &old, b"N", new].concat();
    match parse(&message, false)? {
        Message::Update { old, new, .. } => decoder.update(old.as_ref(), &new, &AT),
        other => panic!("{other:?}"),
    }
}

fn delete(decoder: &mut TableDecoder, kind: u8, old: &[u8]) -> Result<()> {
    let message = [b"D\0\0\0\x07".as_slice(), &[kind], old].concat();
    match parse(&message, false)? {
        Message::Delete { old, .. } => decoder.delete(&old, &AT),
        other => panic!("{other:?}"),
    }
}

fn finished(decoder: &mut TableDecoder) -> ChangeBatch {
    decoder.finish().unwrap().unwrap()
}

fn ids(batch: &ChangeBatch) -> Vec<Option<i32>> {
    batch.rows().expose().column(0).as_primitive::<Int32Type>().iter().collect()
}

fn notes(batch: &ChangeBatch) -> Vec<Option<&str>> {
    batch.rows().expose().column(1).as_string::<i32>().iter().collect()
}

#[test]
fn columns_are_matched_by_name_and_positions_carry_epoch_lsn_and_ordinal() {
    let mut decoder = keyed();
    insert(&mut decoder, &tuple(Some("12.50"), Some("1"), None)).unwrap();
    assert!(decoder.rows() == 1 && decoder.bytes() > 0);
    let batch = finished(&mut decoder);
    assert_eq!((ids(&batch), notes(&batch)), (vec![Some(1)], vec![None]));
    assert_eq!(batch.rows().expose().column(2).as_primitive::<Decimal128Type>().value(0), 1250);
    let position = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(batch.meta().positions.value(0), position);
    assert_eq!((batch.meta().committed_at.value(0), batch.meta().txids.value(0)), (77, 9));
    assert!(decoder.finish().unwrap().is_none() && decoder.bytes() == 0);
}

#[test]
fn a_key_change_is_a_move_out_and_an_insert() {
    let mut decoder = keyed();
    let old = tuple(None, Some("1"), None);
    let rows = update(&mut decoder, Some((b'K', &old)), &tuple(Some("1.00"), Some("2"), Some("~"))).unwrap();
    assert_eq!(rows, 2);
    let batch = finished(&mut decoder);
    assert_eq!(batch.meta().ops, [Op::MoveOut, Op::Insert]);
    assert_eq!(ids(&batch), [Some(1), Some(2)]);
    assert_eq!([0, 1].map(|row| batch.unsent().is_unsent(1, row)), [false, true]);
    assert_eq!([0, 1].map(|row| batch.meta().ordinals.value(row)), [5, 6]);
    assert!(batch.meta().positions.value(0) < batch.meta().positions.value(1));
}

#[test]
fn an_old_key_that_is_the_same_is_an_update() {
    let mut decoder = keyed();
    let old = tuple(None, Some("1"), None);
    // The server sends the old key also when it was TOASTed and did not change.
    for new_id in ["1", "~"] {
        let new = tuple(None, Some(new_id), Some("new"));
        assert_eq!(update(&mut decoder, Some((b'K', &old)), &new).unwrap(), 1);
    }
    let batch = finished(&mut decoder);
    assert_eq!((batch.meta().ops.clone(), ids(&batch)), (vec![Op::Update; 2], vec![Some(1); 2]));
    assert!(batch.unsent().is_none());
}

#[test]
fn a_full_old_row_fills_unchanged_toast() {
    let table = table(Identity::Key(vec![0]), ReplicaIdentity::Full);
    let mut decoder = TableDecoder::for_stream(&table, &relation(&table), OnUnfit::Halt).unwrap();
    let old = tuple(Some("1.00"), Some("1"), Some("long"));
    update(&mut decoder, Some((b'O', &old)), &tuple(Some("2.00"), Some("1"), Some("~"))).unwrap();
    delete(&mut decoder, b'O', &old).unwrap();
    let batch = finished(&mut decoder);
    assert_eq!(batch.meta().ops, [Op::Update, Op::Delete]);
    assert_eq!(notes(&batch), [Some("long"), None]);
    assert!(batch.unsent().is_none());
}

#[test]
fn without_a_key_the_whole_old_row_identifies() {
    let table = table(Identity::WholeRow, ReplicaIdentity::Full);
    let mut decoder = TableDecoder::for_stream(&table, &relation(&table), OnUnfit::Null).unwrap();
    let old = tuple(Some("NaN"), Some("1"), Some("long"));
    assert_eq!(update(&mut decoder, Some((b'O', &old)), &tuple(Some("2.00"), Some("1"), Some("~"))).unwrap(), 2);
    assert_eq!(update(&mut decoder, Some((b'O', &old)), &tuple(Some("NaN"), Some("1"), Some("~"))).unwrap(), 1);
    assert_eq!(decoder.unfit().collect::<Vec<_>>(), [("price", 2)]);
    let batch = finished(&mut decoder);
    assert_eq!(batch.meta().ops, [Op::MoveOut, Op::Insert, Op::Update]);
    assert_eq!(notes(&batch), [Some("long"); 3]);
}

#[test]
fn a_bad_row_is_taken_back_and_its_error_names_everything_but_the_value() {
    let mut decoder = keyed();
    insert(&mut decoder, &tuple(Some("1.00"), Some("1"), Some("a"))).unwrap();
    update(&mut decoder, None, &tuple(Some("1.00"), Some("2"), Some("~"))).unwrap();
    let bytes = decoder.bytes();
    let error = insert(&mut decoder, &tuple(Some("NaN"), Some("3"), Some("secret"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert_eq!(
        error.to_string(),
        "db.public.claims: column price (numeric(6,2)): a row holds NaN, which the lake's type cannot hold\n  \
         fix: Correct the value in the source, or declare `on_unfit: null`, which stores null instead and counts it."
    );
    let error = update(&mut decoder, None, &tuple(None, Some("4711x"), Some("~"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "db.public.claims: column id (integer): a value cannot be read: it is not an integer"
    );
    let error = insert(&mut decoder, &tuple(Some("4711.123"), Some("3"), None)).unwrap_err();
    assert!(!error.to_string().contains("4711") && error.to_string().contains("more digits"), "{error}");
    assert_eq!((decoder.rows(), decoder.bytes()), (2, bytes));
    let batch = finished(&mut decoder);
    assert_eq!((ids(&batch), notes(&batch)), (vec![Some(1), Some(2)], vec![Some("a"), None]));
    assert!(batch.unsent().is_unsent(1, 1) && !batch.unsent().is_unsent(1, 0));
}

#[test]
fn text_that_is_not_utf8_is_an_error_and_leaves_the_decoder_usable() {
    let mut decoder = keyed();
    let mut bad = tuple(None, Some("1"), Some("ab"));
    let last = bad.len() - 1;
    bad[last] = 0xff;
    insert(&mut decoder, &bad).unwrap();
    let error = decoder.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "db.public.claims: column note (text): a value cannot be read: its text is not UTF-8"
    );
    insert(&mut decoder, &tuple(None, Some("2"), Some("é"))).unwrap();
    assert_eq!(notes(&finished(&mut decoder)), [Some("é")]);
}

#[test]
fn an_unfit_value_never_becomes_null_in_a_key() {
    let table = table(Identity::Key(vec![2]), ReplicaIdentity::Index);
    let mut relation = relation(&table);
    relation.columns[0].key = true;
    let mut decoder = TableDecoder::for_stream(&table, &relation, OnUnfit::Null).unwrap();
    let error = insert(&mut decoder, &tuple(Some("NaN"), Some("1"), None)).unwrap_err();
    assert_eq!(error.how_to_fix(), Some("Correct the value in the source, or give the table another key."));
    assert_eq!((decoder.rows(), decoder.unfit().count()), (0, 0));
}

#[test]
fn what_the_stream_cannot_mean_is_an_error() {
    let mut decoder = keyed();
    assert!(insert(&mut decoder, &[0, 1, b'n']).unwrap_err().to_string().contains("another number of columns"));
    assert!(insert(&mut decoder, &tuple(None, Some("~"), None)).unwrap_err().to_string().contains("was not sent"));
    let binary = [0, 3, b'n', b'b', 0, 0, 0, 4, 0, 0, 0, 1, b'n'];
    assert!(insert(&mut decoder, &binary).unwrap_err().to_string().contains("in binary"));
    let table = table(Identity::InsertOnly, ReplicaIdentity::Nothing);
    let mut decoder = TableDecoder::for_stream(&table, &relation(&table), OnUnfit::Halt).unwrap();
    let error = delete(&mut decoder, b'K', &tuple(None, Some("1"), None)).unwrap_err();
    assert!(error.how_to_fix().unwrap().contains("ALTER TABLE \"public\".\"claims\" REPLICA IDENTITY FULL"));
}

#[test]
fn a_relation_that_differs_from_the_catalog_is_refused() {
    let table = table(Identity::Key(vec![0]), ReplicaIdentity::Default);
    let refused = |change: fn(&mut Relation), why: &str| {
        let mut relation = relation(&table);
        change(&mut relation);
        let error = TableDecoder::for_stream(&table, &relation, OnUnfit::Halt).err().unwrap();
        assert_eq!(error.kind(), Kind::Contract);
        assert!(error.to_string().contains(why), "{error}");
    };
    refused(|relation| relation.columns[2].name = "memo".into(), "column memo is not in the table");
    refused(|relation| relation.columns[2].type_oid = 20, "column note has another type");
    refused(|relation| relation.columns[0].typmod = -1, "column price has another type");
    refused(|relation| drop(relation.columns.pop()), "column note is not sent");
    refused(|relation| relation.columns[1].key = false, "does not cover its key");
    refused(|relation| relation.columns.push(relation.columns[0].clone()), "announced twice");
}

#[test]
fn a_type_that_cannot_be_read_is_named_before_any_row() {
    let mut table = table(Identity::InsertOnly, ReplicaIdentity::Default);
    table.columns[1].pg_type =
        PgType { oid: 99_999, typmod: -1, name: "half_made".into(), kind: PgTypeKind::Unreadable };
    let error = TableDecoder::for_copy(&table, 0, OnUnfit::Halt).err().unwrap();
    assert!(error.to_string().starts_with("db.public.claims: column note: no value of type half_made can be read"));
}

/// A copy of `rows` rows `(id, note, null)`.
fn copy_stream(rows: u32) -> Vec<u8> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for id in 0..rows {
        stream.extend_from_slice(b"\0\x03\0\0\0\x04");
        stream.extend_from_slice(&id.to_be_bytes());
        stream.extend_from_slice(b"\0\0\0\x03abc\xff\xff\xff\xff");
    }
    stream.extend_from_slice(b"\xff\xff");
    stream
}

#[test]
fn a_copy_may_be_cut_anywhere_and_must_end() {
    let table = table(Identity::Key(vec![0]), ReplicaIdentity::Default);
    let stream = copy_stream(3);
    for frame in 1..=stream.len() {
        let mut decoder = TableDecoder::for_copy(&table, 4, OnUnfit::Halt).unwrap();
        let mut reader = CopyReader::new(change::Position::from_bytes(b"low"), 1);
        for frame in stream.chunks(frame) {
            reader.push(frame, &mut decoder).unwrap();
        }
        assert_eq!(reader.end(&decoder).unwrap(), 3);
        let batch = finished(&mut decoder);
        assert_eq!((batch.origin(), batch.meta().ops.clone()), (Origin::Copy { chunk: 4 }, vec![Op::Copy; 3]));
        assert_eq!((ids(&batch), batch.meta().ordinals.value(2)), (vec![Some(0), Some(1), Some(2)], 3));
        assert_eq!((batch.meta().positions.value(2), notes(&batch)[2]), (b"low".as_slice(), Some("abc")));
    }
    let mut decoder = TableDecoder::for_copy(&table, 0, OnUnfit::Halt).unwrap();
    let mut reader = CopyReader::new(change::Position::default(), 1);
    reader.push(&stream[..stream.len() - 2], &mut decoder).unwrap();
    assert!(reader.end(&decoder).unwrap_err().to_string().contains("ended before its trailer"));
}

#[test]
fn a_copy_that_is_none_is_refused() {
    let table = table(Identity::Key(vec![0]), ReplicaIdentity::Default);
    let whole = copy_stream(1);
    let broken = |at: usize, value: u8, why: &str| {
        let mut stream = whole.clone();
        stream[at] = value;
        let mut decoder = TableDecoder::for_copy(&table, 0, OnUnfit::Halt).unwrap();
        let mut reader = CopyReader::new(change::Position::default(), 1);
        let error = reader.push(&stream, &mut decoder).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    };
    broken(0, b'X', "signature");
    broken(11, 1, "flag");
    broken(20, 9, "number of columns");
    broken(21, 0x80, "negative length");
    let mut decoder = TableDecoder::for_copy(&table, 0, OnUnfit::Halt).unwrap();
    let mut reader = CopyReader::new(change::Position::default(), 1);
    let narrow = [&whole[..19], b"\0\x03\0\0\0\x03abc\xff\xff\xff\xff\xff\xff\xff\xff"].concat();
    let error = reader.push(&narrow, &mut decoder).unwrap_err();
    assert!(
        error.to_string().contains("column id (integer): a value cannot be read: its binary form has the wrong length")
    );
    let mut reader = CopyReader::new(change::Position::default(), 1);
    let error = reader.push(&[whole.as_slice(), b"x"].concat(), &mut decoder).unwrap_err();
    assert!(error.to_string().contains("follow its trailer"));
}
