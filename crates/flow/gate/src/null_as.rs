//! `null_as`: the constant that stands in the lake where the source has null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Scalar, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use crate::gate::Means;
use crate::kernel::{Kernel, Setup};
use crate::policy::Rule;
use crate::transform::{Quantity, Tier};
use crate::{Profile, Transform};

/// Whether a constant may stand for null beside the values of a transform; why not, when not.
pub(crate) fn fits(transform: &Transform) -> std::result::Result<(), &'static str> {
    use Transform as T;
    match transform {
        T::Drop | T::NullOut | T::ScrubText { tier: Tier::Drop, .. } => Err("nothing of the column is stored"),
        T::HmacToken { .. } | T::SivToken { .. } | T::VaultCode { .. } | T::FpeFf1 { .. } => {
            Err("rows without a value would join as if they had the same one")
        }
        T::DateShift { .. } | T::DictSurrogate { .. } | T::EncryptCell { .. } => {
            Err("nobody could tell it from what a person has there")
        }
        T::DateYear | T::DobGeneralise => Err("years are looked at anew each year, and it would be taken for one"),
        T::JsonPaths { .. } | T::X12Map { .. } | T::ScrubText { .. } => Err("it is no document and no free text"),
        T::Keep
        | T::Redact { .. }
        | T::MaskChars { .. }
        | T::DateTrunc { .. }
        | T::AgeCap { .. }
        | T::Zip3
        | T::GeoState
        | T::Bucket { .. }
        | T::Round { .. }
        | T::TopCode { .. }
        | T::Hierarchy { .. } => Ok(()),
    }
}

/// The constant of a rule as a column of one value; `None` when null stays null.
///
/// # Errors
/// What is wrong with it: it has another type than the column, or the transform would make something else of it, so that it would show what the
/// transform hides.
pub(crate) fn constant(rule: &Rule, output: &DataType) -> std::result::Result<Option<ArrayRef>, String> {
    let Some(text) = &rule.null_as else { return Ok(None) };
    let unfit = || format!("`{text}` is not {}", named(output));
    let value = parsed(text, output).ok_or_else(unfit)?;
    let means = Means::none();
    let setup = Setup { profile: Profile::None, means: &means, table: None };
    let passed = Kernel::new(rule, output, &setup).ok().flatten().and_then(|kernel| kernel.alone(&value).ok());
    let passed = passed.ok_or_else(unfit)?;
    match passed.invalid > 0 || *passed.values == *value {
        true => Ok(Some(value)),
        false => Err(format!("`{text}` is a value that `{}` would make another of", rule.transform)),
    }
}

fn parsed(text: &str, data_type: &DataType) -> Option<ArrayRef> {
    let is_exact = match data_type {
        DataType::Decimal128(..) => Quantity::parse(text).is_some_and(|number| number.fits(data_type)),
        DataType::Binary | DataType::LargeBinary => false,
        _ => !data_type.is_nested(),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let text = StringArray::from(vec![text]);
    let value = is_exact.then(|| cast_with_options(&text, data_type, &options).ok()).flatten()?;
    value.is_valid(0).then_some(value)
}

/// A type in a policy's words.
fn named(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => "text".into(),
        DataType::Boolean => "true or false".into(),
        DataType::Date32 => "a date like 2024-02-29".into(),
        DataType::Timestamp(..) => "a time like 2024-02-29T00:00:00Z".into(),
        DataType::Decimal128(_, scale) => format!("a number with at most {scale} decimals that the column can hold"),
        DataType::Float32 | DataType::Float64 => "a number".into(),
        other if other.is_integer() => "a whole number that the column can hold".into(),
        _ => "of the column's type, which no text stands for".into(),
    }
}

