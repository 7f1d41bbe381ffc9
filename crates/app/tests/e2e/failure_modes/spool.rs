//! The lake is away for so long that the source's log passes its budget: what it sends waits in the spool.

use std::path::{Path, PathBuf};

use super::super::project::Project;
use super::disk::Disk;
use super::foreign_writers::delete_newest;
use super::ledger::{Writer, edit, ledger};
use super::patience::until;
use super::process::Process;

const ACCOUNTS: u32 = 2000;

/// A ledger that is copied, on a lake that can be filled up; `None`, and said, where that cannot be made.
async fn copied(name: &str, spool_max: &str) -> Option<(Project, Disk)> {
    let project = ledger(name, ACCOUNTS).await;
    let disk = Disk::mount(&project.dir.join("lake"), 64)?;
    edit(&project.dir, "lockgate.yaml", |text| {
        let budget =
            format!("      wal_budget: {{ warn: 1MiB, critical: 2MiB, policy: spool, spool_max: {spool_max} }}\n");
        text.replace("    tables:", &format!("{budget}    tables:"))
    });
    project.lockgate_ok(&["run", "--once"]);
    Some((project, disk))
}

/// The same with a writer at the source and a run that follows it, at the moment when nothing can be written into the lake any more.
async fn away_under_load(name: &str, spool_max: &str) -> Option<(Project, Disk, Writer, Process)> {
    let (project, disk) = copied(name, spool_max).await?;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) > 20 FROM db.public.entry", "true").await;
    disk.fill();
    Some((project, disk, writer, running))
}

/// How much log the server keeps for the slot.
async fn retained(project: &Project) -> i64 {
    let of =
        "SELECT (pg_current_wal_lsn() - restart_lsn)::int8 FROM pg_replication_slots WHERE slot_name = 'lockgate_e2e'";
    project.database.query_one(of, &[]).await.unwrap().get(0)
}

fn segments(project: &Project) -> Vec<PathBuf> {
    let folder = project.dir.join(".lockgate/spool/db");
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|of| of == "spool")).collect()
}

/// Log that has nothing to do with the tables: the slot passes its budget, and gives it back when something is confirmed.
async fn write_beside(project: &Project) {
    let rows = "INSERT INTO beside SELECT i, repeat('b', 500) FROM generate_series(1, 8000) i; CHECKPOINT";
    project.database.batch_execute(rows).await.unwrap();
}

async fn spooling(project: &Project, running: &Process) {
    until("the spool takes what comes", 90, async || {
        write_beside(project).await;
        running.said().contains("waits, masked and sealed, in the spool")
    })
    .await;
    let before = retained(project).await;
    until("the source may forget what the spool has", 60, async || {
        project.database.batch_execute("CHECKPOINT").await.unwrap();
        !segments(project).is_empty() && retained(project).await < before / 2
    })
    .await;
}

