use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type};
use change::{ChangeBatch, Column, Identity, Op, Origin, Raw, RowMetaBuilder, TableName, TableSchema, Unsent};

use super::*;
use crate::Policy;
use crate::policy::tests::{compile, keys};

const POLICY: &str = "profile: none\nkeys: file:./k\ntables:\n  db.public.members: { id: hmac_token(member), v: keep }\n  db.public.visits:\n    doc:\n      transform: json_paths\n      paths: { patient.id: hmac_token(member) }\n    v: keep\n  db.public.plain: { id: keep, v: keep }\n";

fn schema(table: &str, columns: &[(&str, DataType)], identity: Identity) -> Arc<TableSchema> {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).into(),
        data_type: data_type.clone(),
        nullable: true,
        source_type: "any".into(),
        number: None,
    };
    let columns = columns.iter().map(column).collect();
    Arc::new(TableSchema { table: TableName::new("db", "public", table), columns, identity })
}

fn tables() -> Vec<Arc<TableSchema>> {
    vec![
        schema("members", &[("id", DataType::Int64), ("v", DataType::Int64)], Identity::Key(vec![0])),
        schema("visits", &[("doc", DataType::Utf8), ("v", DataType::Int64)], Identity::InsertOnly),
        schema("plain", &[("id", DataType::Int64), ("v", DataType::Int64)], Identity::WholeRow),
    ]
}

fn erased(table: &str, column: &str, ids: &[&str]) -> Vec<Suppressed> {
    let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
    let subject = policy.subject(&TableName::new("db", "public", table), column).unwrap();
    let ids = Raw::new(ids.iter().map(|id| (*id).to_owned()).collect());
    subject.known_as(&ids, &keys(0).unwrap(), None).unwrap().suppressed
}

/// The values of `v` that pass.
fn passing(table: usize, first: ArrayRef, ops: &[Op], unsent: Unsent, erased: Vec<Suppressed>) -> Vec<i64> {
    passing_under((POLICY, &tables()), table, first, ops, unsent, erased)
}

/// As [`passing`], under another policy than that of the erasure.
fn passing_under(
    (policy, tables): (&str, &[Arc<TableSchema>]),
    table: usize,
    first: ArrayRef,
    ops: &[Op],
    unsent: Unsent,
    erased: Vec<Suppressed>,
) -> Vec<i64> {
    let policy = Policy::parse(policy, "policy.yaml").unwrap();
    let gate = compile(&policy, tables).unwrap().suppressing(erased).unwrap();
    let schema = tables[table].clone();
    let mut meta = RowMetaBuilder::default();
    ops.iter().zip(1..).for_each(|(op, row)| meta.push(*op, &[row], 0, 1, u64::from(row)));
    let v: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=ops.len() as i64));
    let batch = ChangeBatch::try_new(schema.clone(), Origin::Stream, vec![first, v], meta.finish(), unsent).unwrap();
    let cleared = gate.table(&schema).unwrap().clear(batch).unwrap().batch;
    assert_eq!(cleared.len(), cleared.rows().num_rows());
    assert_eq!(cleared.len(), cleared.meta().positions.len());
    cleared.rows().column_by_name("v").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn an_erased_person_passes_in_no_table_and_in_no_document_of_the_domain() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), None, Some(7)]));
    let ops = [Op::Copy, Op::Insert, Op::Update, Op::Delete];
    let gone = erased("members", "id", &["7"]);
    assert_eq!(passing(0, ids.clone(), &ops, Unsent::none(2), gone.clone()), [2, 3]);
    assert_eq!(passing(0, ids.clone(), &ops, Unsent::none(2), vec![]), [1, 2, 3, 4]);
    // Another column of the same values is another scope.
    assert_eq!(passing(2, ids.clone(), &ops, Unsent::none(2), gone.clone()), [1, 2, 3, 4]);
    assert_eq!(passing(2, ids, &ops, Unsent::none(2), erased("plain", "id", &["7", "8"])), [3]);
    let documents =
        [r#"{"patient":{"id":7}}"#, r#"{"patient":{"id":"8"}}"#, "no document", r#"{"patient":{"id":"7"}}"#];
    let documents: ArrayRef = Arc::new(StringArray::from(documents.to_vec()));
    assert_eq!(passing(1, documents, &[Op::Insert; 4], Unsent::none(2), gone), [2, 3]);
}

