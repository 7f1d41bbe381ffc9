use std::time::Duration;

use capture::postgres::{self, BudgetLevel, PostgresConfig, WalPolicy};
use change::{Kind, Result};
use tokio_util::sync::CancellationToken;

use super::Known;
use super::fill::Fill;
use super::folder::Folder;
use super::writer::Writer;
use crate::assemble::{self, Cast, Parts};
use crate::feed::Feed;
use crate::held::{HeldStore, Keeper};

/// How often it is tried whether the lake answers, and how long it may take.
const TRY_EVERY: Duration = Duration::from_secs(10);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// When the source keeps more log than its budget allows and the lake does not answer, fills the spool until the lake answers again or the
/// run is told to stop. Tells whether it did.
///
/// # Errors
/// Those of the source; `Full` when the spool is; what keeps a table from being followed without the lake.
pub(crate) async fn bridge(
    parts: &Parts,
    name: &str,
    cast: &Cast,
    known: &Known,
    stop: &CancellationToken,
) -> Result<bool> {
    let config = assemble::source_config(parts, name, cast)?;
    if config.wal_budget.policy != WalPolicy::Spool || !is_critical(&config).await || answers(parts, name).await {
        return Ok(false);
    }
    if let Some(why) = hindrance(parts, cast, known)? {
        tracing::error!(source = name, why, "the lake is away and the spool cannot be used: the source keeps its log");
        return Ok(false);
    }
    let Some(resume) = known.resume() else { return Ok(false) };
    let state_dir = parts.project.state_dir();
    let folder = Folder::open(&state_dir, name, &parts.gate)?;
    let limit = assemble::spool_limit(&parts.project, name);
    let writer = Writer::new(folder, parts.gate.stamp().clone(), limit)?;
    tracing::warn!(
        source = name,
        limit,
        "the lake is away: what the source sends waits, masked and sealed, in the spool"
    );
    let source = postgres::open(config, resume, parts.clock.clone()).await?;
    let fill = Fill {
        feed: Feed::start(source),
        gate: parts.gate.clone(),
        keeper: Keeper::open(&state_dir, &parts.gate, parts.clock.clone())?,
        writer,
        known: known.clone(),
        watch: parts.watch.clone(),
        clock: parts.clock.clone(),
    };
    let enough = stop.child_token();
    let told = enough.clone();
    let filled = {
        let filling = fill.run(enough);
        tokio::pin!(filling);
        tokio::select! {
            filled = &mut filling => filled,
            () = until_answered(parts, name) => {
                told.cancel();
                filling.await
            }
        }
    };
    filled.map(|()| true)
}

/// Why the source cannot be followed without the lake; `None` when it can.
fn hindrance(parts: &Parts, cast: &Cast, known: &Known) -> Result<Option<&'static str>> {
    let Some(resume) = known.resume() else { return Ok(Some("this process has not seen the lake yet")) };
    let whole = |copy: &change::CopyProgress| copy.finished.is_some();
    let copied = |table| resume.tables.get(table).and_then(|of| of.copy.as_ref()).is_some_and(whole);
    if !cast.followed.iter().all(copied) {
        return Ok(Some("a table is being copied for the first time"));
    }
    if cast.holds_back || !cast.refused.is_empty() {
        return Ok(Some("tables that are stopped or left out need the source's log"));
    }
    if let Some(store) = HeldStore::existing(&parts.project.state_dir())? {
        for table in &cast.followed {
            if store.begun(table)?.is_some() {
                return Ok(Some("held rows are on their way into the lake"));
            }
        }
    }
    Ok(None)
}

async fn is_critical(config: &PostgresConfig) -> bool {
    let lag = postgres::lag(config).await.unwrap_or_else(|error| {
        // The run itself says what is wrong with the source.
        tracing::debug!(%error, "the slot could not be measured");
        None
    });
    lag.is_some_and(|lag| config.wal_budget.level(lag.retained_bytes) == BudgetLevel::Critical)
}

async fn until_answered(parts: &Parts, name: &str) {
    loop {
        tokio::time::sleep(TRY_EVERY).await;
        if answers(parts, name).await {
            return;
        }
    }
}

/// Whether the lake takes an object now.
async fn answers(parts: &Parts, name: &str) -> bool {
    match tokio::time::timeout(ANSWERS_WITHIN, parts.lake.try_to_write(name)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(source = name, %error, "the lake is away");
            // What is refused for good is told by the run itself.
            !matches!(error.kind(), Kind::Unavailable | Kind::Full)
        }
        Err(_) => false,
    }
}
