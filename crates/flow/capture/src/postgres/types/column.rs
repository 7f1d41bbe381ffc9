use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, NullBufferBuilder, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::{Form, TextForm, moment, number};

/// Why a cell could not be taken. The texts are ours; none holds any of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellFault {
    /// The value is legal but the column's Arrow type cannot hold it; what sort of value it is.
    Unfit(&'static str),
    /// The bytes are not what the type's output or send function makes; what is wrong.
    Malformed(&'static str),
    /// The column's values have come to more bytes than one Arrow array can hold.
    Overfull,
}

/// Builds one column of a batch straight from cells.
///
/// An append that fails leaves the column as it was, and whole rows can be taken back, so that a bad row never costs the rows before it.
pub(crate) struct ColumnBuilder {
    values: Values,
    nulls: NullBufferBuilder,
    /// Rows whose value the source did not send; rises.
    unsent: Vec<usize>,
}

/// One variant per [`Form`], so that a cell costs one branch.
enum Values {
    Bool(BooleanBufferBuilder),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Oid(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, utc: bool },
    Bytea(Strings),
    Text(Strings, TextForm),
}

/// Values of any length, end to end.
struct Strings {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Strings {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    #[inline]
    fn push(&mut self, value: &[u8]) -> Result<(), CellFault> {
        let end = i32::try_from(self.data.len() + value.len()).map_err(|_| CellFault::Overfull)?;
        self.data.extend_from_slice(value);
        self.offsets.push(end);
        Ok(())
    }

    /// Lets `write` append to the bytes; takes back what it wrote when it fails.
    fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), CellFault>) -> Result<(), CellFault> {
        let start = self.data.len();
        let end = write(&mut self.data).and_then(|()| i32::try_from(self.data.len()).map_err(|_| CellFault::Overfull));
        match end {
            Ok(end) => {
                self.offsets.push(end);
                Ok(())
            }
            Err(fault) => {
                self.data.truncate(start);
                Err(fault)
            }
        }
    }

    fn push_empty(&mut self) {
        let end = self.offsets[self.offsets.len() - 1];
        self.offsets.push(end);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = usize::try_from(self.offsets[self.offsets.len() - 1]).unwrap_or(0);
        self.data.truncate(end);
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let next = Self { offsets: refill(&self.offsets), data: refill(&self.data) };
        let taken = std::mem::replace(self, next);
        self.offsets.push(0);
        (OffsetBuffer::new(taken.offsets.into()), Buffer::from_vec(taken.data))
    }
}

/// The most room that a column keeps between batches, so that a table with megabyte values does not hold on to it while it is idle.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Room for as much again: batches of one table resemble each other.
fn refill<T>(used: &[T]) -> Vec<T> {
    Vec::with_capacity(used.len().min(KEPT_BYTES_MAX / size_of::<T>()))
}

fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = refill(values);
    std::mem::replace(values, next)
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], CellFault> {
    bytes.try_into().map_err(|_| CellFault::Malformed("its binary form has the wrong length"))
}

#[inline]
fn narrowed<T: TryFrom<i64>>(text: &[u8]) -> Result<T, CellFault> {
    let wide = number::integer_from_text(text)?;
    T::try_from(wide).map_err(|_| CellFault::Malformed("it is out of its type's range"))
}

fn float<T: std::str::FromStr>(text: &[u8]) -> Result<T, CellFault> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or(CellFault::Malformed("it is not a floating-point number"))
}

impl ColumnBuilder {
    pub(crate) fn new(form: Form) -> Self {
        let values = match form {
            Form::Bool => Values::Bool(BooleanBufferBuilder::new(0)),
            Form::Int2 => Values::Int2(Vec::new()),
            Form::Int4 => Values::Int4(Vec::new()),
            Form::Int8 => Values::Int8(Vec::new()),
            Form::Oid => Values::Oid(Vec::new()),
            Form::Float4 => Values::Float4(Vec::new()),
            Form::Float8 => Values::Float8(Vec::new()),
            Form::Decimal { precision, scale } => Values::Decimal { values: Vec::new(), precision, scale },
            Form::Date => Values::Date(Vec::new()),
            Form::Timestamp { utc } => Values::Timestamp { values: Vec::new(), utc },
            Form::Bytea => Values::Bytea(Strings::new()),
            Form::Text(form) => Values::Text(Strings::new(), form),
        };
        Self { values, nulls: NullBufferBuilder::new(0), unsent: Vec::new() }
    }

