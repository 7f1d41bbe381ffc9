use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type};
use change::{ChangeBatch, Identity, Kind, Op, Origin, Position, RowMetaBuilder, TableName, TableSchema, Unsent};

use crate::policy::tests::{compile, keys};
use crate::table::tests::schema;
use crate::{Cleared, HeldIndex, HeldRow, Policy, Sealed, Standing, TableGate, TableStamp, Why};

const HOLD: &str = "id: keep, born: { transform: date_year, on_invalid: hold }, note: keep";
const NULL: &str = "id: keep, born: date_year, note: keep";

fn members() -> Arc<TableSchema> {
    schema(&[("id", DataType::Int64), ("born", DataType::Utf8), ("note", DataType::Utf8)])
}

fn gate(schema: &Arc<TableSchema>, rules: &str) -> TableGate {
    stamped(schema, rules).0
}

/// A gate, and the stamp of what it clears.
fn stamped(schema: &Arc<TableSchema>, rules: &str) -> (TableGate, TableStamp) {
    let text =
        format!("profile: none\nkeys: k\nmax_invalid_percent: 100\ntables:\n  db.public.members: {{ {rules} }}\n");
    let policy = Policy::parse(&text, "policy.yaml").unwrap();
    let gate = compile(&policy, std::slice::from_ref(schema)).unwrap();
    let table = gate.table(schema).unwrap();
    let stamp = TableStamp::of(gate.stamp(), &table);
    (table, stamp)
}

/// The structure with what the source knows its columns by.
fn numbered(columns: &[(&str, DataType, i64)]) -> Arc<TableSchema> {
    let plain: Vec<_> = columns.iter().map(|(name, data_type, _)| (*name, data_type.clone())).collect();
    let mut schema = TableSchema::clone(&schema(&plain));
    schema.columns.iter_mut().zip(columns).for_each(|(column, (_, _, number))| column.number = Some(*number));
    Arc::new(schema)
}

/// Rows of [`members`] in a structure that differs in what it says of the columns only.
fn within(schema: &Arc<TableSchema>, batch: ChangeBatch) -> ChangeBatch {
    let (_, origin, rows, meta, unsent) = batch.into_parts();
    ChangeBatch::try_new(schema.clone(), origin, rows.into_exposed().columns().to_vec(), meta, unsent).unwrap()
}

type Row = (Op, i64, Option<&'static str>);

/// Rows at the positions `from`, `from` + 1, ...; the note of an update is not sent.
fn batch(from: u8, origin: Origin, rows: &[Row]) -> ChangeBatch {
    let mut meta = RowMetaBuilder::default();
    for (at, (op, _, _)) in rows.iter().enumerate() {
        let position = if origin == Origin::Stream { from + at as u8 } else { from };
        meta.push(*op, &[position], 1000, 5, at as u64 + 1);
    }
    let born = rows.iter().map(|(_, _, born)| *born).collect::<StringArray>();
    let notes =
        rows.iter().map(|(op, id, _)| (*op != Op::Update).then(|| format!("note {id}"))).collect::<StringArray>();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()), Arc::new(born), Arc::new(notes)];
    let unsent = BooleanBuffer::collect_bool(rows.len(), |row| rows[row].0 == Op::Update);
    ChangeBatch::try_new(members(), origin, columns, meta.finish(), Unsent(vec![None, None, Some(unsent)])).unwrap()
}

fn clear(gate: &TableGate, index: &mut HeldIndex, batch: ChangeBatch) -> Cleared {
    let mut next = 0;
    let mut nonce = || {
        next += 1;
        Ok([next; 16])
    };
    gate.clear_holding(batch, index, &mut nonce).unwrap()
}

