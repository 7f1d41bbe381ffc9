//! Renders decoded values back into what Postgres prints, so that Postgres can be the judge of them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};

/// The value as Postgres prints it, `None` for null. Floats print as Rust does: compare them with [`same`].
pub(crate) fn printed(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Date32 => array.as_primitive::<Date32Type>().value_as_date(row).unwrap().to_string(),
        DataType::Timestamp(_, zone) => {
            let moment = array.as_primitive::<TimestampMicrosecondType>().value_as_datetime(row).unwrap();
            let text = moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
            if zone.is_some() { text + "+00" } else { text }
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            "\\x".to_owned() + &bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        other => panic!("no column becomes {other}"),
    })
}

fn decimal(value: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap();
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Whether a decoded value and what Postgres prints are the same. Floats are compared by their bits, as the shortest text of a float has
/// several spellings.
pub(crate) fn same(decoded: Option<&str>, wanted: Option<&str>, data_type: &DataType) -> bool {
    match (decoded, wanted, data_type) {
        (Some(decoded), Some(wanted), DataType::Float32) => {
            decoded.parse::<f32>().unwrap().to_bits() == wanted.parse::<f32>().unwrap().to_bits()
        }
        (Some(decoded), Some(wanted), DataType::Float64) => {
            decoded.parse::<f64>().unwrap().to_bits() == wanted.parse::<f64>().unwrap().to_bits()
        }
        _ => decoded == wanted,
    }
}

/// Whether `wanted`, a value as Postgres prints it, is one that the type cannot hold.
pub(crate) fn unfit(wanted: &str, data_type: &DataType) -> bool {
    let infinite = matches!(wanted, "infinity" | "-infinity");
    let year = wanted.split('-').next().unwrap_or_default();
    match data_type {
        DataType::Decimal128(..) => wanted == "NaN",
        DataType::Date32 | DataType::Timestamp(..) => infinite || wanted.ends_with(" BC") || year.len() > 4,
        _ => false,
    }
}
