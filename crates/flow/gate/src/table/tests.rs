use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use change::{ChangeBatch, Column, Identity, Op, Origin, RowMetaBuilder, TableName, TableSchema, Unsent};

use crate::policy::tests::compile;
use crate::{Policy, TableGate};

fn schema(columns: &[(&str, DataType)]) -> Arc<TableSchema> {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        source_type: data_type.to_string(),
    };
    Arc::new(TableSchema {
        table: TableName::new("db", "public", "members"),
        columns: columns.iter().map(column).collect(),
        identity: Identity::Key(vec![0]),
    })
}

fn batch(schema: &Arc<TableSchema>, columns: Vec<ArrayRef>) -> ChangeBatch {
    let mut meta = RowMetaBuilder::default();
    for row in 0..columns[0].len() {
        meta.push(Op::Insert, &(row as u32).to_be_bytes(), 0, 1, row as u64 + 1);
    }
    ChangeBatch::try_new(schema.clone(), Origin::Stream, columns, meta.finish(), Unsent::none(schema.columns.len()))
        .unwrap()
}

fn gate(schema: &Arc<TableSchema>, rules: &str) -> TableGate {
    let text = format!("profile: none\ntables:\n  db.public.members: {{ {rules} }}\n");
    let policy = Policy::parse(&text, "policy.yaml").unwrap();
    compile(&policy, std::slice::from_ref(schema)).unwrap().table(schema).unwrap()
}

#[test]
fn only_what_a_rule_names_passes() {
    let schema =
        schema(&[("id", DataType::Int64), ("ssn", DataType::Utf8), ("plan", DataType::Utf8), ("new", DataType::Utf8)]);
    let gate = gate(&schema, "id: keep, ssn: drop, plan: keep");
    let text = |value: &str| Arc::new(StringArray::from(vec![Some(value), None])) as ArrayRef;
    let ids = Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef;
    let cleared = gate.clear(batch(&schema, vec![ids, text("078051120"), text("HMO"), text("x")])).unwrap();

    let rows = cleared.batch.rows();
    assert_eq!(rows.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id", "plan"]);
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[7, 8]);
    assert_eq!(rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("HMO"), None]);
    assert_eq!(gate.dropped().iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(cleared.batch.schema().identity, Identity::Key(vec![0]));
}

#[test]
fn kept_values_leave_the_raw_buffers_behind() {
    let schema = schema(&[("id", DataType::Utf8)]);
    let gate = gate(&schema, "id: keep");
    let raw = StringArray::from(vec!["CANARY-before", "a", "b", "CANARY-after"]).slice(1, 2);
    let start = raw.value_data().as_ptr();
    let cleared = gate.clear(batch(&schema, vec![Arc::new(raw)])).unwrap();
    let kept = cleared.batch.rows().column(0).as_string::<i32>();
    assert_eq!(kept.value_data(), b"ab");
    assert_ne!(kept.value_data().as_ptr(), start);
}

#[test]
fn a_column_that_identifies_rows_or_says_halt_stops_at_the_first_unreadable_value() {
    let schema = schema(&[("id", DataType::Int64), ("born", DataType::Utf8)]);
    let ids = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    let born = || Arc::new(StringArray::from(vec!["1980-02-30 CANARY", "1980-02-28"])) as ArrayRef;
    let counted = gate(&schema, "id: keep, born: date_year").clear(batch(&schema, vec![ids(), born()])).unwrap();
    assert_eq!(counted.invalid, [("born".to_owned(), 1)]);

    let halting = gate(&schema, "id: keep, born: { transform: date_year, on_invalid: halt }");
    let error = halting.clear(batch(&schema, vec![ids(), born()])).unwrap_err();
    assert_eq!(error.kind(), change::Kind::Data);
    assert!(error.what().contains("db.public.members.born"));
    assert!(!error.to_string().contains("CANARY"));
}