    /// Appends a value as the type's output function prints it.
    #[inline]
    pub(crate) fn append_text(&mut self, text: &[u8]) -> Result<(), CellFault> {
        match &mut self.values {
            Values::Bool(values) => match text {
                b"t" => values.append(true),
                b"f" => values.append(false),
                _ => return Err(CellFault::Malformed("it is not a bool")),
            },
            Values::Int2(values) => values.push(narrowed(text)?),
            Values::Int4(values) => values.push(narrowed(text)?),
            Values::Int8(values) => values.push(number::integer_from_text(text)?),
            Values::Oid(values) => values.push(narrowed::<u32>(text)?.into()),
            Values::Float4(values) => values.push(float(text)?),
            Values::Float8(values) => values.push(float(text)?),
            Values::Decimal { values, precision, scale } => {
                values.push(number::decimal_from_text(text, *precision, *scale)?);
            }
            Values::Date(values) => values.push(moment::date_from_text(text)?),
            Values::Timestamp { values, utc } => values.push(moment::timestamp_from_text(text, *utc)?),
            Values::Bytea(strings) => strings.push_with(|out| hex_to_bytes(text, out))?,
            Values::Text(strings, TextForm::Char) => match text {
                // Older servers send a byte above 127 as it is, which is not UTF-8.
                [byte] => strings.push_with(|out| char_to_text(*byte, out))?,
                text => strings.push(text)?,
            },
            Values::Text(strings, _) => strings.push(text)?,
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a value as [`crate::postgres::table::PgColumn::copy_expression`] makes the server send it in binary.
    #[inline]
    pub(crate) fn append_binary(&mut self, bytes: &[u8]) -> Result<(), CellFault> {
        match &mut self.values {
            Values::Bool(values) => match bytes {
                [byte @ (0 | 1)] => values.append(*byte == 1),
                _ => return Err(CellFault::Malformed("it is not a bool")),
            },
            Values::Int2(values) => values.push(i16::from_be_bytes(fixed(bytes)?)),
            Values::Int4(values) => values.push(i32::from_be_bytes(fixed(bytes)?)),
            Values::Int8(values) => values.push(i64::from_be_bytes(fixed(bytes)?)),
            Values::Oid(values) => values.push(u32::from_be_bytes(fixed(bytes)?).into()),
            Values::Float4(values) => values.push(f32::from_be_bytes(fixed(bytes)?)),
            Values::Float8(values) => values.push(f64::from_be_bytes(fixed(bytes)?)),
            Values::Decimal { values, precision, scale } => {
                values.push(number::decimal_from_binary(bytes, *precision, *scale)?);
            }
            Values::Date(values) => values.push(moment::date_from_binary(i32::from_be_bytes(fixed(bytes)?))?),
            Values::Timestamp { values, .. } => {
                values.push(moment::timestamp_from_binary(i64::from_be_bytes(fixed(bytes)?))?);
            }
            Values::Bytea(strings) => strings.push(bytes)?,
            Values::Text(strings, form) => match form {
                TextForm::Same | TextForm::Printed => strings.push(bytes)?,
                TextForm::Char => {
                    let [byte] = fixed(bytes)?;
                    strings.push_with(|out| char_to_text(byte, out))?;
                }
                TextForm::Numeric => strings.push_with(|out| number::numeric_to_text(bytes, out))?,
                TextForm::Uuid => {
                    let uuid = fixed(bytes)?;
                    strings.push_with(|out| uuid_to_text(uuid, out))?;
                }
                TextForm::Jsonb => match bytes {
                    [1, text @ ..] => strings.push(text)?,
                    _ => return Err(CellFault::Malformed("its jsonb is of an unknown version")),
                },
            },
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends null.
    #[inline]
    pub(crate) fn append_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int2(values) => values.push(0),
            Values::Int4(values) | Values::Date(values) => values.push(0),
            Values::Int8(values) | Values::Oid(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float4(values) => values.push(0.0),
            Values::Float8(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Bytea(strings) | Values::Text(strings, _) => strings.push_empty(),
        }
        self.nulls.append_null();
    }

    /// Appends a value that the source did not send.
    pub(crate) fn append_unsent(&mut self) {
        self.unsent.push(self.nulls.len());
        self.append_null();
    }

    /// Takes back all but the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::Int2(values) => values.truncate(rows),
            Values::Int4(values) | Values::Date(values) => values.truncate(rows),
            Values::Int8(values) | Values::Oid(values) | Values::Timestamp { values, .. } => values.truncate(rows),
            Values::Float4(values) => values.truncate(rows),
            Values::Float8(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Bytea(strings) | Values::Text(strings, _) => strings.truncate(rows),
        }
        self.nulls.truncate(rows);
        let kept = self.unsent.partition_point(|row| *row < rows);
        self.unsent.truncate(kept);
    }

    /// Takes the column and the mask of unsent values, and leaves the builder empty, also when it fails.
    pub(crate) fn finish(&mut self) -> Result<(ArrayRef, Option<BooleanBuffer>), CellFault> {
        let rows = self.nulls.len();
        let unsent = std::mem::take(&mut self.unsent);
        let mask = (!unsent.is_empty()).then(|| {
            let mut mask = BooleanBufferBuilder::new(rows);
            mask.append_n(rows, false);
            unsent.into_iter().for_each(|row| mask.set_bit(row, true));
            mask.finish()
        });
        let nulls = self.nulls.finish();
        Ok((self.take_values(nulls)?, mask))
    }

    fn take_values(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, CellFault> {
        fn buffer<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
            ScalarBuffer::from(take(values))
        }
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int2(values) => Arc::new(Int16Array::new(buffer(values), nulls)),
            Values::Int4(values) => Arc::new(Int32Array::new(buffer(values), nulls)),
            Values::Int8(values) | Values::Oid(values) => Arc::new(Int64Array::new(buffer(values), nulls)),
            Values::Float4(values) => Arc::new(Float32Array::new(buffer(values), nulls)),
            Values::Float8(values) => Arc::new(Float64Array::new(buffer(values), nulls)),
            Values::Decimal { values, precision, scale } => {
                let array = Decimal128Array::new(buffer(values), nulls).with_precision_and_scale(*precision, *scale);
                Arc::new(array.map_err(|_| CellFault::Malformed("its precision is not one that Arrow knows"))?)
            }
            Values::Date(values) => Arc::new(Date32Array::new(buffer(values), nulls)),
            Values::Timestamp { values, utc } => {
                let array = TimestampMicrosecondArray::new(buffer(values), nulls);
                Arc::new(array.with_timezone_opt(utc.then_some("UTC")))
            }
            Values::Bytea(strings) => {
                let (offsets, data) = strings.take();
                Arc::new(BinaryArray::new(offsets, data, nulls))
            }
            Values::Text(strings, _) => {
                let (offsets, data) = strings.take();
                // Checked here for all values at once. Arrow's own error could quote a value: it is left out.
                let array = StringArray::try_new(offsets, data, nulls);
                Arc::new(array.map_err(|_| CellFault::Malformed("its text is not UTF-8"))?)
            }
        })
    }
}

/// `\x` and hexadecimal digits, as `bytea_output hex` prints them.
fn hex_to_bytes(text: &[u8], out: &mut Vec<u8>) -> Result<(), CellFault> {
    const NO_HEX: CellFault = CellFault::Malformed("it is not a bytea in hexadecimal form");
    let [b'\\', b'x', digits @ ..] = text else {
        return Err(NO_HEX);
    };
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(NO_HEX);
    }
    out.reserve(pairs.len());
    for [high, low] in pairs {
        match (HEX_VALUES[usize::from(*high)], HEX_VALUES[usize::from(*low)]) {
            (high @ 0..=15, low @ 0..=15) => out.push(high << 4 | low),
            _ => return Err(NO_HEX),
        }
    }
    Ok(())
}

/// The value of each hexadecimal digit; 255 for every other byte.
const HEX_VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        values[HEX_DIGITS[digit as usize] as usize] = digit;
        values[HEX_DIGITS[digit as usize].to_ascii_uppercase() as usize] = digit;
        digit += 1;
    }
    values
};

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Type `"char"`: a byte of zero prints as nothing and one above 127 as three octal digits (as newer servers print it).
fn char_to_text(byte: u8, out: &mut Vec<u8>) -> Result<(), CellFault> {
    match byte {
        0 => {}
        1..128 => out.push(byte),
        _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
    }
    Ok(())
}

fn uuid_to_text(uuid: [u8; 16], out: &mut Vec<u8>) -> Result<(), CellFault> {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in uuid.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX_DIGITS[usize::from(byte >> 4)];
        text[at + 1] = HEX_DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
    Ok(())
}
