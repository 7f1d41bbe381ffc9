//! `round` and `top_code`: numbers that keep their type and lose what singles a person out.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use change::{Error, Kind, Result};

use super::column::Passed;

/// An exact decimal number, as the policy writes it: `0.05`, `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    digits: i128,
    /// Digits behind the point; the last is not zero.
    scale: u8,
}

/// More digits than this are no money and no measure.
const DIGITS_MAX: usize = 18;

impl Quantity {
    /// Reads digits, perhaps with a sign and a point.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction = fraction.trim_end_matches('0');
        let joined = format!("{whole}{fraction}");
        let unsigned = joined.strip_prefix('-').unwrap_or(&joined);
        if unsigned.is_empty() || unsigned.len() > DIGITS_MAX || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { digits: joined.parse().ok()?, scale: fraction.len() as u8 })
    }

    /// Whether the number is above zero.
    pub(crate) fn is_positive(self) -> bool {
        self.digits > 0
    }

    /// Whether both can be said exactly in a column of the type.
    pub(crate) fn fits(self, data_type: &DataType) -> bool {
        use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64};
        match data_type {
            Int8 | Int16 | Int32 | Int64 => self.scale == 0,
            Decimal128(_, scale) => u8::try_from(*scale).is_ok_and(|scale| self.scale <= scale),
            Float32 | Float64 => true,
            _ => false,
        }
    }

    /// Whether every value of the type is a multiple of it.
    pub(crate) fn is_unit_of(self, data_type: &DataType) -> bool {
        use DataType::{Decimal128, Int8, Int16, Int32, Int64};
        let scale = match data_type {
            Int8 | Int16 | Int32 | Int64 => Some(0),
            Decimal128(_, scale) => u8::try_from(*scale).ok(),
            _ => None,
        };
        scale.and_then(|scale| self.units(scale)) == Some(1)
    }

    /// The number in units of ten to the power of minus `scale`.
    fn units(self, scale: u8) -> Option<i128> {
        10i128.checked_pow(u32::from(scale.checked_sub(self.scale)?))?.checked_mul(self.digits)
    }

    fn to_float(self) -> f64 {
        self.digits as f64 / 10f64.powi(i32::from(self.scale))
    }
}

/// Whether of two numbers the first is the smaller; `None` when they are too far apart in scale to be compared.
pub(crate) fn is_smaller(first: Quantity, second: Quantity) -> Option<bool> {
    let scale = first.scale.max(second.scale);
    Some(first.units(scale)? < second.units(scale)?)
}

/// The nearest multiple of `step`; a half goes away from zero.
pub(crate) fn round(array: &dyn Array, step: Quantity) -> Result<Passed> {
    let whole = |value: i128, step: i128| {
        let rounded = (value.abs() + step / 2) / step * step;
        Some(if value < 0 { -rounded } else { rounded })
    };
    let float = |value: f64, step: f64| Some((value / step).round() * step).filter(|rounded| rounded.is_finite());
    map(array, step, whole, float)
}

/// The number, and for all above `cap` the cap.
pub(crate) fn top_code(array: &dyn Array, cap: Quantity) -> Result<Passed> {
    map(array, cap, |value, cap| Some(value.min(cap)), |value, cap| Some(value.min(cap)).filter(|_| !value.is_nan()))
}

fn map(
    array: &dyn Array,
    by: Quantity,
    whole: impl Fn(i128, i128) -> Option<i128>,
    float: impl Fn(f64, f64) -> Option<f64>,
) -> Result<Passed> {
    let unfit = || Error::new(Kind::Bug, format!("{by} was asked of a column of type {}", array.data_type()));
    let units = |scale: u8| by.units(scale).ok_or_else(unfit);
    Ok(match array.data_type() {
        DataType::Int8 => integers::<Int8Type>(array.as_primitive(), units(0)?, whole),
        DataType::Int16 => integers::<Int16Type>(array.as_primitive(), units(0)?, whole),
        DataType::Int32 => integers::<Int32Type>(array.as_primitive(), units(0)?, whole),
        DataType::Int64 => integers::<Int64Type>(array.as_primitive(), units(0)?, whole),
        DataType::Decimal128(precision, scale) => {
            let units = units(scale.unsigned_abs())?;
            let beyond = 10i128.checked_pow(u32::from(*precision)).ok_or_else(unfit)?;
            values::<Decimal128Type>(array.as_primitive(), |value| {
                whole(value, units).filter(|value| value.abs() < beyond)
            })
        }
        DataType::Float32 => values::<Float32Type>(array.as_primitive(), |value| {
            float(f64::from(value), by.to_float()).map(|value| value as f32)
        }),
        DataType::Float64 => values::<Float64Type>(array.as_primitive(), |value| float(value, by.to_float())),
        _ => return Err(unfit()),
    })
}

