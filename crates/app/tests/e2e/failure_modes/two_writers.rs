//! Two Lockgates on one pipeline, from two folders with one lake and one slot.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sandbox::PrivatePostgres;

use super::super::project::Project;
use super::ledger::{Writer, edit, ledger_on};
use super::patience::until;
use super::process::Process;

const ACCOUNTS: u32 = 2000;

/// A second folder as another machine would have it: the same files and the same lake, its own local state.
fn elsewhere(project: &Project) -> PathBuf {
    let dir = project.dir.join("elsewhere");
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    for file in ["lockgate.yaml", "policy.yaml", "keys/test.key"] {
        std::fs::copy(project.dir.join(file), dir.join(file)).unwrap();
    }
    let lake = project.dir.join("lake");
    edit(&dir, "lockgate.yaml", |text| text.replace("./lake", lake.to_str().unwrap()));
    dir
}

fn run_in(dir: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    Process::of(command.arg("--dir").arg(dir).arg("run"), dir.join("run.log"))
}

async fn commits(project: &Project) -> u64 {
    project.query("SELECT max(id) FROM db.public.entry")[0].parse().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_10_one_of_two_is_paused_while_the_other_takes_over_and_nothing_is_doubled() {
    let postgres = PrivatePostgres::with().setting("wal_sender_timeout", "2s").start().await.unwrap();
    let project = ledger_on(postgres, "paused", ACCOUNTS).await;
    let dir = elsewhere(&project);
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let first = Process::start(&project);
    project.wait_for("SELECT count(*) > 1900 FROM db.public.account", "true").await;
    until("the first follows", 20, async || commits(&project).await > 50).await;

    let second = run_in(&dir);
    until("the second is told that the slot is in use", 20, async || second.said().contains("in use")).await;
    first.signal("STOP");
    let paused_at = commits(&project).await;
    until("the second takes over", 40, async || commits(&project).await > paused_at + 200).await;
    first.signal("CONT");
    // What the first still had in its hands comes too late: it is fenced, or finds the slot taken.
    let said = || first.said();
    until("the first notices", 30, async || {
        said().contains("another Lockgate writes this table") || said().contains("in use by another connection")
    })
    .await;
    let resumed_at = commits(&project).await;
    until("the second goes on", 30, async || commits(&project).await > resumed_at + 100).await;

    // The other way round: the second dies, and whoever comes next goes on where the lake is.
    second.kill_9();
    tokio::time::sleep(Duration::from_millis(500)).await;
    writer.stop().await;
    first.terminate();
    project.assert_ledger().await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_10_a_replacement_in_the_same_folder_goes_on_as_soon_as_the_paused_one_lets_go() {
    let postgres = PrivatePostgres::with().setting("wal_sender_timeout", "2s").start().await.unwrap();
    let project = ledger_on(postgres, "replaced", ACCOUNTS).await;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let first = Process::start(&project);
    project.wait_for("SELECT count(*) > 1900 FROM db.public.account", "true").await;
    until("the first follows", 20, async || commits(&project).await > 50).await;
    first.signal("STOP");

    // It has lost the slot and not the locks of its key indexes: the other waits, and gives the slot back meanwhile.
    let second = Process::of(&mut project.command(&["run"]), project.dir.join("second.log"));
    until("the second waits", 60, async || second.said().contains("another process uses this key index")).await;
    let paused_at = commits(&project).await;
    first.kill_9();
    until("the second goes on by itself", 60, async || commits(&project).await > paused_at + 200).await;
    project.assert_followed(writer, second).await;
    project.end().await;
}
