use std::fmt;

use arrow::datatypes::DataType;

use crate::canonical;
use crate::kernel::{amount, copy, dates, place, shape};
use crate::policy::Rule;

pub use crate::format::Format;
pub use crate::json_path::JsonPaths;
pub use crate::kernel::amount::Edges;
pub use crate::kernel::hierarchy::CodeLevel;
pub use crate::kernel::round::Quantity;
pub use crate::kernel::surrogate::SurrogateList;
pub use crate::scrub::Tier;
pub use crate::x12_map::X12Map;

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
        /// How it is stored.
        code: CodeType,
    },
    /// A token as [`Transform::HmacToken`], that the holder of the key can turn back.
    SivToken {
        /// The domain.
        domain: String,
    },
    /// A random code that a vault keeps for the value; not derived from it.
    VaultCode {
        /// The domain.
        domain: String,
        /// How it is stored.
        code: CodeType,
    },
    /// Another identifier of the same shape, that the holder of the key can turn back.
    FpeFf1 {
        /// The domain.
        domain: String,
        /// The shape.
        format: Format,
    },
    /// An invented value, the same for the same person or value, marked as invented.
    DictSurrogate {
        /// What is invented.
        list: SurrogateList,
        /// The domain of the persons or values.
        domain: String,
    },
    /// The year; years that show an age above 89 are one group.
    DateYear,
    /// The first day of the month, quarter or week.
    DateTrunc {
        /// How coarse.
        unit: DateUnit,
    },
    /// The date, moved by days that are the same for all dates of a person.
    DateShift {
        /// The domain of the persons.
        domain: String,
        /// The most days, in either direction.
        days_max: u16,
    },
    /// The value itself, encrypted under a random key of the person that can be destroyed.
    EncryptCell {
        /// The domain of the persons.
        domain: String,
    },
    /// The age in whole years; 90 stands for all above.
    AgeCap {
        /// Whether it is text, in which `90+` says so.
        text: bool,
    },
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
    /// The nearest multiple.
    Round {
        /// Of what.
        step: Quantity,
    },
    /// The number, and the cap for all above it.
    TopCode {
        /// The highest number that is shown.
        cap: Quantity,
    },
    /// A code of a public system, further up its tree.
    Hierarchy {
        /// How far up which tree.
        level: CodeLevel,
    },
    /// Of a JSON document only the named places, each by its own rule.
    JsonPaths {
        /// The places.
        paths: JsonPaths,
    },
    /// Of an X12 document only the elements of a map, each by its own rule, in an envelope that is made anew.
    X12Map {
        /// The map.
        map: X12Map,
    },
    /// Free text with placeholders for what identifies a person.
    ScrubText {
        /// How much passes.
        tier: Tier,
        /// Columns of the same row whose values are searched in the text.
        known: Vec<String>,
        /// SHA-256 of the policy's model, where the tier has one.
        model: Option<String>,
    },
}

/// How a token or a code is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeType {
    /// Text that tells the domain, of a token the epoch of the key too, and 128 bits in 26 characters.
    Text,
    /// The 128 bits alone.
    Binary,
    /// A whole number of 63 bits.
    Int64,
}

impl CodeType {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            CodeType::Text => DataType::Utf8,
            CodeType::Binary => DataType::Binary,
            CodeType::Int64 => DataType::Int64,
        }
    }

    /// How the policy spells it behind the domain; nothing for text.
    fn suffix(self) -> &'static str {
        match self {
            CodeType::Text => "",
            CodeType::Binary => ",binary",
            CodeType::Int64 => ",int64",
        }
    }
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

/// What has a token or a code.
const CODED: &str = "integers, decimals, text, dates, timestamps or binary";

