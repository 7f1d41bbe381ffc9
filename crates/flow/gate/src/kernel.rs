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
use crate::epoch::Rotation;
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
    Midnight,
    Cells(Box<CellSealer>),
    AgeCap { text: bool },
    DobGeneralise,
    YearAgain,
    Zip3,
    Zip3Again,
    GeoState,
    Bucket(Edges),
    Round(Quantity),
    TopCode(Quantity),
    Hierarchy(CodeLevel),
    Nested(Nested),
    X12(X12),
    Scrub(TextScrub),
    X12Aged,
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

/// How values that are stored came about, as far as they may be made otherwise now.
pub(crate) struct Stored<'a> {
    pub(crate) keys: Option<&'a KeyRing>,
    /// The epoch that made what is stored by a rule; `None` where no key made it.
    pub(crate) epoch: &'a dyn Fn(&Rule) -> Option<u32>,
    /// Years were made in an earlier year of processing.
    pub(crate) old_years: bool,
    /// ZIP prefixes were made by another census table.
    pub(crate) old_zips: bool,
    /// Shifted timestamps, themselves and not within documents, have a time of day that is to go.
    pub(crate) old_times: bool,
}

impl Stored<'_> {
    /// The epochs that a rule's values come from and go to, when these are two.
    fn epochs(&self, rule: &Rule) -> Result<Option<(u32, u32)>> {
        let made_by_key = rule.transform.rotation() != Rotation::Free;
        let Some(before) = (self.epoch)(rule).filter(|_| made_by_key) else { return Ok(None) };
        let keys = self.keys.ok_or_else(|| Error::new(Kind::Privacy, "the keys are not there"))?;
        Ok(rule.epoch(keys).map(|now| (before, now)).filter(|(before, now)| before != now))
    }
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
            Transform::HmacToken { domain, code } => {
                Kernel::Token(Tokenizer::new(keys()?, domain, form, epoch()?, *code)?)
            }
            Transform::VaultCode { domain, code } => {
                let vault = means.vault.clone().ok_or_else(|| missing("a vault"))?;
                Kernel::Vault(VaultCoder::new(keys()?, vault, domain, form, *code)?)
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
                let keeps_time = setup.profile.keeps_time();
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
            Transform::AgeCap { text } => Kernel::AgeCap { text: *text },
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
            Transform::ScrubText { tier: Tier::DetectNer, known, .. } => {
                let finder = means.entities.clone().ok_or_else(|| missing("a model"))?;
                Kernel::Scrub(TextScrub::new(Tier::DetectNer, known, Some(finder)))
            }
            Transform::ScrubText { tier, known, .. } => Kernel::Scrub(TextScrub::new(*tier, known, None)),
        }))
    }

    /// For stored values that a rule has made, brought to what it makes now. `None` when that cannot be computed from what is stored.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when a key is missing.
    pub(crate) fn moved(rule: &Rule, stored: &Stored<'_>) -> Result<Option<Self>> {
        match &rule.transform {
            Transform::JsonPaths { paths } => return Ok(Nested::moved(paths, stored)?.map(Kernel::Nested)),
            Transform::X12Map { map } => return Ok(X12::moved(map, stored)?.map(Kernel::X12)),
            Transform::DateYear | Transform::DobGeneralise if stored.old_years => return Ok(Some(Kernel::YearAgain)),
            Transform::Zip3 if stored.old_zips => return Ok(Some(Kernel::Zip3Again)),
            _ => {}
        }
        let (Some((from, to)), Some(keys)) = (stored.epochs(rule)?, stored.keys) else {
            let cuts = stored.old_times && matches!(rule.transform, Transform::DateShift { .. });
            return Ok(Some(if cuts { Kernel::Midnight } else { Kernel::Keep }));
        };
        Ok(match &rule.transform {
            Transform::HmacToken { domain, code } => Retoken::wrap(keys, domain, *code, from, to)?.map(Kernel::Retoken),
            Transform::SivToken { domain } => Some(Kernel::Retoken(Retoken::seal(keys, domain, rule.form, from, to)?)),
            Transform::FpeFf1 { domain, format } => {
                Some(Kernel::Shape(Box::new(ShapeKeeper::between(keys, domain, *format, from, to)?)))
            }
            _ => None,
        })
    }

    /// Transforms values that stand in no row.
    pub(crate) fn alone(&self, array: &dyn Array) -> Result<Passed> {
        self.apply(array, Beside { today: Date::from_timestamp(0), subject: None, known: &[] })
    }

    /// As [`Kernel::alone`], without saying how many cannot be read.
    pub(crate) fn apply_alone(&self, array: &dyn Array) -> Result<ArrayRef> {
        self.alone(array).map(|passed| passed.values)
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
            Kernel::Midnight => dates::midnight(array),
            Kernel::Cells(sealer) => sealer.apply(array, beside),
            Kernel::DateYear => dates::year(array, today),
            Kernel::DateTrunc(unit) => dates::truncate(array, *unit),
            Kernel::AgeCap { text: false } => amount::age(array),
            Kernel::AgeCap { text: true } => amount::age_text(array),
            Kernel::DobGeneralise => dates::birth_year(array, today),
            Kernel::YearAgain => dates::year_again(array, today),
            Kernel::Zip3 => place::zip3(array),
            Kernel::Zip3Again => place::zip3_again(array),
            Kernel::GeoState => place::state(array),
            Kernel::Bucket(edges) => edges.apply(array),
            Kernel::Round(step) => round::round(array, *step),
            Kernel::TopCode(cap) => round::top_code(array, *cap),
            Kernel::Hierarchy(level) => level.apply(array),
            Kernel::Nested(nested) => nested.apply(array, beside),
            Kernel::X12(x12) => x12.apply(array, beside),
            Kernel::Scrub(scrub) => scrub.apply(array, beside),
            Kernel::X12Aged => aged::x12(array, today),
        }
    }
}
