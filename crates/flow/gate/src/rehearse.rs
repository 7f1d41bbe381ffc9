//! A policy applied to made-up values, so that people see what it does before a real row is read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, StringArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use change::{Clock, Error, Kind, Result, TableName};
use zeroize::Zeroizing;

use crate::calendar::Date;
use crate::class::{Class, classify};
use crate::gate::Means;
use crate::json::push_text;
use crate::json_path::Branch;
use crate::kernel::scrub::KnownCells;
use crate::kernel::subject::{Beside, SubjectCells};
use crate::kernel::{Kernel, Setup};
use crate::policy::{OnInvalid, Policy, Rule};
use crate::suppress::Suppression;
use crate::transform::{CodeLevel, Format, Quantity};
use crate::{CellKey, CellKeys, EntityFinder, KeyRing, Label, NotSearched, Transform, Vault};

/// What one rule does to made-up values: [`Policy::rehearse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
    /// The transform as the policy spells it.
    pub transform: String,
    /// Made-up values, before and after; an absent `after` is not stored at all.
    pub values: Vec<(String, Option<String>)>,
}

/// Codes as a vault would give them, but made from the index: a vault's own are random.
struct PretendVault;

impl Vault for PretendVault {
    fn id(&self) -> Result<String> {
        Ok("PretendVault".into())
    }

    fn codes(&self, _: &str, index: &[[u8; 32]]) -> Result<Vec<[u8; 16]>> {
        Ok(index.iter().map(|index| std::array::from_fn(|at| index[at])).collect())
    }

    fn find(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<[u8; 16]>>> {
        Ok(self.codes(domain, index)?.into_iter().map(Some).collect())
    }

    fn numbers(&self, _: &str, index: &[[u8; 32]]) -> Result<Vec<i64>> {
        let number = |index: &[u8; 32]| i64::from_be_bytes(std::array::from_fn(|at| index[at])) & i64::MAX;
        Ok(index.iter().map(number).collect())
    }

    fn find_numbers(&self, domain: &str, index: &[[u8; 32]]) -> Result<Vec<Option<i64>>> {
        Ok(self.numbers(domain, index)?.into_iter().map(Some).collect())
    }
}

/// Keys made from the index, and no randomness: the cells are made up like everything else.
impl CellKeys for PretendVault {
    fn id(&self) -> Result<String> {
        Vault::id(self)
    }

