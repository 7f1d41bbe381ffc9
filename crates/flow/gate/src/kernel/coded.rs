//! Columns whose values are 128 bits, alone or as text behind a prefix, or numbers. What each row has is found first; the bits of all values
//! are made then, together, and the rows are written last.

use std::sync::Arc;

use arrow::array::{Array, BinaryBuilder, Int64Array};
use change::{Error, Kind, Result};

use super::base32::{self, CODE_CHARACTERS};
use super::column::{Passed, TextColumn};
use super::repeats::{self, Seen};
use crate::canonical::Form;

/// What a row has.
#[derive(Clone, Copy)]
pub(super) enum Row {
    Null,
    Invalid,
    /// The code with this number.
    Code(u32),
}

/// Each row of a column. `each` gets the canonical bytes of a value, once for neighbours that have the same, and says whether they have a
/// code: the first has number 0.
pub(super) fn rows(array: &dyn Array, form: Form, mut each: impl FnMut(&[u8]) -> bool) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(array.len());
    let mut codes = 0;
    repeats::for_each(array, form, |seen| {
        let row = match seen {
            Seen::Null => Row::Null,
            Seen::Invalid => Row::Invalid,
            Seen::Again(row) => rows[row],
            Seen::New(bytes) if each(bytes) => {
                codes += 1;
                Row::Code(codes - 1)
            }
            Seen::New(_) => Row::Invalid,
        };
        rows.push(row);
    })?;
    Ok(rows)
}

/// The rows in full, as text.
///
/// # Errors
/// [`Kind::Bug`] when a row's code is not there.
pub(super) fn texts(prefix: &[u8], rows: &[Row], codes: &[[u8; 16]]) -> Result<Passed> {
    let texts: Vec<[u8; CODE_CHARACTERS]> = codes.iter().map(|code| base32::code(*code)).collect();
    let mut column = TextColumn::with_capacity(rows.len(), prefix.len() + CODE_CHARACTERS);
    for row in rows {
        match row {
            Row::Null => column.push_null(),
            Row::Invalid => column.push_invalid(),
            Row::Code(number) => match texts.get(*number as usize) {
                Some(text) => column.push(prefix, text),
                None => return Err(too_few()),
            },
        }
    }
    column.finish()
}

/// The rows in full, as the 128 bits alone.
///
/// # Errors
/// [`Kind::Bug`] when a row's code is not there.
pub(super) fn bytes(rows: &[Row], codes: &[[u8; 16]]) -> Result<Passed> {
    let mut column = BinaryBuilder::with_capacity(rows.len(), rows.len() * 16);
    for row in rows {
        match code_of(*row, codes)? {
            Some(code) => column.append_value(code),
            None => column.append_null(),
        }
    }
    Ok(Passed { values: Arc::new(column.finish()), invalid: invalid(rows) })
}

/// The rows in full, as numbers.
///
/// # Errors
/// [`Kind::Bug`] when a row's number is not there.
pub(super) fn numbers(rows: &[Row], numbers: &[i64]) -> Result<Passed> {
    let values = rows.iter().map(|row| code_of(*row, numbers)).collect::<Result<Int64Array>>()?;
    Ok(Passed { values: Arc::new(values), invalid: invalid(rows) })
}

fn code_of<C: Copy>(row: Row, codes: &[C]) -> Result<Option<C>> {
    match row {
        Row::Null | Row::Invalid => Ok(None),
        Row::Code(number) => codes.get(number as usize).copied().map(Some).ok_or_else(too_few),
    }
}

fn invalid(rows: &[Row]) -> u64 {
    rows.iter().filter(|row| matches!(row, Row::Invalid)).count() as u64
}

fn too_few() -> Error {
    Error::new(Kind::Bug, "there are fewer codes than values")
}
