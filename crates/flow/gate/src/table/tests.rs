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
        meta.push(Op::Insert, &[0, row as u8], 0, 1, row as u64 + 1);
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
