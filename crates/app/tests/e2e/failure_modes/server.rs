//! Postgres is killed and comes back.

use std::time::Duration;

use sandbox::PrivatePostgres;

use super::ledger::{Writer, ledger_on};
use super::patience::until;
use super::process::Process;
use super::proxy::{Line, Proxy};

const ACCOUNTS: u32 = 40_000;

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_postgres_killed_9_under_load_mid_copy_and_mid_stream_is_followed_on() {
    let postgres = PrivatePostgres::with().durable().start().await.unwrap();
    let mut project = ledger_on(postgres, "kill-server", ACCOUNTS).await;
    let proxy = Proxy::before(&project).await;
    proxy.set(Line::Slow(Duration::from_millis(5)));
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut running = Process::start(&project);
    until("the copy is half done", 30, async || proxy.said() > 1_000_000).await;
    project.postgres.kill_9().await.unwrap();
    project.postgres.start_again().await.unwrap();
    proxy.set(Line::Open);
    project.wait_for("SELECT count(*) > 39000 FROM db.public.account", "true").await;
    for _ in 0..2 {
        let before = proxy.said();
        until("the stream goes on", 30, async || proxy.said() > before + 100_000).await;
        project.postgres.kill_9().await.unwrap();
        project.postgres.start_again().await.unwrap();
    }
    project.database = project.postgres.client().await.unwrap();
    assert!(writer.stop().await > 0);
    assert!(!running.has_ended(), "{}", running.said());
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger().await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_a_server_shuts_down_in_order_though_nothing_can_be_confirmed() {
    let mut project = ledger_on(PrivatePostgres::start().await.unwrap(), "shutdown", 10).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    // A table that is stopped needs the log: nothing is confirmed from here on, and the server waits for its log readers.
    let stops = "ALTER TABLE entry ALTER COLUMN amount TYPE text; INSERT INTO entry (account, amount) VALUES (1, 'x')";
    project.database.batch_execute(stops).await.unwrap();
    until("the table is stopped", 30, async || running.said().contains("the table is stopped")).await;
    let stopped = project.postgres.stops_within(Duration::from_secs(30)).await.unwrap();
    assert!(stopped && running.said().contains("the server is stopping"), "{}", running.said());
    project.postgres.start_again().await.unwrap();
    project.database = project.postgres.client().await.unwrap();
    project.database.batch_execute("UPDATE account SET balance = 77 WHERE id = 1").await.unwrap();
    project.wait_for("SELECT balance FROM db.public.account WHERE id = 1", "77").await;
    assert_eq!(running.terminate(), Some(3));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_an_open_transaction_leaves_when_it_is_told_to() {
    let project = ledger_on(PrivatePostgres::start().await.unwrap(), "waiting", 10).await;
    project.database.batch_execute("BEGIN; UPDATE account SET balance = 1 WHERE id = 1").await.unwrap();
    let running = Process::start(&project);
    let beside = project.postgres.client().await.unwrap();
    until("the slot waits for the transaction", 30, async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%create_logical_replication_slot%' AND wait_event_type = 'Lock')";
        beside.query_one(waits, &[]).await.unwrap().get(0)
    })
    .await;
    running.signal("TERM");
    let (code, said) = running.end(20).await;
    assert_eq!(code, Some(0), "{said}");
    project.database.batch_execute("COMMIT").await.unwrap();
    project.assert_ledger().await;
    project.end().await;
}
