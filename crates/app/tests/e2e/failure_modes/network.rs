//! The network between Lockgate and Postgres is cut, slow, or goes silent.

use std::time::Duration;

use sandbox::PrivatePostgres;

use super::super::project::Project;
use super::ledger::{Writer, ledger, ledger_on};
use super::patience::until;
use super::process::Process;
use super::proxy::{Line, Proxy};

const ACCOUNTS: u32 = 40_000;

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_a_network_that_is_cut_and_delayed_mid_copy_and_mid_stream_loses_and_doubles_nothing() {
    let project = ledger("cuts", ACCOUNTS).await;
    let proxy = Proxy::before(&project).await;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    // The copy takes about three times as many bytes.
    proxy.cut_after(1_000_000);
    let mut running = Process::start(&project);
    until("the copy is cut", 30, async || !proxy.will_cut()).await;
    proxy.cut_after(2_000_000);
    until("the copy is cut again", 30, async || !proxy.will_cut()).await;
    project.wait_for("SELECT count(*) > 39000 FROM db.public.account", "true").await;

    for _ in 0..3 {
        proxy.set(Line::Down);
        until("status says that the source is away", 30, async || {
            let status = project.lockgate(&["status", "--json"]);
            let said: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
            said["waits"].as_str().is_some_and(|waits| waits.starts_with("db: "))
        })
        .await;
        proxy.set(Line::Slow(Duration::from_millis(20)));
        let before = proxy.said();
        until("the stream goes on", 30, async || proxy.said() > before + 50_000).await;
        proxy.cut_after(10_000);
        until("the stream is cut", 30, async || !proxy.will_cut()).await;
    }
    proxy.set(Line::Open);
    writer.stop().await;
    assert!(!running.has_ended(), "{}", running.said());
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger().await;
    project.end().await;
}

/// The server's process that reads the slot and has sent everything.
async fn sender(project: &Project) -> Option<i32> {
    let of = "SELECT pid FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_lsn()";
    project.database.query(of, &[]).await.unwrap().first().map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_03_off_by_one_at_resume() {
    let project = ledger("resume", 10).await;
    let proxy = Proxy::before(&project).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    // Each cut falls on another byte of transactions with many rows: behind a begin, in the middle of a row, before the commit.
    for cut in 0..16 {
        let before = sender(&project).await;
        proxy.cut_after(100 + cut * 163);
        let rows = "INSERT INTO entry (account, amount) SELECT i, i FROM generate_series(1, 20) i";
        project.database.batch_execute(&format!("BEGIN; {rows}; {rows}; COMMIT; {rows}")).await.unwrap();
        until("the stream is cut", 20, async || !proxy.will_cut()).await;
        until("it is taken up again", 30, async || sender(&project).await.is_some_and(|now| Some(now) != before)).await;
    }
    project.wait_for("SELECT count(*) FROM db.public.entry", "960").await;
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger_now().await;
    // Within each transaction every row has its number, from 1 and without a gap.
    let gaps = "SELECT count(*) FROM (SELECT \"_lg_txid\", count(*) AS n, max(\"_lg_ordinal\") AS last, min(\"_lg_ordinal\") AS first
        FROM db.public.entry__changes WHERE \"_lg_op\" = 'i' GROUP BY 1) WHERE n <> last OR first <> 1";
    assert_eq!(project.query(gaps), ["0"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_04_connections_that_stay_open_and_say_nothing_are_made_anew() {
    // So soon does the server let the slot go.
    let postgres = PrivatePostgres::with().setting("wal_sender_timeout", "3s").start().await.unwrap();
    let project = ledger_on(postgres, "mute", ACCOUNTS).await;
    let proxy = Proxy::before(&project).await;
    proxy.set(Line::Slow(Duration::from_millis(10)));
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut running = Process::start(&project);
    until("the copy is half done", 30, async || proxy.said() > 1_000_000).await;
    // Copy, stream and measurements all hang now; nothing breaks.
    proxy.mute_open_connections();
    proxy.set(Line::Open);
    project.wait_for("SELECT count(*) > 39000 FROM db.public.account", "true").await;
    writer.stop().await;
    let last = project.source("SELECT max(id) FROM entry").await.remove(0);
    project.wait_for("SELECT max(id) FROM db.public.entry", &last).await;
    assert!(!running.has_ended(), "{}", running.said());
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger().await;
    project.end().await;
}
