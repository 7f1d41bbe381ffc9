//! The transforms over Arrow arrays. No output shares memory with its input.

mod aged;
pub(crate) mod amount;
mod base32;
pub(crate) mod cells;
mod coded;
mod column;
pub(crate) mod copy;
pub(crate) mod dates;
pub(crate) mod hierarchy;
pub(crate) mod keyed_hash;
mod nested;
pub(crate) mod place;
mod repeats;
mod retoken;
pub(crate) mod round;
pub(crate) mod scrub;
pub(crate) mod shape;
mod shift;
pub(crate) mod siv;
pub(crate) mod subject;
pub(crate) mod surrogate;
mod text;
pub(crate) mod token;
mod x12;

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::datatypes::DataType;
use change::{Error, Kind, Result, TableName};

use self::aged::Aged;
use self::cells::CellSealer;
pub(crate) use self::column::Passed;
use self::nested::Nested;
use self::retoken::Retoken;
use self::scrub::TextScrub;
use self::shape::ShapeKeeper;
use self::shift::Shifter;
use self::siv::SivTokenizer;
use self::subject::Beside;
use self::surrogate::Surrogates;
use self::token::{Tokenizer, VaultCoder};
use self::x12::X12;
use crate::calendar::Date;
use crate::gate::Means;
use crate::policy::Rule;
use crate::transform::{CodeLevel, DateUnit, Edges, Quantity, Tier};
use crate::{KeyRing, Profile, Transform};

/// A transform with all that it needs to run.
pub(crate) enum Kernel {
    Keep,
    NullOut(DataType),
    Redact(String),
    MaskChars(usize),
    Token(Tokenizer),
    Siv(Box<SivTokenizer>),
    Retoken(Retoken),
    Vault(VaultCoder),
    Shape(Box<ShapeKeeper>),
    Surrogate(Surrogates),
    DateYear,
    DateTrunc(DateUnit),
    DateShift(Shifter),
    Cells(Box<CellSealer>),
    AgeCap,
    DobGeneralise,
    Zip3,
    GeoState,
    Bucket(Edges),
    Round(Quantity),
    TopCode(Quantity),
    Hierarchy(CodeLevel),
    Nested(Nested),
    X12(X12),
    Scrub(TextScrub),
    Aged(Aged),
}

/// Values of one inner rule, and the row of each.
pub(crate) type InnerValues = (StringArray, Vec<u32>);

/// What all kernels of a policy are made with.
pub(crate) struct Setup<'a> {
    pub(crate) profile: Profile,
    pub(crate) means: &'a Means,
    /// Whose columns they are; `None` for values that stand in no table.
    pub(crate) table: Option<&'a TableName>,
}

impl Kernel {
    /// `None` for [`Transform::Drop`].
    ///
    /// # Errors
    /// [`Kind::Privacy`] when a key or the vault is missing.
    pub(crate) fn new(rule: &Rule, input: &DataType, setup: &Setup<'_>) -> Result<Option<Self>> {
        let (transform, form, means) = (&rule.transform, rule.form, setup.means);
        let missing = |what: &str| Error::new(Kind::Privacy, format!("`{transform}` needs {what}, and there is none"));
        let keys = || means.keys.as_deref().ok_or_else(|| missing("a key file"));
        let epoch = || keys().map(|keys| rule.epoch(keys).unwrap_or(keys.current_epoch()));
        Ok(Some(match transform {
            Transform::Drop => return Ok(None),
            Transform::Keep => Kernel::Keep,
            Transform::NullOut => Kernel::NullOut(input.clone()),
            Transform::Redact { marker } => Kernel::Redact(format!("[{marker}]")),
            Transform::MaskChars { shown } => Kernel::MaskChars(usize::from(*shown)),
            Transform::HmacToken { domain } => Kernel::Token(Tokenizer::new(keys()?, domain, form, epoch()?)?),
            Transform::VaultCode { domain } => {
                let vault = means.vault.clone().ok_or_else(|| missing("a vault"))?;
                Kernel::Vault(VaultCoder::new(keys()?, vault, domain, form)?)
            }
            Transform::SivToken { domain } => {
                Kernel::Siv(Box::new(SivTokenizer::new(keys()?, domain, form, epoch()?)?))
            }
            Transform::FpeFf1 { domain, format } => {
                Kernel::Shape(Box::new(ShapeKeeper::new(keys()?, domain, *format, epoch()?)?))
            }
            Transform::DictSurrogate { list, domain } => {
                Kernel::Surrogate(Surrogates::new(keys()?, domain, form, epoch()?, *list)?)
            }
            Transform::DateShift { domain, days_max } => {
                let keeps_time = setup.profile == Profile::LimitedDataSet;
                Kernel::DateShift(Shifter::new(keys()?, domain, form, epoch()?, *days_max, keeps_time)?)
            }
            Transform::EncryptCell { domain } => {
                let store = means.cell_keys.clone().ok_or_else(|| missing("a store of data keys"))?;
                let table = setup.table.ok_or_else(|| missing("a table"))?;
                let sealer = CellSealer::new(keys()?, store, domain, form, (table, &rule.column))?;
                Kernel::Cells(Box::new(sealer))
            }
            Transform::DateYear => Kernel::DateYear,
            Transform::DateTrunc { unit } => Kernel::DateTrunc(*unit),
            Transform::AgeCap => Kernel::AgeCap,
            Transform::DobGeneralise => Kernel::DobGeneralise,
            Transform::Zip3 => Kernel::Zip3,
            Transform::GeoState => Kernel::GeoState,
            Transform::Bucket { edges } => Kernel::Bucket(edges.clone()),
            Transform::Round { step } => Kernel::Round(*step),
            Transform::TopCode { cap } => Kernel::TopCode(*cap),
            Transform::Hierarchy { level } => Kernel::Hierarchy(*level),
            Transform::JsonPaths { paths } => Kernel::Nested(Nested::new(paths, setup)?),
            Transform::X12Map { map } => Kernel::X12(X12::new(map, setup)?),
            Transform::ScrubText { tier: Tier::Drop, .. } => return Ok(None),
            Transform::ScrubText { tier, known } => Kernel::Scrub(TextScrub::new(*tier, known)),
        }))
    }