fn ids(cleared: &Cleared) -> Vec<i64> {
    cleared.batch.rows().column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn sealed<'a>(table: &'a TableName, held: &'a [HeldRow]) -> Vec<Sealed<'a>> {
    held.iter().map(|row| Sealed { table, position: &row.position, keys: &row.keys, record: &row.sealed }).collect()
}

const YEAR: Option<&str> = Some("1980-01-01");
const WRONG: Option<&str> = Some("CANARY");

#[test]
fn an_unreadable_row_is_held_with_all_that_follows_on_its_key_and_comes_in_as_it_was() {
    let (gate_then, mut index) = (gate(&members(), HOLD), HeldIndex::default());
    let rows = [
        (Op::Insert, 1, YEAR),
        (Op::Insert, 2, WRONG),
        (Op::Insert, 3, YEAR),
        (Op::Update, 2, YEAR),
        // A change of key from a held key: both halves wait, and the new key too.
        (Op::MoveOut, 2, None),
        (Op::Insert, 4, YEAR),
        (Op::Delete, 4, None),
        (Op::Delete, 3, None),
    ];
    let cleared = clear(&gate_then, &mut index, batch(10, Origin::Stream, &rows));
    assert_eq!(ids(&cleared), [1, 3, 3]);
    assert!(!cleared.batch.unsent().is_unsent(2, 0));
    assert!(cleared.invalid.is_empty());
    let held = cleared.held;
    let positions: Vec<u8> = held.iter().map(|row| row.position.as_bytes()[0]).collect();
    assert_eq!(positions, [11, 13, 14, 16]);
    assert_eq!(held[0].why, Why::Unreadable { column: "born".into(), transform: "date_year".into() });
    assert!(held[1..].iter().all(|row| row.why == Why::Behind));
    assert_eq!(held.iter().map(|row| row.whole).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!((held[2].keys.len(), held[2].last.as_bytes()), (2, &[15][..]));
    for row in &held {
        assert!(!row.sealed.windows(6).any(|window| window == b"CANARY" || window == b"note 2"));
        assert!(!format!("{row:?}").contains("CANARY"));
    }
    // A change of the same key from before was not held, and is not now that it is sent again.
    assert_eq!(ids(&clear(&gate_then, &mut index, batch(9, Origin::Stream, &[(Op::Insert, 2, YEAR)]))), [2]);
    // Sent again, readable by now or not: nothing passes twice, nothing is held twice.
    let again = clear(&gate(&members(), NULL), &mut index, batch(10, Origin::Stream, &rows));
    assert_eq!((ids(&again), again.held.len()), (vec![1, 3, 3], 0));

    let table = TableName::new("db", "public", "members");
    let refused = gate_then.readmit(&sealed(&table, &held)).unwrap();
    assert!(refused.batch.is_none());
    // Nothing is said of those that wait behind it.
    assert_eq!(refused.refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0]);
    assert_eq!(refused.behind, [1, 2, 3]);
    assert!(refused.refused.iter().all(|(_, why)| !why.to_string().contains("CANARY")));

    let let_in = gate(&members(), NULL).readmit(&sealed(&table, &held)).unwrap().batch.unwrap();
    assert_eq!(let_in.origin(), Origin::Held);
    assert_eq!(let_in.rows().column(0).as_primitive::<Int64Type>().values(), &[2, 2, 2, 4, 4]);
    assert_eq!(let_in.meta().ops, [Op::Insert, Op::Update, Op::MoveOut, Op::Insert, Op::Delete]);
    assert!(let_in.rows().column(1).is_null(0) && let_in.rows().column(1).is_valid(1));
    assert_eq!(
        (0..5).map(|row| let_in.unsent().is_unsent(2, row)).collect::<Vec<_>>(),
        [false, true, false, false, false]
    );
    assert_eq!(let_in.meta().positions.value(3), [15]);

    held.iter().for_each(|row| index.let_go(&row.position, &row.keys, row.copied));
    let free =
        clear(&gate_then, &mut index, batch(30, Origin::Stream, &[(Op::Insert, 2, YEAR), (Op::Insert, 4, YEAR)]));
    assert_eq!(ids(&free), [2, 4]);
    index.forget(&Position::from_bytes(&[30]));
    assert!(index.is_idle(false));
    // What every table has, or was decided about, is not held anew when it is sent again; what comes above is.
    let again = clear(&gate_then, &mut index, batch(30, Origin::Stream, &[(Op::Insert, 4, WRONG)]));
    assert!(again.held.is_empty() && ids(&again).is_empty());
    let above = clear(&gate_then, &mut index, batch(31, Origin::Stream, &[(Op::Insert, 4, WRONG)]));
    assert_eq!(above.held.len(), 1);
}

#[test]
fn a_record_opens_for_its_own_place_and_key_only() {
    let (gate_then, mut index) = (gate(&members(), HOLD), HeldIndex::default());
    let held = clear(&gate_then, &mut index, batch(1, Origin::Stream, &[(Op::Insert, 2, WRONG)])).held;
    let (table, other) = (TableName::new("db", "public", "members"), TableName::new("db", "public", "others"));
    let row = sealed(&table, &held)[0];
    assert_eq!(row.structure(&keys(0).unwrap()).unwrap(), members());
    let elsewhere = Position::from_bytes(&[2]);
    for (row, keys) in [
        (Sealed { position: &elsewhere, ..row }, keys(0)),
        (Sealed { table: &other, ..row }, keys(0)),
        (row, keys(9)),
        (Sealed { record: &row.record[1..], ..row }, keys(0)),
    ] {
        assert_eq!(row.structure(&keys.unwrap()).unwrap_err().kind(), Kind::Privacy);
    }
}

#[test]
fn a_row_of_an_older_structure_fits_into_the_new_one() {
    let mut index = HeldIndex::default();
    let held = clear(&gate(&members(), HOLD), &mut index, batch(1, Origin::Stream, &[(Op::Insert, 2, WRONG)])).held;
    let table = TableName::new("db", "public", "members");
    let grown = schema(&[("plan", DataType::Utf8), ("id", DataType::Int64), ("born", DataType::Utf8)]);
    let mut grown = TableSchema::clone(&grown);
    grown.identity = Identity::Key(vec![1]);
    let grown = Arc::new(grown);
    let let_in = gate(&grown, "plan: keep, id: keep, born: date_year").readmit(&sealed(&table, &held)).unwrap();
    let rows = let_in.batch.unwrap();
    assert!(rows.rows().column(0).is_null(0));
    assert_eq!(rows.rows().column(1).as_primitive::<Int64Type>().values(), &[2]);
    let retyped = schema(&[("id", DataType::Int64), ("born", DataType::Date32), ("note", DataType::Utf8)]);
    let refused = gate(&retyped, NULL).readmit(&sealed(&table, &held)).unwrap().refused;
    assert_eq!(refused[0].1.kind(), Kind::Contract);
    assert!(!refused[0].1.to_string().contains("CANARY"));
}

#[test]
fn a_column_is_known_by_its_number_and_not_by_a_name_that_is_anothers_now() {
    let then = numbered(&[("id", DataType::Int64, 1), ("born", DataType::Utf8, 2), ("note", DataType::Utf8, 3)]);
    let unnamed = "id: keep, born: { transform: date_year, on_invalid: hold }";
    let mut index = HeldIndex::default();
    let row = within(&then, batch(1, Origin::Stream, &[(Op::Insert, 2, WRONG)]));
    let held = clear(&gate(&then, unnamed), &mut index, row).held;
    let table = TableName::new("db", "public", "members");
    let now = |columns: &[(&str, i64)], rules: &str| {
        let types = [DataType::Int64, DataType::Utf8, DataType::Utf8, DataType::Utf8];
        let columns: Vec<_> = columns.iter().zip(types).map(|((name, number), of)| (*name, of, *number)).collect();
        gate(&numbered(&columns), rules).readmit(&sealed(&table, &held)).unwrap()
    };
    let renamed = [("id", 1), ("born", 2), ("old_note", 3), ("note", 9)];
    let let_in = now(&renamed, "id: keep, born: date_year, note: keep").batch.unwrap();
    assert_eq!(let_in.schema().columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "born", "note"]);
    assert!(let_in.rows().column(2).is_null(0), "the column came later");
    let same = now(&[("id", 1), ("born", 2), ("note", 3)], "id: keep, born: date_year, note: keep").batch.unwrap();
    assert_eq!(same.rows().column(2).as_string::<i32>().value(0), "note 2");
    let unused = [("id", 1), ("born", 2), ("old_note", 3)];
    assert!(now(&unused, "id: keep, born: date_year").refused.is_empty(), "nothing of it is stored");
    // A column that had left when the row was read has no number: who has its name now is another one.
    let mut unknown = TableSchema::clone(&then);
    unknown.columns[2].number = None;
    let unknown = Arc::new(unknown);
    let row = within(&unknown, batch(5, Origin::Stream, &[(Op::Insert, 3, WRONG)]));
    let left = clear(&gate(&unknown, unnamed), &mut HeldIndex::default(), row).held;
    let let_in = gate(&then, "id: keep, born: date_year, note: keep").readmit(&sealed(&table, &left)).unwrap().batch;
    assert!(let_in.unwrap().rows().column(2).is_null(0));
    let other_key = [("id", 7), ("born", 2), ("note", 3)];
    for (columns, rules, why) in [
        (&renamed[..], "id: keep, born: date_year, old_note: keep", "old_note was `note`, and has been renamed"),
        (&other_key, "id: keep, born: date_year", "id has identified its rows only since"),
    ] {
        let refused = now(columns, rules).refused;
        let (_, error) = &refused[0];
        assert!(error.kind() == Kind::Contract && error.what().contains(why), "{error}");
        assert!(!error.to_string().contains("note 2"));
    }
}

