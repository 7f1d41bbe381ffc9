//! What is written down of a table before it is switched. A kill between the switch and the end of its history must not leave older versions
//! that show what the policy hides now; a remasking that failed before the switch must not end a history.

use std::collections::BTreeMap;

use change::{Error, Kind, Result, TableName};
use gate::TableStamp;
use lake::Lake;
use serde::{Deserialize, Serialize};

/// Where the markers are.
const FOLDER: [&str; 2] = ["_lockgate", "remasking"];

/// What a remasking was going to do.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The columns that were to change.
    pub(super) columns: Vec<String>,
    /// How the rows of each layer that was to be switched were made until then. Releases before wrote the columns alone.
    before: Option<BTreeMap<String, Made>>,
}

/// How rows were made, as far as a switch says otherwise.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Made {
    rules: BTreeMap<String, Option<String>>,
    epochs: BTreeMap<String, u32>,
    processed_in: Option<i32>,
    zip3_table: String,
}

impl Made {
    fn of(stamp: &TableStamp, columns: &[String]) -> Self {
        Self {
            rules: columns.iter().map(|column| (column.clone(), stamp.rules.get(column).cloned())).collect(),
            epochs: stamp.epochs.clone(),
            processed_in: stamp.processed_in,
            zip3_table: stamp.policy.zip3_table.clone(),
        }
    }

    /// Whether rows with this stamp are made as they were. A column that has come since says nothing.
    fn is_that_of(&self, stamp: &TableStamp) -> bool {
        self.rules.iter().all(|(column, rule)| stamp.rules.get(column) == rule.as_ref())
            && self.epochs.iter().all(|(place, epoch)| stamp.epochs.get(place) == Some(epoch))
            && self.processed_in == stamp.processed_in
            && self.zip3_table == stamp.policy.zip3_table
    }
}

impl Marker {
    /// The marker of a table; `None` when no remasking of it was left.
    pub(super) async fn read(lake: &Lake, table: &TableName) -> Result<Option<Self>> {
        let found = lake.object_at(&place(&table.to_string()).join("/")).await?;
        Ok(found.and_then(|text| Self::parse(&text)))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let columns = |_| serde_json::from_slice(text).map(|columns| Self { columns, before: None });
        serde_json::from_slice(text).or_else(columns).ok()
    }

    /// Adds the columns that change in a layer, and how its rows were made until now.
    pub(super) fn add(&mut self, layer: &str, columns: Vec<String>, stamp: &TableStamp) {
        let of_a_release_before = self.before.is_none() && !self.columns.is_empty();
        if !of_a_release_before {
            let made = Made::of(stamp, &columns);
            self.before.get_or_insert_default().entry(layer.to_owned()).or_insert(made);
        }
        let new: Vec<String> = columns.into_iter().filter(|column| !self.columns.contains(column)).collect();
        self.columns.extend(new);
    }

    /// Whether a layer may have been switched: its rows are made otherwise than they were.
    pub(super) fn has_begun(&self, layer: &str, stamp: &TableStamp) -> bool {
        match &self.before {
            Some(before) => before.get(layer).is_some_and(|made| !made.is_that_of(stamp)),
            None => !self.columns.is_empty(),
        }
    }

    /// Writes the marker down.
    pub(super) async fn put(&self, lake: &Lake, table: &TableName) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|_| Error::new(Kind::Bug, "a marker is not JSON"))?;
        lake.put_object(&place(&table.to_string()), text).await
    }

    /// There is nothing to end.
    pub(super) async fn remove(lake: &Lake, table: &str) -> Result<()> {
        lake.remove_object(&place(table)).await
    }
}

fn place(table: &str) -> [&str; 3] {
    [FOLDER[0], FOLDER[1], table]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(rules: &[(&str, &str)], epochs: &[(&str, u32)], policy: &str) -> TableStamp {
        serde_json::from_value(serde_json::json!({
            "profile": "none", "policy_hash": policy, "key_epoch": null, "key_fingerprint": null, "zip3_table": "2020",
            "rules": rules.iter().copied().collect::<BTreeMap<_, _>>(),
            "epochs": epochs.iter().copied().collect::<BTreeMap<_, _>>(),
        }))
        .unwrap()
    }

    #[test]
    fn a_layer_has_begun_when_its_rows_are_made_otherwise() {
        let before = stamp(&[("name", "keep"), ("id", "hmac_token(id)")], &[("id", 1)], "first");
        let mut marker = Marker::default();
        marker.add("current", vec!["name".into()], &before);
        let marker = Marker::parse(&serde_json::to_vec(&marker).unwrap()).unwrap();
        // The policy is another in what is no matter of this table, or has one column more.
        let more = [("name", "keep"), ("id", "hmac_token(id)"), ("more", "hmac_token(more)")];
        let ran = stamp(&more, &[("id", 1), ("more", 1)], "second");
        assert!(!marker.has_begun("current", &before) && !marker.has_begun("current", &ran));
        assert!(!marker.has_begun("changes", &stamp(&[], &[], "first")));
        let switched = stamp(&[("name", "hmac_token(name)"), ("id", "hmac_token(id)")], &[("id", 1)], "third");
        assert!(marker.has_begun("current", &switched));
        let rotated = stamp(&[("name", "keep"), ("id", "hmac_token(id)")], &[("id", 2)], "first");
        assert!(marker.has_begun("current", &rotated));
        let later = TableStamp { processed_in: Some(2027), ..before };
        assert!(marker.has_begun("current", &later));
    }

    #[test]
    fn a_marker_of_a_release_before_is_finished() {
        let mut marker = Marker::parse(br#"["name"]"#).unwrap();
        marker.add("changes", vec!["id".into()], &stamp(&[], &[], "any"));
        assert_eq!(marker.columns, ["name", "id"]);
        assert!(marker.has_begun("current", &stamp(&[], &[], "any")));
        assert_eq!(Marker::parse(b"{"), None);
    }
}