    /// For stored values that a rule has made under other epochs of the key, brought to those of now; `before` tells the epoch of a place.
    /// `None` when they cannot be computed from what is stored.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when a key is missing.
    pub(crate) fn moved(rule: &Rule, keys: &KeyRing, before: &dyn Fn(&Rule) -> Option<u32>) -> Result<Option<Self>> {
        if let Transform::JsonPaths { paths } = &rule.transform {
            return Ok(Nested::moved(paths, keys, before)?.map(Kernel::Nested));
        }
        let moves = |rule: &Rule| before(rule).zip(rule.epoch(keys)).filter(|(from, to)| from != to);
        let Some((from, to)) = moves(rule) else {
            // Other documents cannot be opened.
            return Ok(rule.inner().all(|inner| moves(inner).is_none()).then_some(Kernel::Keep));
        };
        Ok(match &rule.transform {
            Transform::HmacToken { domain } => Retoken::wrap(keys, domain, from, to)?.map(Kernel::Retoken),
            Transform::SivToken { domain } => Some(Kernel::Retoken(Retoken::seal(keys, domain, rule.form, from, to)?)),
            Transform::FpeFf1 { domain, format } => {
                Some(Kernel::Shape(Box::new(ShapeKeeper::between(keys, domain, *format, from, to)?)))
            }
            _ => None,
        })
    }

    /// Transforms values that stand in no row.
    pub(crate) fn apply_alone(&self, array: &dyn Array) -> Result<ArrayRef> {
        let today = Date::from_timestamp(0);
        self.apply(array, Beside { today, subject: None, known: &[] }).map(|passed| passed.values)
    }

    /// Of documents, the values of each inner rule and the row of each value; `None` for what holds no documents.
    pub(crate) fn inner_values(&self, array: &dyn Array) -> Option<Result<Vec<InnerValues>>> {
        match self {
            Kernel::Nested(nested) => Some(nested.values(array)),
            Kernel::X12(x12) => Some(x12.values(array)),
            _ => None,
        }
    }

    /// Transforms a column.
    pub(crate) fn apply(&self, array: &dyn Array, beside: Beside<'_>) -> Result<Passed> {
        let today = beside.today;
        match self {
            Kernel::Keep => Ok(Passed { values: copy::tight(array)?, invalid: 0 }),
            Kernel::NullOut(data_type) => Ok(Passed { values: new_null_array(data_type, array.len()), invalid: 0 }),
            Kernel::Redact(marker) => text::redact(array, marker),
            Kernel::MaskChars(shown) => text::mask(array, *shown),
            Kernel::Token(tokenizer) => tokenizer.apply(array),
            Kernel::Siv(tokenizer) => tokenizer.apply(array),
            Kernel::Retoken(retoken) => retoken.apply(array),
            Kernel::Vault(coder) => coder.apply(array),
            Kernel::Shape(keeper) => keeper.apply(array),
            Kernel::Surrogate(surrogates) => surrogates.apply(array, beside),
            Kernel::DateShift(shifter) => shifter.apply(array, beside),
            Kernel::Cells(sealer) => sealer.apply(array, beside),
            Kernel::DateYear => dates::year(array, today),
            Kernel::DateTrunc(unit) => dates::truncate(array, *unit),
            Kernel::AgeCap => amount::age(array),
            Kernel::DobGeneralise => dates::birth_year(array, today),
            Kernel::Zip3 => place::zip3(array),
            Kernel::GeoState => place::state(array),
            Kernel::Bucket(edges) => edges.apply(array),
            Kernel::Round(step) => round::round(array, *step),
            Kernel::TopCode(cap) => round::top_code(array, *cap),
            Kernel::Hierarchy(level) => level.apply(array),
            Kernel::Nested(nested) => nested.apply(array, beside),
            Kernel::X12(x12) => x12.apply(array, beside),
            Kernel::Scrub(scrub) => scrub.apply(array, beside),
            Kernel::Aged(aged) => aged.apply(array, today),
        }
    }
}