/// The values with the constant in the rows for which `is_null` holds.
pub(crate) fn filled(values: &ArrayRef, constant: &ArrayRef, is_null: impl Fn(usize) -> bool) -> Result<ArrayRef> {
    let rows: BooleanArray = (0..values.len()).map(|row| Some(is_null(row))).collect();
    if rows.true_count() == 0 {
        return Ok(values.clone());
    }
    zip(&rows, &Scalar::new(Arc::clone(constant)), values)
        .map_err(|_| Error::new(Kind::Bug, "what stands for null has another type than its column"))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::Policy;

    fn rule(transform: &str, constant: &str) -> std::result::Result<Rule, String> {
        let text = format!(
            "profile: none\nkeys: k\ntables:\n  db.public.t:\n    v: {{ transform: {transform}, null_as: '{constant}', subject: s }}\n    s: keep\n"
        );
        let subject = ["date_shift", "dict_surrogate", "encrypt_cell"].iter().any(|name| transform.starts_with(name));
        let text = if subject { text } else { text.replace(", subject: s", "") };
        let policy = Policy::parse(&text, "p").map_err(|problems| problems[0].what.clone())?;
        let rule = policy.rules().find(|(_, rule)| rule.column == "v").unwrap().1.clone();
        Ok(rule)
    }

    fn check(transform: &str, input: &DataType, constant: &str) -> std::result::Result<(), String> {
        let rule = rule(transform, constant)?;
        let output = rule.transform.output(input).unwrap().unwrap();
        let value = super::constant(&rule, &output)?.unwrap();
        assert_eq!((value.data_type(), value.len()), (&output, 1));
        Ok(())
    }

    #[test]
    fn a_constant_is_of_the_columns_type_and_nothing_that_the_transform_hides() {
        use DataType::{Boolean, Date32, Decimal128, Float64, Int16, Int32, Utf8};
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let right: [(&str, &DataType, &str); 21] = [
            ("keep", &Utf8, "unknown"),
            ("keep", &Int32, "-1"),
            ("keep", &Boolean, "false"),
            ("keep", &Float64, "-0.5"),
            ("keep", &Decimal128(12, 2), "-1.05"),
            ("keep", &Date32, "1900-01-01"),
            ("keep", &time, "1900-01-01T00:00:00Z"),
            ("redact(NAME)", &Utf8, "[NAME]"),
            ("mask_chars(4)", &Utf8, "********"),
            ("date_trunc(month)", &Date32, "1900-01-01"),
            ("age_cap", &Int32, "-1"),
            ("age_cap", &Int32, "90"),
            ("age_cap(text)", &Int32, "unknown"),
            ("age_cap(text)", &Int32, "90+"),
            ("zip3", &Utf8, "000"),
            ("geo_state", &Utf8, "XX"),
            ("bucket(0 18)", &Int32, "unknown"),
            ("round(100)", &Int32, "-100"),
            ("top_code(500)", &Int32, "-1"),
            ("top_code(500)", &Decimal128(12, 2), "500"),
            ("hierarchy(icd10 category)", &Utf8, "OTHER"),
        ];
        for (transform, input, constant) in right {
            check(transform, input, constant).unwrap_or_else(|what| panic!("{transform} null as {constant}: {what}"));
        }
        let wrong: [(&str, &DataType, &str, &str); 17] = [
            ("keep", &Int16, "none", "`none` is not a whole number that the column can hold"),
            ("keep", &Int16, "40000", "is not a whole number"),
            ("keep", &Decimal128(12, 2), "0.005", "at most 2 decimals"),
            ("keep", &Boolean, "unknown", "is not true or false"),
            ("keep", &Date32, "2023-02-29", "is not a date"),
            ("keep", &DataType::Binary, "00", "which no text stands for"),
            ("redact(NAME)", &Utf8, "Ann", "would make another of"),
            ("mask_chars(4)", &Utf8, "078-05-1120", "would make another of"),
            ("date_trunc(month)", &Date32, "1900-01-02", "would make another of"),
            ("age_cap", &Int32, "93", "`93` is a value that `age_cap` would make another of"),
            ("age_cap", &Int32, "unknown", "is not a whole number"),
            ("age_cap(text)", &Int32, "93", "would make another of"),
            ("zip3", &Utf8, "02139", "would make another of"),
            ("geo_state", &Utf8, "New York", "would make another of"),
            ("bucket(0 18)", &Int32, "17", "would make another of"),
            ("top_code(500)", &Int32, "900", "would make another of"),
            ("hierarchy(icd10 category)", &Utf8, "E11.9", "would make another of"),
        ];
        for (transform, input, constant, part) in wrong {
            let what = check(transform, input, constant).unwrap_err();
            assert!(what.contains(part), "{transform} null as {constant}: {what}");
        }
    }

    #[test]
    fn where_it_has_no_place_the_policy_is_refused_with_the_reason() {
        let cases = [
            ("drop", "nothing of the column"),
            ("null_out", "nothing of the column"),
            ("scrub_text(drop)", "nothing of the column"),
            ("hmac_token(a)", "would join"),
            ("hmac_token(a binary)", "would join"),
            ("siv_token(a)", "would join"),
            ("vault_code(a int64)", "would join"),
            ("fpe_ff1(a ssn)", "would join"),
            ("date_shift(p 30)", "nobody could tell"),
            ("dict_surrogate(city p)", "nobody could tell"),
            ("encrypt_cell(p)", "nobody could tell"),
            ("date_year", "looked at anew each year"),
            ("dob_generalise", "looked at anew each year"),
            ("x12_map(835)", "no document"),
        ];
        for (transform, why) in cases {
            let what = rule(transform, "none").unwrap_err();
            assert!(what.contains("`null_as` has no place beside") && what.contains(why), "{transform}: {what}");
        }
    }
}
