use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use change::{Error, Kind, Result};

/// The output of a transform: one entry per row.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) values: ArrayRef,
    /// How many values could not be read; they are null, or a marker.
    pub(crate) invalid: u64,
}

/// Writes a text column value by value into one buffer.
pub(crate) struct TextColumn {
    values: Vec<u8>,
    offsets: Vec<usize>,
    nulls: Vec<usize>,
    invalid: u64,
}

impl TextColumn {
    /// Room for `rows` values of `bytes` each.
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { values: Vec::with_capacity(rows * bytes), offsets, nulls: Vec::new(), invalid: 0 }
    }

    /// Appends a value made of two parts, both UTF-8.
    pub(crate) fn push(&mut self, first: &[u8], second: &[u8]) {
        self.values.extend_from_slice(first);
        self.values.extend_from_slice(second);
        self.offsets.push(self.values.len());
    }

    /// Appends the value of an earlier row; what could not be read there cannot be read here.
    pub(crate) fn push_again(&mut self, row: usize) {
        if self.nulls.binary_search(&row).is_ok() {
            return self.push_invalid();
        }
        self.values.extend_from_within(self.offsets[row]..self.offsets[row + 1]);
        self.offsets.push(self.values.len());
    }

    pub(crate) fn push_null(&mut self) {
        self.nulls.push(self.offsets.len() - 1);
        self.offsets.push(self.values.len());
    }

    pub(crate) fn push_invalid(&mut self) {
        self.invalid += 1;
        self.push_null();
    }

    /// Appends what stands for a value that could not be treated, and counts it.
    pub(crate) fn push_refused(&mut self, marker: &[u8]) {
        self.invalid += 1;
        self.push(marker, b"");
    }

    pub(crate) fn finish(self) -> Result<Passed> {
        let rows = self.offsets.len() - 1;
        let too_large = || Error::new(Kind::Bug, "a batch holds more than 2 GiB of one column");
        if i32::try_from(self.values.len()).is_err() {
            return Err(too_large());
        }
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut next = self.nulls.iter().copied().peekable();
            NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| next.next_if_eq(&row).is_none()))
        });
        let offsets: Vec<i32> = self.offsets.iter().map(|offset| *offset as i32).collect();
        let values = StringArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(self.values), nulls)
            .map_err(|_| Error::new(Kind::Bug, "a transform wrote bytes that are not text"))?;
        Ok(Passed { values: Arc::new(values), invalid: self.invalid })
    }
}
