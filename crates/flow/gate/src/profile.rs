use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Transform;
use crate::class::{Declared, mentions, names_direct_identifier};
use crate::policy::Rule;
use crate::transform::Tier;

/// Which release a policy claims to be fit for: 45 CFR 164.514. Each allows what the one before it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// De-identified by removing the 18 classes: 164.514(b)(2).
    SafeHarbor,
    /// A limited data set under a data use agreement: 164.514(e). Still protected health information.
    LimitedDataSet,
    /// De-identified by an expert's determination: 164.514(b)(1).
    Expert,
    /// No claim is made.
    None,
}

impl Profile {
    pub(crate) const ALL: [Profile; 4] = [Profile::SafeHarbor, Profile::LimitedDataSet, Profile::Expert, Profile::None];

    /// The name as `policy.yaml` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Profile::SafeHarbor => "safe_harbor",
            Profile::LimitedDataSet => "limited_data_set",
            Profile::Expert => "expert",
            Profile::None => "none",
        }
    }

    /// Whether timestamps that a shift moves keep their time of day, which can point at one event.
    pub(crate) fn keeps_time(self) -> bool {
        self == Profile::LimitedDataSet
    }

    /// Why the rule cannot stand under the profile, and what to do; `None` when it can.
    ///
    /// Somebody who vouches (a reason and a reviewer) can say of a kept or coarser column that it does
    /// not identify a person; nobody can say that a token made from the value is not derived from it.
    pub(crate) fn breach(self, rule: &Rule) -> Option<Breach> {
        let breach = |why, fix| Some(Breach { why, fix });
        use Transform as T;
        let vouched = rule.is_vouched();
        let looks_direct = names_direct_identifier(&rule.column);
        let shows_values = matches!(rule.transform, T::Keep | T::MaskChars { .. } | T::TopCode { .. });
        let shows_parts = matches!(rule.transform, T::Bucket { .. } | T::Round { .. } | T::Hierarchy { .. });
        match (self, &rule.transform) {
            (Profile::None, _) | (_, T::ScrubText { tier: Tier::Drop, .. }) => None,
            (Profile::SafeHarbor, T::ScrubText { .. }) => breach(
                "no program finds all that identifies a person in free text, and Safe Harbor knows no remainder",
                "Use drop, or claim limited_data_set or expert.",
            ),
            (_, T::ScrubText { .. }) if !vouched => breach(
                "nobody vouches for what scrubbing leaves in free text",
                "Read a sample, then add a reason and a reviewer; or use drop.",
            ),
            _ if self.excludes(rule.class) && (shows_values || shows_parts || is_of_another_class(rule)) => breach(
                "its declared class may not be shown",
                "Use a transform that removes or codes it, or correct `class`.",
            ),
            (Profile::SafeHarbor, T::HmacToken { .. } | T::SivToken { .. } | T::FpeFf1 { .. }) => breach(
                "a keyed token is derived from the value, which 45 CFR 164.514(c)(1) does not allow",
                "Use vault_code(domain) or drop, or claim limited_data_set.",
            ),
            (Profile::SafeHarbor, T::DateShift { .. } | T::DictSurrogate { .. }) => breach(
                "it is derived from the person's identifier, which 45 CFR 164.514(c)(1) does not allow",
                "Use date_year, redact(MARKER) or drop, or claim limited_data_set.",
            ),
            (Profile::SafeHarbor, T::EncryptCell { .. }) => breach(
                "an encrypted value is still there for whoever has its key: 45 CFR 164.514(b)(2)(i) wants it removed",
                "Use drop or vault_code(domain), or claim limited_data_set.",
            ),
            (Profile::SafeHarbor, Transform::DateTrunc { .. }) => {
                breach("it is finer than a year", "Use date_year, or claim limited_data_set.")
            }
            (Profile::SafeHarbor, Transform::MaskChars { .. }) => {
                breach("it shows part of the value", "Use redact(MARKER), vault_code(domain) or drop.")
            }
            (Profile::SafeHarbor, _) if (shows_values || shows_parts) && !vouched => breach(
                "nobody vouches that it does not identify a person",
                "Add a reason and a reviewer: { transform: keep, reason: ..., reviewer: ... }; or use drop.",
            ),
            _ if (shows_values || shows_parts || is_called_otherwise(rule)) && looks_direct && !vouched => breach(
                "its name says that it holds a direct identifier or free text (45 CFR 164.514(e)(2))",
                "Use hmac_token(domain) or drop, or add a reason and a reviewer who vouches that it does not.",
            ),
            _ => None,
        }
    }
}

impl Profile {
    /// What a claim needs beside the rules.
    pub(crate) fn paperwork(self) -> Option<&'static str> {
        match self {
            Profile::SafeHarbor => Some(
                "It also needs a signed statement that nobody knows the rest to identify a person (164.514(b)(2)(ii)).",
            ),
            Profile::LimitedDataSet => {
                Some("It also needs a data use agreement with whoever reads the lake; the data are still PHI.")
            }
            Profile::Expert => Some(
                "It rests on the expert's report; keep it on file. Small groups are kept back where a table has a k_gate, by lockgate release.",
            ),
            Profile::None => None,
        }
    }

    /// Whether the profile has no room for a declared class, whoever vouches: all 18 under Safe Harbor, the direct identifiers of
    /// 164.514(e)(2) in a limited data set.
    fn excludes(self, class: Option<Declared>) -> bool {
        match (self, class) {
            (_, None | Some(Declared::NotIdentifying)) | (Profile::None, _) => false,
            (Profile::SafeHarbor, Some(Declared::Identifies(_))) => true,
            (_, Some(Declared::Identifies(letter))) => !matches!(letter, 'B' | 'C' | 'R'),
        }
    }
}

/// The class of which the transform makes coarse values.
fn meant_for(transform: &Transform) -> Option<char> {
    use Transform as T;
    match transform {
        T::Zip3 | T::GeoState => Some('B'),
        T::DateYear | T::DateTrunc { .. } | T::DobGeneralise | T::AgeCap { .. } => Some('C'),
        _ => None,
    }
}

/// Whether the transform makes coarse what is of one class, and the column is declared to hold another: the first digits of a number are
/// no ZIP area.
fn is_of_another_class(rule: &Rule) -> bool {
    let declared = |meant| matches!(rule.class, Some(Declared::Identifies(letter)) if letter != meant);
    meant_for(&rule.transform).is_some_and(declared)
}

/// Whether the transform makes coarse what is of one class, and no word of the column's name says that it holds any of it.
fn is_called_otherwise(rule: &Rule) -> bool {
    meant_for(&rule.transform).is_some_and(|letter| !mentions(&rule.column, letter))
}

/// What stands between a rule and a profile.
pub(crate) struct Breach {
    pub(crate) why: &'static str,
    pub(crate) fix: &'static str,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
