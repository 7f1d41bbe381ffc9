use std::fmt;

use arrow::datatypes::DataType;

use crate::kernel::copy::can_copy;

/// What is done to a column's values. `privacy.md` section 5 names them T1 to T24; here are those that are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transform {
    /// T24: the value as it is. Needs somebody who says that it does not identify a person.
    Keep,
    /// T1: the column is not in the lake.
    Drop,
}

impl Transform {
    /// The Arrow type after the transform, for values of `input`; `None` for [`Transform::Drop`].
    ///
    /// # Errors
    /// A sentence that names what the transform can read, when it cannot read `input`.
    pub fn output(&self, input: &DataType) -> Result<Option<DataType>, String> {
        match self {
            Transform::Drop => Ok(None),
            Transform::Keep if can_copy(input) => Ok(Some(input.clone())),
            Transform::Keep => Err("`keep` cannot read this type".into()),
        }
    }

    /// Whether different values stay different, so that the column can still tell rows apart.
    pub fn is_injective(&self) -> bool {
        matches!(self, Transform::Keep)
    }

    /// Whether minimum and maximum of the output may stand in file statistics: not for tokens, and not for kept text or binary, where
    /// a single value may point at one person.
    pub(crate) fn statistics(&self, output: &DataType) -> bool {
        match self {
            Transform::Keep => output.is_primitive() || *output == DataType::Boolean,
            Transform::Drop => false,
        }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transform::Keep => f.write_str("keep"),
            Transform::Drop => f.write_str("drop"),
        }
    }
}
