use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, StringArray};

use super::*;
use crate::kernel::subject::Beside;
use crate::kernel::{Kernel, Setup};
use crate::{EntityFinder, Label, NotSearched, TableStamp};

const FIRST: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222222222222222222222222222";

struct Finder(&'static str);

impl EntityFinder for Finder {
    fn model(&self) -> &str {
        self.0
    }

    fn find(&self, text: &str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        if text.contains("unsearchable") { Err(NotSearched) } else { Ok(vec![(0..2, Label::Name)]) }
    }
}

fn read(ner: &str, note: &str) -> Result<Policy, Vec<Problem>> {
    let text = format!("profile: none\n{ner}\ntables:\n  claims_db.public.members:\n    id: keep\n    note: {note}\n");
    Policy::parse(&text, "policy.yaml")
}

fn with_model(sha256: &str, note: &str) -> Policy {
    read(&format!("ner: {{ model: ./models/deid, sha256: {sha256} }}"), note)
        .unwrap_or_else(|found| panic!("{found:?}"))
}

fn notes() -> Arc<TableSchema> {
    let column = |name: &str| Column {
        name: name.into(),
        data_type: DataType::Utf8,
        nullable: true,
        source_type: "text".into(),
        number: None,
    };
    let table = TableName::new("claims_db", "public", "members");
    let columns = vec![column("id"), column("note")];
    Arc::new(TableSchema { table, columns, identity: Identity::InsertOnly })
}

fn gate(policy: &Policy, model: &'static str) -> change::Result<Gate> {
    let gate = policy.compile(&[notes()], None, None, stopped_clock());
    gate.unwrap_or_else(|found| panic!("{found:?}")).with_entities(Arc::new(Finder(model)))
}

#[test]
fn another_model_is_another_policy() {
    let (first, other) = (with_model(FIRST, "scrub_text(detect+ner)"), with_model(OTHER, "scrub_text(detect+ner)"));
    assert_ne!(first.hash(), other.hash());
    assert_ne!(first.hash(), read("", "scrub_text(detect)").unwrap().hash());
    let moved =
        "ner: { sha256: 1111111111111111111111111111111111111111111111111111111111111111, model: ../elsewhere }";
    assert_eq!(first.hash(), read(moved, "scrub_text(detect+ner)").unwrap().hash(), "wherever it lies");
    let found = first.changes_to(&other);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].effect, &*found[0].before), (crate::Effect::Alters, "scrub_text(detect+ner:111111111111)"));
    let stricter = read("", "scrub_text(detect)").unwrap().changes_to(&first);
    assert_eq!(stricter.iter().map(|found| found.effect).collect::<Vec<_>>(), [crate::Effect::Tightens]);
    let explained = first.explain();
    assert_eq!(explained.model, Some(("./models/deid".into(), FIRST.into())));
    assert!(explained.columns[1].stored.contains("detectors or the model find"), "{}", explained.columns[1].stored);
}

#[test]
fn rows_of_another_model_do_not_join() {
    let stamp = |sha256: &'static str| {
        let gate = gate(&with_model(sha256, "scrub_text(detect+ner)"), sha256).unwrap();
        TableStamp::of(gate.stamp(), &gate.table(&notes()).unwrap())
    };
    let stored = stamp(FIRST);
    assert_eq!(stored.rules["note"], format!("scrub_text(detect+ner:{FIRST})"), "the commit names the model in full");
    assert!(stamp(FIRST).after(&stored).is_ok());
    let refused = stamp(OTHER).after(&stored).unwrap_err();
    assert!(refused.what().contains("column `note` is stored under"), "{refused}");
}

#[test]
fn the_gate_takes_the_named_model_only_and_has_no_table_without_one() {
    let policy = with_model(FIRST, "scrub_text(detect+ner)");
    assert!(gate(&policy, FIRST).unwrap().table(&notes()).is_ok());
    let refused = gate(&policy, OTHER).err().unwrap();
    assert!(refused.what().contains("not the one that the policy names"), "{refused}");
    let without = policy.compile(&[notes()], None, None, stopped_clock()).unwrap_or_else(|found| panic!("{found:?}"));
    let refused = without.table(&notes()).err().unwrap();
    assert!(refused.what().contains("needs a model, and there is none"), "{refused}");
    assert!(gate(&read("", "scrub_text(detect)").unwrap(), FIRST).is_err(), "a policy without a model takes none");
}

#[test]
fn a_text_that_the_model_cannot_search_is_replaced_and_counted() {
    let policy = with_model(FIRST, "{ transform: json_paths, paths: { \"a.note\": scrub_text(detect+ner) } }");
    assert!(policy.explain().columns[2].transform.contains("detect+ner:1111"), "a place in a document has the model");
    let policy = with_model(FIRST, "scrub_text(detect+ner)");
    let gate = gate(&policy, FIRST).unwrap();
    let (_, rule) = policy.rules().find(|(_, rule)| rule.column == "note").unwrap();
    let setup = Setup { profile: policy.profile(), means: gate.means(), table: None };
    let kernel = Kernel::new(rule, &DataType::Utf8, &setup).unwrap().unwrap();
    let notes = StringArray::from(vec![Some("Xy is well"), None, Some("Xy is unsearchable")]);
    let today = crate::calendar::Date { year: 2026, month: 11, day: 21 };
    let passed = kernel.apply(&notes, Beside { today, subject: None, known: &[] }).unwrap();
    let texts: Vec<Option<&str>> = passed.values.as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("[NAME] is well"), None, Some("[REDACTED:error]")]);
    assert_eq!(passed.invalid, 1);
}

#[test]
fn what_is_wrong_with_the_model_is_said() {
    let good = "ner: { model: ./m, sha256: 1111111111111111111111111111111111111111111111111111111111111111 }";
    let cases = [
        ("", "scrub_text(detect+ner)", "asks a model, and the policy names none"),
        (good, "scrub_text(detect)", "no rule asks it"),
        ("ner: { model: ./m }", "scrub_text(detect+ner)", "`ner` does not say `sha256`"),
        ("ner: { sha256: 11 }", "scrub_text(detect+ner)", "`ner` does not say `model`"),
        ("ner: { model: ./m, sha256: 11 }", "scrub_text(detect+ner)", "not 64 hexadecimal digits"),
        ("ner: { modl: ./m }", "scrub_text(detect+ner)", "modl"),
        ("ner: ./m", "scrub_text(detect+ner)", "`ner` must be a mapping"),
        (good, "scrub_text(ner)", "the tier is drop, allowlist, detect or detect+ner"),
    ];
    for (ner, note, what) in cases {
        let problems = read(ner, note).unwrap_err();
        assert!(problems[0].what.contains(what), "{ner} {note}: {problems:?}");
        assert!(!problems[0].fix.is_empty());
    }
}
