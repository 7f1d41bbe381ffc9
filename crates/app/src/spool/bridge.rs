use std::path::Path;
use std::time::Duration;

use capture::postgres::{self, BudgetLevel, PostgresConfig, WalPolicy};
use change::{Kind, Result, Source, TableName};
use tokio_util::sync::CancellationToken;

use super::fill::Fill;
use super::writer::Writer;
use super::{Known, SpoolFolder};
use crate::assemble::{self, Cast, Means, Parts};
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
    let means = Means { known: known.clone(), ..Means::of(parts)? };
    let state_dir = parts.project.state_dir();
    let hindrance = match !cast.left.is_empty() || !cast.refused.is_empty() {
        true => Some("tables that are stopped or left out need the source's log"),
        false => means.hindrance(&state_dir, &cast.followed)?,
    };
    let (None, Some(resume)) = (hindrance, known.resume()) else {
        let why = hindrance.unwrap_or_default();
        tracing::error!(source = name, why, "the lake is away and the spool cannot be used: the source keeps its log");
        return Ok(false);
    };
    let folder = SpoolFolder::open(&state_dir, name, &parts.gate)?;
    let limit = assemble::spool_limit(&parts.project, name);
    tracing::warn!(
        source = name,
        limit,
        "the lake is away: what the source sends waits, masked and sealed, in the spool"
    );
    let source = postgres::open(config, resume, parts.clock.clone()).await?;
    parts.watch.follow(name, source.status());
    parts.watch.spool(name, |seen| seen.filled += 1);
    let enough = stop.child_token();
    let filling = means.fill(folder, limit, source, &state_dir, enough.clone());
    tokio::pin!(filling);
    tokio::select! {
        filled = &mut filling => filled?,
        () = until_answered(parts, name) => {
            enough.cancel();
            filling.await?;
        }
    }
    Ok(true)
}

impl Means {
    /// Why a source cannot be followed without the lake; `None` when it can.
    ///
    /// # Errors
    /// Those of the store of held rows.
    pub fn hindrance(&self, state_dir: &Path, tables: &[TableName]) -> Result<Option<&'static str>> {
        let Some(resume) = self.known.resume() else { return Ok(Some("this process has not seen the lake yet")) };
        if tables.iter().any(|table| self.known.is_stopped(table)) {
            return Ok(Some("a table that is stopped needs the source's log"));
        }
        let whole = |copy: &change::CopyProgress| copy.finished.is_some();
        let copied = |table| resume.tables.get(table).and_then(|of| of.copy.as_ref()).is_some_and(whole);
        if !tables.iter().all(copied) {
            return Ok(Some("a table is being copied for the first time"));
        }
        if self.gate.spool_cipher().is_err() {
            return Ok(Some("policy.yaml names no keys to seal it with"));
        }
        let Some(store) = HeldStore::existing(state_dir)? else { return Ok(None) };
        for table in tables {
            if store.begun(table)?.is_some() {
                return Ok(Some("held rows are on their way into the lake"));
            }
        }
        Ok(None)
    }

    /// Fills a spool with what a source sends, no more than `limit` bytes in all, until `enough` and a boundary have come.
    ///
    /// # Errors
    /// Those of the source; `Full` at the limit; those that would stop a table, which needs the source's log then.
    pub async fn fill<S: Source + 'static>(
        &self,
        folder: SpoolFolder,
        limit: u64,
        source: S,
        state_dir: &Path,
        enough: CancellationToken,
    ) -> Result<()> {
        let fill = Fill {
            writer: Writer::new(folder, self.gate.stamp().clone(), limit)?,
            keeper: Keeper::open(state_dir, &self.gate, self.clock.clone(), self.witness.clone())?,
            feed: Feed::start(source),
            gate: self.gate.clone(),
            known: self.known.clone(),
            watch: self.watch.clone(),
            clock: self.clock.clone(),
        };
        fill.run(enough).await
    }
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