fn says(path: &Path, what: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(what.len()).any(|window| window == what)
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_while_the_lake_is_away_the_spool_lets_the_source_go_and_is_drained_in_order() {
    let Some((project, disk, writer, running)) = away_under_load("spool", "1GiB").await else { return };
    spooling(&project, &running).await;
    for path in segments(&project) {
        // What the ledger's rows hold, and a name of its structure.
        assert!(!says(&path, b"nnnnnnnn") && !says(&path, b"balance"), "the spool is not sealed");
    }
    let status = project.lockgate(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("wait in the spool for the lake"), "{said}");
    // Killed while it fills; what was confirmed to the source is nowhere else.
    running.kill_9();
    for command in [&["remask"][..], &["repair"], &["keys", "rotate"]] {
        let refused = project.lockgate(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains("rows wait in"), "{command:?}: {said}");
    }
    disk.free();
    let running = Process::start(&project);
    until("the spool is drained", 60, async || segments(&project).is_empty()).await;
    // Once more, and this time the run goes on through it.
    disk.fill();
    spooling(&project, &running).await;
    disk.free();
    until("the spool is drained again", 60, async || segments(&project).is_empty()).await;
    project.assert_followed(writer, running).await;
    let log = project.lockgate_ok(&["audit", "list"]);
    assert!(log.contains("spool_filled") && log.contains("spool_drained"), "the audit log has nothing of the spool");
    drop(disk);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_a_table_that_stops_keeps_the_spool_and_the_other_tables_drain() {
    let Some((project, disk, writer, running)) = away_under_load("spool-stopped", "200MiB").await else { return };
    spooling(&project, &running).await;
    running.kill_9();
    writer.stop().await;
    disk.free();
    delete_newest(&project);
    // The second time nothing of it is applied twice.
    for _ in 0..2 {
        let stopped = project.lockgate(&["run", "--once"]);
        let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert!(stopped.status.code() == Some(3) && said.contains("the spool stays"), "{said}");
        assert!(said.contains("another program has changed the table's rows"), "{said}");
        project.assert_same("entry", &["id", "account", "amount"]).await;
        assert!(!segments(&project).is_empty(), "the rows of the stopped table are nowhere");
    }
    for table in ["account", "account__changes"] {
        std::fs::remove_dir_all(project.lake_table(table)).unwrap();
    }
    project.assert_ledger().await;
    assert!(segments(&project).is_empty());
    drop(disk);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_a_spool_keeps_to_its_limit_and_opens_under_its_own_policy_alone() {
    let Some((project, disk, writer, running)) = away_under_load("spool-full", "3MiB").await else { return };
    until("the limit is said", 90, async || {
        write_beside(&project).await;
        running.said().contains("has reached its limit")
    })
    .await;
    let size: u64 = segments(&project).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size <= 3 << 20, "{size} bytes in a spool of 3 MiB");
    running.kill_9();
    disk.free();
    edit(&project.dir, "policy.yaml", |text| text.replace("note: keep", "note: drop"));
    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("under another policy"), "{said}");
    edit(&project.dir, "policy.yaml", |text| text.replace("note: drop", "note: keep"));
    writer.stop().await;
    project.assert_ledger().await;
    assert!(segments(&project).is_empty());
    drop(disk);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_02_a_slot_that_is_lost_while_rows_wait_is_repaired_after_they_have_come_in() {
    let Some((project, disk, writer, running)) = away_under_load("spool-lost", "200MiB").await else { return };
    spooling(&project, &running).await;
    running.kill_9();
    disk.free();
    let durable: u64 = project.query("SELECT max(id) FROM db.public.entry__changes")[0].parse().unwrap();
    project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.unwrap();
    let gone = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(gone.status.code() == Some(1) && said.contains("lockgate repair"), "{said}");
    assert!(segments(&project).is_empty(), "{said}");
    // What waited is in the change log too, where no repair would have brought it.
    let drained: u64 = project.query("SELECT max(id) FROM db.public.entry__changes")[0].parse().unwrap();
    assert!(drained > durable, "{drained} after {durable}");
    writer.stop().await;
    project.lockgate_ok(&["repair"]);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("entry", &["id", "account", "amount"]).await;
    drop(disk);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_01_while_a_table_is_stopped_the_source_keeps_its_log_and_no_spool_is_filled() {
    let Some((project, disk)) = copied("spool-not", "200MiB").await else { return };
    let running = Process::start(&project);
    project.database.batch_execute("UPDATE account SET balance = balance + 1 WHERE id < 5").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.account__changes WHERE _lg_op = 'u'", "4").await;
    let stops = "ALTER TABLE entry ALTER COLUMN amount TYPE text; INSERT INTO entry (account, amount) VALUES (1, 'x')";
    project.database.batch_execute(stops).await.unwrap();
    until("the table is stopped", 30, async || running.said().contains("the table is stopped")).await;
    disk.fill();
    until("the spool is not used", 90, async || {
        write_beside(&project).await;
        project.database.batch_execute("UPDATE account SET balance = balance + 1 WHERE id < 5").await.unwrap();
        running.said().contains("a table that is stopped needs the source's log")
    })
    .await;
    assert!(segments(&project).is_empty());
    running.kill_9();
    disk.free();
    drop(disk);
    project.end().await;
}
