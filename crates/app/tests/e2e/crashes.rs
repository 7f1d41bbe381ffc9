//! I1, I2, I4, I5: kill -9 at random moments of a live workload, then a full comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::project::Project;

const KILLS: usize = 12;
const SEED: u64 = 20_261_121;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_random_moments_loses_and_doubles_nothing() {
    let setup = "
        CREATE TABLE account (id int PRIMARY KEY, balance bigint, note text);
        CREATE TABLE entry (id bigserial PRIMARY KEY, account int, amount bigint);
        INSERT INTO account SELECT i, 0, repeat('n', 20) FROM generate_series(1, 20000) i;";
    let policy = "  db.public.account: { id: keep, balance: keep, note: keep }
  db.public.entry: { id: keep, account: keep, amount: keep }\n";
    let project = Project::new("kill", setup, &["public.account", "public.entry"], policy).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(project.postgres.client().await.unwrap(), stop.clone()));

    let mut random = StdRng::seed_from_u64(SEED);
    for _ in 0..KILLS {
        let running = project.start();
        // The moment of the kill is what is being drawn here, from before the first commit to well into the stream.
        tokio::time::sleep(Duration::from_millis(random.random_range(30..2500))).await;
        running.kill_9();
    }
    stop.store(true, Ordering::Relaxed);
    let entries = writer.await.unwrap();

    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("account", &["id", "balance", "note"]).await;
    project.assert_same("entry", &["id", "account", "amount"]).await;
    // Each change is in the log once: one insert for each entry, whether it was copied or streamed, and never twice.
    let log = "SELECT count(*) AS n, count(DISTINCT id) AS d FROM db.public.entry__changes WHERE \"_lg_op\" = 'i'";
    let counts = project.query(log);
    let (rows, distinct) = counts[0].split_once(',').unwrap();
    assert_eq!(rows, distinct, "inserts in the change log and distinct keys among them");
    assert!(distinct.parse::<u64>().unwrap() <= entries);
    let updates = project.query("SELECT count(*) AS n, count(DISTINCT \"_lg_position\") AS d FROM db.public.account__changes WHERE \"_lg_op\" = 'u'");
    let (rows, distinct) = updates[0].split_once(',').unwrap();
    assert_eq!(rows, distinct, "updates in the change log and distinct positions among them");
    project.end().await;
}

/// Transfers between accounts, each in one transaction over both tables, until told to stop; returns the number of entries made.
async fn write(mut database: tokio_postgres::Client, stop: Arc<AtomicBool>) -> u64 {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut entries = 0;
    while !stop.load(Ordering::Relaxed) {
        let transaction = database.transaction().await.unwrap();
        for _ in 0..random.random_range(1..8) {
            let (account, amount): (i32, i64) = (random.random_range(1..20_000), random.random_range(-500..500));
            transaction
                .execute("UPDATE account SET balance = balance + $2 WHERE id = $1", &[&account, &amount])
                .await
                .unwrap();
            transaction
                .execute("INSERT INTO entry (account, amount) VALUES ($1, $2)", &[&account, &amount])
                .await
                .unwrap();
            entries += 1;
        }
        match random.random_range(0..10) {
            0 => {
                let id: i64 = random.random_range(1..=entries.max(1)) as i64;
                transaction.execute("DELETE FROM entry WHERE id = $1", &[&id]).await.unwrap();
                transaction.commit().await.unwrap();
            }
            1 => {
                transaction.rollback().await.unwrap();
            }
            _ => transaction.commit().await.unwrap(),
        }
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_made_again_behind_our_back_is_a_hard_stop() {
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i;";
    let project = Project::new("slot", setup, &["public.t"], "  db.public.t: { id: keep, v: keep }\n").await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .database
        .batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e'); INSERT INTO t VALUES (11, 'lost');")
        .await
        .unwrap();
    project
        .database
        .batch_execute(
            "SELECT pg_create_logical_replication_slot('lockgate_e2e', 'pgoutput'); INSERT INTO t VALUES (12, 'seen');",
        )
        .await
        .unwrap();
    let output = project.lockgate(&["run", "--once"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("lockgate_e2e") && message.contains("fix:"), "{message}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.t"), ["10"]);
    project.end().await;
}
