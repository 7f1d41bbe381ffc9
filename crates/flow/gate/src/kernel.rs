//! The transforms over Arrow arrays. No output shares memory with its input.

pub(crate) mod amount;
mod column;
pub(crate) mod copy;
pub(crate) mod dates;
mod keyed_hash;
pub(crate) mod place;
mod text;
mod token;

use arrow::array::{Array, new_null_array};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result};

pub(crate) use self::column::Passed;
use self::token::{Tokenizer, VaultCoder};
use crate::Transform;
use crate::calendar::Date;
use crate::canonical::Form;
use crate::gate::Means;
use crate::transform::{DateUnit, Edges};

/// A transform with all that it needs to run.
pub(crate) enum Kernel {
    Keep,
    NullOut(DataType),
    Redact(String),
    MaskChars(usize),
    Token(Tokenizer),
    Vault(VaultCoder),
    DateYear,
    DateTrunc(DateUnit),
    AgeCap,
    DobGeneralise,
    Zip3,
    GeoState,
    Bucket(Edges),
}

impl Kernel {
    /// `None` for [`Transform::Drop`].
    ///
    /// # Errors
    /// [`Kind::Privacy`] when a key or the vault is missing.
    pub(crate) fn new(transform: &Transform, input: &DataType, form: Form, means: &Means) -> Result<Option<Self>> {
        let missing = |what: &str| Error::new(Kind::Privacy, format!("`{transform}` needs {what}, and there is none"));
        let keys = || means.keys.as_ref().ok_or_else(|| missing("a key file"));
        Ok(Some(match transform {
            Transform::Drop => return Ok(None),
            Transform::Keep => Kernel::Keep,
            Transform::NullOut => Kernel::NullOut(input.clone()),
            Transform::Redact { marker } => Kernel::Redact(format!("[{marker}]")),
            Transform::MaskChars { shown } => Kernel::MaskChars(usize::from(*shown)),
            Transform::HmacToken { domain } => Kernel::Token(Tokenizer::new(keys()?, domain, form)?),
            Transform::VaultCode { domain } => {
                let vault = means.vault.clone().ok_or_else(|| missing("a vault"))?;
                Kernel::Vault(VaultCoder::new(keys()?, vault, domain, form)?)
            }
            Transform::DateYear => Kernel::DateYear,
            Transform::DateTrunc { unit } => Kernel::DateTrunc(*unit),
            Transform::AgeCap => Kernel::AgeCap,
            Transform::DobGeneralise => Kernel::DobGeneralise,
            Transform::Zip3 => Kernel::Zip3,
            Transform::GeoState => Kernel::GeoState,
            Transform::Bucket { edges } => Kernel::Bucket(edges.clone()),
        }))
    }

    /// Transforms a column. `today` is the day of processing, UTC.
    pub(crate) fn apply(&self, array: &dyn Array, today: Date) -> Result<Passed> {
        match self {
            Kernel::Keep => Ok(Passed { values: copy::tight(array)?, invalid: 0 }),
            Kernel::NullOut(data_type) => Ok(Passed { values: new_null_array(data_type, array.len()), invalid: 0 }),
            Kernel::Redact(marker) => text::redact(array, marker),
            Kernel::MaskChars(shown) => text::mask(array, *shown),
            Kernel::Token(tokenizer) => tokenizer.apply(array),
            Kernel::Vault(coder) => coder.apply(array),
            Kernel::DateYear => dates::year(array, today),
            Kernel::DateTrunc(unit) => dates::truncate(array, *unit),
            Kernel::AgeCap => amount::age(array),
            Kernel::DobGeneralise => dates::birth_year(array, today),
            Kernel::Zip3 => place::zip3(array),
            Kernel::GeoState => place::state(array),
            Kernel::Bucket(edges) => edges.apply(array),
        }
    }
}
