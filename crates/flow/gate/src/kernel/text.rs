//! `redact` and `mask_chars`.

use arrow::array::{Array, AsArray, StringArrayType};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

use super::column::{Passed, TextColumn};

/// What hides the rest of a masked value; always as many, so that the output does not tell the length.
const FILL: &[u8] = b"****";

/// The same marker for every value; null stays null.
pub(crate) fn redact(array: &dyn Array, marker: &str) -> Result<Passed> {
    let mut column = TextColumn::with_capacity(array.len(), marker.len());
    let nulls = array.logical_nulls();
    for row in 0..array.len() {
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            column.push(marker.as_bytes(), b"");
        } else {
            column.push_null();
        }
    }
    column.finish()
}

/// Shows the last `shown` characters behind four asterisks. A value of less than twice as many characters would tell too much of itself: it
/// is hidden whole, in the same width.
pub(crate) fn mask(array: &dyn Array, shown: usize) -> Result<Passed> {
    match array.data_type() {
        DataType::Utf8 => mask_text(array.as_string::<i32>(), shown),
        DataType::LargeUtf8 => mask_text(array.as_string::<i64>(), shown),
        other => Err(Error::new(Kind::Bug, format!("characters were asked of a column of type {other}"))),
    }
}

fn mask_text<'a>(array: impl StringArrayType<'a>, shown: usize) -> Result<Passed> {
    let mut column = TextColumn::with_capacity(array.len(), FILL.len() + shown);
    let hidden = vec![b'*'; shown];
    for value in array.iter() {
        let Some(value) = value else {
            column.push_null();
            continue;
        };
        let tail = if shown == 0 || value.chars().count() < 2 * shown {
            &hidden
        } else {
            value.char_indices().rev().nth(shown - 1).map_or(hidden.as_slice(), |(at, _)| &value.as_bytes()[at..])
        };
        column.push(FILL, tail);
    }
    column.finish()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn texts(passed: &Passed) -> Vec<Option<&str>> {
        passed.values.as_string::<i32>().iter().collect()
    }

    #[test]
    fn a_marker_tells_nothing_but_presence() {
        assert_eq!(texts(&redact(&Int64Array::from(vec![Some(1), None]), "[ID]").unwrap()), [Some("[ID]"), None]);
    }

    #[test]
    fn a_mask_has_one_width_and_hides_short_values_whole() {
        let values = StringArray::from(vec![
            Some("4111111111111111"),
            Some("12345678"),
            Some("1234567"),
            Some(""),
            None,
            Some("ääääüüüü"),
        ]);
        let passed = mask(&values, 4).unwrap();
        let hidden = Some("********");
        assert_eq!(texts(&passed), [Some("****1111"), Some("****5678"), hidden, hidden, None, Some("****üüüü")]);
        assert_eq!(texts(&mask(&values, 0).unwrap())[0], Some("****"));
    }
}
