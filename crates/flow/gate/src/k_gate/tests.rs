use arrow::array::{BinaryArray, Date32Array, Int16Array};

use super::*;
use crate::Policy;
use crate::policy::tests::stopped_clock;

const TABLE: &str =
    "  db.public.t:\n    id: keep\n    zip: zip3\n    born: dob_generalise\n    plan: keep\n    who: hmac_token(who)\n";

fn policy(gate: &str) -> Result<Policy, String> {
    let text = format!("profile: none\nkeys: k\ntables:\n{TABLE}    '*': {{ k_gate: {gate} }}\n");
    Policy::parse(&text, "policy.yaml")
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn gate(gate: &str) -> KGate {
    policy(gate).unwrap().k_gate(&table()).unwrap().clone()
}

fn table() -> TableName {
    TableName::new("db", "public", "t")
}

/// Rows of id, ZIP area, year of birth and person.
fn rows(rows: &[(&str, Option<i16>, &str)]) -> RecordBatch {
    let ids: StringArray = (0..rows.len()).map(|id| Some(id.to_string())).collect();
    let zips: StringArray = rows.iter().map(|row| Some(row.0)).collect();
    let years: Int16Array = rows.iter().map(|row| row.1).collect();
    let people: StringArray = rows.iter().map(|row| Some(row.2)).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(ids)), ("zip", Arc::new(zips)), ("born", Arc::new(years)), ("who", Arc::new(people))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn released(gate: &KGate, rows: &RecordBatch) -> (Vec<String>, KReport) {
    let mut counting = gate.counting(&table(), &rows.schema(), stopped_clock()).unwrap();
    // In parts, as a table is read.
    for at in (0..rows.num_rows()).step_by(7) {
        counting.add(&rows.slice(at, 7.min(rows.num_rows() - at))).unwrap();
    }
    let decided = counting.decide();
    let out = decided.apply(rows).unwrap();
    let column = |at: usize| text(out.column(at)).unwrap();
    let (zips, years) = (column(1), column(2));
    let lines =
        zips.iter().zip(years.iter()).map(|(zip, year)| format!("{} {}", zip.unwrap_or("-"), year.unwrap_or("-")));
    (lines.collect(), decided.report().clone())
}

#[test]
fn small_groups_become_coarser_one_level_at_a_time_and_the_rest_is_left_out() {
    let gate = gate("{ k: 3, columns: { zip: [prefix(2), prefix(1)], born: [round(10)] } }");
    let mut all = vec![("100", Some(1984), "a"); 3];
    all.extend([("101", Some(1984), "b"), ("102", Some(1984), "c"), ("103", Some(1984), "d")]);
    all.extend([("201", Some(1951), "e"), ("202", Some(1952), "f"), ("203", Some(1953), "g")]);
    all.extend([("301", Some(1990), "h"), ("900", None, "i")]);
    let (lines, report) = released(&gate, &rows(&all));
    let count = |line: &str| lines.iter().filter(|known| *known == line).count();
    assert_eq!((count("100 1984"), count("10* 1984"), count("20* 1950"), lines.len()), (3, 3, 3, 9));
    let levels: Vec<(u64, u64, String)> = report
        .released
        .iter()
        .map(|level| (level.groups, level.rows, level.levels[0].1.clone() + " " + &level.levels[1].1))
        .collect();
    assert_eq!(
        levels,
        [
            (1, 3, "as stored as stored".into()),
            (1, 3, "prefix(2) as stored".into()),
            (1, 3, "prefix(2) round(10)".into())
        ]
    );
    // Two rows are fewer than three: their number is not told.
    assert_eq!(report.suppressed_rows, Counted::Few);
}

#[test]
fn persons_are_counted_where_the_policy_names_them() {
    let by_rows = gate("{ k: 3, columns: { zip: [prefix(1)] } }");
    let by_person = gate("{ k: 3, person: who, columns: { zip: [prefix(1)] } }");
    let all = rows(&[("100", Some(1984), "a"); 20]);
    assert_eq!(released(&by_rows, &all).0.len(), 20);
    let (lines, report) = released(&by_person, &all);
    assert_eq!((lines.len(), report.suppressed_rows), (0, Counted::Few));
    let four = rows(&[("100", None, "a"), ("101", None, "b"), ("100", None, "c"), ("101", None, "a")]);
    assert_eq!(released(&by_person, &four).0, vec!["1* -"; 4]);
}

/// Every group of every release has k persons of its own, whatever the table: checked by counting the release itself.
#[test]
fn no_release_has_a_group_below_k() {
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for k in [2, 3, 11] {
        for size in [1, 40, 400] {
            let made: Vec<(String, Option<i16>, String)> = (0..size)
                .map(|_| {
                    let zip = format!("{:03}", next(60));
                    let year = (next(10) > 0).then(|| 1940 + next(60) as i16);
                    (zip, year, format!("p{}", next(size / 2 + 1)))
                })
                .collect();
            let all: Vec<_> = made.iter().map(|(zip, year, who)| (zip.as_str(), *year, who.as_str())).collect();
            let batch = rows(&all);
            let by = if size % 3 == 0 { "" } else { "person: who, " };
            let gate = gate(&format!(
                "{{ k: {k}, {by}columns: {{ zip: [prefix(2), prefix(1)], born: [round(5), round(20), null_out] }} }}"
            ));
            let mut counting = gate.counting(&table(), &batch.schema(), stopped_clock()).unwrap();
            counting.add(&batch).unwrap();
            let decided = counting.decide();
            let out = decided.apply(&batch).unwrap();
            let mut groups: BTreeMap<(Option<String>, Option<String>), Vec<String>> = BTreeMap::new();
            let texts: Vec<StringArray> = (0..4).map(|at| text(out.column(at)).unwrap()).collect();
            let cell = |at: usize, row: usize| texts[at].is_valid(row).then(|| texts[at].value(row).to_owned());
            for row in 0..out.num_rows() {
                let counted = if by.is_empty() { cell(0, row) } else { cell(3, row) };
                groups.entry((cell(1, row), cell(2, row))).or_default().push(counted.unwrap());
            }
            for (group, counted) in groups {
                let people: BTreeSet<&String> = counted.iter().collect();
                assert!(people.len() >= k as usize, "k {k}, {size} rows: {group:?} has {}", people.len());
            }
            let told: u64 = decided.report().released.iter().map(|level| level.rows).sum();
            assert_eq!(told as usize, out.num_rows());
        }
    }
}

#[test]
fn wrong_gates_say_what_is_wrong() {
    let wrong = [
        ("{ k: 1, columns: { zip: [prefix(2)] } }", "`k` cannot be `1`"),
        ("{ k: many, columns: { zip: [prefix(2)] } }", "`k` cannot be `many`"),
        ("{ k: 11 }", "names no columns"),
        ("{ columns: {} }", "names no columns"),
        ("{ columns: { zipp: [prefix(2)] } }", "`zipp` has no rule"),
        ("{ columns: { zip: prefix(2) } }", "no list of levels"),
        ("{ columns: { zip: [] } }", "no levels"),
        ("{ columns: { zip: [prefix(0)] } }", "1 to 64 characters"),
        ("{ columns: { zip: [keep] } }", "makes nothing coarser"),
        ("{ columns: { zip: [hmac_token(x)] } }", "makes nothing coarser"),
        ("{ columns: { zip: [prefx(2)] } }", "there is no transform `prefx`"),
        ("{ person: ssn, columns: { zip: [prefix(2)] } }", "`ssn` has no rule"),
        ("{ column: { zip: [prefix(2)] } }", "no option `column`"),
        ("eleven", "must be a mapping"),
    ];
    for (gate, part) in wrong {
        let said = policy(gate).err().unwrap_or_else(|| panic!("{gate} was read"));
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert_eq!(gate("{ columns: { zip: [prefix(2)] } }").k, 11);
}

#[test]
fn levels_that_do_not_fit_the_stored_type_are_refused() {
    let columns = |data_type: DataType| {
        Schema::new(vec![Field::new("zip", data_type, true), Field::new("who", DataType::Utf8, true)])
    };
    let counting = |levels: &str, data_type: DataType| {
        let gate = gate(&format!("{{ columns: {{ zip: [{levels}] }} }}"));
        gate.counting(&table(), &columns(data_type), stopped_clock()).err().map(|error| error.to_string())
    };
    assert!(counting("prefix(2)", DataType::Int16).unwrap().contains("`prefix(2)` reads text"));
    assert!(counting("date_year", DataType::Int16).unwrap().contains("`date_year` reads dates"));
    assert!(counting("redact(ANY)", DataType::Float64).unwrap().contains("cannot be grouped"));
    assert_eq!(counting("date_trunc(month), date_year, null_out", DataType::Date32), None);
    let gate = gate("{ columns: { born: [round(5)] } }");
    assert!(gate.counting(&table(), &columns(DataType::Utf8), stopped_clock()).is_err());
    let days = Date32Array::from(vec![0]);
    assert_eq!(text(&(Arc::new(days) as ArrayRef)).unwrap().value(0), "1970-01-01");
}

#[test]
fn a_change_of_a_gate_is_told() {
    use Effect::{Alters, Loosens, Tightens};
    let with = |gate: &str| policy(gate).unwrap();
    let plain = Policy::parse(&format!("profile: none\nkeys: k\ntables:\n{TABLE}"), "p").unwrap();
    let eleven = with("{ columns: { zip: [prefix(2)] } }");
    let five = with("{ k: 5, columns: { zip: [prefix(2)] } }");
    let other = with("{ columns: { zip: [prefix(1)] } }");
    for (before, after, expected) in [
        (&plain, &eleven, Tightens),
        (&eleven, &plain, Loosens),
        (&eleven, &five, Loosens),
        (&five, &eleven, Tightens),
        (&eleven, &other, Alters),
    ] {
        let effects: Vec<Effect> = before.changes_to(after).into_iter().map(|difference| difference.effect).collect();
        assert_eq!(effects, [expected]);
    }
    assert_ne!(plain.explain().policy_hash, eleven.explain().policy_hash);
    assert_eq!(eleven.explain().releases[0].1, "k 11; zip: prefix(2)");
}

#[test]
fn tokens_of_bytes_are_counted_each_for_itself() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values([[0xff_u8; 16], [0xfe; 16], [0xff; 16]]));
    let texts = text(&bytes).unwrap();
    assert_eq!((texts.value(0) == texts.value(1), texts.value(0) == texts.value(2)), (false, true));
}
