//! The bytes by which a value is known to tokens, so that the same value has the same token whatever the type of its column.
//!
//! | Column | Bytes |
//! |---|---|
//! | integer | decimal digits, `-` before negatives: `42` |
//! | decimal | the same with a point, no zeros at the end: `42`, `0.5` |
//! | text | as it is, or by the rule's `canonical` option |
//! | date | `2024-02-29` |
//! | timestamp | `2024-02-29T13:00:00.000000`, with `Z` when it has a time zone |
//! | binary | as it is |
//!
//! So a number joins across int4, int8, numeric and text columns; text with leading zeros is another value than the number.

use std::fmt;

use arrow::array::{Array, ArrayAccessor, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArrayType};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use change::{Error, Kind, Result};
use unicode_normalization::UnicodeNormalization;

use crate::calendar::{Date, MICROS_PER_DAY};

/// How text is made canonical. A part of the token's domain: another form gives other tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is. The only form that keeps different values apart, and so the only one for columns that identify a row.
    Exact,
    /// Without white space at both ends.
    Trim,
    /// ASCII letters and digits only, letters in upper case: `123-45-6789` and `123 45 6789` are one value.
    Alphanumeric,
    /// Unicode's compatibility form NFKC in lower case, without white space at both ends: `Zoë`, `ZOE\u{308}` and `zoë ` are one value.
    Nfkc,
}

impl Form {
    pub(crate) const ALL: [Form; 4] = [Form::Exact, Form::Trim, Form::Alphanumeric, Form::Nfkc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Form::Exact => "exact",
            Form::Trim => "trim",
            Form::Alphanumeric => "alphanumeric",
            Form::Nfkc => "nfkc",
        }
    }

    /// The name and version that go into the token's input.
    pub(crate) fn versioned(self) -> &'static str {
        match self {
            Form::Exact => "exact.1",
            Form::Trim => "trim.1",
            Form::Alphanumeric => "alphanumeric.1",
            Form::Nfkc => "nfkc.1",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether values of the type have canonical bytes. Floats have none: they are measurements, not identifiers.
pub(crate) fn can_read(data_type: &DataType) -> bool {
    use DataType::{Binary, Date32, Decimal128, LargeBinary, LargeUtf8, Timestamp, Utf8};
    data_type.is_integer()
        || matches!(data_type, Utf8 | LargeUtf8 | Binary | LargeBinary | Date32 | Timestamp(TimeUnit::Microsecond, _))
        || matches!(data_type, Decimal128(_, scale) if *scale >= 0)
}

/// What one row holds.
pub(crate) enum Cell<'a> {
    Null,
    /// There is a value, and nothing is left of it in this form.
    Invalid,
    Bytes(&'a [u8]),
}

/// Calls `each` once per row, in order.
pub(crate) fn for_each(array: &dyn Array, form: Form, each: impl FnMut(Cell<'_>)) -> Result<()> {
    for_each_of(array, form, 0..array.len(), each)
}

/// Calls `each` once for each of these rows.
pub(crate) fn for_each_of(
    array: &dyn Array,
    form: Form,
    rows: impl Iterator<Item = usize>,
    each: impl FnMut(Cell<'_>),
) -> Result<()> {
    match array.data_type() {
        DataType::Int8 => integers::<Int8Type>(array.as_primitive(), rows, each),
        DataType::Int16 => integers::<Int16Type>(array.as_primitive(), rows, each),
        DataType::Int32 => integers::<Int32Type>(array.as_primitive(), rows, each),
        DataType::Int64 => integers::<Int64Type>(array.as_primitive(), rows, each),
        DataType::UInt8 => integers::<UInt8Type>(array.as_primitive(), rows, each),
        DataType::UInt16 => integers::<UInt16Type>(array.as_primitive(), rows, each),
        DataType::UInt32 => integers::<UInt32Type>(array.as_primitive(), rows, each),
        DataType::UInt64 => integers::<UInt64Type>(array.as_primitive(), rows, each),
        DataType::Decimal128(_, scale) => decimals(array.as_primitive(), scale.unsigned_abs(), rows, each),
        DataType::Utf8 => text(array.as_string::<i32>(), form, rows, each),
        DataType::LargeUtf8 => text(array.as_string::<i64>(), form, rows, each),
        DataType::Binary => rows.map(|row| cell(array.as_binary::<i32>(), row)).for_each(each),
        DataType::LargeBinary => rows.map(|row| cell(array.as_binary::<i64>(), row)).for_each(each),
        DataType::Date32 => dates(array.as_primitive(), rows, each),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            timestamps(array.as_primitive(), zone.is_some(), rows, each);
        }
        other => return Err(Error::new(Kind::Bug, format!("a token was asked of a column of type {other}"))),
    }
    Ok(())
}

/// A row's value, when it has one.
fn value<A: ArrayAccessor>(array: A, row: usize) -> Option<A::Item> {
    array.is_valid(row).then(|| array.value(row))
}

fn cell<'a>(array: impl ArrayAccessor<Item = &'a [u8]>, row: usize) -> Cell<'a> {
    value(array, row).map_or(Cell::Null, Cell::Bytes)
}

