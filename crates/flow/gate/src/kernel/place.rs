//! `zip3` and `geo_state`.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArrayType};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};

/// The census table that [`zip3`] goes by.
pub(crate) const ZIP3_VINTAGE: &str = "census-2020-dhc-p1";

/// Which prefixes may be kept. Read at compile time: a damaged table does not build.
static ZIP3_KEPT: [bool; 1000] = read_table(include_bytes!("../../data/zip3-census-2020.txt"));

const HIDDEN: &[u8] = b"000";

/// Every state, the District of Columbia, the territories and the armed forces' codes, each with its name.
const STATES: [(&str, &str); 59] = [
    ("AL", "Alabama"),
    ("AK", "Alaska"),
    ("AZ", "Arizona"),
    ("AR", "Arkansas"),
    ("CA", "California"),
    ("CO", "Colorado"),
    ("CT", "Connecticut"),
    ("DE", "Delaware"),
    ("DC", "District of Columbia"),
    ("FL", "Florida"),
    ("GA", "Georgia"),
    ("HI", "Hawaii"),
    ("ID", "Idaho"),
    ("IL", "Illinois"),
    ("IN", "Indiana"),
    ("IA", "Iowa"),
    ("KS", "Kansas"),
    ("KY", "Kentucky"),
    ("LA", "Louisiana"),
    ("ME", "Maine"),
    ("MD", "Maryland"),
    ("MA", "Massachusetts"),
    ("MI", "Michigan"),
    ("MN", "Minnesota"),
    ("MS", "Mississippi"),
    ("MO", "Missouri"),
    ("MT", "Montana"),
    ("NE", "Nebraska"),
    ("NV", "Nevada"),
    ("NH", "New Hampshire"),
    ("NJ", "New Jersey"),
    ("NM", "New Mexico"),
    ("NY", "New York"),
    ("NC", "North Carolina"),
    ("ND", "North Dakota"),
    ("OH", "Ohio"),
    ("OK", "Oklahoma"),
    ("OR", "Oregon"),
    ("PA", "Pennsylvania"),
    ("RI", "Rhode Island"),
    ("SC", "South Carolina"),
    ("SD", "South Dakota"),
    ("TN", "Tennessee"),
    ("TX", "Texas"),
    ("UT", "Utah"),
    ("VT", "Vermont"),
    ("VA", "Virginia"),
    ("WA", "Washington"),
    ("WV", "West Virginia"),
    ("WI", "Wisconsin"),
    ("WY", "Wyoming"),
    ("AS", "American Samoa"),
    ("GU", "Guam"),
    ("MP", "Northern Mariana Islands"),
    ("PR", "Puerto Rico"),
    ("VI", "Virgin Islands"),
    ("AA", "Armed Forces Americas"),
    ("AE", "Armed Forces Europe"),
    ("AP", "Armed Forces Pacific"),
];

/// Whether the type holds ZIP codes: text, or numbers that lost their leading zeros.
pub(crate) fn can_read_zip(data_type: &DataType) -> bool {
    use DataType::{Int16, Int32, Int64, LargeUtf8, Utf8};
    matches!(data_type, Utf8 | LargeUtf8 | Int16 | Int32 | Int64)
}

/// The first three digits where more than 20,000 people live, else `000`: 45 CFR 164.514(b)(2)(i)(B). Reads five digits, ZIP+4 with or
/// without a dash, and numbers that lost their leading zeros; everything else (foreign, damaged, unknown) is `000`.
pub(crate) fn zip3(array: &dyn Array) -> Result<Passed> {
    match array.data_type() {
        DataType::Utf8 => zip3_of_text(array.as_string::<i32>(), prefix),
        DataType::LargeUtf8 => zip3_of_text(array.as_string::<i64>(), prefix),
        DataType::Int16 => zip3_of_number(array.as_primitive::<Int16Type>()),
        DataType::Int32 => zip3_of_number(array.as_primitive::<Int32Type>()),
        DataType::Int64 => zip3_of_number(array.as_primitive::<Int64Type>()),
        other => Err(Error::new(Kind::Bug, format!("a ZIP code was asked of a column of type {other}"))),
    }
}

/// Prefixes that stand in the lake, as the table of now lets them pass.
pub(crate) fn zip3_again(array: &dyn Array) -> Result<Passed> {
    match array.data_type() {
        DataType::Utf8 => zip3_of_text(array.as_string::<i32>(), three_digits),
        other => Err(Error::new(Kind::Bug, format!("ZIP prefixes were expected in a column of type {other}"))),
    }
}

/// The two-letter code, from the code or the name in any case; everything else is null.
pub(crate) fn state(array: &dyn Array) -> Result<Passed> {
    match array.data_type() {
        DataType::Utf8 => state_of_text(array.as_string::<i32>()),
        DataType::LargeUtf8 => state_of_text(array.as_string::<i64>()),
        other => Err(Error::new(Kind::Bug, format!("a state was asked of a column of type {other}"))),
    }
}

fn zip3_of_text<'a>(array: impl StringArrayType<'a>, prefix: impl Fn(&[u8]) -> Option<&[u8]>) -> Result<Passed> {
    let mut column = TextColumn::with_capacity(array.len(), 3);
    for value in array.iter() {
        match value {
            None => column.push_null(),
            Some(text) => column.push(prefix(text.trim().as_bytes()).filter(|zip| kept(zip)).unwrap_or(HIDDEN), b""),
        }
    }
    column.finish()
}