fn integers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    units: i128,
    whole: impl Fn(i128, i128) -> Option<i128>,
) -> Passed
where
    T::Native: Into<i64> + TryFrom<i128>,
{
    values(array, |value| {
        let value: i64 = value.into();
        whole(i128::from(value), units).and_then(|value| T::Native::try_from(value).ok())
    })
}

fn values<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, of: impl Fn(T::Native) -> Option<T::Native>) -> Passed {
    let mut invalid = 0;
    let mut read = |value: Option<T::Native>| {
        let read = of(value?);
        invalid += u64::from(read.is_none());
        read
    };
    let values: PrimitiveArray<T> = array.iter().map(&mut read).collect();
    Passed { values: Arc::new(values.with_data_type(array.data_type().clone())), invalid }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:0>1$}", self.digits.unsigned_abs(), usize::from(self.scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(self.scale));
        let (sign, point) = (if self.digits < 0 { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Float64Array, Int16Array};

    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn quantities_are_exact_and_spelt_as_they_are_read() {
        for (text, spelt) in [("0.05", "0.05"), ("1000", "1000"), ("-2.50", "-2.5"), ("0.00", "0"), ("007", "7")] {
            assert_eq!(quantity(text).to_string(), spelt);
        }
        for text in ["", "-", "1e3", "1.2.3", "x", "1,5", "+1", "1234567890123456789"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert!(is_smaller(quantity("0.99"), quantity("1")).unwrap());
        assert!(quantity("0.05").fits(&DataType::Decimal128(12, 2)) && !quantity("0.05").fits(&DataType::Int32));
        assert!(
            quantity("0.01").is_unit_of(&DataType::Decimal128(12, 2)) && quantity("1").is_unit_of(&DataType::Int16)
        );
        assert!(!quantity("1").is_unit_of(&DataType::Decimal128(12, 2)) && !quantity("2").is_unit_of(&DataType::Int16));
        assert!(!quantity("0.005").fits(&DataType::Decimal128(12, 2)) && !quantity("1").fits(&DataType::Utf8));
    }

    #[test]
    fn a_number_goes_to_the_nearest_step_and_a_half_away_from_zero() {
        let passed =
            round(&Int16Array::from(vec![Some(149), Some(150), Some(-150), Some(-149), None]), quantity("100"));
        let values: Vec<_> = passed.unwrap().values.as_primitive::<Int16Type>().iter().collect();
        assert_eq!(values, [Some(100), Some(200), Some(-200), Some(-100), None]);
        let amounts = Decimal128Array::from(vec![102, 103, 9_999]).with_precision_and_scale(4, 2).unwrap();
        let passed = round(&amounts, quantity("0.05")).unwrap();
        assert_eq!(passed.values.data_type(), amounts.data_type());
        let values: Vec<_> = passed.values.as_primitive::<Decimal128Type>().iter().collect();
        assert_eq!(
            (values, passed.invalid),
            (vec![Some(100), Some(105), None], 1),
            "99.99 rounds to what four digits lack"
        );
        assert_eq!(round(&Int16Array::from(vec![i16::MAX]), quantity("1000")).unwrap().invalid, 1);
        let floats = round(&Float64Array::from(vec![1.26, f64::NAN, f64::INFINITY]), quantity("0.5")).unwrap();
        assert_eq!(floats.values.as_primitive::<Float64Type>().value(0), 1.5);
        assert_eq!(floats.invalid, 2);
    }

    #[test]
    fn nothing_is_above_the_cap() {
        let amounts =
            Decimal128Array::from(vec![Some(25_000_001), Some(-5), None]).with_precision_and_scale(12, 2).unwrap();
        let passed = top_code(&amounts, quantity("250000")).unwrap();
        let values: Vec<_> = passed.values.as_primitive::<Decimal128Type>().iter().collect();
        assert_eq!(values, [Some(25_000_000), Some(-5), None]);
        let floats = top_code(&Float64Array::from(vec![f64::INFINITY, f64::NAN]), quantity("9.5")).unwrap();
        assert_eq!(floats.values.as_primitive::<Float64Type>().value(0), 9.5);
        assert_eq!(floats.invalid, 1);
    }
}
