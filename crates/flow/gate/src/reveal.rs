//! What a reader of the lake learns of a value through each transform: the measure by which policies are compared and explained.

use crate::Transform;
use crate::kernel::round::is_smaller;
use crate::transform::{DateUnit, Tier};

/// A set of things that can be learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reveals(u16);

const PRESENCE: u16 = 1;
const LINKS: u16 = 1 << 1;
const DERIVED: u16 = 1 << 2;
const REVERSIBLE: u16 = 1 << 3;
const COARSE: u16 = 1 << 4;
const FINE_DATES: u16 = 1 << 5;
const INTERVALS: u16 = 1 << 6;
const PART: u16 = 1 << 7;
const VALUE: u16 = 1 << 8;

const NAMES: [(u16, &str); 9] = [
    (PRESENCE, "whether there is a value"),
    (LINKS, "which rows have the same value"),
    (DERIVED, "a code made from the value by a key"),
    (REVERSIBLE, "the value, for whoever holds the key"),
    (COARSE, "a coarse value"),
    (FINE_DATES, "dates finer than a year"),
    (INTERVALS, "the days between dates"),
    (PART, "part of the values"),
    (VALUE, "the value itself"),
];

impl Reveals {
    /// What the transform lets be learnt. A document's places are counted by their own rules.
    pub(crate) fn of(transform: &Transform) -> Self {
        use Transform as T;
        Self(match transform {
            T::Drop | T::NullOut => 0,
            T::Redact { .. } | T::JsonPaths { .. } | T::X12Map { .. } => PRESENCE,
            T::VaultCode { .. } => PRESENCE | LINKS,
            T::HmacToken { .. } | T::DictSurrogate { .. } => PRESENCE | LINKS | DERIVED,
            T::SivToken { .. } | T::FpeFf1 { .. } => PRESENCE | LINKS | DERIVED | REVERSIBLE,
            T::EncryptCell { .. } => PRESENCE | REVERSIBLE,
            T::DateYear | T::DobGeneralise | T::AgeCap { .. } | T::Zip3 | T::GeoState => PRESENCE | COARSE,
            T::Bucket { .. } | T::Round { .. } | T::Hierarchy { .. } => PRESENCE | COARSE,
            T::DateTrunc { .. } => PRESENCE | COARSE | FINE_DATES,
            T::DateShift { .. } => PRESENCE | COARSE | FINE_DATES | INTERVALS | DERIVED | REVERSIBLE,
            T::MaskChars { .. } => PRESENCE | PART,
            T::TopCode { .. } => PRESENCE | COARSE | PART,
            T::ScrubText { tier: Tier::Drop, .. } => 0,
            T::ScrubText { .. } => PRESENCE | PART,
            T::Keep => NAMES.iter().fold(0, |all, (bit, _)| all | bit),
        })
    }

    /// What is learnt here and not there.
    pub(crate) fn beyond(self, other: Self) -> Vec<&'static str> {
        // Who learns the value learns all else by it.
        let more = self.0 & !other.0;
        let told = if more & VALUE > 0 { VALUE } else { more };
        NAMES.iter().filter(|(bit, _)| told & bit > 0).map(|(_, name)| *name).collect()
    }

    /// How a transform treats a value, in a word.
    pub(crate) fn treatment(self) -> Treatment {
        match self.0 {
            bits if bits & PART > 0 || bits & VALUE > 0 => Treatment::Shown,
            bits if bits & COARSE > 0 => Treatment::Coarse,
            bits if bits & DERIVED > 0 => Treatment::Token,
            bits if bits & LINKS > 0 => Treatment::Code,
            bits if bits & REVERSIBLE > 0 => Treatment::Sealed,
            _ => Treatment::Removed,
        }
    }
}

/// How a value is treated, from the most to the least protective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// Nothing of it is stored.
    Removed,
    /// The value, encrypted; nothing of it can be read without its key.
    Sealed,
    /// A random code.
    Code,
    /// Something made from it by a key.
    Token,
    /// Something coarser.
    Coarse,
    /// The value or part of it.
    Shown,
}

/// Of two settings of one transform, which shows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finer {
    First,
    Second,
    /// Neither, or nobody can say.
    Neither,
}

/// Compares two settings of the same transform.
pub(crate) fn finer(first: &Transform, second: &Transform) -> Finer {
    use Transform as T;
    let by = |first_is_finer: bool, second_is_finer: bool| match (first_is_finer, second_is_finer) {
        (true, false) => Finer::First,
        (false, true) => Finer::Second,
        _ => Finer::Neither,
    };
    match (first, second) {
        (T::DateTrunc { unit: first }, T::DateTrunc { unit: second }) => {
            let rank = |unit: &DateUnit| match unit {
                DateUnit::Quarter => 0,
                DateUnit::Month => 1,
                DateUnit::Week => 2,
            };
            by(rank(first) > rank(second), rank(second) > rank(first))
        }
        (T::MaskChars { shown: first }, T::MaskChars { shown: second }) => by(first > second, second > first),
        (T::Bucket { edges: first }, T::Bucket { edges: second }) => by(first.contains(second), second.contains(first)),
        (T::Round { step: first }, T::Round { step: second }) => {
            by(is_smaller(*first, *second) == Some(true), is_smaller(*second, *first) == Some(true))
        }
        (T::TopCode { cap: first }, T::TopCode { cap: second }) => {
            by(is_smaller(*second, *first) == Some(true), is_smaller(*first, *second) == Some(true))
        }
        (T::ScrubText { tier: first, known: left, .. }, T::ScrubText { tier: second, known: right, .. })
            if left == right =>
        {
            let lets_more_pass =
                |one: Tier, other: Tier| one == Tier::Detect && matches!(other, Tier::Allowlist | Tier::DetectNer);
            by(lets_more_pass(*first, *second), lets_more_pass(*second, *first))
        }
        (
            T::ScrubText { tier: first, known: left, model: before },
            T::ScrubText { tier: second, known: right, model: after },
        ) if first == second && before == after => {
            let within = |some: &[String], all: &[String]| some.iter().all(|column| all.contains(column));
            by(within(left, right), within(right, left))
        }
        (T::Hierarchy { level: first }, T::Hierarchy { level: second }) => {
            by(first.above() == Some(*second), second.above() == Some(*first))
        }
        _ => Finer::Neither,
    }
}