#[test]
fn what_the_lake_does_not_store_so_has_no_standing() {
    let columns = |note: i64| {
        numbered(&[("id", DataType::Int64, 1), ("born", DataType::Utf8, 2), ("note", DataType::Utf8, note)])
    };
    let rules = "id: keep, born: date_year, note: keep";
    let (of_row, stored) = stamped(&columns(3), rules);
    let all = |stored: Option<&TableStamp>| [0, 1, 2].map(|column| of_row.standing(column, stored));
    assert_eq!(all(Some(&stored)), [Standing::Same; 3]);
    assert_eq!(all(None), [Standing::Unknown; 3]);
    let (_, renamed) = stamped(&columns(9), rules);
    assert_eq!(all(Some(&renamed)), [Standing::Same, Standing::Same, Standing::Renamed]);
    // Before a run has begun with the rule that the policy has by now, or when the table stops for it.
    for before in ["id: keep, born: date_year", "id: keep, born: date_year, note: hmac_token(note)"] {
        let (_, before) = stamped(&columns(3), before);
        assert_eq!(all(Some(&before)), [Standing::Same, Standing::Same, Standing::Unknown]);
    }
    let older = TableStamp { numbers: Default::default(), ..stored.clone() };
    assert_eq!(all(Some(&older)), [Standing::Unknown; 3]);
    let older_row = gate(&members(), rules);
    assert_eq!([0, 1, 2].map(|column| older_row.standing(column, Some(&renamed))), [Standing::Same; 3]);
    // A text hangs on the columns whose values are searched in it, too.
    let scrubbed = "id: keep, note: scrub_text(detect born)";
    let swapped = numbered(&[("id", DataType::Int64, 1), ("born", DataType::Utf8, 4), ("note", DataType::Utf8, 3)]);
    let (of_row, _) = stamped(&columns(3), scrubbed);
    assert_eq!(of_row.standing(1, Some(&stamped(&swapped, scrubbed).1)), Standing::Renamed);
}

