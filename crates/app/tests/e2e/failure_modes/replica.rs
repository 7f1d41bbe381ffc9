//! The primary is lost and a replica takes its place.

use sandbox::PrivatePostgres;

use super::ledger::ledger_on;
use super::patience::until;
use super::process::Process;
use super::proxy::Proxy;

/// The stop at a server that took the place of the one that was followed: it says why, with the exit code of what must be mended.
async fn promoted(name: &str, behind: bool, why: &[&str]) {
    let mut primary = PrivatePostgres::start().await.unwrap();
    let mut standby = primary.standby().await.unwrap();
    let mut project = ledger_on(primary, name, 10).await;
    let proxy = Proxy::before(&project).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    if behind {
        standby.stop().await.unwrap();
    }
    project.database.batch_execute("INSERT INTO entry (account, amount) VALUES (1, 1)").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.entry", "1").await;
    if !behind {
        let there = standby.client().await.unwrap();
        let rows = "SELECT count(*) = 1 FROM entry";
        // The table itself may not have arrived yet.
        until("the replica has it all", 20, async || {
            there.query_one(rows, &[]).await.is_ok_and(|row| row.get::<_, bool>(0))
        })
        .await;
    }
    project.postgres.kill_9().await.unwrap();
    standby.start_again().await.unwrap();
    proxy.point_to(&standby);
    standby.execute("SELECT pg_promote()").await.unwrap();
    let (code, said) = running.end(60).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(why.iter().any(|why| said.contains(why)) && said.contains("fix:"), "{said}");
    // Somebody makes the slot by hand, writes, and starts Lockgate again: what happened between is still missing.
    let slot = "SELECT pg_create_logical_replication_slot('lockgate_e2e', 'pgoutput')";
    standby.execute(slot).await.unwrap();
    standby.execute("INSERT INTO account VALUES (11, 0, 'n')").await.unwrap();
    let again = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("fix:"), "{said}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.account"), ["10"]);
    standby.stop().await.unwrap();
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_14_a_promoted_replica_that_is_behind_is_a_hard_stop() {
    // What the replica writes when it is promoted may pass the position that was followed; then its slot is what is missing.
    promoted("behind", true, &["never happened", "is gone"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_14_a_promoted_replica_without_the_slot_is_a_hard_stop() {
    promoted("slotless", false, &["is gone", "never happened"]).await;
}
