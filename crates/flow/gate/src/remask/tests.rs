use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use change::{ChangeBatch, Column, Identity, Op, Origin, RowMetaBuilder, StoppedClock, TableSchema, Unsent};

use super::*;
use crate::policy::tests::{keys, rotated};
use crate::x12_map::ReadyMap;

/// The first day of a year, for ever.
fn new_year(year: i32) -> StoppedClock {
    let day = Date { year, month: 1, day: 1 };
    StoppedClock(i64::from(day.to_days()) * crate::calendar::MICROS_PER_DAY)
}

const RULES: &str = "
    id: hmac_token(id)
    born: dob_generalise
    seen: date_year
    zip: zip3
    doc: { transform: json_paths, paths: { born: dob_generalise, 'seen[]': date_year, zip: zip3, id: hmac_token(id) } }
    edi: { transform: x12_map(837p), on_invalid: halt }
";

fn policy(rules: &str) -> Policy {
    let text = format!("profile: none\nkeys: k\ntables:\n  db.public.t:{rules}");
    Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn raw() -> (Arc<TableSchema>, Vec<ArrayRef>) {
    // Who is 88, 89 and 90 in 2026, and somebody old.
    let born = ["1938-06-01", "1937-01-01", "1936-12-31", "1901-05-05", "1990-02-02", "1939-12-31"];
    let born = Date32Array::from_iter(born.map(|day| Date::parse(day).map(Date::to_days)));
    let docs = [
        Some(r#"{"born":"1937-06-01","seen":["2024-02-29","1901-01-01",null],"zip":"10025","id":"7"}"#),
        None,
        Some(r#"{"born":"1950-06-01","seen":[]}"#),
        Some("{}"),
        Some(r#"{"born":null,"zip":"55601"}"#),
        Some(r#"{"id":"8"}"#),
    ];
    let edi = ReadyMap::ProfessionalClaim.sample();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(1..=6))),
        ("born", Arc::new(born.clone())),
        ("seen", Arc::new(born)),
        ("zip", Arc::new(StringArray::from(vec![Some("10025"), None, Some("75301"), Some("x"), Some("02139"), None]))),
        ("doc", Arc::new(StringArray::from(docs.to_vec()))),
        (
            "edi",
            Arc::new(StringArray::from_iter(
                [37, 38, 36, 31, 90, 39].map(|year| Some(edi.replace("19310508", &format!("19{year}0508")))),
            )),
        ),
    ];
    table_of(columns)
}

fn table_of(columns: Vec<(&str, ArrayRef)>) -> (Arc<TableSchema>, Vec<ArrayRef>) {
    let schema = TableSchema {
        table: TableName::new("db", "public", "t"),
        columns: columns
            .iter()
            .map(|(name, values)| Column {
                name: (*name).into(),
                data_type: values.data_type().clone(),
                nullable: true,
                number: None,
                source_type: String::new(),
            })
            .collect(),
        identity: Identity::Key(vec![0]),
    };
    (Arc::new(schema), columns.into_iter().map(|(_, values)| values).collect())
}

/// What a gate makes of the rows in a year, and the stamp of what it commits.
fn cleared(rules: &str, keys: KeyRing, year: i32) -> (RecordBatch, TableStamp) {
    through(&policy(rules), raw(), keys, year)
}

fn through(
    policy: &Policy,
    (schema, columns): (Arc<TableSchema>, Vec<ArrayRef>),
    keys: KeyRing,
    year: i32,
) -> (RecordBatch, TableStamp) {
    let gate = policy.compile(std::slice::from_ref(&schema), Some(keys), None, Arc::new(new_year(year))).unwrap();
    let table = gate.table(&schema).unwrap();
    let mut meta = RowMetaBuilder::default();
    (0..columns[0].len() as u64).for_each(|row| meta.push(Op::Insert, &row.to_be_bytes(), 0, 1, row + 1));
    let unsent = Unsent(vec![None; columns.len()]);
    let batch = ChangeBatch::try_new(schema, Origin::Stream, columns, meta.finish(), unsent).unwrap();
    let rows = table.clear(batch).unwrap().batch.rows().clone();
    (rows, TableStamp::of(gate.stamp(), &table))
}

fn remask(
    rules: &str,
    keys: KeyRing,
    year: i32,
    (rows, stamp): &(RecordBatch, TableStamp),
) -> Result<Option<(RecordBatch, TableStamp)>> {
    let remasker = policy(rules).remasker(Some(keys), None, Arc::new(new_year(year)));
    let table = TableName::new("db", "public", "t");
    let Some(remask) = remasker.table(&table, stamp, &rows.schema(), &["id".to_owned()])? else { return Ok(None) };
    Ok(Some((remask.apply(rows)?, remask.stamp().clone())))
}

fn key() -> KeyRing {
    keys(0).unwrap()
}

#[test]
fn a_year_later_stored_rows_become_what_a_fresh_copy_would_be() {
    let stored = cleared(RULES, key(), 2026);
    assert!(remask(RULES, key(), 2026, &stored).unwrap().is_none());
    for year in [2027, 2030] {
        let fresh = cleared(RULES, key(), year);
        assert_ne!(stored.0, fresh.0);
        let remasked = remask(RULES, key(), year, &stored).unwrap().unwrap();
        for (number, column) in fresh.0.schema().fields().iter().enumerate() {
            assert_eq!(remasked.0.column(number), fresh.0.column(number), "{} in {year}", column.name());
        }
        assert_eq!(remasked, fresh);
        assert!(remask(RULES, key(), year, &remasked).unwrap().is_none(), "nothing is to do twice");
    }
    let remasker = policy(RULES).remasker(Some(key()), None, Arc::new(new_year(2027)));
    let table = TableName::new("db", "public", "t");
    let remask = remasker.table(&table, &stored.1, &stored.0.schema(), &[]).unwrap().unwrap();
    assert_eq!(remask.columns().collect::<Vec<_>>(), ["born", "doc", "edi", "seen"]);
    assert!(remask.allows_statistics("born", true) && !remask.allows_statistics("doc", true));
}

#[test]
fn a_later_year_and_another_epoch_of_the_key_are_brought_together() {
    let rules = RULES.split("    edi:").next().unwrap();
    let stored = cleared(rules, rotated(1), 2026);
    let fresh = cleared(rules, rotated(2), 2027);
    let remasked = remask(rules, rotated(2), 2027, &stored).unwrap().unwrap();
    assert_eq!(remasked.0, fresh.0);
    assert_eq!(remasked.1.processed_in, Some(2027));
}

#[test]
fn tokens_of_bytes_are_brought_to_another_epoch_which_the_stamp_tells() {
    let rules =
        "\n    id: hmac_token(id,binary)\n    zip: { transform: hmac_token(zip binary), dual: 1 }\n    born: drop\n";
    let before = rules.replace(", dual: 1", "");
    let stored = cleared(&before, rotated(1), 2026);
    assert_eq!(stored.1.epochs, [("id".to_owned(), 1), ("zip".into(), 1)].into());
    let fresh = cleared(rules, rotated(2), 2026);
    let remasked = remask(rules, rotated(2), 2026, &stored).unwrap().unwrap();
    assert_eq!(remasked, fresh);
    assert!(remask(rules, rotated(2), 2026, &remasked).unwrap().is_none(), "nothing is to do twice");
    assert_eq!(fresh.0.column_by_name("zip__epoch1").unwrap(), stored.0.column_by_name("zip").unwrap());
    // What was kept becomes what a fresh copy has.
    let kept = cleared("\n    id: keep\n    zip: keep\n", key(), 2026);
    let bare = "\n    id: hmac_token(id,binary)\n    zip: hmac_token(zip,binary)\n";
    assert_eq!(remask(bare, key(), 2026, &kept).unwrap().unwrap(), cleared(bare, key(), 2026));
}

#[test]
fn another_type_of_a_token_and_what_stands_for_null_are_not_computed_from_what_is_stored() {
    let of = |zip: &str| format!("\n    id: hmac_token(id)\n    zip: {zip}\n");
    for (before, after, why) in [
        ("hmac_token(zip)", "hmac_token(zip,binary)", "cannot be computed from that"),
        ("zip3", "{ transform: zip3, null_as: '000' }", "cannot be computed from that"),
        ("{ transform: zip3, null_as: '000' }", "zip3", "cannot be computed from that"),
        ("keep", "{ transform: zip3, null_as: '000' }", "not every stored null is"),
    ] {
        let error = remask(&of(after), key(), 2026, &cleared(&of(before), key(), 2026)).unwrap_err();
        assert!(error.kind() == Kind::Privacy && error.what().contains(why), "{error}");
    }
    let constant = of("{ transform: zip3, null_as: '000' }");
    let mut stored = cleared(&constant, key(), 2026);
    stored.1.policy.zip3_table = "census-2000".into();
    assert_eq!(stored.1.outdated(new_year(2026).now()), ["zip"], "the census table is told all the same");
    assert_eq!(remask(&constant, key(), 2026, &stored).unwrap().unwrap(), cleared(&constant, key(), 2026));
}

#[test]
fn what_another_census_table_let_pass_is_hidden_by_that_of_now() {
    let (rows, mut stamp) = cleared(RULES, key(), 2026);
    stamp.policy.zip3_table = "census-2000".into();
    let zips: ArrayRef =
        Arc::new(StringArray::from(vec![Some("100"), None, Some("753"), Some("000"), Some("021"), None]));
    let at = rows.schema().index_of("zip").unwrap();
    let mut columns = rows.columns().to_vec();
    columns[at] = zips;
    let stored = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let remasked = remask(RULES, key(), 2026, &(stored, stamp)).unwrap().unwrap();
    assert_eq!(remasked, cleared(RULES, key(), 2026));
}

#[test]
fn stored_rows_of_an_unknown_year_are_looked_at_and_stay_unknown_until_then() {
    let (rows, stamp) = cleared(RULES, key(), 2026);
    let unknown = TableStamp { processed_in: None, ..stamp.clone() };
    let dated = ["born", "doc", "edi", "seen"];
    assert_eq!(unknown.outdated(new_year(2026).now()), dated);
    assert_eq!(stamp.outdated(new_year(2026).now()), [""; 0]);
    assert_eq!(stamp.outdated(new_year(2027).now()), dated);
    let later = cleared(RULES, key(), 2027).1;
    assert_eq!(later.clone().after(&unknown).unwrap().processed_in, None);
    assert_eq!(later.clone().after(&stamp).unwrap().processed_in, Some(2026), "the oldest years count");
    let mut of_2000 = stamp.clone();
    of_2000.policy.zip3_table = "census-2000".into();
    assert_eq!(of_2000.outdated(new_year(2026).now()), ["doc", "edi", "zip"]);
    assert_eq!(later.after(&of_2000).unwrap().policy.zip3_table, "census-2000");
    let remasked = remask(RULES, key(), 2026, &(rows.clone(), unknown)).unwrap().unwrap();
    assert_eq!(remasked, (rows, stamp));
}

#[test]
fn a_stored_document_of_which_something_would_be_lost_is_refused() {
    let (rows, stamp) = cleared(RULES, key(), 2026);
    let at = rows.schema().index_of("edi").unwrap();
    let mut columns = rows.columns().to_vec();
    let foreign = ReadyMap::ProfessionalClaim.sample();
    columns[at] = Arc::new(StringArray::from_iter([Some(foreign); 6]));
    let stored = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let error = remask(RULES, key(), 2027, &(stored, stamp)).unwrap_err();
    assert!(error.what().contains("t.edi: 6 stored values cannot be read"), "{error}");
    assert!(error.how_to_fix().unwrap().contains("copy the table anew"));
}

/// Rows with a shifted day, a shifted point in time and one within a document.
fn visits() -> (Arc<TableSchema>, Vec<ArrayRef>) {
    let at = |hours: i64| 19_782 * crate::calendar::MICROS_PER_DAY + hours * 3_600_000_000 + 1;
    let seen = TimestampMicrosecondArray::from(vec![Some(at(0)), None, Some(at(-20)), Some(at(23))]);
    let ids: Int64Array = [Some(1), Some(2), Some(3), None].into_iter().collect();
    let doc = r#"{"at":"2024-02-29T10:00:00"}"#;
    table_of(vec![
        ("row", Arc::new(Int64Array::from_iter_values(0..4))),
        ("id", Arc::new(ids)),
        ("seen", Arc::new(seen.with_timezone("UTC"))),
        ("day", Arc::new(Date32Array::from(vec![19_782; 4]))),
        ("doc", Arc::new(StringArray::from(vec![doc; 4]))),
    ])
}

#[test]
fn the_time_of_day_is_cut_when_the_profile_has_no_room_for_it_and_does_not_come_back() {
    let policy = |profile: &str| {
        let shift = "transform: date_shift(p 90), subject: id";
        let rules = format!(
            "row: keep, id: hmac_token(id), seen: {{ {shift} }}, day: {{ {shift} }}, doc: {{ transform: json_paths, subject: id, paths: {{ at: date_shift(p 90) }} }}"
        );
        let text = format!("profile: {profile}\nkeys: k\ntables:\n  db.public.t: {{ {rules} }}\n");
        Policy::parse(&text, "p").unwrap_or_else(|problems| panic!("{problems:?}"))
    };
    let of = |profile: &str| through(&policy(profile), visits(), key(), 2026);
    let (with, without) = (of("limited_data_set"), of("none"));
    assert_ne!(with.0, without.0);
    let table = TableName::new("db", "public", "t");
    let asked = |profile: &str, (rows, stamp): &(RecordBatch, TableStamp)| {
        let remasker = policy(profile).remasker(Some(key()), None, Arc::new(new_year(2026)));
        remasker.table(&table, stamp, &rows.schema(), &["row".to_owned()])
    };
    let remask = asked("none", &with).unwrap().unwrap();
    assert_eq!(remask.columns().collect::<Vec<_>>(), ["seen"]);
    let remasked = (remask.apply(&with.0).unwrap(), remask.stamp().clone());
    assert_eq!(remasked, without);
    assert!(asked("none", &remasked).unwrap().is_none());
    let Err(error) = asked("limited_data_set", &without) else { panic!("what is not stored came back") };
    assert!(error.kind() == Kind::Privacy && error.what().contains("t.seen") && error.what().contains("time of day"));
}

#[test]
fn a_canonical_form_within_a_document_cannot_be_computed_from_another() {
    let stored = cleared(RULES, key(), 2026);
    let trimmed = RULES.replace("id: hmac_token(id) }", "id: { transform: hmac_token(id), canonical: trim } }");
    let trimmed = trimmed.replacen("id: hmac_token(id)", "id: hmac_token(row)", 1);
    let rules = RULES.replacen("id: hmac_token(id)", "id: hmac_token(row)", 1);
    let of_row = cleared(&rules, key(), 2026);
    let error = remask(&trimmed, key(), 2026, &of_row).unwrap_err();
    assert!(error.what().contains("t.doc is stored under") && error.what().contains("of trim.1"), "{error}");
    // An older release did not say the form; with what else is to do, it is said.
    let (rows, mut older) = stored.clone();
    let text = older.rules["doc"].replace(" of exact.1", "");
    assert_ne!(older.rules.insert("doc".into(), text.clone()), Some(text));
    assert!(remask(RULES, key(), 2026, &(rows.clone(), older.clone())).unwrap().is_none());
    assert_eq!(remask(RULES, key(), 2027, &(rows, older)).unwrap().unwrap(), cleared(RULES, key(), 2027));
}

#[test]
fn rows_that_lie_otherwise_than_the_policy_says_are_not_taken_for_its_own() {
    let (_, stamp) = cleared(RULES, key(), 2026);
    let table = TableName::new("db", "public", "t");
    let check = |rules: &str, year| policy(rules).check_stored(&table, &stamp, new_year(year).now());
    check(RULES, 2026).unwrap();
    for (rules, now) in [
        (RULES.replace("zip: zip3\n    doc", "zip: drop\n    doc"), "`zip3`, and the policy now says `drop`"),
        (RULES.replace("    seen: date_year\n", ""), "`date_year`, and the policy now says `drop`"),
        (RULES.replace("id: hmac_token(id)\n    born", "id: hmac_token(other)\n    born"), "says `hmac_token(other)`"),
    ] {
        let error = check(&rules, 2026).unwrap_err();
        assert!(error.kind() == Kind::Privacy && error.what().contains(now), "{error}");
        assert!(error.how_to_fix().unwrap().contains("lockgate remask"), "{error}");
    }
    assert!(check(RULES, 2027).unwrap_err().what().ends_with("born, doc, edi, seen"), "years of an earlier year");
    let unsaid = TableStamp { rules: Default::default(), ..stamp.clone() };
    let error = policy(RULES).check_stored(&table, &unsaid, new_year(2026).now()).unwrap_err();
    assert_eq!(error.kind(), Kind::Contract);
}
