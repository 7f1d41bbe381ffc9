use std::collections::BTreeMap;

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
    /// The vault that gave the codes, see [`crate::Vault::id`]; `None` when the policy has no vault codes.
    #[serde(default)]
    pub vault: Option<String>,
    /// The store of the data keys of cells, see [`crate::CellKeys::id`]; `None` when no cell is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<String>,
    /// The vintage of the ZIP table.
    pub zip3_table: String,
}

impl PolicyStamp {
    /// Whether rows cleared under this stamp can join rows that were cleared under `previous`.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the vault, the key or its epoch is another: every known row would come in again under another token.
    pub fn continues(&self, previous: &PolicyStamp) -> Result<()> {
        if let (Some(vault), Some(before)) = (&self.vault, &previous.vault)
            && vault != before
        {
            return Err(Error::new(
                Kind::Privacy,
                "the lake's codes are from another vault than .lockgate/vault.sqlite",
            )
            .fix("Restore that file from its backup, or copy the tables again into an empty lake."));
        }
        if let (Some(cells), Some(before)) = (&self.cells, &previous.cells)
            && cells != before
        {
            return Err(Error::new(
                Kind::Privacy,
                "the lake's encrypted cells have their keys in another store than .lockgate/cells.sqlite",
            )
            .fix("Restore that file from its backup: without it nobody can open them. Or copy the tables again into an empty lake."));
        }
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

/// What a table's commits say of how its rows were cleared: the policy, and the rule of each column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStamp {
    /// The whole policy.
    #[serde(flatten)]
    pub policy: PolicyStamp,
    /// The rule of every column that the source has or had, as [`crate::TableGate::rules`] spells it.
    #[serde(default)]
    pub rules: BTreeMap<String, String>,
}

impl TableStamp {
    /// The stamp of rows that join those stored under `previous`: columns that have left keep their rule.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key or the rule of a stored column is another one: old and new rows would not mean the same, a row
    /// under another token of its key would be stored twice, and what a stricter rule hides would stay in the old rows.
    pub fn after(mut self, previous: &TableStamp) -> Result<Self> {
        self.policy.continues(&previous.policy)?;
        for (column, before) in &previous.rules {
            let now = self.rules.entry(column.clone()).or_insert_with(|| before.clone());
            if now != before && before != "drop" {
                return Err(Error::new(
                    Kind::Privacy,
                    format!("column `{column}` is stored under `{before}`, and the policy now says `{now}`"),
                )
                .fix(format!(
                    "Put `{before}` back; or run `lockgate remask` when the new rule hides more; or take both folders of the table out of the lake: it is then copied anew under the new rule. Delete the old folders for good when the new rule hides more."
                )));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(rules: &[(&str, &str)]) -> TableStamp {
        TableStamp {
            policy: PolicyStamp {
                profile: Profile::None,
                policy_hash: String::new(),
                key_epoch: Some(1),
                key_fingerprint: Some("a".into()),
                vault: Some("v".into()),
                cells: Some("c".into()),
                zip3_table: String::new(),
            },
            rules: rules.iter().map(|(column, rule)| ((*column).to_owned(), (*rule).to_owned())).collect(),
        }
    }

    #[test]
    fn the_rule_of_a_stored_column_cannot_change() {
        let before = stamp(&[("id", "keep"), ("ssn", "hmac_token(a)"), ("note", "drop")]);
        assert_eq!(before.clone().after(&before).unwrap(), before);
        for changed in [("id", "drop"), ("id", "hmac_token(id)"), ("ssn", "hmac_token(b)"), ("ssn", "keep")] {
            let error = stamp(&[changed]).after(&before).unwrap_err();
            assert_eq!(error.kind(), Kind::Privacy);
            assert!(error.what().contains(changed.0) && error.what().contains(changed.1), "{error}");
        }
    }

    #[test]
    fn a_column_may_begin_to_be_stored_and_one_that_left_keeps_its_rule() {
        let before = stamp(&[("id", "keep"), ("note", "drop"), ("gone", "hmac_token(a)")]);
        let now = stamp(&[("id", "keep"), ("note", "redact([NOTE])"), ("new", "keep")]).after(&before).unwrap();
        assert_eq!(now.rules["gone"], "hmac_token(a)");
        assert!(stamp(&[("gone", "keep")]).after(&now).is_err());
        assert_eq!(now.rules["note"], "redact([NOTE])");
    }

    #[test]
    fn another_key_or_vault_does_not_go_on() {
        let before = stamp(&[]);
        let mut other = before.clone();
        other.policy.key_fingerprint = Some("b".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
        let mut other = before.clone();
        other.policy.vault = Some("w".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
        let mut other = before.clone();
        other.policy.cells = Some("d".into());
        assert_eq!(other.after(&before).unwrap_err().kind(), Kind::Privacy);
    }
}
