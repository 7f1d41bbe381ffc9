//! Copies that share no memory with the raw batch: a raw buffer may hold more than the array shows (rows that were sliced away, bytes
//! behind a null, another column of the same message), and what the lake gets must not.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, GenericByteArray, PrimitiveArray,
    downcast_primitive_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, BinaryType, ByteArrayType, DataType, LargeBinaryType, LargeUtf8Type, Utf8Type,
};
use change::{Error, Kind, Result};

/// Whether [`tight`] can copy the type.
pub(crate) fn can_copy(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, LargeBinary, LargeUtf8, Utf8};
    data_type.is_primitive() || matches!(data_type, Boolean | Utf8 | LargeUtf8 | Binary | LargeBinary)
}

/// The same values in new buffers that hold nothing else; what lay behind a null is zero.
pub(crate) fn tight(array: &dyn Array) -> Result<ArrayRef> {
    Ok(downcast_primitive_array!(
        array => Arc::new(primitive(array)) as ArrayRef,
        DataType::Boolean => Arc::new(boolean(array.as_boolean())),
        DataType::Utf8 => Arc::new(bytes::<Utf8Type>(array.as_string::<i32>())?),
        DataType::LargeUtf8 => Arc::new(bytes::<LargeUtf8Type>(array.as_string::<i64>())?),
        DataType::Binary => Arc::new(bytes::<BinaryType>(array.as_binary::<i32>())?),
        DataType::LargeBinary => Arc::new(bytes::<LargeBinaryType>(array.as_binary::<i64>())?),
        other => return Err(Error::new(Kind::Bug, format!("the gate was let through with a column of type {other}"))),
    ))
}

/// The same nulls in a buffer of their own.
pub(crate) fn nulls(array: &dyn Array) -> Option<NullBuffer> {
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0)?;
    Some(NullBuffer::new(BooleanBuffer::collect_bool(nulls.len(), |row| nulls.is_valid(row))))
}

fn primitive<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> PrimitiveArray<T> {
    let nulls = nulls(array);
    let values: Vec<T::Native> = match &nulls {
        None => array.values().to_vec(),
        Some(nulls) => array
            .values()
            .iter()
            .zip(nulls)
            .map(|(value, valid)| if valid { *value } else { T::Native::default() })
            .collect(),
    };
    PrimitiveArray::new(ScalarBuffer::from(values), nulls).with_data_type(array.data_type().clone())
}

fn boolean(array: &BooleanArray) -> BooleanArray {
    let values = BooleanBuffer::collect_bool(array.len(), |row| array.is_valid(row) && array.value(row));
    BooleanArray::new(values, nulls(array))
}

fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>) -> Result<GenericByteArray<T>> {
    let nulls = nulls(array);
    let (raw, ends) = (array.value_data(), array.value_offsets());
    let at = |row: usize| ends[row].as_usize()..ends[row + 1].as_usize();
    let mut values = Vec::with_capacity(ends[array.len()].as_usize() - ends[0].as_usize());
    let mut offsets = Vec::with_capacity(array.len() + 1);
    match &nulls {
        None => {
            values.extend_from_slice(&raw[ends[0].as_usize()..ends[array.len()].as_usize()]);
            offsets.extend(ends.iter().map(|end| *end - ends[0]));
        }
        Some(nulls) => {
            offsets.push(T::Offset::usize_as(0));
            for row in 0..array.len() {
                if nulls.is_valid(row) {
                    values.extend_from_slice(&raw[at(row)]);
                }
                offsets.push(T::Offset::usize_as(values.len()));
            }
        }
    }
    GenericByteArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls).map_err(|_| {
        Error::new(Kind::Data, format!("a {} column holds bytes that are not its type", array.data_type()))
    })
}
