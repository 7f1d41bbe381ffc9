use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Date32Type, Int64Type};
use change::{ChangeBatch, Column, Identity, Op, Origin, RowMetaBuilder, TableName, TableSchema, Unsent};

use crate::policy::tests::compile;
use crate::{Policy, TableGate};

pub(crate) fn schema(columns: &[(&str, DataType)]) -> Arc<TableSchema> {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        source_type: data_type.to_string(),
        number: None,
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
fn a_new_column_stops_the_table_where_the_policy_says_so() {
    let before = schema(&[("id", DataType::Int64)]);
    let text = |said: &str| {
        format!("profile: none\nkeys: k\ntables:\n  db.public.members: {{ \"*\": {{ {said} }}, id: hmac_token(m) }}\n")
    };
    let policy = Policy::parse(&text("new_columns: halt"), "policy.yaml").unwrap();
    let gate = compile(&policy, std::slice::from_ref(&before)).unwrap();
    let stops = gate.table(&schema(&[("id", DataType::Int64), ("ssn", DataType::Utf8)]));
    let error = stops.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), change::Kind::Contract);
    assert!(error.what().contains("members.ssn (Utf8) has no rule"), "{error}");
    assert!(error.how_to_fix().unwrap().contains("`ssn: drop`"));
    let problems = Policy::parse(&text("new_columns: pass"), "policy.yaml").unwrap_err();
    assert!(problems[0].what.contains("`new_columns` cannot be `pass`") && problems[0].fix.contains("halt"));
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

const MEMBER_JSON: &str = "
    id: keep
    doc:
      transform: json_paths
      subject: id
      paths:
        patient.id: hmac_token(member)
        patient.born: dob_generalise
        total: keep
        paid: keep
        lines[].code: hierarchy(icd10,category)
        lines[].on: date_shift(person,30)
        tags[]: redact(TAG)
";

fn json(documents: &[Option<&str>]) -> (Vec<Option<String>>, u64) {
    let schema = schema(&[("id", DataType::Int64), ("doc", DataType::Utf8)]);
    let text = format!("profile: none\nkeys: k\nmax_invalid_percent: 100\ntables:\n  db.public.members:{MEMBER_JSON}");
    let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let gate = compile(&policy, std::slice::from_ref(&schema)).unwrap().table(&schema).unwrap();
    let ids = Int64Array::from_iter_values(0..documents.len() as i64);
    let raw: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(StringArray::from(documents.to_vec()))];
    let cleared = gate.clear(batch(&schema, raw)).unwrap();
    let column = cleared.batch.rows().column(1).as_string::<i32>();
    let invalid = cleared.invalid.iter().map(|(_, count)| count).sum();
    (column.iter().map(|text| text.map(str::to_owned)).collect(), invalid)
}

/// What `v` (text, null where nothing is said) becomes under a rule, by the op of each row.
fn nulls(identity: Identity, rule: &str, ops: &[Op], values: &[Option<&str>], unsent: &[bool]) -> Vec<Option<String>> {
    let mut schema = schema(&[("id", DataType::Int64), ("v", DataType::Utf8)]);
    Arc::make_mut(&mut schema).identity = identity;
    let gate = gate(&schema, &format!("id: keep, v: {rule}"));
    let mut meta = RowMetaBuilder::default();
    ops.iter().zip(1..).for_each(|(op, row)| meta.push(*op, &[row], 0, 1, u64::from(row)));
    let ids = Int64Array::from_iter_values(1..=ops.len() as i64);
    let raw: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(StringArray::from(values.to_vec()))];
    let unsent = Unsent(vec![None, Some(unsent.iter().copied().collect())]);
    let batch = ChangeBatch::try_new(schema, Origin::Stream, raw, meta.finish(), unsent).unwrap();
    let cleared = gate.clear(batch).unwrap().batch;
    cleared.rows().column(1).as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn a_constant_stands_for_null_and_for_nothing_else() {
    let rule = "{ transform: bucket(0 18), null_as: unknown }";
    let ops = [Op::Insert, Op::Insert, Op::Insert, Op::Update, Op::Delete, Op::MoveOut, Op::Copy];
    let values = [None, Some("17"), Some("old"), None, None, None, None];
    let unsent = [false, false, false, true, false, false, false];
    let found = nulls(Identity::Key(vec![0]), rule, &ops, &values, &unsent);
    let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
    // A value that cannot be read, one that was not sent, and changes that carry their key alone have no null.
    let unknown = Some("unknown");
    assert_eq!(found, [unknown, Some("[0,18)"), None, None, None, None, unknown]);
    let only_inserts = nulls(Identity::InsertOnly, rule, &[Op::Insert], &[None], &[false]);
    assert_eq!(only_inserts, [Some("unknown".to_owned())]);
    assert_eq!(nulls(Identity::Key(vec![0]), "bucket(0 18)", &[Op::Insert], &[None], &[false]), [None]);
}

