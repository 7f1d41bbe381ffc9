use std::fmt;

use serde::{Deserialize, Serialize};

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
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
