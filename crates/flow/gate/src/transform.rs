use std::fmt;

use arrow::datatypes::DataType;

use crate::canonical;
use crate::kernel::{amount, copy, dates, place};

pub use crate::kernel::amount::Edges;

/// What is done to a column's values; `docs/guide/policy.md` is the manual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The value as it is. Needs somebody who says that it does not identify a person.
    Keep,
    /// The column is not in the lake.
    Drop,
    /// The column is there and always null.
    NullOut,
    /// A marker like `[NAME]` for every value.
    Redact {
        /// What stands between the square brackets.
        marker: String,
    },
    /// Four asterisks and the last characters.
    MaskChars {
        /// How many characters are shown.
        shown: u8,
    },
    /// A keyed token; the same value has the same token in every column of the domain.
    HmacToken {
        /// The domain.
        domain: String,
    },
    /// A random code that a vault keeps for the value; not derived from it.
    VaultCode {
        /// The domain.
        domain: String,
    },
    /// The year; years that show an age above 89 are one group.
    DateYear,
    /// The first day of the month, quarter or week.
    DateTrunc {
        /// How coarse.
        unit: DateUnit,
    },
    /// The age in whole years; 90 stands for all above.
    AgeCap,
    /// The year of birth; everybody above 89 is one group.
    DobGeneralise,
    /// Three digits of the ZIP code where more than 20,000 people live, else 000.
    Zip3,
    /// The state's two letters.
    GeoState,
    /// The name of the range that the number lies in.
    Bucket {
        /// The borders of the ranges.
        edges: Edges,
    },
}

/// How coarse [`Transform::DateTrunc`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateUnit {
    /// The first of the month.
    Month,
    /// The first of January, April, July or October.
    Quarter,
    /// The Monday on or before the day.
    Week,
}

impl Transform {
    /// The Arrow type after the transform, for values of `input`; `None` for [`Transform::Drop`].
    ///
    /// # Errors
    /// What the transform can read, when it cannot read `input`.
    pub fn output(&self, input: &DataType) -> Result<Option<DataType>, &'static str> {
        use Transform as T;
        let text = matches!(input, DataType::Utf8 | DataType::LargeUtf8);
        let (reads, needs, output) = match self {
            T::Drop => return Ok(None),
            T::Keep | T::NullOut => (copy::can_copy(input), "a type that is not nested", input.clone()),
            T::Redact { .. } => (true, "", DataType::Utf8),
            T::MaskChars { .. } => (text, "text", DataType::Utf8),
            T::HmacToken { .. } | T::VaultCode { .. } => {
                (canonical::can_read(input), "integers, decimals, text, dates, timestamps or binary", DataType::Utf8)
            }
            T::DateYear | T::DobGeneralise => (dates::can_read(input), "dates, timestamps or text", DataType::Int16),
            T::DateTrunc { .. } => (dates::can_read(input), "dates, timestamps or text", DataType::Date32),
            T::AgeCap => (amount::can_read(input), "numbers or text", DataType::Int16),
            T::Bucket { .. } => (amount::can_read(input), "numbers or text", DataType::Utf8),
            T::Zip3 => (place::can_read_zip(input), "text or integers", DataType::Utf8),
            T::GeoState => (text, "text", DataType::Utf8),
        };
        if reads { Ok(Some(output)) } else { Err(needs) }
    }

    /// Whether different values stay different, so that the column can still tell rows apart.
    pub fn is_injective(&self) -> bool {
        matches!(self, Transform::Keep | Transform::HmacToken { .. } | Transform::VaultCode { .. })
    }

    /// Whether the output depends on the day of processing.
    pub fn depends_on_today(&self) -> bool {
        matches!(self, Transform::DateYear | Transform::DobGeneralise)
    }

    /// The domain of a token or code.
    pub(crate) fn domain(&self) -> Option<&str> {
        match self {
            Transform::HmacToken { domain } | Transform::VaultCode { domain } => Some(domain),
            _ => None,
        }
    }

    /// Whether minimum and maximum of the output may stand in file statistics. Not for tokens, not for parts of values, and not for kept
    /// text or binary, where a single value may point at one person; yes for kept numbers, dates and booleans, which a reviewer has
    /// called not identifying, and for what has been made coarse.
    pub(crate) fn statistics(&self, output: &DataType) -> bool {
        match self {
            Transform::Keep => output.is_primitive() || *output == DataType::Boolean,
            Transform::Drop | Transform::NullOut => false,
            Transform::MaskChars { .. } | Transform::HmacToken { .. } | Transform::VaultCode { .. } => false,
            Transform::Redact { .. }
            | Transform::DateYear
            | Transform::DateTrunc { .. }
            | Transform::AgeCap
            | Transform::DobGeneralise
            | Transform::Zip3
            | Transform::GeoState
            | Transform::Bucket { .. } => true,
        }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transform::Keep => f.write_str("keep"),
            Transform::Drop => f.write_str("drop"),
            Transform::NullOut => f.write_str("null_out"),
            Transform::Redact { marker } => write!(f, "redact({marker})"),
            Transform::MaskChars { shown } => write!(f, "mask_chars({shown})"),
            Transform::HmacToken { domain } => write!(f, "hmac_token({domain})"),
            Transform::VaultCode { domain } => write!(f, "vault_code({domain})"),
            Transform::DateYear => f.write_str("date_year"),
            Transform::DateTrunc { unit } => write!(f, "date_trunc({})", unit.name()),
            Transform::AgeCap => f.write_str("age_cap"),
            Transform::DobGeneralise => f.write_str("dob_generalise"),
            Transform::Zip3 => f.write_str("zip3"),
            Transform::GeoState => f.write_str("geo_state"),
            Transform::Bucket { edges } => write!(f, "bucket({edges})"),
        }
    }
}

impl DateUnit {
    pub(crate) const ALL: [DateUnit; 3] = [DateUnit::Month, DateUnit::Quarter, DateUnit::Week];

    pub(crate) fn name(self) -> &'static str {
        match self {
            DateUnit::Month => "month",
            DateUnit::Quarter => "quarter",
            DateUnit::Week => "week",
        }
    }
}
