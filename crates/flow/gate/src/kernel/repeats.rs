//! Values that stand in a column more than once: what is costly to make of a value is made once for its neighbours.

use std::{mem, slice};

use arrow::array::{Array, AsArray, downcast_primitive_array};
use arrow::datatypes::{DataType, ToByteSlice};
use change::Result;

use crate::canonical::{self, Cell, Form};

/// Rows that are remembered, as a power of two: those of a usual batch, and few enough for the processor's nearest cache.
const SLOT_BITS: u32 = 13;

/// What one row holds.
pub(super) enum Seen<'a> {
    Null,
    /// There is a value, and nothing is left of it in this form.
    Invalid,
    /// The same value as in this earlier row, of which something is left or not.
    Again(usize),
    /// A value's canonical bytes; earlier rows may have it all the same.
    New(&'a [u8]),
}

/// As [`canonical::for_each`], with rows known again whose value was there before.
pub(super) fn for_each(array: &dyn Array, form: Form, mut each: impl FnMut(Seen<'_>)) -> Result<()> {
    let rows = found(array);
    let mut rest = rows.iter();
    let new = rows.iter().enumerate().filter(|(_, found)| matches!(found, Found::New)).map(|(row, _)| row);
    canonical::for_each_of(array, form, new, |cell| {
        until_new(&mut rest, &mut each);
        each(match cell {
            Cell::Null => Seen::Null,
            Cell::Invalid => Seen::Invalid,
            Cell::Bytes(bytes) => Seen::New(bytes),
        });
    })?;
    until_new(&mut rest, &mut each);
    Ok(())
}

/// Hands out the rows before the next new one.
fn until_new(rest: &mut slice::Iter<'_, Found>, each: &mut impl FnMut(Seen<'_>)) {
    for found in rest {
        match found {
            Found::Null => each(Seen::Null),
            Found::Again(row) => each(Seen::Again(*row as usize)),
            Found::New => return,
        }
    }
}

/// What one row holds, before anything is made of it.
#[derive(Clone, Copy)]
enum Found {
    Null,
    New,
    Again(u32),
}

fn found(array: &dyn Array) -> Vec<Found> {
    downcast_primitive_array!(
        array => {
            let values = array.values();
            found_in(array, |row| values[row].to_byte_slice())
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            found_in(array, |row| array.value(row).as_bytes())
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            found_in(array, |row| array.value(row).as_bytes())
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            found_in(array, |row| array.value(row))
        }
        // Of a type that is not looked into.
        _ => (0..array.len()).map(|row| if array.is_null(row) { Found::Null } else { Found::New }).collect(),
    )
}

/// A slot has the last row whose value fell into it and no value, so that nothing outlives the column, memory is bounded, and values that
/// collide cost no more than values that differ. The row before is looked at first: sorted rows repeat it.
fn found_in<'a>(array: &dyn Array, value: impl Fn(usize) -> &'a [u8]) -> Vec<Found> {
    // One more than the row; 0 for none.
    let mut slots = vec![0_u32; 1 << SLOT_BITS];
    let mut before = None;
    let find = |row: usize| {
        if array.is_null(row) {
            return Found::Null;
        }
        let bytes = value(row);
        if let Some(before) = before.replace(row).filter(|before| value(*before) == bytes) {
            return Found::Again(before as u32);
        }
        match mem::replace(&mut slots[slot(bytes)], row as u32 + 1).checked_sub(1) {
            Some(earlier) if value(earlier as usize) == bytes => Found::Again(earlier),
            _ => Found::New,
        }
    };
    (0..array.len()).map(find).collect()
}

/// Spreads values well enough: those that meet are only not known again.
fn slot(bytes: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words
        .iter()
        .chain([&last])
        .fold(bytes.len() as u64, |hash, word| (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(ODD));
    (hash >> (u64::BITS - SLOT_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Int64Array, LargeBinaryArray, LargeStringArray, StringArray,
    };

    use super::*;

    /// For each row, the earlier row that it was said to repeat.
    fn repeated(array: &dyn Array, form: Form) -> Vec<Option<usize>> {
        let mut rows = Vec::new();
        for_each(array, form, |seen| {
            rows.push(match seen {
                Seen::Again(row) => Some(row),
                Seen::Null | Seen::Invalid | Seen::New(_) => None,
            });
        })
        .unwrap();
        rows
    }

    #[test]
    fn a_value_is_known_again_in_every_type_and_slice() {
        let text = [Some("x"), Some("a"), None, Some("b"), Some("a"), None, Some(""), Some("b"), Some(""), Some("a")];
        let number = |text: &str| i64::from(*text.as_bytes().first().unwrap_or(&0));
        let arrays: [ArrayRef; 5] = [
            Arc::new(text.iter().map(|text| text.map(str::as_bytes)).collect::<BinaryArray>()),
            Arc::new(StringArray::from(text.to_vec())),
            Arc::new(LargeStringArray::from(text.to_vec())),
            Arc::new(text.iter().map(|text| text.map(number)).collect::<Int64Array>()),
            Arc::new(text.iter().map(|text| text.map(number).map(i128::from)).collect::<Decimal128Array>()),
        ];
        for array in arrays {
            let found = [None, None, None, Some(0), None, None, Some(2), Some(5), Some(3)];
            assert_eq!(repeated(&array.slice(1, 9), Form::Exact), found, "{}", array.data_type());
        }
    }

    #[test]
    fn values_are_compared_as_they_stand() {
        let text = StringArray::from(vec!["-", "-", "a", "A", "A", "-", "a"]);
        let found = [None, Some(0), None, None, Some(3), Some(0), Some(2)];
        assert_eq!(repeated(&text, Form::Alphanumeric), found);
        assert_eq!(repeated(&StringArray::from(vec![None::<&str>, None]), Form::Exact), [None, None]);
        // Of a type that is not looked into.
        assert_eq!(repeated(&LargeBinaryArray::from_vec(vec![b"x", b"x"]), Form::Exact), [None, None]);
    }

    #[test]
    fn a_slot_that_another_value_took_is_no_repeat() {
        let numbers = Int64Array::from_iter_values((0..200_000).map(|row| row % 50_000));
        for (row, earlier) in repeated(&numbers, Form::Exact).into_iter().enumerate() {
            assert!(earlier.is_none_or(|earlier| earlier < row && numbers.value(earlier) == numbers.value(row)));
        }
    }
}
