//! Values that stand in a column more than once: what is costly to make of a value is made once for its neighbours.

use std::hash::BuildHasher;

use arrow::array::{Array, AsArray, downcast_primitive_array};
use arrow::datatypes::DataType;
use change::Result;
use hashbrown::DefaultHashBuilder;

use crate::canonical::{self, Cell, Form};

/// Rows that are remembered: those of a usual batch, and few enough for the processor's nearest cache.
const SLOTS: usize = 8192;

/// What one row holds.
pub(super) enum Seen<'a> {
    Null,
    /// There is a value, and nothing is left of it in this form.
    Invalid,
    /// The same value as in this earlier row.
    Again(usize),
    /// A value's canonical bytes; earlier rows may have it all the same.
    New(&'a [u8]),
}

/// As [`canonical::for_each`], with rows known again whose value was there before.
pub(super) fn for_each(array: &dyn Array, form: Form, mut each: impl FnMut(Seen<'_>)) -> Result<()> {
    let mut repeats = Repeats::new(array);
    let mut row = 0;
    canonical::for_each(array, form, |cell| {
        each(match cell {
            Cell::Null => Seen::Null,
            Cell::Invalid => Seen::Invalid,
            Cell::Bytes(bytes) => repeats.earlier(row).map_or(Seen::New(bytes), Seen::Again),
        });
        row += 1;
    })
}

/// Finds earlier rows with the same value. A slot has the last row whose value fell into it and no value, so that nothing outlives the
/// column, memory is bounded, and values that collide cost no more than values that differ.
struct Repeats<'a> {
    values: Values<'a>,
    hasher: DefaultHashBuilder,
    /// One more than the row; 0 for none.
    slots: Vec<u32>,
}

/// The bytes of a column's values: of one width, or between offsets.
enum Values<'a> {
    Fixed(&'a [u8], usize),
    Between(&'a [i32], &'a [u8]),
    BetweenLarge(&'a [i64], &'a [u8]),
    /// Of a type that is not looked into.
    Other,
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array) -> Self {
        downcast_primitive_array!(
            array => Values::Fixed(array.values().inner().as_slice(), array.data_type().primitive_width().unwrap_or(0)),
            DataType::Utf8 => Values::Between(array.as_string::<i32>().value_offsets(), array.as_string::<i32>().value_data()),
            DataType::LargeUtf8 => Values::BetweenLarge(array.as_string::<i64>().value_offsets(), array.as_string::<i64>().value_data()),
            _ => Values::Other,
        )
    }

    fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Values::Fixed(bytes, width) => bytes.get(row * width..(row + 1) * width),
            Values::Between(ends, bytes) => bytes.get(ends[row] as usize..ends[row + 1] as usize),
            Values::BetweenLarge(ends, bytes) => bytes.get(ends[row] as usize..ends[row + 1] as usize),
            Values::Other => None,
        }
    }
}

impl<'a> Repeats<'a> {
    fn new(array: &'a dyn Array) -> Self {
        Self { values: Values::of(array), hasher: DefaultHashBuilder::default(), slots: vec![0; SLOTS] }
    }

    /// An earlier row with the value of `row`, which is not null. To be asked once for each row, in order.
    fn earlier(&mut self, row: usize) -> Option<usize> {
        let value = self.values.get(row)?;
        let slot = self.hasher.hash_one(value) as usize % SLOTS;
        let earlier = std::mem::replace(&mut self.slots[slot], row as u32 + 1).checked_sub(1)? as usize;
        (self.values.get(earlier) == Some(value)).then_some(earlier)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, Int64Array, LargeStringArray, StringArray};

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
        let arrays: [ArrayRef; 4] = [
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
    fn what_is_lost_in_a_form_is_never_a_repeat() {
        let text = StringArray::from(vec!["-", "-", "a", "A", "A"]);
        assert_eq!(repeated(&text, Form::Alphanumeric), [None, None, None, None, Some(3)]);
        // Of a type that is not looked into.
        assert_eq!(repeated(&BinaryArray::from_vec(vec![b"x", b"x"]), Form::Exact), [None, None]);
    }

    #[test]
    fn a_slot_that_another_value_took_is_no_repeat() {
        let numbers = Int64Array::from_iter_values((0..200_000).map(|row| row % 50_000));
        for (row, earlier) in repeated(&numbers, Form::Exact).into_iter().enumerate() {
            assert!(earlier.is_none_or(|earlier| earlier < row && numbers.value(earlier) == numbers.value(row)));
        }
    }
}
