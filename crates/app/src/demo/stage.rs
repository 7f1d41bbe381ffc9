use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use change::{Error, Kind, Result};
use sandbox::PrivatePostgres;
use sandbox::claims::{Claims, Scale, Table, create_tables, grant, load, lockgate_yaml, policy_yaml};
use tokio_postgres::Client;

use super::runner::Runner;
use super::screen::Screen;
use crate::cli::Demo;
use crate::keys;
use crate::project::{POLICY_FILE, PROJECT_FILE};

/// The replication slot of the demo's project.
const SLOT: &str = "lockgate_claims";
/// Tells a folder that a demo has written from every other.
const MARK: &str = ".lockgate-demo";
/// Of a hundred rows, so many are claim lines.
const LINES_PERCENT: u64 = 67;
/// Seconds after which the demo's project commits.
const COMMIT_SECONDS: f64 = 1.0;

/// Everything that the play needs: a server with claims in it and a project folder that points at it.
pub(crate) struct Stage {
    pub(crate) server: PrivatePostgres,
    pub(crate) client: Client,
    pub(crate) data: Claims,
    pub(crate) loaded: Vec<(Table, u64)>,
    pub(crate) dir: PathBuf,
}

impl Stage {
    pub(crate) async fn set(dir: &Path, options: &Demo, screen: &mut Screen) -> Result<Self> {
        let dir = make_folder(dir)?;
        let mut server = PrivatePostgres::with();
        if let Some(bin) = &options.postgres_bin {
            server = server.bin(bin);
        }
        let server = server.start().await.map_err(failed)?;
        screen.step(&format!(
            "A private Postgres {} runs on port {} until the demo ends.",
            server.installed().version,
            server.port()
        ));
        let client = server.create_database("claims").await.map_err(failed)?;
        let data = Claims::new(options.seed, Scale::of_lines(options.rows * LINES_PERCENT / 100));
        client.batch_execute(create_tables()).await.map_err(refused)?;
        let loaded = load(&client, &data, &Table::ALL).await.map_err(failed)?;
        client.batch_execute(&grant()).await.map_err(refused)?;
        screen.step(&format!(
            "Loaded {} rows of invented claims into {} tables, with {} identifiers to look for later.",
            loaded.iter().map(|(_, rows)| rows).sum::<u64>(),
            loaded.len(),
            data.canaries().len()
        ));
        let stage = Self { server, client, data, loaded, dir };
        stage.write_project(&stage.dir, SLOT, policy_yaml())?;
        keys::make(&stage.dir.join("keys/dev.key"))?;
        screen
            .step(&format!("Wrote the project folder {}: {PROJECT_FILE}, {POLICY_FILE}, a key.", stage.dir.display()));
        Ok(stage)
    }

    /// Writes a project that reads this server through `slot`.
    pub(crate) fn write_project(&self, dir: &Path, slot: &str, policy: &str) -> Result<()> {
        let project = lockgate_yaml(&self.server.url("lockgate", "claims"), slot, COMMIT_SECONDS);
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(dir.join(PROJECT_FILE), project))
            .and_then(|()| fs::write(dir.join(POLICY_FILE), policy))
            .map_err(|error| unwritable(dir, error))
    }

    /// Waits until the slot is confirmed at the present end of the log: everything is durable then.
    pub(crate) async fn caught_up(&self, runner: &mut Runner, within: Duration, screen: &mut Screen) -> Result<()> {
        let end: String = self.ask("SELECT pg_current_wal_lsn()::text").await?;
        let reached = format!(
            "SELECT coalesce(bool_or(confirmed_flush_lsn >= '{end}'), false) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        );
        let wait = async {
            while !self.ask::<bool>(&reached).await? {
                runner.check()?;
                screen.waiting(&runner.progress());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        tokio::time::timeout(within, wait).await.unwrap_or_else(|_| {
            Err(Error::new(Kind::Bug, format!("the end of the log was not confirmed within {} s", within.as_secs())))
        })
    }

    /// Asks the source for one value.
    pub(crate) async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> Result<T> {
        self.client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(refused)
    }

    /// The lake's folder.
    pub(crate) fn lake(&self) -> PathBuf {
        self.dir.join("lake")
    }
}

/// Makes the project folder anew; a folder that no demo has written is left alone.
fn make_folder(dir: &Path) -> Result<PathBuf> {
    let taken = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if taken && !dir.join(MARK).is_file() {
        return Err(Error::new(Kind::Config, format!("{} is not empty and no demo has written it", dir.display()))
            .fix("Name another folder with --dir, or empty this one."));
    }
    if taken {
        fs::remove_dir_all(dir).map_err(|error| unwritable(dir, error))?;
    }
    fs::create_dir_all(dir)
        .and_then(|()| {
            fs::write(
                dir.join(MARK),
                "Written by `lockgate demo`, which empties this folder when it is started again.\n",
            )
        })
        .and_then(|()| dir.canonicalize())
        .map_err(|error| unwritable(dir, error))
}

fn unwritable(dir: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Config, format!("the demo cannot write to {}", dir.display()))
        .source(error)
        .fix("Name a folder that you may write to with --dir.")
}

/// The sandbox could not do its part. Its data is invented, so its words may be shown.
pub(crate) fn failed(error: anyhow::Error) -> Error {
    Error::new(Kind::Unavailable, format!("the demo's private Postgres: {error:#}"))
        .fix("Install a server (apt-get install postgresql), or name its programs with --postgres-bin.")
}

/// The private server refused a statement of the demo.
pub(crate) fn refused(error: tokio_postgres::Error) -> Error {
    Error::new(Kind::Unavailable, "the demo's private Postgres refused a statement").source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_an_earlier_demo_is_emptied() {
        let dir = std::env::temp_dir().join(format!("lockgate-demo-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("mine"), "precious").unwrap();
        let error = make_folder(&dir).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(dir.join("mine").exists());

        fs::remove_file(dir.join("mine")).unwrap();
        let made = make_folder(&dir).unwrap();
        fs::write(made.join("lake"), "old").unwrap();
        make_folder(&dir).unwrap();
        assert!(!made.join("lake").exists() && made.join(MARK).exists());
        fs::remove_dir_all(made).unwrap();
    }
}