fn integers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    rows: impl Iterator<Item = usize>,
    mut each: impl FnMut(Cell<'_>),
) where
    T::Native: Into<i128>,
{
    for row in rows {
        let mut digits = Digits::default();
        each(match value(array, row) {
            Some(value) => Cell::Bytes(digits.write(value.into(), 0)),
            None => Cell::Null,
        });
    }
}

fn decimals(
    array: &PrimitiveArray<Decimal128Type>,
    scale: u8,
    rows: impl Iterator<Item = usize>,
    mut each: impl FnMut(Cell<'_>),
) {
    for row in rows {
        let mut digits = Digits::default();
        each(match value(array, row) {
            Some(value) => Cell::Bytes(digits.write(value, scale)),
            None => Cell::Null,
        });
    }
}

fn text<'a>(
    array: impl StringArrayType<'a> + Copy,
    form: Form,
    rows: impl Iterator<Item = usize>,
    mut each: impl FnMut(Cell<'_>),
) {
    let mut scratch = Vec::new();
    for row in rows {
        each(match (value(array, row), form) {
            (None, _) => Cell::Null,
            (Some(value), Form::Exact) => Cell::Bytes(value.as_bytes()),
            (Some(value), Form::Trim) => Cell::Bytes(value.trim().as_bytes()),
            (Some(value), Form::Alphanumeric) => {
                scratch.clear();
                scratch.extend(value.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()));
                if scratch.is_empty() { Cell::Invalid } else { Cell::Bytes(&scratch) }
            }
            (Some(value), Form::Nfkc) => {
                scratch.clear();
                let value = value.trim();
                if value.is_ascii() {
                    scratch.extend(value.bytes().map(|byte| byte.to_ascii_lowercase()));
                } else {
                    // Lower case can leave the form again, so that it is made twice.
                    let lower: String = value.nfkc().flat_map(char::to_lowercase).nfkc().collect();
                    scratch.extend_from_slice(lower.trim().as_bytes());
                }
                Cell::Bytes(&scratch)
            }
        });
    }
}