#[test]
fn of_a_document_only_the_named_places_pass_each_by_its_rule() {
    let (texts, invalid) = json(&[
        Some(
            r#" {"ssn": "CANARY", "patient": {"name": {"x": ["CANARY"]}, "born": "1950-02-03", "id": 42},
            "total": 1.10, "paid": "a\"b", "lines": [{"code": "E11.9", "n": 1}, {"on": "x"}], "tags": ["CANARY", null]} "#,
        ),
        None,
        Some("{\"total\": CANARY}"),
        Some("{\"total\": {\"deep\": \"CANARY\"}, \"lines\": 3, \"tags\": {}, \"paid\": true}"),
        Some("[\"CANARY\"]"),
        Some("{}"),
        Some("{\"total\": 7, \"patient\": {\"id\": \"42\"}"),
    ]);
    let token = "member.1.za24bzexmxfiod3yonxuhsgg2y";
    assert_eq!(
        texts[0].as_deref().unwrap(),
        format!(
            r#"{{"patient":{{"born":1950,"id":"{token}"}},"total":1.10,"paid":"a\"b","lines":[{{"code":"E11"}},{{"on":null}}],"tags":["[TAG]",null]}}"#
        )
    );
    assert_eq!(texts[1], None);
    assert_eq!(texts[2], None);
    assert_eq!(texts[3].as_deref(), Some(r#"{"total":null,"lines":null,"tags":null,"paid":true}"#));
    assert_eq!(texts[4..6], [Some("null".to_owned()), Some("{}".to_owned())]);
    assert_eq!(texts[6], None);
    assert_eq!(invalid, 3, "two documents that are no JSON, and a date that is none");
    assert!(!format!("{texts:?}").contains("CANARY"));
}

#[test]
fn a_value_in_a_document_stays_with_its_row_and_person() {
    let documents: Vec<String> =
        (0..300).map(|row| format!("{{\"total\": {row}, \"lines\": [{{\"on\": \"2024-06-15\"}}]}}")).collect();
    let damaged: Vec<Option<&str>> = documents
        .iter()
        .enumerate()
        .map(|(row, text)| match row % 5 {
            0 => None,
            1 => Some(&text[..text.len() - 1]),
            _ => Some(text.as_str()),
        })
        .collect();
    let (whole, _) = json(&documents.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
    let (texts, _) = json(&damaged);
    let mut shifts = std::collections::BTreeSet::new();
    for (row, text) in texts.iter().enumerate() {
        if row % 5 < 2 {
            assert_eq!(*text, None);
        } else {
            assert_eq!(*text, whole[row]);
            assert!(text.as_ref().unwrap().starts_with(&format!("{{\"total\":{row},")));
            shifts.insert(text.as_ref().unwrap().rsplit("on").next().unwrap().to_owned());
        }
    }
    assert!(shifts.len() > 30 && !shifts.iter().any(|shift| shift.contains("2024-06-15")), "{shifts:?}");
}

#[test]
fn a_shift_reads_the_person_from_a_column_that_is_not_stored() {
    let schema = schema(&[("id", DataType::Int64), ("mrn", DataType::Utf8), ("seen", DataType::Date32)]);
    let rules = "id: keep, mrn: drop, seen: { transform: date_shift(person 180), subject: mrn }";
    let text = format!("profile: limited_data_set\nkeys: k\ntables:\n  db.public.members: {{ {rules} }}\n");
    let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let gate = compile(&policy, std::slice::from_ref(&schema)).unwrap().table(&schema).unwrap();
    let raw: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("A"), Some("A"), None])),
        Arc::new(Date32Array::from(vec![19_800, 19_810, 19_800])),
    ];
    let rows = gate.clear(batch(&schema, raw)).unwrap().batch.rows().clone();
    assert_eq!(rows.num_columns(), 2);
    let days = rows.column(1).as_primitive::<Date32Type>();
    assert_eq!(days.value(1) - days.value(0), 10);
    assert_ne!(days.value(0), 19_800);
    assert_eq!(days.value(2), 19_723, "2024-01-01");
}
