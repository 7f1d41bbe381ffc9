//! The primary is lost and a replica takes its place.

use sandbox::PrivatePostgres;
use sandbox::postgres::available;

use super::super::project::Project;
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

const TABLES: &str = "CREATE TABLE keyed (id int PRIMARY KEY, v int); CREATE TABLE loose (v int); ALTER TABLE loose REPLICA IDENTITY FULL;
    INSERT INTO keyed SELECT i, i FROM generate_series(1, 20) i; INSERT INTO loose SELECT i FROM generate_series(1, 20) i;";
const RULES: &str = "  db.public.keyed: { id: keep, v: keep }\n  db.public.loose: { v: keep }\n";

/// Has the standby's worker copy the slot, and ends it: what is confirmed from then on the copy does not know.
async fn copy_slot(project: &Project, standby: &PrivatePostgres) {
    standby.execute("ALTER SYSTEM SET sync_replication_slots = on").await.unwrap();
    standby.execute("SELECT pg_reload_conf()").await.unwrap();
    let there = standby.client().await.unwrap();
    until("the slot is on the standby", 180, async || {
        // The copy is only kept once the slot has come beyond what the standby has when it is made.
        let moves = "UPDATE keyed SET v = v; CHECKPOINT; SELECT pg_log_standby_snapshot()";
        project.database.batch_execute(moves).await.unwrap();
        project.lockgate_ok(&["run", "--once"]);
        let kept = "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e' AND synced AND NOT temporary";
        there.query_one(kept, &[]).await.unwrap().get(0)
    })
    .await;
    standby.execute("ALTER SYSTEM SET sync_replication_slots = off").await.unwrap();
    standby.execute("SELECT pg_reload_conf()").await.unwrap();
    let works = "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'slotsync worker'";
    until("the worker has ended", 60, async || there.query_one(works, &[]).await.unwrap().get(0)).await;
}

/// How far the slot's reader has confirmed.
async fn confirmed(client: &tokio_postgres::Client) -> i64 {
    let of = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e'";
    client.query_one(of, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_14_a_promoted_replica_with_a_slot_that_is_behind_the_lake_is_followed_and_doubles_nothing() {
    let Some(newest) = available().into_iter().find(|installed| installed.major >= 17) else {
        println!("skipped: no Postgres of 17 or newer is installed, whose slots can follow a promotion");
        return;
    };
    let mut primary = PrivatePostgres::with().bin(&newest.bin).start().await.unwrap();
    let mut standby = primary.standby().await.unwrap();
    primary.execute("SELECT pg_create_physical_replication_slot('standby')").await.unwrap();
    let settings = ["primary_slot_name = 'standby'", "hot_standby_feedback = on"];
    let conninfo = format!("host={} port={} user=postgres dbname=postgres", primary.folder().display(), primary.port());
    standby.execute(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'")).await.unwrap();
    for setting in settings {
        standby.execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    standby.restart().await.unwrap();
    let mut project = Project::on(primary, "followed", TABLES, &["public.*"], RULES).await;
    let proxy = Proxy::before(&project).await;
    project.lockgate_ok(&["run", "--once"]);
    copy_slot(&project, &standby).await;
    // The lake goes on, and the standby's slot does not.
    let rows = "INSERT INTO keyed SELECT i, i FROM generate_series(21, 40) i; DELETE FROM keyed WHERE id = 3;
        INSERT INTO loose SELECT 7 FROM generate_series(1, 5); DELETE FROM loose WHERE v = 3";
    let end = "SELECT (pg_current_wal_lsn() - '0/0')::int8";
    let rows_begin: i64 = project.database.query_one(end, &[]).await.unwrap().get(0);
    project.database.batch_execute(rows).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let there = standby.client().await.unwrap();
    let all = "SELECT (SELECT count(*) FROM keyed) = 39 AND (SELECT count(*) FROM loose) = 24";
    until("the replica has it all", 20, async || there.query_one(all, &[]).await.unwrap().get(0)).await;
    let log = |table: &str| {
        project.query(&format!("SELECT count(*) FROM db.public.{table}__changes WHERE _lg_op IN ('i', 'd')"))
    };
    let before = (log("keyed"), log("loose"));
    assert!(confirmed(&there).await <= rows_begin, "the copy of the slot is not behind the lake");
    project.postgres.kill_9().await.unwrap();
    standby.execute("SELECT pg_promote()").await.unwrap();
    proxy.point_to(&standby);
    standby.execute("INSERT INTO keyed VALUES (100, 100)").await.unwrap();
    let said = project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.keyed WHERE id = 100"), ["1"], "{said}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.keyed"), ["40"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.loose"), ["24"]);
    let one_more: u64 = before.0[0].parse::<u64>().unwrap() + 1;
    let log = |table: &str| {
        project.query(&format!("SELECT count(*) FROM db.public.{table}__changes WHERE _lg_op IN ('i', 'd')"))
    };
    assert_eq!((log("keyed"), log("loose")), (vec![one_more.to_string()], before.1));
    standby.stop().await.unwrap();
    project.end().await;
}
