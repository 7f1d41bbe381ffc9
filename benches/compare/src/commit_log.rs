use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(600);

/// The newest version of a Delta table, `None` when there is none.
pub(crate) fn newest_version(table: &Path) -> Result<Option<u64>> {
    let entries = match fs::read_dir(table.join("_delta_log")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", table.display())),
    };
    let versions =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
    Ok(versions.max())
}

/// Waits for the first version after `known` that brings rows; compaction moves rows and brings none. Returns that version.
pub(crate) async fn wait_for_rows(table: &Path, known: Option<u64>) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut next = known.map_or(0, |version| version + 1);
    loop {
        match fs::read_to_string(version_file(table, next)) {
            Ok(text) if brings_rows(&text) => return Ok(next),
            Ok(_) => next += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ensure!(Instant::now() < deadline, "no commit to {} within {} s", table.display(), PATIENCE.as_secs());
                sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", table.display())),
        }
    }
}

fn version_file(table: &Path, version: u64) -> PathBuf {
    table.join("_delta_log").join(format!("{version:020}.json"))
}

fn brings_rows(version: &str) -> bool {
    let actions = version.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    actions.into_iter().any(|action| action["add"]["dataChange"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_brings_no_rows() {
        assert!(brings_rows("{\"commitInfo\":{}}\n{\"add\":{\"path\":\"a\",\"dataChange\":true}}"));
        assert!(!brings_rows("{\"add\":{\"path\":\"a\",\"dataChange\":false}}\n{\"remove\":{\"dataChange\":true}}"));
        assert!(!brings_rows("{\"metaData\":{}}"));
    }
}