#[test]
fn a_batch_with_many_unreadable_values_stops_the_table() {
    let schema = schema(&[("id", DataType::Int64), ("age", DataType::Int64)]);
    let gate = gate(&schema, "id: keep, age: age_cap");
    let ages = |wrong: usize| {
        let ages = (0..2000).map(|row| if row < wrong { -1 } else { 40 });
        vec![Arc::new(Int64Array::from_iter_values(0..2000)) as ArrayRef, Arc::new(Int64Array::from_iter_values(ages))]
    };
    assert_eq!(gate.clear(batch(&schema, ages(2))).unwrap().invalid, [("age".to_owned(), 2)]);
    let error = gate.clear(batch(&schema, ages(3))).unwrap_err();
    assert!(error.what().contains("3 of the last 2000 values"), "{error}");
}

#[test]
fn deletes_and_copied_rows_get_the_same_token_as_inserts() {
    let schema = schema(&[("id", DataType::Int64), ("plan", DataType::Utf8)]);
    let text = "profile: none\nkeys: k\ntables:\n  db.public.members: { id: hmac_token(member), plan: keep }\n";
    let policy = Policy::parse(text, "policy.yaml").unwrap();
    let gate = compile(&policy, std::slice::from_ref(&schema)).unwrap().table(&schema).unwrap();
    let token = |op, origin, plan: Option<&str>| {
        let mut meta = RowMetaBuilder::default();
        meta.push(op, &[0], 0, 1, 1);
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec![plan]))];
        let batch = ChangeBatch::try_new(schema.clone(), origin, columns, meta.finish(), Unsent::none(2)).unwrap();
        gate.clear(batch).unwrap().batch.rows().column(0).as_string::<i32>().value(0).to_owned()
    };
    let inserted = token(Op::Insert, Origin::Stream, Some("HMO"));
    for (op, origin) in [
        (Op::Delete, Origin::Stream),
        (Op::MoveOut, Origin::Stream),
        (Op::Update, Origin::Stream),
        (Op::Copy, Origin::Copy { chunk: 3 }),
    ] {
        assert_eq!(token(op, origin, None), inserted);
    }
}

#[test]
fn a_change_of_structure_is_met_with_the_same_rules() {
    let before = schema(&[("id", DataType::Int64), ("born", DataType::Date32)]);
    let text = "profile: none\nkeys: k\ntables:\n  db.public.members: { id: hmac_token(member), born: date_year }\n";
    let policy = Policy::parse(text, "policy.yaml").unwrap();
    let gate = compile(&policy, std::slice::from_ref(&before)).unwrap();
    let dropped = |columns: &[(&str, DataType)]| gate.table(&schema(columns)).map(|table| table.dropped().to_vec());

    let grown = dropped(&[("id", DataType::Int64), ("born", DataType::Date32), ("ssn", DataType::Utf8)]).unwrap();
    assert_eq!(
        grown.iter().map(|column| (column.name.as_str(), column.source_type.as_str())).collect::<Vec<_>>(),
        [("ssn", "Utf8")]
    );
    assert!(dropped(&[("id", DataType::Utf8)]).unwrap().is_empty(), "a column that went and a wider key still fit");

    let error = dropped(&[("id", DataType::Int64), ("born", DataType::Float64)]).unwrap_err();
    assert_eq!(error.kind(), change::Kind::Contract);
    assert!(error.what().contains("members.born is Float64, and `date_year` reads dates"), "{error}");
    let error = dropped(&[("key", DataType::Int64), ("born", DataType::Date32)]).unwrap_err();
    assert!(error.what().contains("key identifies the row and has no rule"), "{error}");
}

#[test]
fn only_harmless_columns_have_statistics() {
    let schema = schema(&[
        ("id", DataType::Int64),
        ("amount", DataType::Int64),
        ("code", DataType::Utf8),
        ("zip", DataType::Utf8),
    ]);
    let gate = gate(&schema, "id: keep, amount: keep, code: keep, zip: zip3");
    let statistics: Vec<bool> = gate.schema().columns.iter().map(|column| column.statistics).collect();
    assert_eq!(statistics, [false, true, false, true]);
}
