//! A run whose key manager is away: it asks again with growing pauses, and says what that costs the source. Nothing is read meanwhile, so
//! nothing is confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use capture::postgres::{self, BudgetLevel};
use change::{Error, Kind, Result};
use gate::{KeyRing, Policy};
use indicatif::HumanBytes;
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::outcome::lost_task;
use crate::project::Project;
use crate::status_file::StatusFile;
use crate::watch::Seen;
use crate::{assemble, keys};

/// Pauses between two askings grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The keys of the policy, as soon as their place gives them.
///
/// # Errors
/// As [`keys::load`] for what waiting does not mend; `Unavailable` when `stop` comes first.
pub(crate) async fn keys(
    project: &Project,
    policy: &Policy,
    stop: &CancellationToken,
    file: &StatusFile,
) -> Result<Option<KeyRing>> {
    let mut pause = PAUSES.0;
    let mut kept_at_first = BTreeMap::new();
    loop {
        let (reference, dir) = (policy.keys().map(str::to_owned), project.dir.clone());
        let asking = tokio::task::spawn_blocking(move || keys::load(reference.as_deref(), &dir));
        let error = match asking.await.map_err(lost_task)? {
            Err(error) if error.kind() == Kind::Unavailable => error,
            given => return given,
        };
        let growth = growth(project, &mut kept_at_first).await;
        let alarm = format!("waiting for keys, nothing passes and nothing is confirmed: {growth}: {error}");
        tracing::error!(retry_seconds = pause.as_secs(), "{alarm}");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Err(error),
            failed = signs_of_life(file, &alarm) => return Err(failed),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Says in the status file that the run waits; ends only by failing.
async fn signs_of_life(file: &StatusFile, alarm: &str) -> Error {
    let seen = Seen { idle: Some("waiting for keys".into()), last_error: Some(alarm.to_owned()), ..Seen::default() };
    seen.keep_saving(file, &SystemClock::new()).await
}

/// How much log every source keeps for us, and how much of it since the wait began.
async fn growth(project: &Project, kept_at_first: &mut BTreeMap<String, u64>) -> String {
    let mut said = Vec::new();
    for (name, entry) in &project.file.sources {
        let measured = match assemble::postgres_config(project, name, entry) {
            Ok(config) => postgres::lag(&config).await.map(|lag| lag.map(|lag| (lag, config.wal_budget))),
            Err(error) => Err(error),
        };
        said.push(match measured {
            Ok(Some((lag, budget))) => {
                let kept = lag.retained_bytes;
                let first = *kept_at_first.entry(name.clone()).or_insert(kept);
                let left = lag.retention_left_bytes.map(|left| format!(", {} left", HumanBytes(left)));
                let level = match budget.level(kept) {
                    BudgetLevel::Within => "",
                    BudgetLevel::Warn => ", above wal_budget.warn",
                    BudgetLevel::Critical => ", above wal_budget.critical",
                };
                let grown = HumanBytes(kept.saturating_sub(first));
                let left = left.unwrap_or_default();
                format!("the slot of {name} keeps {} of log, {grown} more than at first{left}{level}", HumanBytes(kept))
            }
            Ok(None) => format!("{name} has no slot and keeps no log for us"),
            Err(_) => format!("the slot of {name} cannot be measured, for its database does not answer either"),
        });
    }
    said.join("; ")
}
