//! Columns whose values are a prefix and 128 bits. What each row has is found first; the bits of all values are made then, together, and the
//! text of all rows is written last.

use arrow::array::Array;
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

/// The rows in full.
///
/// # Errors
/// [`Kind::Bug`] when a row's code is not there.
pub(super) fn column(prefix: &[u8], rows: &[Row], codes: &[[u8; 16]]) -> Result<Passed> {
    let texts: Vec<[u8; CODE_CHARACTERS]> = codes.iter().map(|code| base32::code(*code)).collect();
    let mut column = TextColumn::with_capacity(rows.len(), prefix.len() + CODE_CHARACTERS);
    for row in rows {
        match row {
            Row::Null => column.push_null(),
            Row::Invalid => column.push_invalid(),
            Row::Code(number) => match texts.get(*number as usize) {
                Some(text) => column.push(prefix, text),
                None => return Err(Error::new(Kind::Bug, "there are fewer codes than values")),
            },
        }
    }
    column.finish()
}