#[test]
fn a_copied_row_is_known_by_its_key_and_read_again_it_replaces_itself() {
    let (gate, mut index) = (gate(&members(), HOLD), HeldIndex::default());
    index.set_copying(true);
    let passed = clear(&gate, &mut index, batch(50, Origin::Stream, &[(Op::Insert, 9, YEAR)])).passed;
    assert_eq!(passed.len(), 1, "a key that passes beside a copy is told");
    let chunk = Origin::Copy { chunk: 0 };
    let copied = clear(&gate, &mut index, batch(1, chunk, &[(Op::Copy, 1, YEAR), (Op::Copy, 2, WRONG)]));
    assert_eq!(ids(&copied), [1]);
    assert!(copied.held[0].copied && copied.passed.is_empty());
    // Readable by now, and still behind nothing: it waits in the place of the one before.
    let again = clear(&gate, &mut index, batch(1, chunk, &[(Op::Copy, 1, YEAR), (Op::Copy, 2, YEAR)]));
    assert_eq!((ids(&again), again.held.len()), (vec![1], 1));
    let streamed = clear(&gate, &mut index, batch(60, Origin::Stream, &[(Op::Delete, 2, None)]));
    assert_eq!((ids(&streamed), streamed.held.len()), (vec![], 1));
    // Released or dropped, it does not come again; the delete still waits for itself.
    index.let_go(&again.held[0].position, &again.held[0].keys, true);
    let later = clear(&gate, &mut index, batch(1, chunk, &[(Op::Copy, 2, WRONG)]));
    assert_eq!((later.batch.len(), later.held.len()), (0, 0));
    index.let_go(&streamed.held[0].position, &streamed.held[0].keys, false);
    index.forget_copied();
    assert!(index.is_idle(true));
}

#[test]
fn what_one_table_has_from_before_is_not_held_under_other_rules() {
    let (gate, mut index) = (gate(&members(), HOLD), HeldIndex::default());
    index.set_passed(Some(Position::from_bytes(&[30])));
    let again = clear(&gate, &mut index, batch(30, Origin::Stream, &[(Op::Insert, 4, WRONG)]));
    assert!(again.held.is_empty() && again.batch.rows().column(1).is_null(0));
    assert_eq!(ids(&again), [4]);
    let above = clear(&gate, &mut index, batch(31, Origin::Stream, &[(Op::Insert, 5, WRONG)]));
    assert_eq!(above.held.len(), 1);
}
