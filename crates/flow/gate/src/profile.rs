use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Transform;
use crate::class::names_direct_identifier;
use crate::policy::Rule;

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

    /// Why the rule cannot stand under the profile, and what to do; `None` when it can.
    ///
    /// Somebody who vouches (a reason and a reviewer) can say of a kept or bucketed column that it does
    /// not identify a person; nobody can say that a token made from the value is not derived from it.
    pub(crate) fn breach(self, rule: &Rule) -> Option<Breach> {
        let breach = |why, fix| Some(Breach { why, fix });
        let vouched = rule.reason.is_some() && rule.reviewer.is_some();
        let looks_direct = names_direct_identifier(&rule.column);
        match (self, &rule.transform) {
            (Profile::None, _) => None,
            (Profile::SafeHarbor, Transform::HmacToken { .. }) => breach(
                "a keyed token is derived from the value, which 45 CFR 164.514(c)(1) does not allow",
                "Use vault_code(domain) or drop, or claim limited_data_set.",
            ),
            (Profile::SafeHarbor, Transform::DateTrunc { .. }) => {
                breach("it is finer than a year", "Use date_year, or claim limited_data_set.")
            }
            (Profile::SafeHarbor, Transform::MaskChars { .. }) => {
                breach("it shows part of the value", "Use redact(MARKER), vault_code(domain) or drop.")
            }
            (Profile::SafeHarbor, Transform::Keep | Transform::Bucket { .. }) if !vouched => breach(
                "nobody vouches that it does not identify a person",
                "Add a reason and a reviewer: { transform: keep, reason: ..., reviewer: ... }; or use drop.",
            ),
            (_, Transform::Keep | Transform::MaskChars { .. }) if looks_direct && !vouched => breach(
                "its name says that it holds a direct identifier or free text (45 CFR 164.514(e)(2))",
                "Use hmac_token(domain) or drop, or add a reason and a reviewer who vouches that it does not.",
            ),
            _ => None,
        }
    }
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
