//! Other programs write to our tables while we do.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::super::foreign_readers::python;
use super::super::project::Project;
use super::ledger::{Writer, ledger};
use super::patience::until;
use super::process::Process;

const ACCOUNTS: u32 = 500;

/// What Python's `deltalake` did to the table of accounts and what it refused to do, one line each.
fn foreign_writes(python: &Path, project: &Project) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/failure_modes/foreign_writes.py");
    let output = Command::new(python).arg(script).arg(project.lake_table("account")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Deletes the rows of the newest data file of the accounts, as a program does that knows every table feature of ours.
pub(super) fn delete_newest(project: &Project) {
    let log = project.lake_table("account").join("_delta_log");
    let entries = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let newest = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).max().unwrap();
    let version: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(&newest).unwrap();
    let add = text.lines().rev().find_map(|line| {
        let action: serde_json::Value = serde_json::from_str(line).unwrap();
        action.get("add").cloned()
    });
    let path = add.unwrap()["path"].as_str().unwrap().to_owned();
    let entry = [
        r#"{"commitInfo":{"timestamp":1,"operation":"DELETE"}}"#.to_owned(),
        format!(r#"{{"remove":{{"path":"{path}","deletionTimestamp":1,"dataChange":true}}}}"#),
    ];
    let mut file = std::fs::File::create_new(log.join(format!("{:020}.json", version + 1))).unwrap();
    file.write_all(entry.join("\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_10_python_deltalake_is_kept_from_our_tables_by_their_protocol() {
    let Some(python) = python() else {
        println!("skipped: no foreign writers are installed; `scripts/setup.sh test` installs them");
        return;
    };
    let project = ledger("deltalake", ACCOUNTS).await;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let mut running = Process::start(&project);
    project.wait_for("SELECT count(*) > 490 FROM db.public.account", "true").await;
    let said = foreign_writes(&python, &project);
    for operation in ["compact", "delete", "update", "restore", "add column", "property"] {
        assert!(said.contains(&format!("refused {operation} ")), "{said}");
    }
    // What it may do harms nothing.
    assert!(said.contains("done checkpoint"), "{said}");
    writer.stop().await;
    assert!(!running.has_ended(), "{}", running.said());
    assert_eq!(running.terminate(), Some(0));
    project.assert_ledger().await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_10_rows_that_another_program_deletes_stop_the_table_and_no_other() {
    let project = ledger("foreign", ACCOUNTS).await;
    let running = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "500").await;
    project.database.batch_execute("UPDATE account SET balance = 1 WHERE id < 10").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.account WHERE balance = 1", "9").await;
    delete_newest(&project);
    project.wait_for("SELECT count(*) FROM db.public.account", "491").await;

    project
        .database
        .batch_execute("UPDATE account SET balance = 2; INSERT INTO entry (account, amount) VALUES (1, 1)")
        .await
        .unwrap();
    project.wait_for("SELECT count(*) FROM db.public.entry", "1").await;
    let why = "another program has changed the table's rows since version";
    until("the table is stopped", 30, async || running.said().contains(why)).await;
    assert_eq!(running.terminate(), Some(3));
    // Nothing of ours was written over theirs.
    assert_eq!(project.query("SELECT count(*) FROM db.public.account WHERE balance = 2"), ["0"]);
    let status = project.lockgate(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    // The way on that the message names.
    for table in ["account", "account__changes"] {
        std::fs::remove_dir_all(project.lake_table(table)).unwrap();
    }
    project.assert_ledger().await;
    project.end().await;
}
