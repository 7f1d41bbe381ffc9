//! A workload of transfers between accounts, and the comparison of everything that came of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox::PrivatePostgres;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::super::project::Project;
use super::process::Process;

pub(crate) const TABLES: [&str; 2] = ["public.account", "public.entry"];
pub(crate) const POLICY: &str = "  db.public.account: { id: keep, balance: keep, note: keep }
  db.public.entry: { id: keep, account: keep, amount: keep }\n";
const SEED: u64 = 20_261_121;

/// Two tables with so many accounts.
pub(crate) fn setup(accounts: u32) -> String {
    format!(
        "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, note text);
         CREATE TABLE entry (id bigserial PRIMARY KEY, account int NOT NULL, amount bigint NOT NULL);
         CREATE TABLE beside (id int, v text);
         INSERT INTO account SELECT i, 0, repeat('n', 40) FROM generate_series(1, {accounts}) i;"
    )
}

pub(crate) async fn ledger(name: &str, accounts: u32) -> Project {
    Project::new(name, &setup(accounts), &TABLES, POLICY).await
}

pub(crate) async fn ledger_on(postgres: PrivatePostgres, name: &str, accounts: u32) -> Project {
    Project::on(postgres, name, &setup(accounts), &TABLES, POLICY).await
}

/// Rewrites a file of the project's folder.
pub(crate) fn edit(dir: &Path, file: &str, edit: impl Fn(&str) -> String) {
    let path = dir.join(file);
    std::fs::write(&path, edit(&std::fs::read_to_string(&path).unwrap())).unwrap();
}

/// Somebody who works on the ledger, also over restarts of the server.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Writer {
    /// Writes a transaction every few milliseconds until it is stopped.
    pub(crate) fn start(postgres: &PrivatePostgres, accounts: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(postgres.url_socket("postgres", "postgres"), accounts, stop.clone()));
        Self { stop, task }
    }

    /// The number of transactions that were certainly committed.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn write(url: String, accounts: i32, stop: Arc<AtomicBool>) -> u64 {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut committed = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        // A server that goes away takes the transaction with it; whether it was committed only the server knows.
        while !stop.load(Ordering::Relaxed) && transfer(&mut client, accounts, &mut random).await.is_ok() {
            committed += 1;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        driver.abort();
    }
    committed
}

/// One transaction over both tables, which may delete an entry, move an account to another key, or be rolled back.
async fn transfer(client: &mut Client, accounts: i32, random: &mut StdRng) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    for _ in 0..random.random_range(1..6) {
        let (account, amount): (i32, i64) = (random.random_range(1..=accounts), random.random_range(-500..500));
        transaction.execute("UPDATE account SET balance = balance + $2 WHERE id = $1", &[&account, &amount]).await?;
        transaction.execute("INSERT INTO entry (account, amount) VALUES ($1, $2)", &[&account, &amount]).await?;
    }
    match random.random_range(0..10) {
        0 => {
            let oldest = "DELETE FROM entry WHERE id = (SELECT min(id) FROM entry)";
            transaction.execute(oldest, &[]).await?;
            transaction.commit().await
        }
        1 => {
            let away: i32 = random.random_range(1..=accounts);
            let moved = "UPDATE account SET id = -id WHERE abs(id) = $1";
            transaction.execute(moved, &[&away]).await?;
            transaction.commit().await
        }
        2 => transaction.rollback().await,
        _ => transaction.commit().await,
    }
}

impl Project {
    /// Catches up, and compares both tables and their logs with the source in full.
    pub(crate) async fn assert_ledger(&self) {
        self.lockgate_ok(&["run", "--once"]);
        self.assert_ledger_now().await;
    }

    /// Lets the writer end and the run follow it to its end, and compares everything.
    pub(crate) async fn assert_followed(&self, writer: Writer, running: Process) {
        writer.stop().await;
        let last = self.source("SELECT max(id) FROM entry").await.remove(0);
        self.wait_for("SELECT max(id) FROM db.public.entry", &last).await;
        assert_eq!(running.terminate(), Some(0));
        self.assert_ledger().await;
    }

    /// As [`Project::assert_ledger`], of a lake that is up to date.
    pub(crate) async fn assert_ledger_now(&self) {
        self.assert_same("account", &["id", "balance", "note"]).await;
        self.assert_same("entry", &["id", "account", "amount"]).await;
        for table in ["account", "entry"] {
            // Every streamed change has a position of its own but the two halves of a change of key, which are told apart by their op.
            let changes = format!(
                "SELECT coalesce(sum(n), 0) AS n, count(*) AS d FROM (SELECT \"_lg_position\", \"_lg_op\", count(*) AS n FROM db.public.{table}__changes
                 WHERE \"_lg_op\" <> 'r' AND \"_lg_op\" <> 't' GROUP BY 1, 2)"
            );
            let counts = self.query(&changes);
            let (rows, distinct) = counts[0].split_once(',').unwrap();
            assert_eq!(rows, distinct, "changes of {table} in its log and distinct ones among them");
        }
        let net = "SELECT sum(CASE WHEN \"_lg_op\" = 'd' THEN -1 WHEN \"_lg_op\" = 'i' THEN 1 ELSE 0 END) FROM db.public.entry__changes";
        let copied = "SELECT count(*) FROM db.public.entry__changes WHERE \"_lg_op\" = 'r'";
        let (net, copied) = (number(&self.query(net)), number(&self.query(copied)));
        let rows = number(&self.query("SELECT count(*) FROM db.public.entry"));
        // A row may be copied and streamed, so the log may say more; it may never say less.
        assert!(
            net + copied >= rows,
            "{rows} entries, but the log has {copied} copied and {net} more inserted than deleted"
        );
    }
}

fn number(answer: &[String]) -> i64 {
    answer[0].parse().unwrap_or_default()
}
