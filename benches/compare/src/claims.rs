use anyhow::{Context, Result};
use sandbox::claims::{Claims, SOURCE, Scale, Table, create_tables, load, policy_yaml};
use tokio_postgres::Client;

use crate::report::say;
use crate::stage::Stage;

const SEED: u64 = 1;

/// The 25-column table of which 12 columns are masked, 5 of them by tokens.
pub(crate) const TABLE: &str = "claim_lines";

/// A database with about so many rows of `claim_lines` and nothing else in it.
pub(crate) struct ClaimLines {
    pub(crate) client: Client,
    pub(crate) database: String,
    pub(crate) rows: u64,
}

impl ClaimLines {
    /// Makes and loads the database.
    pub(crate) async fn load(stage: &Stage, database: &str) -> Result<Self> {
        let client = stage.server().create_database(database).await?;
        client.batch_execute(create_tables()).await?;
        let data = Claims::new(SEED, Scale::of_lines(stage.options.rows));
        let loaded = load(&client, &data, &[Table::ClaimLines]).await?;
        let rows = loaded.iter().map(|(_, rows)| rows).sum();
        // Hint bits and the visibility map are set once, not by whoever reads first; the checkpoint takes the load out of the measurements.
        client.batch_execute("VACUUM ANALYZE claim_lines").await?;
        client.batch_execute("CHECKPOINT").await?;
        say(&format!("{rows} rows of {TABLE} are loaded"));
        Ok(Self { client, database: database.to_owned(), rows })
    }

    /// The URL over the Unix socket or over TCP.
    pub(crate) fn url(&self, stage: &Stage, transport: Transport) -> String {
        match transport {
            Transport::Socket => stage.server().url_socket("postgres", &self.database),
            Transport::Tcp => stage.server().url("postgres", &self.database),
        }
    }

    /// Drops the database.
    pub(crate) async fn remove(self, stage: &Stage) -> Result<()> {
        drop(self.client);
        stage.server().execute(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await
    }
}

/// How a client talks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Socket,
    Tcp,
}

impl Transport {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Socket => "Unix socket",
            Transport::Tcp => "TCP loopback",
        }
    }

    /// The host as libpq's programs want it.
    pub(crate) fn host(self, stage: &Stage) -> String {
        match self {
            Transport::Socket => stage.server().folder().display().to_string(),
            Transport::Tcp => "127.0.0.1".to_owned(),
        }
    }
}

/// The plan's policy without the tables that are not read here.
pub(crate) fn policy_of_claim_lines() -> Result<String> {
    policy_of(policy_yaml()).context("the workload's policy has no such table any more")
}

fn policy_of(whole: &str) -> Option<String> {
    let (head, _) = whole.split_once("tables:\n")?;
    let title = format!("  {SOURCE}.public.{TABLE}:\n");
    let (_, rest) = whole.split_once(&title)?;
    let rules: String =
        rest.lines().take_while(|line| line.starts_with("    ")).map(|line| format!("{line}\n")).collect();
    Some(format!("{head}tables:\n{title}{rules}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_keeps_its_head_and_one_table() {
        let policy = policy_of_claim_lines().unwrap();
        assert!(policy.contains("\nprofile: ") && policy.contains("\nkeys: "), "{policy}");
        assert_eq!(policy.matches(&format!("{SOURCE}.public.")).count(), 1);
        assert_eq!(policy.lines().filter(|line| line.starts_with("    ")).count(), 25);
    }
}
