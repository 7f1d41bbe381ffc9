use change::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use crate::Profile;

/// Under which policy and keys rows were cleared: goes into every commit's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStamp {
    /// The claimed profile.
    pub profile: Profile,
    /// SHA-256 of the compiled rules, hexadecimal. Reasons, comments and the order of lines are not in it.
    pub policy_hash: String,
    /// The epoch of new tokens; `None` when the policy needs no keys.
    pub key_epoch: Option<u32>,
    /// The fingerprint of that epoch's key, see [`crate::KeyRing::fingerprint`].
    pub key_fingerprint: Option<String>,
    /// The vintage of the ZIP table.
    pub zip3_table: String,
}

impl PolicyStamp {
    /// Whether rows cleared under this stamp can join rows that were cleared under `previous`.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key or its epoch is another: every known row would come in again under another token.
    pub fn continues(&self, previous: &PolicyStamp) -> Result<()> {
        let (Some(epoch), Some(before)) = (self.key_epoch, previous.key_epoch) else { return Ok(()) };
        let refuse = |what: String| {
            Err(Error::new(Kind::Privacy, what)
                .fix("Use the key file that the lake was written with, or copy the tables again into an empty lake."))
        };
        if epoch != before {
            return refuse(format!(
                "the lake's tokens are of key epoch {before}, the key file's current epoch is {epoch}"
            ));
        }
        if self.key_fingerprint != previous.key_fingerprint {
            return refuse(format!("the key of epoch {epoch} is not the one that the lake's tokens were made with"));
        }
        Ok(())
    }
}
