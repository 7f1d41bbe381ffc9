use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use crate::claims::{ClaimLines, TABLE, Transport};
use crate::lockgate::{CommitRule, Project, lockgate_yaml};
use crate::process::Finished;
use crate::report::{memory, say, time};
use crate::slot::{copy_slot, drop_slot, ensure_confirmed};
use crate::stage::Stage;
use crate::statistics::median;

/// When its commits are due.
pub(crate) const COMMIT: CommitRule = CommitRule { max_seconds: 5.0, max_rows: 200_000 };

/// A project that catches up from the same slot and the same lake, again and again.
pub(crate) struct Follower {
    project: Project,
    slot: String,
}

impl Follower {
    /// Makes the first copy, and with it slot and publication.
    pub(crate) async fn begin(stage: &Stage, source: &ClaimLines, slot: &str, policy: &str) -> Result<Self> {
        let yaml = lockgate_yaml(&source.url(stage, Transport::Socket), slot, &[TABLE], COMMIT);
        let project = Project::make(stage, slot, &yaml, policy)?;
        project.run_once().await?;
        Ok(Self { project, slot: slot.to_owned() })
    }

    /// How long a start takes that finds nothing to do.
    pub(crate) async fn idle(&self, runs: u32) -> Result<Option<Duration>> {
        let mut walls = Vec::new();
        for _ in 0..runs {
            walls.push(self.project.run_once().await?.wall);
        }
        Ok(median(&walls))
    }

    /// Keeps slot and lake as they are: [`Follower::catch_up`] begins here.
    pub(crate) async fn save(&self, client: &Client) -> Result<()> {
        self.project.save().await?;
        copy_slot(client, &self.slot, &saved(&self.slot)).await
    }

    /// Catches up with everything up to `end` from where it was saved.
    pub(crate) async fn catch_up(
        &self,
        stage: &Stage,
        source: &ClaimLines,
        transport: Transport,
        end: &str,
    ) -> Result<Finished> {
        let Self { project, slot } = self;
        copy_slot(&source.client, &saved(slot), slot).await?;
        project.restore().await?;
        project.set(&lockgate_yaml(&source.url(stage, transport), slot, &[TABLE], COMMIT))?;
        let finished = project.run_once().await?;
        say(&format!("{slot}: {}, CPU {}, {}", time(finished.wall), time(finished.cpu), memory(finished.peak_bytes)));
        ensure_confirmed(&source.client, slot, end).await?;
        let rows: i64 = source.client.query_one("SELECT count(*) FROM claim_lines", &[]).await?.get(0);
        let found = project.count(TABLE).await?;
        ensure!(i64::try_from(found)? == rows, "the lake has {found} rows, the source has {rows}");
        Ok(finished)
    }

    /// Removes lake and slots.
    pub(crate) async fn remove(self, client: &Client) -> Result<()> {
        for slot in [&saved(&self.slot), &self.slot] {
            drop_slot(client, slot).await?;
        }
        self.project.clear()
    }
}

/// The slot as it was when it was saved.
pub(crate) fn saved(slot: &str) -> String {
    format!("{slot}_saved")
}
