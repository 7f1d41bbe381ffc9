//! `age_cap` and `bucket`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int16Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type,
};
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};
use super::dates::OLDEST_AGE;

/// The age that stands for itself and everything above: 45 CFR 164.514(b)(2)(i)(C).
const AGE_CAP: i16 = 90;

/// Whether the type holds numbers, or text that may.
pub(crate) fn can_read(data_type: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, UInt8, UInt16, UInt32, Utf8};
    matches!(
        data_type,
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Float32 | Float64 | Decimal128(..) | Utf8 | LargeUtf8
    )
}

/// Ages in whole years; 90 stands for 90 and more. Negative ages and ages above 130 cannot be read.
pub(crate) fn age(array: &dyn Array) -> Result<Passed> {
    let mut ages = Vec::with_capacity(array.len());
    let mut invalid = 0;
    for_each(array, f64::from(AGE_CAP), |value| {
        ages.push(match value {
            None => None,
            Some(Some(age)) if is_age(age) => Some((age as i16).min(AGE_CAP)),
            Some(_) => {
                invalid += 1;
                None
            }
        });
    })?;
    Ok(Passed { values: Arc::new(Int16Array::from(ages)) as ArrayRef, invalid })
}

/// As [`age`], as text: `89`, and `90+` for 90 and more.
pub(crate) fn age_text(array: &dyn Array) -> Result<Passed> {
    let names: Vec<String> = (0..AGE_CAP).map(|age| age.to_string()).chain([format!("{AGE_CAP}+")]).collect();
    let mut column = TextColumn::with_capacity(array.len(), 3);
    for_each(array, f64::from(AGE_CAP), |value| match value {
        None => column.push_null(),
        Some(Some(age)) if is_age(age) => column.push(names[(age as usize).min(names.len() - 1)].as_bytes(), b""),
        Some(_) => column.push_invalid(),
    })?;
    column.finish()
}

fn is_age(number: f64) -> bool {
    number >= 0.0 && number < f64::from(OLDEST_AGE) + 1.0
}

/// The borders of a [`bucket`](Edges::apply): ascending numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Edges(Vec<f64>);

impl Edges {
    /// Reads the borders as the policy spells them.
    ///
    /// # Errors
    /// A sentence when there is none, one is not a number, or they do not ascend.
    pub(crate) fn parse(edges: &[&str]) -> Result<Self, String> {
        let numbers: Vec<f64> = edges
            .iter()
            .map(|edge| {
                edge.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or(format!("`{edge}` is not a number"))
            })
            .collect::<Result<_, _>>()?;
        if numbers.is_empty() {
            return Err("a bucket needs at least one border".into());
        }
        if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("the borders must ascend".into());
        }
        Ok(Self(numbers))
    }

    /// Whether all borders of `other` are borders here.
    pub(crate) fn contains(&self, other: &Edges) -> bool {
        other.0.iter().all(|edge| self.0.contains(edge))
    }

    /// The name of each bucket, from below the first border to above the last: `<0`, `[0,18)`, `>=18`.
    fn names(&self) -> Vec<String> {
        let mut names = vec![format!("<{}", self.0[0])];
        names.extend(self.0.windows(2).map(|pair| format!("[{},{})", pair[0], pair[1])));
        names.extend(self.0.last().map(|last| format!(">={last}")));
        names
    }

    /// The bucket that each number lies in. What is not a number cannot be read.
    pub(crate) fn apply(&self, array: &dyn Array) -> Result<Passed> {
        let names = self.names();
        let mut column = TextColumn::with_capacity(array.len(), names.iter().map(String::len).max().unwrap_or(0));
        let top = self.0.last().copied().unwrap_or(f64::INFINITY);
        for_each(array, top, |value| match value {
            None => column.push_null(),
            Some(Some(number)) if !number.is_nan() => {
                column.push(names[self.0.partition_point(|edge| *edge <= number)].as_bytes(), b"");
            }
            Some(_) => column.push_invalid(),
        })?;
        column.finish()
    }
}

impl Eq for Edges {}

impl fmt::Display for Edges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edges: Vec<String> = self.0.iter().map(f64::to_string).collect();
        f.write_str(&edges.join(","))
    }
}

