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