impl Transform {
    /// The Arrow type after the transform, for values of `input`; `None` for [`Transform::Drop`].
    ///
    /// # Errors
    /// What the transform can read, when it cannot read `input`.
    pub fn output(&self, input: &DataType) -> Result<Option<DataType>, &'static str> {
        use Transform as T;
        let text = matches!(input, DataType::Utf8 | DataType::LargeUtf8);
        let (reads, needs, output) = match self {
            T::Drop | T::ScrubText { tier: Tier::Drop, .. } => return Ok(None),
            T::Keep | T::NullOut => (copy::can_copy(input), "a type that is not nested", input.clone()),
            T::Redact { .. } => (true, "", DataType::Utf8),
            T::MaskChars { .. } => (text, "text", DataType::Utf8),
            T::HmacToken { code, .. } | T::VaultCode { code, .. } => {
                (canonical::can_read(input), CODED, code.data_type())
            }
            T::SivToken { .. } => (canonical::can_read(input), CODED, DataType::Utf8),
            T::EncryptCell { .. } => (canonical::can_read(input), CODED, DataType::Binary),
            T::DateYear | T::DobGeneralise => (dates::can_read(input), "dates, timestamps or text", DataType::Int16),
            T::DateTrunc { .. } => (dates::can_read(input), "dates, timestamps or text", DataType::Date32),
            T::DateShift { .. } => (dates::can_read(input), "dates, timestamps or text", same_or_text(input)),
            T::FpeFf1 { format, .. } => {
                (shape::can_read(input, *format), "text, or integers that can hold every value", same_or_text(input))
            }
            T::DictSurrogate { .. }
            | T::Hierarchy { .. }
            | T::JsonPaths { .. }
            | T::X12Map { .. }
            | T::ScrubText { .. } => (text, "text", DataType::Utf8),
            T::Round { step } => (step.fits(input), "numbers with as many decimals as its argument", input.clone()),
            T::TopCode { cap } => (cap.fits(input), "numbers with as many decimals as its argument", input.clone()),
            T::AgeCap { text: false } => (amount::can_read(input), "numbers or text", DataType::Int16),
            T::AgeCap { text: true } => (amount::can_read(input), "numbers or text", DataType::Utf8),
            T::Bucket { .. } => (amount::can_read(input), "numbers or text", DataType::Utf8),
            T::Zip3 => (place::can_read_zip(input), "text or integers", DataType::Utf8),
            T::GeoState => (text, "text", DataType::Utf8),
        };
        if reads { Ok(Some(output)) } else { Err(needs) }
    }

    /// Whether different values stay different, so that the column can still tell rows apart.
    pub fn is_injective(&self) -> bool {
        use Transform as T;
        matches!(self, T::Keep | T::HmacToken { .. } | T::SivToken { .. } | T::VaultCode { .. } | T::FpeFf1 { .. })
    }

    /// Whether there are values that it cannot read.
    pub(crate) fn can_fail(&self) -> bool {
        use Transform as T;
        !matches!(self, T::Keep | T::Drop | T::NullOut | T::Redact { .. } | T::ScrubText { tier: Tier::Drop, .. })
    }

    /// Whether the output depends on the day of processing.
    pub fn depends_on_today(&self) -> bool {
        match self {
            Transform::DateYear | Transform::DobGeneralise | Transform::ScrubText { .. } => true,
            other => other.inner().iter().any(|rule| rule.transform.depends_on_today()),
        }
    }

    /// Whether the output is a year, which later shows an age above 89.
    pub(crate) fn is_year(&self) -> bool {
        matches!(self, Transform::DateYear | Transform::DobGeneralise)
    }

    /// Whether two outputs for the same value differ: such a column is compared by what its cells hold.
    pub(crate) fn is_random(&self) -> bool {
        matches!(self, Transform::EncryptCell { .. })
    }

    /// The domain under which the same value or person gives the same output; all transforms that need keys have one.
    pub(crate) fn domain(&self) -> Option<&str> {
        use Transform as T;
        match self {
            T::HmacToken { domain, .. }
            | T::SivToken { domain }
            | T::VaultCode { domain, .. }
            | T::FpeFf1 { domain, .. }
            | T::DictSurrogate { domain, .. }
            | T::EncryptCell { domain }
            | T::DateShift { domain, .. } => Some(domain),
            _ => None,
        }
    }

    /// Whether the output hangs on text in a form that the rule can choose.
    pub(crate) fn takes_form(&self) -> bool {
        self.domain().is_some() && !matches!(self, Transform::FpeFf1 { .. })
    }

    /// Whether the rule must say which column names the person.
    pub(crate) fn needs_subject(&self) -> bool {
        match self {
            Transform::DateShift { .. } | Transform::EncryptCell { .. } => true,
            other => other.inner().iter().any(|rule| rule.transform.needs_subject()),
        }
    }

    /// Whether the rule may say which column names the person.
    pub(crate) fn takes_subject(&self) -> bool {
        match self {
            Transform::DateShift { .. } | Transform::DictSurrogate { .. } | Transform::EncryptCell { .. } => true,
            other => other.inner().iter().any(|rule| rule.transform.takes_subject()),
        }
    }

    /// The rules of the places in documents.
    pub(crate) fn inner(&self) -> Vec<&Rule> {
        match self {
            Transform::JsonPaths { paths } => paths.0.iter().map(|(_, rule)| rule).collect(),
            Transform::X12Map { map } => map.rules.iter().map(|(_, rule)| rule).collect(),
            _ => Vec::new(),
        }
    }

    /// Its spelling, with all that the rules of places in documents make of a value.
    pub(crate) fn meaning(&self) -> String {
        match self {
            Transform::JsonPaths { paths } => format!("json_paths({})", paths.meaning()),
            Transform::X12Map { map } => format!("x12_map({})", map.meaning()),
            Transform::ScrubText { tier, known, model: Some(model) } => scrub_text(*tier, Some(model), known),
            other => other.to_string(),
        }
    }

    /// Whether it makes a token or code that does not tell what it is: bytes or a number.
    pub(crate) fn is_bare_code(&self) -> bool {
        match self {
            Transform::HmacToken { code, .. } | Transform::VaultCode { code, .. } => *code != CodeType::Text,
            _ => false,
        }
    }

    /// Whether its texts are searched with the model.
    pub(crate) fn asks_model(&self) -> bool {
        matches!(self, Transform::ScrubText { tier: Tier::DetectNer, .. })
    }

    /// Whether its values are documents, of which inner rules say what passes.
    pub(crate) fn is_document(&self) -> bool {
        matches!(self, Transform::JsonPaths { .. } | Transform::X12Map { .. })
    }

    /// The columns beside it whose values it searches, each once.
    pub(crate) fn known_columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = match self {
            Transform::ScrubText { known, .. } => known.iter().map(String::as_str).collect(),
            other => other.inner().into_iter().flat_map(|rule| rule.transform.known_columns()).collect(),
        };
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Whether minimum and maximum of the output may stand in file statistics. Not for tokens, not for parts of values, and not for kept
    /// text or binary, where a single value may point at one person; yes for kept numbers, dates and booleans, which a reviewer has
    /// called not identifying, and for what has been made coarse.
    pub(crate) fn statistics(&self, output: &DataType) -> bool {
        match self {
            Transform::Keep | Transform::TopCode { .. } => output.is_primitive() || *output == DataType::Boolean,
            Transform::Drop
            | Transform::NullOut
            | Transform::MaskChars { .. }
            | Transform::HmacToken { .. }
            | Transform::SivToken { .. }
            | Transform::VaultCode { .. }
            | Transform::FpeFf1 { .. }
            | Transform::DictSurrogate { .. }
            | Transform::DateShift { .. }
            | Transform::EncryptCell { .. }
            | Transform::JsonPaths { .. }
            | Transform::X12Map { .. }
            | Transform::ScrubText { .. } => false,
            Transform::Redact { .. }
            | Transform::DateYear
            | Transform::DateTrunc { .. }
            | Transform::AgeCap { .. }
            | Transform::DobGeneralise
            | Transform::Zip3
            | Transform::GeoState
            | Transform::Bucket { .. }
            | Transform::Round { .. }
            | Transform::Hierarchy { .. } => true,
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
            Transform::HmacToken { domain, code } => write!(f, "hmac_token({domain}{})", code.suffix()),
            Transform::VaultCode { domain, code } => write!(f, "vault_code({domain}{})", code.suffix()),
            Transform::SivToken { domain } => write!(f, "siv_token({domain})"),
            Transform::FpeFf1 { domain, format } => write!(f, "fpe_ff1({domain},{format})"),
            Transform::DictSurrogate { list, domain } => write!(f, "dict_surrogate({list},{domain})"),
            Transform::DateShift { domain, days_max } => write!(f, "date_shift({domain},{days_max})"),
            Transform::EncryptCell { domain } => write!(f, "encrypt_cell({domain})"),
            Transform::Round { step } => write!(f, "round({step})"),
            Transform::TopCode { cap } => write!(f, "top_code({cap})"),
            Transform::Hierarchy { level } => write!(f, "hierarchy({level})"),
            Transform::JsonPaths { paths } if paths.0.is_empty() => f.write_str("json_paths"),
            Transform::JsonPaths { paths } => write!(f, "json_paths({paths})"),
            Transform::X12Map { map } => write!(f, "x12_map({map})"),
            Transform::ScrubText { tier, known, model } => {
                let digits = model.as_deref().map(|model| model.get(..MODEL_DIGITS).unwrap_or(model));
                f.write_str(&scrub_text(*tier, digits, known))
            }
            Transform::DateYear => f.write_str("date_year"),
            Transform::DateTrunc { unit } => write!(f, "date_trunc({})", unit.name()),
            Transform::AgeCap { text } => f.write_str(if *text { "age_cap(text)" } else { "age_cap" }),
            Transform::DobGeneralise => f.write_str("dob_generalise"),
            Transform::Zip3 => f.write_str("zip3"),
            Transform::GeoState => f.write_str("geo_state"),
            Transform::Bucket { edges } => write!(f, "bucket({edges})"),
        }
    }
}

/// Digits of a model's SHA-256 by which people tell it from another.
const MODEL_DIGITS: usize = 12;

fn scrub_text(tier: Tier, model: Option<&str>, known: &[String]) -> String {
    let model = model.map(|model| format!(":{model}")).unwrap_or_default();
    let comma = if known.is_empty() { "" } else { "," };
    format!("scrub_text({}{model}{comma}{})", tier.name(), known.join("+"))
}

/// Text comes out in the narrow kind of column, everything else as it came.
fn same_or_text(input: &DataType) -> DataType {
    match input {
        DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
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