/// Calls `each` with every row: null, a number, or something that is not one. A bucket's border is far coarser than the rounding of
/// a large decimal to a float. Text like `90+` is a number from `top` on: nobody can say which it is below.
fn for_each(array: &dyn Array, top: f64, each: impl FnMut(Option<Option<f64>>)) -> Result<()> {
    match array.data_type() {
        DataType::Int8 => numbers::<Int8Type>(array.as_primitive(), f64::from, each),
        DataType::Int16 => numbers::<Int16Type>(array.as_primitive(), f64::from, each),
        DataType::Int32 => numbers::<Int32Type>(array.as_primitive(), f64::from, each),
        DataType::Int64 => numbers::<Int64Type>(array.as_primitive(), |number| number as f64, each),
        DataType::UInt8 => numbers::<UInt8Type>(array.as_primitive(), f64::from, each),
        DataType::UInt16 => numbers::<UInt16Type>(array.as_primitive(), f64::from, each),
        DataType::UInt32 => numbers::<UInt32Type>(array.as_primitive(), f64::from, each),
        DataType::Float32 => numbers::<Float32Type>(array.as_primitive(), f64::from, each),
        DataType::Float64 => numbers::<Float64Type>(array.as_primitive(), |number| number, each),
        DataType::Decimal128(_, scale) => {
            let unit = 10f64.powi(i32::from(*scale));
            numbers::<Decimal128Type>(array.as_primitive(), |number| number as f64 / unit, each);
        }
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| text.map(|text| number(text, top))).for_each(each),
        DataType::LargeUtf8 => {
            array.as_string::<i64>().iter().map(|text| text.map(|text| number(text, top))).for_each(each)
        }
        other => return Err(Error::new(Kind::Bug, format!("a number was asked of a column of type {other}"))),
    }
    Ok(())
}

fn numbers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    to_float: impl Fn(T::Native) -> f64,
    each: impl FnMut(Option<Option<f64>>),
) {
    array.iter().map(|value| value.map(|value| Some(to_float(value)))).for_each(each);
}

/// A number as text has it: digits, sign, point and exponent; not `inf` or `nan`. With a plus behind it when it is at least `top`.
fn number(text: &str, top: f64) -> Option<f64> {
    let text = text.trim();
    let (digits, or_more) = text.strip_suffix('+').map_or((text, false), |digits| (digits, true));
    digits.parse::<f64>().ok().filter(|number| number.is_finite() && (!or_more || *number >= top))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int32Array, StringArray};

    use super::*;

    #[test]
    fn ages_stop_at_ninety() {
        let passed =
            age(&Int32Array::from(vec![Some(0), Some(89), Some(90), Some(130), Some(131), Some(-1), None])).unwrap();
        let ages: Vec<_> = passed.values.as_primitive::<Int16Type>().iter().collect();
        assert_eq!(ages, [Some(0), Some(89), Some(90), Some(90), None, None, None]);
        assert_eq!(passed.invalid, 2);
        let text = age(&StringArray::from(vec!["89.9", "12", "old", "nan", "inf", "90+", "89+", "+"])).unwrap();
        assert_eq!(
            text.values.as_primitive::<Int16Type>().iter().collect::<Vec<_>>(),
            [Some(89), Some(12), None, None, None, Some(90), None, None]
        );
    }

    #[test]
    fn ages_as_text_say_that_ninety_is_no_age() {
        let ages = Int32Array::from(vec![Some(0), Some(89), Some(90), Some(91), Some(130), Some(131), Some(-1), None]);
        let passed = age_text(&ages).unwrap();
        let texts: Vec<_> = passed.values.as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("0"), Some("89"), Some("90+"), Some("90+"), Some("90+"), None, None, None]);
        assert_eq!(passed.invalid, 2);
        // What it has written it reads again, and a bucket does where it can say which.
        assert_eq!(&age_text(&passed.values).unwrap().values, &passed.values);
        let bucket = |edges: &[&str]| {
            let found = Edges::parse(edges).unwrap().apply(&StringArray::from(vec!["90+"])).unwrap();
            (found.values.as_string::<i32>().iter().next().flatten().map(str::to_owned), found.invalid)
        };
        assert_eq!(bucket(&["18", "90"]), (Some(">=90".into()), 0));
        assert_eq!(bucket(&["18", "95"]), (None, 1));
    }

    #[test]
    fn a_number_lies_in_the_bucket_that_its_lower_border_opens() {
        let edges = Edges::parse(&["0", "18", "65.5"]).unwrap();
        let names = |array: &dyn Array| {
            let passed = edges.apply(array).unwrap();
            let names = passed.values.as_string::<i32>().iter().map(|name| name.unwrap_or("null").to_owned());
            (names.collect::<Vec<_>>().join(" "), passed.invalid)
        };
        let numbers = Int32Array::from(vec![Some(-1), Some(0), Some(17), Some(18), Some(66), None]);
        assert_eq!(names(&numbers), ("<0 [0,18) [0,18) [18,65.5) >=65.5 null".into(), 0));
        let decimals = Decimal128Array::from(vec![6549, 6550]).with_precision_and_scale(12, 2).unwrap();
        assert_eq!(names(&decimals), ("[18,65.5) >=65.5".into(), 0));
        let floats = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
        assert_eq!(names(&floats), ("null >=65.5 <0 [0,18)".into(), 1));
        assert_eq!(names(&StringArray::from(vec!["17.99", "x"])), ("[0,18) null".into(), 1));
        for wrong in [vec![], vec!["a"], vec!["2", "1"], vec!["1", "1"], vec!["nan"]] {
            assert!(Edges::parse(&wrong).is_err());
        }
    }
}