fn zip3_of_number<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> Result<Passed>
where
    T::Native: Into<i64>,
{
    let mut column = TextColumn::with_capacity(array.len(), 3);
    for value in array {
        let Some(value) = value else {
            column.push_null();
            continue;
        };
        let number: i64 = value.into();
        let prefix = match number {
            501..=99_999 => number / 100,
            // ZIP+4 of the smallest ZIP code there is.
            5_010_000..=999_999_999 => number / 1_000_000,
            _ => 0,
        };
        let digits = [prefix / 100, prefix / 10 % 10, prefix % 10].map(|digit| b'0' + digit as u8);
        column.push(if kept(&digits) { &digits } else { HIDDEN }, b"");
    }
    column.finish()
}

fn prefix(zip: &[u8]) -> Option<&[u8]> {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let readable = match zip.len() {
        5 | 9 => digits(zip),
        10 => digits(&zip[..5]) && zip[5] == b'-' && digits(&zip[6..]),
        _ => false,
    };
    readable.then(|| &zip[..3])
}

fn three_digits(text: &[u8]) -> Option<&[u8]> {
    (text.len() == 3 && text.iter().all(u8::is_ascii_digit)).then_some(text)
}

fn kept(digits: &[u8]) -> bool {
    ZIP3_KEPT[digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))]
}

fn state_of_text<'a>(array: impl StringArrayType<'a>) -> Result<Passed> {
    let mut column = TextColumn::with_capacity(array.len(), 2);
    for value in array.iter() {
        let Some(value) = value else {
            column.push_null();
            continue;
        };
        let text = value.trim();
        let found =
            STATES.iter().find(|(code, name)| code.eq_ignore_ascii_case(text) || name.eq_ignore_ascii_case(text));
        match found {
            Some((code, _)) => column.push(code.as_bytes(), b""),
            None => column.push_invalid(),
        }
    }
    column.finish()
}

/// Reads `#` comments and three-digit prefixes or ranges of them, apart by white space.
const fn read_table(text: &[u8]) -> [bool; 1000] {
    let mut kept = [false; 1000];
    let (mut at, mut from) = (0, 1000);
    while at < text.len() {
        match text[at] {
            b'#' => {
                while text[at] != b'\n' {
                    at += 1;
                }
            }
            b' ' | b'\n' => {
                from = 1000;
                at += 1;
            }
            b'-' => at += 1,
            _ => {
                let mut number = 0;
                let end = at + 3;
                while at < end {
                    assert!(
                        text[at].is_ascii_digit(),
                        "the ZIP table holds something that is not a three-digit prefix"
                    );
                    number = number * 10 + (text[at] - b'0') as usize;
                    at += 1;
                }
                let mut prefix = if from < number { from } else { number };
                while prefix <= number {
                    kept[prefix] = true;
                    prefix += 1;
                }
                from = number;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    fn texts(passed: &Passed) -> Vec<Option<&str>> {
        passed.values.as_string::<i32>().iter().collect()
    }

    #[test]
    fn the_table_holds_the_prefixes_above_the_line() {
        assert_eq!(ZIP3_KEPT.iter().filter(|kept| **kept).count(), 876);
        let small = [36, 59, 102, 202, 203, 204, 205, 369, 556, 692, 753, 772, 821, 823, 878, 879, 884, 893];
        assert!(small.iter().all(|prefix| !ZIP3_KEPT[*prefix]) && !ZIP3_KEPT[0]);
        // Nearest the line and above it, and those that left the list of 2000.
        assert!([576, 999, 831, 994, 516, 63, 790, 830, 890].iter().all(|prefix| ZIP3_KEPT[*prefix]));
    }

    #[test]
    fn whatever_is_not_a_kept_zip_is_000() {
        let zips = [
            Some("10025"),
            Some("10025-1234"),
            Some("100251234"),
            Some(" 02139 "),
            Some("03601"),
            Some("55601"),
            None,
            Some(""),
            Some("1002"),
            Some("SW1A 1AA"),
            Some("10025-12a4"),
            Some("1002５"),
            Some("100"),
            Some("00000"),
        ];
        let passed = zip3(&StringArray::from(zips.to_vec())).unwrap();
        let zeros = Some("000");
        assert_eq!(
            texts(&passed),
            [
                Some("100"),
                Some("100"),
                Some("100"),
                Some("021"),
                zeros,
                zeros,
                None,
                zeros,
                zeros,
                zeros,
                zeros,
                zeros,
                zeros,
                zeros
            ]
        );
        let numbers = Int32Array::from(vec![
            Some(2139),
            Some(10025),
            Some(100_251_234),
            Some(21_391_234),
            Some(-5),
            Some(7),
            None,
        ]);
        assert_eq!(
            texts(&zip3(&numbers).unwrap()),
            [Some("021"), Some("100"), Some("100"), Some("021"), zeros, zeros, None]
        );
        assert_eq!(passed.invalid, 0);
    }

    #[test]
    fn a_stored_prefix_stays_where_the_table_of_now_keeps_it() {
        // 753 was kept by the table of 2000.
        let stored = StringArray::from(vec![Some("100"), Some("753"), Some("000"), None, Some("10"), Some("10025")]);
        let (zeros, passed) = (Some("000"), zip3_again(&stored).unwrap());
        assert_eq!(texts(&passed), [Some("100"), zeros, zeros, None, zeros, zeros]);
    }

    #[test]
    fn a_state_has_a_code_or_is_null() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![
            Some("ny"),
            Some("New York "),
            None,
            Some("Bavaria"),
            Some("PR"),
            Some(""),
        ]));
        let passed = state(&values).unwrap();
        assert_eq!(texts(&passed), [Some("NY"), Some("NY"), None, None, Some("PR"), None]);
        assert_eq!(passed.invalid, 2);
    }
}
