//! The slot: held for nothing, lost, or another one than it was.

use sandbox::PrivatePostgres;

use super::super::project::Project;
use super::ledger::{edit, ledger, ledger_on};
use super::patience::until;
use super::process::Process;
use super::proxy::{Line, Proxy};

/// Where the slot stands: what may be forgotten, and from where the log is kept.
async fn slot(project: &Project) -> (i64, i64) {
    let of = "SELECT (confirmed_flush_lsn - '0/0')::int8, (restart_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e'";
    let row = project.database.query_one(of, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn write_beside(project: &Project) {
    let rows = "INSERT INTO beside SELECT i, repeat('b', 500) FROM generate_series(1, 4000) i";
    project.database.batch_execute(rows).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_a_consumer_without_traffic_in_its_tables_gives_the_log_back() {
    let project = ledger("idle", 10).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    let (confirmed, restart) = slot(&project).await;
    write_beside(&project).await;
    until("both positions of the slot pass what was written beside", 50, async || {
        // A checkpoint writes the record that lets the slot's own start move on.
        project.database.batch_execute("CHECKPOINT").await.unwrap();
        let now = slot(&project).await;
        now.0 > confirmed + 2_000_000 && now.1 > restart + 2_000_000
    })
    .await;
    assert_eq!(running.terminate(), Some(0));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_a_stopped_table_holds_the_log_and_status_says_what_the_budget_says() {
    let project = ledger("stuck", 10).await;
    let budget = "    tables:";
    edit(&project.dir, "lockgate.yaml", |text| {
        text.replace(budget, &format!("      wal_budget: {{ warn: 1MiB, critical: 2MiB, policy: pause }}\n{budget}"))
    });
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    project
        .database
        .batch_execute(
            "ALTER TABLE entry ALTER COLUMN amount TYPE text; INSERT INTO entry (account, amount) VALUES (1, 'x')",
        )
        .await
        .unwrap();
    // What was durable before may still be on its way to the server; from here on is the change that the table is stopped by.
    let end = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    let change: i64 = project.database.query_one(end, &[]).await.unwrap().get(0);
    until("the table is stopped", 30, async || running.said().contains("the table is stopped")).await;
    write_beside(&project).await;
    project.database.batch_execute("UPDATE account SET balance = 7").await.unwrap();
    // The other table goes on.
    project.wait_for("SELECT count(*) FROM db.public.account WHERE balance = 7", "10").await;
    until("the critical level is said", 20, async || running.said().contains("than its budget allows")).await;
    assert!(slot(&project).await.0 < change, "a change of the stopped table was given up");
    let status = project.lockgate(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("over its budget") && said.contains("pause"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&project.lockgate(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["sources"][0]["wal_budget"]["level"], "critical", "{json}");
    assert_eq!(json["sources"][0]["wal_budget"]["policy"], "pause", "{json}");
    assert_eq!(running.terminate(), Some(3));
    project.end().await;
}

/// Writes until the server has given the slot up.
async fn overflow(project: &Project) {
    until("the server gives the slot up", 30, async || {
        write_beside(project).await;
        project.database.batch_execute("SELECT pg_switch_wal(); CHECKPOINT").await.unwrap();
        let lost = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e'";
        project.database.query_one(lost, &[]).await.unwrap().get(0)
    })
    .await;
}

fn assert_hard_stop(code: Option<i32>, said: &str, why: &[&str]) {
    assert_eq!(code, Some(1), "{said}");
    assert!(why.iter().any(|why| said.contains(why)) && said.contains("fix:"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_02_a_slot_invalidated_by_max_slot_wal_keep_size_is_a_hard_stop() {
    let postgres = PrivatePostgres::with().setting("max_slot_wal_keep_size", "1MB").setting("max_wal_size", "32MB");
    let project = ledger_on(postgres.start().await.unwrap(), "invalid", 10).await;
    let proxy = Proxy::before(&project).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    // While it runs and cannot be reached, the log grows beyond what the server keeps.
    proxy.set(Line::Down);
    overflow(&project).await;
    project.database.batch_execute("INSERT INTO entry (account, amount) VALUES (1, 1)").await.unwrap();
    proxy.set(Line::Open);
    let why = ["max_slot_wal_keep_size", "wal_removed", "cannot be read any more"];
    let (code, said) = running.end(60).await;
    assert_hard_stop(code, &said, &why);
    // And so at every start, with nothing changed in the lake.
    let again = project.lockgate(&["run", "--once"]);
    assert_hard_stop(again.status.code(), &String::from_utf8_lossy(&again.stderr), &why);
    assert_eq!(project.query("SELECT count(*) FROM db.public.entry"), ["0"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_02_a_slot_made_again_while_it_is_followed_is_a_hard_stop() {
    let project = ledger("remade", 10).await;
    let proxy = Proxy::before(&project).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    proxy.set(Line::Down);
    let free = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e'";
    until("the slot is free", 20, async || project.database.query_one(free, &[]).await.unwrap().get(0)).await;
    for statement in [
        "SELECT pg_drop_replication_slot('lockgate_e2e')",
        "INSERT INTO entry (account, amount) VALUES (1, 1)",
        "SELECT pg_create_logical_replication_slot('lockgate_e2e', 'pgoutput')",
        "INSERT INTO entry (account, amount) VALUES (2, 2)",
    ] {
        project.database.batch_execute(statement).await.unwrap();
    }
    proxy.set(Line::Open);
    let (code, said) = running.end(60).await;
    assert_hard_stop(code, &said, &["made anew"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.entry"), ["0"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_02_a_slot_dropped_while_it_is_followed_is_a_hard_stop() {
    let project = ledger("dropped", 10).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "10").await;
    until("the slot is dropped between two connections", 20, async || {
        let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
        project.database.batch_execute(end).await.unwrap();
        project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.is_ok()
    })
    .await;
    let (code, said) = running.end(60).await;
    assert_hard_stop(code, &said, &["is gone"]);
    project.end().await;
}