fn dates(array: &PrimitiveArray<Date32Type>, rows: impl Iterator<Item = usize>, mut each: impl FnMut(Cell<'_>)) {
    let mut scratch = Vec::with_capacity(16);
    for row in rows {
        let Some(days) = value(array, row) else {
            each(Cell::Null);
            continue;
        };
        scratch.clear();
        push_date(&mut scratch, Date::from_days(days));
        each(Cell::Bytes(&scratch));
    }
}

fn timestamps(
    array: &PrimitiveArray<TimestampMicrosecondType>,
    zoned: bool,
    rows: impl Iterator<Item = usize>,
    mut each: impl FnMut(Cell<'_>),
) {
    let mut scratch = Vec::with_capacity(32);
    for row in rows {
        let Some(micros) = value(array, row) else {
            each(Cell::Null);
            continue;
        };
        let time = micros.rem_euclid(MICROS_PER_DAY);
        let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
        scratch.clear();
        push_date(&mut scratch, Date::from_timestamp(micros));
        for (before, number, width) in
            [(b'T', seconds / 3600, 2), (b':', seconds / 60 % 60, 2), (b':', seconds % 60, 2), (b'.', fraction, 6)]
        {
            scratch.push(before);
            push_digits(&mut scratch, number as u32, width);
        }
        if zoned {
            scratch.push(b'Z');
        }
        each(Cell::Bytes(&scratch));
    }
}

fn push_date(out: &mut Vec<u8>, date: Date) {
    if date.year < 0 {
        out.push(b'-');
    }
    push_digits(out, date.year.unsigned_abs(), 4);
    for number in [date.month, date.day] {
        out.push(b'-');
        push_digits(out, number, 2);
    }
}

/// Decimal digits, with zeros before them up to `width`.
fn push_digits(out: &mut Vec<u8>, number: u32, width: usize) {
    let mut digits = Digits::default();
    let digits = digits.write(i128::from(number), 0);
    out.extend((digits.len()..width).map(|_| b'0'));
    out.extend_from_slice(digits);
}

/// Room for any `i128` with sign, point and leading zeros, written from the end.
struct Digits {
    room: [u8; 48],
}

impl Default for Digits {
    fn default() -> Self {
        Self { room: [0; 48] }
    }
}

impl Digits {
    /// `value` divided by ten to the power of `scale`, without zeros at the end of its fraction. `scale` is at most 38, as in Arrow.
    fn write(&mut self, value: i128, scale: u8) -> &[u8] {
        let (mut rest, mut scale, mut at) = (value.unsigned_abs(), scale, self.room.len());
        while scale > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            scale -= 1;
        }
        let mut put = |byte| {
            at -= 1;
            self.room[at] = byte;
        };
        for _ in 0..scale {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        if scale > 0 {
            put(b'.');
        }
        while rest > u128::from(u64::MAX) {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        // 64-bit division is several times faster, and identifiers fit.
        let mut rest = rest as u64;
        loop {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            put(b'-');
        }
        &self.room[at..]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Int16Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    fn bytes(array: ArrayRef, form: Form) -> Vec<String> {
        let mut rows = Vec::new();
        for_each(&array, form, |cell| {
            rows.push(match cell {
                Cell::Null => "null".into(),
                Cell::Invalid => "invalid".into(),
                Cell::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            });
        })
        .unwrap();
        rows
    }

    #[test]
    fn a_number_is_the_same_in_every_type() {
        let decimal = |values: Vec<i128>, precision, scale| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
        };
        assert_eq!(bytes(Arc::new(Int16Array::from(vec![Some(42), None])), Form::Exact), ["42", "null"]);
        assert_eq!(
            bytes(Arc::new(Int64Array::from(vec![0, i64::MIN, -7])), Form::Exact),
            ["0", "-9223372036854775808", "-7"]
        );
        assert_eq!(bytes(decimal(vec![42, 0, -5], 5, 0), Form::Exact), ["42", "0", "-5"]);
        assert_eq!(bytes(decimal(vec![4200, 50, -1, 0], 9, 2), Form::Exact), ["42", "0.5", "-0.01", "0"]);
        let widest = 10i128.pow(38) - 1;
        assert_eq!(bytes(decimal(vec![-widest], 38, 38), Form::Exact), [format!("-0.{}", "9".repeat(38))]);
        assert_eq!(bytes(decimal(vec![widest], 38, 0), Form::Exact), ["9".repeat(38)]);
    }

    #[test]
    fn text_takes_the_form_that_the_rule_names() {
        let text = || Arc::new(StringArray::from(vec![Some(" ab-1 "), None, Some(""), Some(" - ")])) as ArrayRef;
        assert_eq!(bytes(text(), Form::Exact), [" ab-1 ", "null", "", " - "]);
        assert_eq!(bytes(text(), Form::Trim), ["ab-1", "null", "", "-"]);
        assert_eq!(bytes(text(), Form::Alphanumeric), ["AB1", "null", "invalid", "invalid"]);
        let names = StringArray::from(vec!["Zo\u{eb}", " ZOE\u{308}\u{a0}", "\u{ff21}b", "\u{130}"]);
        assert_eq!(bytes(Arc::new(names), Form::Nfkc), ["zo\u{eb}", "zo\u{eb}", "ab", "i\u{307}"]);
    }

    #[test]
    fn dates_and_binary_have_one_form() {
        assert_eq!(
            bytes(Arc::new(Date32Array::from(vec![0, 19782, -719_162])), Form::Exact),
            ["1970-01-01", "2024-02-29", "0001-01-01"]
        );
        let micros = TimestampMicrosecondArray::from(vec![-1, 1_000_001]);
        assert_eq!(
            bytes(Arc::new(micros.clone()), Form::Exact),
            ["1969-12-31T23:59:59.999999", "1970-01-01T00:00:01.000001"]
        );
        assert!(bytes(Arc::new(micros.with_timezone("UTC")), Form::Exact)[0].ends_with('Z'));
        assert_eq!(bytes(Arc::new(BinaryArray::from_vec(vec![b"\x01"])), Form::Exact), ["\u{1}"]);
        assert!(!can_read(&DataType::Float64) && !can_read(&DataType::Boolean));
    }
}
