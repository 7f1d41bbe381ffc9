//! The versions of a table that can be read: from its first one on, or from the log checkpoint on before which its history was removed.

use std::collections::BTreeMap;

use change::{Error, Kind, Result, Timestamp};
use chrono::DateTime;
use deltalake::DeltaTable;
use deltalake::logstore::LogStoreRef;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::failure::Explain;
use crate::lake::TableVersion;
use crate::naming::LakeTable;

/// The oldest version that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Oldest {
    version: u64,
    /// When it was made, milliseconds since the Unix epoch.
    since_ms: i64,
    /// The newest version.
    newest: u64,
}

/// Loads a table now or as it was.
///
/// # Errors
/// `Config` for a version that the table does not have, has not any more, or had not yet at that time; those of the store.
pub(crate) async fn load(table: &LakeTable, store: LogStoreRef, at: Option<&TableVersion>) -> Result<DeltaTable> {
    let doing = || {
        let when = match at {
            Some(TableVersion::Version(version)) => format!(" at version {version}"),
            Some(TableVersion::Time(_)) => " at that time".into(),
            None => String::new(),
        };
        format!("{table}: cannot read the table{when}")
    };
    let mut delta = DeltaTable::new(store.clone());
    match at {
        None => delta.load().await.explain(doing)?,
        Some(TableVersion::Version(version)) => {
            // Not by `get_latest_version`, which cannot read a log whose first entries are gone.
            match oldest(table, &store).await? {
                Some(Oldest { newest, .. }) if *version > newest => {
                    let what = format!("{table} has no version {version}");
                    return Err(Error::new(Kind::Config, what).fix(format!("Ask for a version up to {newest}.")));
                }
                Some(oldest) if *version < oldest.version => return Err(oldest.removed(table)),
                _ => {}
            }
            delta.load_version(*version).await.explain(doing)?;
        }
        Some(TableVersion::Time(time)) => {
            if let Some(oldest) = oldest(table, &store).await?.filter(|oldest| *time / 1000 < oldest.since_ms) {
                return Err(oldest.not_then(table));
            }
            delta.load_with_datetime(moment(*time)?).await.explain(doing)?;
        }
    }
    Ok(delta)
}

fn moment(time: Timestamp) -> Result<DateTime<chrono::Utc>> {
    DateTime::from_timestamp_micros(time).ok_or_else(|| {
        Error::new(Kind::Config, "the time is out of range").fix("Give a time with a year from 1970 to 9999.")
    })
}

/// What the table's log begins with; `None` when it does not say.
async fn oldest(table: &LakeTable, store: &LogStoreRef) -> Result<Option<Oldest>> {
    let listed = store.object_store(None).list_with_delimiter(Some(&Path::from("_delta_log"))).await;
    let listed = listed.explain(|| format!("{table}: cannot list the Delta log"))?;
    let named = listed.objects.iter().filter_map(|object| {
        let name = object.location.filename()?;
        Some((name, object.last_modified.timestamp_millis()))
    });
    Ok(oldest_of(named))
}

/// A table can be read from version 0 on when its entry is there, and else from its first checkpoint on.
fn oldest_of<'a>(named: impl Iterator<Item = (&'a str, i64)>) -> Option<Oldest> {
    let (mut entries, mut checkpoints) = (BTreeMap::new(), BTreeMap::new());
    for (name, written_ms) in named {
        let Some((digits, kind)) = name.split_at_checked(20) else { continue };
        let Ok(version) = digits.parse::<u64>() else { continue };
        if kind == ".json" {
            entries.insert(version, written_ms);
        } else if kind.starts_with(".checkpoint.") {
            checkpoints.entry(version).or_insert(written_ms);
        }
    }
    let newest = entries.keys().chain(checkpoints.keys()).max().copied()?;
    if let Some(since_ms) = entries.get(&0) {
        return Some(Oldest { version: 0, since_ms: *since_ms, newest });
    }
    let (version, written_ms) = checkpoints.into_iter().next()?;
    // The entry is as old as the version; its checkpoint came later.
    Some(Oldest { version, since_ms: entries.get(&version).copied().unwrap_or(written_ms), newest })
}

impl Oldest {
    fn since(self) -> String {
        let time = DateTime::from_timestamp_millis(self.since_ms);
        time.map_or_else(|| "?".into(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    fn removed(self, table: &LakeTable) -> Error {
        let Self { version, .. } = self;
        let what =
            format!("{table}: versions before {version} ({}) were removed by remask, erase or retention", self.since());
        Error::new(Kind::Config, what).fix(format!("Ask for version {version} or later."))
    }

    fn not_then(self, table: &LakeTable) -> Error {
        if self.version > 0 {
            return self.removed(table);
        }
        let what = format!("{table} did not exist then: its first version is of {}", self.since());
        Error::new(Kind::Config, what).fix("Ask for a later time.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_begins_with_its_first_entry_or_with_its_first_checkpoint() {
        let entry = |version: u64| format!("{version:020}.json");
        let checkpoint = |version: u64| format!("{version:020}.checkpoint.parquet");
        let oldest = |names: &[String]| {
            let found = oldest_of(names.iter().zip(1000..).map(|(name, at)| (name.as_str(), at)));
            found.map(|found| (found.version, found.since_ms, found.newest))
        };
        assert_eq!(oldest(&[entry(0), entry(1), checkpoint(1)]), Some((0, 1000, 1)));
        assert_eq!(oldest(&[entry(7), checkpoint(7), entry(8), "_last_checkpoint".into()]), Some((7, 1000, 8)));
        assert_eq!(oldest(&[checkpoint(7), entry(8)]), Some((7, 1000, 8)));
        // Entries before the checkpoint stand on others that are gone.
        assert_eq!(oldest(&[entry(5), entry(6), checkpoint(6), checkpoint(9)]), Some((6, 1001, 9)));
        assert_eq!(oldest(&[entry(5), "short".into()]), None);
    }
}