#[test]
fn an_identifier_that_changes_takes_its_row_along_only_when_it_is_whole() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 9, 7, 10, 11]));
    let ops = [Op::MoveOut, Op::Insert, Op::MoveOut, Op::Insert, Op::Update];
    let lacking = Unsent(vec![None, Some(BooleanBuffer::from(vec![false, true, false, false, true]))]);
    assert_eq!(passing(0, ids, &ops, lacking, erased("members", "id", &["7"])), [4, 5]);
}

/// The column is dropped, has no rule any more, is kept, or is in another domain and form: rows from before the change name the same persons.
#[test]
fn an_erased_person_stays_out_when_the_rule_of_the_column_becomes_another() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
    let documents: ArrayRef = Arc::new(StringArray::from(vec![r#"{"patient":{"id":7}}"#, r#"{"patient":{"id":8}}"#]));
    let gone = erased("members", "id", &["7"]);
    // A key cannot be dropped.
    let mut tables = tables();
    Arc::make_mut(&mut tables[0]).identity = Identity::InsertOnly;
    for (column, place) in [
        ("id: drop, ", "patient.other: keep"),
        ("", "patient.id: keep"),
        ("id: keep, ", "patient.id: hmac_token(other)"),
        ("id: { transform: hmac_token(other), canonical: trim }, ", "patient.id: hmac_token(member)"),
    ] {
        let policy =
            POLICY.replace("id: hmac_token(member), ", column).replace("patient.id: hmac_token(member)", place);
        let ops = [Op::Insert; 2];
        let left = passing_under((&policy, &tables), 0, ids.clone(), &ops, Unsent::none(2), gone.clone());
        assert_eq!(left, [2], "members: {column}");
        let left = passing_under((&policy, &tables), 1, documents.clone(), &ops, Unsent::none(2), gone.clone());
        // A place within documents that the policy does not name is not read.
        assert_eq!(left.first() == Some(&1), place.starts_with("patient.other"), "visits.doc: {place}");
    }
}

#[test]
fn a_person_on_hold_is_found_when_the_domain_or_its_form_is_another() {
    let table = TableName::new("db", "public", "members");
    let subject = |policy: &str| Policy::parse(policy, "policy.yaml").unwrap().subject(&table, "id").unwrap();
    let (ids, keys) = (Raw::new(vec!["9".to_owned(), "7".into()]), keys(0).unwrap());
    let held = erased("members", "id", &["7"]);
    for policy in [
        POLICY.to_owned(),
        POLICY.replace("id: hmac_token(member), v", "id: hmac_token(other), v"),
        POLICY.replace("hmac_token(member)", "{ transform: hmac_token(member), canonical: trim }"),
    ] {
        let found = held.iter().map(|record| subject(&policy).found_in(record, &ids, &keys).unwrap());
        let found: Vec<_> =
            found.flat_map(|there| (0..).zip(there)).filter_map(|(id, there)| Some((id, there?))).collect();
        assert!(!found.is_empty() && found.iter().all(|found| *found == (1, 0)), "{found:?}");
    }
    let other = Policy::parse(POLICY, "policy.yaml").unwrap().subject(&TableName::new("db", "public", "plain"), "id");
    assert_eq!(other.unwrap().found_in(&held[0], &ids, &keys).unwrap(), [None, None]);
}

#[test]
fn identifiers_become_the_tokens_that_the_gate_makes() {
    let policy = Policy::parse(POLICY, "policy.yaml").unwrap();
    let subject = policy.subject(&TableName::new("db", "public", "members"), "id").unwrap();
    let known = subject.known_as(&Raw::new(vec!["42".into()]), &keys(0).unwrap(), None).unwrap();
    // The same golden value as that of the token itself.
    assert_eq!(known.tokens, [["member.1.za24bzexmxfiod3yonxuhsgg2y"]]);
    assert_eq!(subject.places().len(), 2);
    assert!(subject.places()[&TableName::new("db", "public", "visits")][0].nested);
    let none = policy.subject(&TableName::new("db", "public", "members"), "nobody").err().unwrap();
    assert_eq!(none.kind(), Kind::Config);
}