    fn of_persons(&self, _: &str, index: &[[u8; 32]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        let key = |index: &[u8; 32]| CellKey::new(std::array::from_fn(|at| index[at]), *index, Zeroizing::new(*index));
        Ok(index.iter().map(|index| Some(Arc::new(key(index)))).collect())
    }

    fn find(&self, _: &str, ids: &[[u8; 16]]) -> Result<Vec<Option<Arc<CellKey>>>> {
        Ok(ids.iter().map(|_| None).collect())
    }

    fn random(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

/// Finds nothing: the rehearsal shows what the detectors do, and reads no model.
struct PretendModel;

impl EntityFinder for PretendModel {
    fn model(&self) -> &str {
        "PretendModel"
    }

    fn find(&self, _: &str) -> std::result::Result<Vec<(Range<usize>, Label)>, NotSearched> {
        Ok(Vec::new())
    }
}

impl Policy {
    /// Applies every column's rule to made-up values: usual ones, one at a border, one that cannot be read, and null. Keys and vault are
    /// made up too, so that tokens differ from those of a run; no model is asked; `clock` tells the day on which ages depend.
    ///
    /// # Errors
    /// [`Kind::Bug`] only: the values are made to fit.
    pub fn rehearse(&self, clock: Arc<dyn Clock>) -> Result<Vec<Rehearsed>> {
        let today = Date::from_timestamp(clock.now());
        let text = KeyRing::generate("rehearsal", Zeroizing::new(std::array::from_fn(|index| index as u8)))?;
        let means = Means {
            keys: Some(Arc::new(KeyRing::parse(&text)?)),
            vault: Some(Arc::new(PretendVault)),
            cell_keys: Some(Arc::new(PretendVault)),
            entities: Some(Arc::new(PretendModel)),
            clock,
            suppression: Suppression::default(),
        };
        let columns = self.tables.iter().flat_map(|(table, rules)| rules.columns.iter().map(move |rule| (table, rule)));
        columns
            .map(|(table, rule)| {
                let setup = Setup { profile: self.profile, means: &means, table: Some(table) };
                let values =
                    values(rule, &setup, today).map_err(|error| error.context(format!("{table}.{}", rule.column)))?;
                Ok(Rehearsed {
                    table: table.clone(),
                    column: rule.column.clone(),
                    transform: rule.transform.to_string(),
                    values,
                })
            })
            .collect()
    }
}

fn values(rule: &Rule, setup: &Setup<'_>, today: Date) -> Result<Vec<(String, Option<String>)>> {
    let raw = made_up(rule);
    let before = shown(&raw)?;
    let Some(kernel) = Kernel::new(rule, raw.data_type(), setup)? else {
        return Ok(before.into_iter().map(|value| (value, None)).collect());
    };
    // The first two rows are one person's; the last has none.
    let persons =
        StringArray::from_iter((0..raw.len()).map(|row| (row + 1 < raw.len()).then_some(["Ann", "Bob"][row / 2 % 2])));
    let subject = rule.subject.as_ref().map(|_| SubjectCells { values: &persons, unsent: None });
    let columns = rule.transform.known_columns();
    let searched = StringArray::from(vec!["Jane Sample"; raw.len()]);
    let cells = |column| KnownCells { column, values: &searched, unsent: None };
    let known: Vec<KnownCells<'_>> = columns.into_iter().map(cells).collect();
    let passed = kernel.apply(&raw, Beside { today, subject, known: &known })?;
    let after = shown(&passed.values)?;
    let unreadable = match rule.on_invalid {
        OnInvalid::Null => "null (cannot be read)",
        OnInvalid::Hold => "the row is held (cannot be read)",
        OnInvalid::Halt => "the table stops (cannot be read)",
    };
    let after =
        after.into_iter().enumerate().map(|(row, after)| match passed.values.is_null(row) && raw.is_valid(row) {
            true if !matches!(rule.transform, Transform::NullOut) => unreadable.to_owned(),
            _ if raw.is_null(row) => rule.null_as.clone().unwrap_or(after),
            _ => after,
        });
    Ok(before.into_iter().zip(after.map(Some)).collect())
}

/// Each value as people read it.
fn shown(array: &ArrayRef) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("null");
    let unfit = |_| Error::new(Kind::Bug, "a made-up value cannot be shown");
    let formatter = ArrayFormatter::try_new(array, &options).map_err(unfit)?;
    (0..array.len()).map(|row| formatter.value(row).try_to_string().map_err(unfit)).collect()
}

/// Values of a type that the transform reads, and of the kind that the column's name tells.
fn made_up(rule: &Rule) -> ArrayRef {
    use Transform as T;
    let text = |values: &[&str]| Arc::new(StringArray::from_iter(values.iter().map(Some).chain([None]))) as ArrayRef;
    let class = classify(&rule.column);
    match &rule.transform {
        T::DateYear | T::DateTrunc { .. } | T::DateShift { .. } | T::DobGeneralise => dates(),
        T::AgeCap { .. } => Arc::new(Int32Array::from(vec![Some(7), Some(89), Some(93), Some(-1), None])),
        T::Bucket { .. } => amounts(),
        T::Round { step } => numbers(*step),
        T::TopCode { cap } => numbers(*cap),
        T::Zip3 => text(&["10025", "03601", "10025-1234", "SW1A 1AA"]),
        T::GeoState => text(&["NY", "new york", "Bavaria"]),
        T::Hierarchy { level: CodeLevel::Icd10Category | CodeLevel::Icd10Chapter } => text(&["E11.9", "C50911", "n/a"]),
        T::Hierarchy { .. } => text(&["0071-0155-23", "00071015523", "n/a"]),
        T::FpeFf1 { format, .. } => text(&[&of_format(*format), "n/a"]),
        T::JsonPaths { paths } => match Branch::of(paths.0.iter().map(|(path, _)| path)) {
            Ok(tree) => {
                text(&[&document(&tree, paths.0.iter().map(|(_, rule)| rule).collect::<Vec<_>>().as_slice()), "n/a"])
            }
            // Never: the policy's reader has put the same paths together.
            Err(_) => text(&["n/a"]),
        },
        T::X12Map { map } => text(&[map.ready.sample(), "n/a"]),
        T::ScrubText { .. } => text(of_class(Some(Class::FreeText))),
        _ => match class {
            Some(Class::Birth | Class::Death | Class::Date) => dates(),
            Some(Class::Amount) => amounts(),
            Some(Class::Age) => Arc::new(Int32Array::from(vec![Some(7), Some(93), None])),
            _ => text(of_class(class)),
        },
    }
}

fn dates() -> ArrayRef {
    let days = ["1984-07-16", "2024-02-29", "1931-05-08"].map(|text| Date::parse(text).map(Date::to_days));
    Arc::new(Date32Array::from_iter(days.into_iter().chain([None])))
}

fn amounts() -> ArrayRef {
    let cents = Decimal128Array::from(vec![Some(12_345), Some(99_999_999), Some(-1), None]);
    // Twelve digits hold them; a column of another precision would do as well.
    Arc::new(cents.with_data_type(DataType::Decimal128(12, 2)))
}

fn numbers(argument: Quantity) -> ArrayRef {
    match argument.fits(&DataType::Decimal128(12, 2)) {
        true => amounts(),
        false => Arc::new(Float64Array::from(vec![Some(0.123_456), Some(987_654.321), Some(f64::NAN), None])),
    }
}

/// Values that nobody has: numbers that are never issued, names of no one.
fn of_class(class: Option<Class>) -> &'static [&'static str] {
    match class {
        Some(Class::Name) => &["Jane Sample", "Jörg O'Test"],
        Some(Class::Street) => &["1 Example Street, Apt 2"],
        Some(Class::Place) => &["Sampleton"],
        Some(Class::Zip) => &["10025", "03601"],
        Some(Class::State) => &["NY", "tx"],
        Some(Class::Phone) => &["(212) 555-0100"],
        Some(Class::Email) => &["jane@example.com"],
        Some(Class::Ssn) => &["078-05-1120", "078051120"],
        Some(Class::HealthPlan) => &["1EG4-TE5-MK73", "1EG4TE5MK73"],
        Some(Class::Network) => &["https://example.com/u/7", "192.0.2.1"],
        Some(Class::FreeText) => &["Jane Sample called on 3/14 about her 078-05-1120."],
        Some(Class::Code) => &["A1", "B2"],
        _ => &["SAMPLE-0001", "0001"],
    }
}

fn of_format(format: Format) -> String {
    match format {
        Format::Digits(length) => format!("{:0>1$}", "12345", usize::from(length)),
        Format::Alphanumeric(length) => format!("{:0>1$}", "AB12", usize::from(length)),
        Format::Ssn => "078-05-1120".into(),
        Format::Npi => "1234567893".into(),
        Format::Mbi => "1EG4-TE5-MK73".into(),
    }
}

/// A document with a value at every path and one that no path names.
fn document(tree: &Branch, rules: &[&Rule]) -> String {
    let mut out = Vec::new();
    push_branch(&mut out, tree, rules);
    String::from_utf8_lossy(&out).into_owned()
}

fn push_branch(out: &mut Vec<u8>, branch: &Branch, rules: &[&Rule]) {
    match branch {
        Branch::Leaf(number) => {
            let values = shown(&made_up(rules[*number])).unwrap_or_default();
            push_text(out, values.first().map_or("", String::as_str));
        }
        Branch::Items(item) => {
            out.push(b'[');
            push_branch(out, item, rules);
            out.push(b']');
        }
        Branch::Object(keys) => {
            out.push(b'{');
            for (key, branch) in keys {
                push_text(out, key);
                out.push(b':');
                push_branch(out, branch, rules);
                out.push(b',');
            }
            out.extend_from_slice(br#""unnamed":"Jane Sample"}"#);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::stopped_clock;

    #[test]
    fn every_rule_is_shown_on_values_that_it_reads() {
        let rules = "
    ssn: drop
    first_name: redact(NAME)
    member_id: hmac_token(member)
    mbi: siv_token(mbi)
    chart: vault_code(chart)
    npi: fpe_ff1(provider,npi)
    birth_date: dob_generalise
    seen: { transform: date_shift(person 30), subject: member_id }
    age: age_cap
    zip: zip3
    state: { transform: geo_state, on_invalid: halt }
    total_paid: top_code(5000)
    weight: round(0.0005)
    code: hierarchy(icd10,category)
    payload:
      transform: json_paths
      paths: { patient.ssn: hmac_token(ssn), total: keep }
    blank: null_out
    city: { transform: dict_surrogate(city person), subject: member_id }
    chart_note: { transform: encrypt_cell(patient), subject: member_id }
    status: keep
";
        let text = format!("profile: limited_data_set\nkeys: k\ntables:\n  db.public.t:{rules}");
        let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
        let shown = policy.rehearse(stopped_clock()).unwrap();
        assert_eq!(shown.len(), 19);
        let of = |column: &str| -> Vec<(&str, Option<&str>)> {
            let found = shown.iter().find(|shown| shown.column == column).unwrap();
            found.values.iter().map(|(before, after)| (before.as_str(), after.as_deref())).collect()
        };
        assert_eq!(of("ssn")[0], ("078-05-1120", None));
        assert_eq!(of("first_name")[0], ("Jane Sample", Some("[NAME]")));
        assert_eq!(of("birth_date")[2], ("1931-05-08", Some("1936")));
        assert_eq!(of("age")[2..4], [("93", Some("90")), ("-1", Some("null (cannot be read)"))]);
        assert_eq!(of("zip")[1], ("03601", Some("000")));
        assert_eq!(of("state")[2], ("Bavaria", Some("the table stops (cannot be read)")));
        assert_eq!(of("total_paid")[1], ("999999.99", Some("5000.00")));
        assert_eq!(of("code")[0], ("E11.9", Some("E11")));
        assert_eq!(of("status")[0], ("A1", Some("A1")));
        assert_eq!(of("blank")[0].1, Some("null"));
        let (before, after) = of("payload")[0];
        assert!(before.contains("078-05-1120") && before.contains("Jane"));
        assert!(after.unwrap().starts_with(r#"{"patient":{"ssn":"ssn.1."#) && !after.unwrap().contains("Jane"));
        for shown in &shown {
            let passes =
                |(before, after): &(String, Option<String>)| before.len() > 4 && after.as_ref() == Some(before);
            let small = ["keep", "top_code(5000)", "round(0.0005)"].contains(&shown.transform.as_str());
            assert!(small || !shown.values.iter().any(passes), "{shown:?}");
            assert_eq!(shown.values.last().unwrap().0, "null");
        }
    }
}
