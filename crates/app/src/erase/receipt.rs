use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use audit::Hash;
use change::{Error, Kind, Result, Timestamp};
use serde::Serialize;

use super::request::TableErased;

/// What the asker gets: that it was done, where, and how it was shown. Nothing of the persons.
#[derive(Serialize)]
pub(crate) struct Receipt {
    /// Names the request here and in the audit log.
    pub(crate) request: String,
    /// The column by which the persons were named.
    pub(crate) subject: String,
    /// When it was asked and when it was done, microseconds since the Unix epoch.
    pub(crate) asked_at: Timestamp,
    pub(crate) done_at: Timestamp,
    /// Persons of the request of whom something was there; those on legal hold are not among them.
    pub(crate) persons: u64,
    /// Persons who are kept out from then on: these, and those of whom nothing was there.
    pub(crate) persons_suppressed: u64,
    /// Lines of the input whose identifiers matched nothing.
    pub(crate) unmatched_lines: Vec<u64>,
    pub(crate) on_hold: u64,
    /// What was taken out, by table.
    pub(crate) tables: BTreeMap<String, TableErased>,
    pub(crate) vault_codes_removed: u64,
    /// Keys of encrypted cells that were destroyed: what was sealed with them, here or in a copy, opens no more.
    pub(crate) data_keys_destroyed: u64,
    pub(crate) held_rows_removed: u64,
    /// Objects that still had a trace after the rows were gone from the newest versions, with their SHA-256; they were removed.
    pub(crate) traces_removed: BTreeMap<String, Hash>,
    /// All objects that were removed with the tables' history.
    pub(crate) objects_removed: u64,
    /// The scan afterwards.
    pub(crate) scanned_objects: u64,
    pub(crate) scanned_bytes: u64,
    pub(crate) objects_with_traces: u64,
    pub(crate) lockgate: &'static str,
}

impl Receipt {
    /// Writes the receipt into the state folder; returns its place and its hash.
    pub(crate) fn write(&self, state_dir: &Path) -> Result<(PathBuf, Hash)> {
        let text = serde_json::to_vec_pretty(self).map_err(|_| Error::new(Kind::Bug, "a receipt is not JSON"))?;
        let folder = state_dir.join("receipts");
        let path = folder.join(format!("{}.json", self.request));
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &text));
        written.map_err(|error| {
            Error::new(Kind::Full, format!("cannot write the receipt {}", path.display()))
                .source(error)
                .fix("Free space there; then run `lockgate erase --due`.")
        })?;
        Ok((path, Hash::of(&[&text])))
    }
}
