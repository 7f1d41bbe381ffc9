//! Most of a remasking is done beside the run. What it has staged survives a kill, and nothing of it is left when it is of no use any more.

use std::path::PathBuf;
use std::process::Stdio;

use super::erase::traced;
use super::failure_modes::patience::until;
use super::failure_modes::process::Process;
use super::project::{Project, files};

const SETUP: &str = "CREATE TABLE members (member_id int PRIMARY KEY, name text, plan text);
    INSERT INTO members SELECT i, 'name-of-' || i, 'plan-' || i FROM generate_series(1, 300) i;";
const LOOSE: &str = "  db.public.members: { member_id: hmac_token(member), name: keep, plan: keep }\n";
const STRICT: &str = "  db.public.members: { member_id: hmac_token(member), name: hmac_token(name), plan: keep }\n";
const STRICTER: &str = "  db.public.members: { member_id: hmac_token(member), plan: keep }\n";
const LAYERS: [&str; 2] = ["members", "members__changes"];

/// A table with rows in several files, deleted ones among them, and a run that follows it.
async fn followed(name: &str) -> (Project, Process) {
    let project = Project::new(name, SETUP, &["public.members"], LOOSE).await;
    for change in [
        "UPDATE members SET plan = plan || '!' WHERE member_id % 3 = 0",
        "DELETE FROM members WHERE member_id % 10 = 0",
    ] {
        project.lockgate_ok(&["run", "--once"]);
        project.database.batch_execute(change).await.unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    let run = Process::of(&mut project.command(&["--log", "info", "run"]), project.dir.join("run.log"));
    mark(&project, 1000).await;
    (project, run)
}

/// What the source commits now arrives.
async fn mark(project: &Project, id: i32) {
    project.database.execute("INSERT INTO members VALUES ($1, 'name-of-' || $1::int, 'late')", &[&id]).await.unwrap();
    let count = project.source("SELECT count(*) FROM members").await;
    project.wait_for("SELECT count(*) FROM db.public.members", &count[0]).await;
}

/// The files that wait for the switch of both layers, by the journals.
fn staged(project: &Project) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for layer in LAYERS {
        let journal = project.dir.join("lake/_lockgate/staged").join(format!("db.public.{layer}.json"));
        let Ok(text) = std::fs::read(journal) else { continue };
        let journal: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let adds = journal["files"].as_object().unwrap().values().map(|staged| staged["add"]["path"].as_str().unwrap());
        found.extend(adds.map(|path| project.lake_table(layer).join(path)));
    }
    found
}

/// Lets a remasking stage everything and wait for a run that does not answer, and kills it there.
async fn killed_before_the_switch(project: &Project, log: &str) -> Vec<PathBuf> {
    let remask = Process::of(project.command(&["remask"]).stdin(Stdio::null()), project.dir.join(log));
    until("it waits for the run", 30, async || remask.said().contains("to reach a boundary")).await;
    remask.kill_9();
    let staged = staged(project);
    assert!(staged.len() >= 4 && staged.iter().all(|path| path.exists()), "{staged:?}");
    staged
}

/// A run that stands still, and what a remasking has staged under a policy before it was killed.
async fn stands_with_staged(name: &str, policy: &str) -> (Project, Process, Vec<PathBuf>) {
    let (project, run) = followed(name).await;
    run.signal("STOP");
    project.write_policy(policy);
    let staged = killed_before_the_switch(&project, "first.log").await;
    (project, run, staged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_switch_costs_nothing_and_another_policy_throws_away_what_was_staged() {
    let (project, run, first) = stands_with_staged("staging", STRICT).await;
    // Nobody sees it: the tables are as they were.
    assert!(project.query("SELECT name FROM db.public.members").iter().all(|name| name.starts_with("name-of-")));
    assert_eq!(killed_before_the_switch(&project, "again.log").await, first, "it was staged again");
    project.write_policy(STRICTER);
    let second = killed_before_the_switch(&project, "second.log").await;
    assert!(first.iter().all(|path| !path.exists()), "files of the other policy are left");

    run.signal("CONT");
    let said = project.lockgate_ok(&["remask"]);
    assert!(
        said.contains("name as the policy wants it now") && said.contains("were written before the switch"),
        "{said}"
    );
    let lake = project.dir.join("lake");
    assert_eq!(traced(&lake, &["name-of-7", "name-of-299"]), Vec::<String>::new());
    assert_eq!(staged(&project), Vec::<PathBuf>::new());
    assert!(second.iter().any(|path| path.exists()), "what was staged is what the table has");
    mark(&project, 1001).await;
    project.database.batch_execute("UPDATE members SET plan = 'touched' WHERE member_id = 5").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.members WHERE plan = 'touched'", "1").await;
    // The keys are what they were, and so is their index.
    assert!(!run.said().contains("built anew"), "{}", run.said());
    assert_eq!(run.terminate(), Some(0));

    // Not one file is left over, and the table is what a fresh copy is.
    project.lockgate_ok(&["remask"]);
    let rows = "SELECT member_id, plan FROM db.public.members ORDER BY member_id";
    let remasked = project.query(rows);
    assert_eq!(project.lockgate(&["verify"]).status.code(), Some(0));
    let receipts = files(&project.dir.join(".lockgate/receipts"));
    let receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(&receipts[0]).unwrap()).unwrap();
    assert!(
        receipt["position"].as_str().unwrap().len() > 8 && receipt["files_staged"].as_u64().unwrap() >= 4,
        "{receipt}"
    );
    for layer in LAYERS {
        std::fs::remove_dir_all(project.lake_table(layer)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query(rows), remasked, "a fresh copy under the new policy is another");
    assert!(project.lockgate_ok(&["audit", "list"]).contains("position="));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_what_is_staged_and_the_remasking_goes_on_after_it() {
    let (project, run, staged_before) = stands_with_staged("stagingerase", STRICT).await;
    run.signal("CONT");
    let said = project.erase_ok(&["--subject", "db.public.members.member_id"], "7\n");
    assert!(said.contains("no trace"), "{said}");
    assert!(staged_before.iter().all(|path| !path.exists()) && staged(&project).is_empty());
    // The run has read the new policy with its new turn: the table waits for the remasking.
    let log = |run: &Process| run.said();
    until("the table is stopped", 30, async || log(&run).contains("the table is stopped")).await;
    project.lockgate_ok(&["remask"]);
    project.database.execute("INSERT INTO members VALUES (2000, 'name-of-2000', 'late')", &[]).await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.members WHERE plan = 'late'", "2").await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.members WHERE plan IN ('plan-7', 'plan-7!')"), ["0"]);
    assert_eq!(traced(&project.dir.join("lake"), &["name-of-7", "name-of-8"]), Vec::<String>::new());
    assert_eq!(run.terminate(), Some(0));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_cleaned_away_is_written_again_and_a_second_remasking_is_refused() {
    let (project, run, gone) = stands_with_staged("stagingclean", STRICTER).await;
    std::fs::remove_file(&gone[0]).unwrap();
    std::fs::write(&gone[1], b"cut").unwrap();
    let waiting = Process::of(project.command(&["remask"]).stdin(Stdio::null()), project.dir.join("second.log"));
    until("it waits for the run", 30, async || waiting.said().contains("to reach a boundary")).await;
    let refused = project.lockgate(&["remask"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another `lockgate remask` goes on"));
    run.signal("CONT");
    let (code, said) = waiting.end(60).await;
    assert_eq!(code, Some(0), "{said}");
    mark(&project, 1001).await;
    assert_eq!(run.terminate(), Some(0));
    assert_eq!(project.lockgate(&["verify"]).status.code(), Some(0));
    // A journal that cannot be read counts as none.
    std::fs::create_dir_all(project.dir.join("lake/_lockgate/staged")).unwrap();
    std::fs::write(project.dir.join("lake/_lockgate/staged/db.public.members.json"), b"{").unwrap();
    project.write_policy("  db.public.members: { member_id: hmac_token(member) }\n");
    project.lockgate_ok(&["remask"]);
    assert_eq!(traced(&project.dir.join("lake"), &["plan-9"]), Vec::<String>::new());
    project.end().await;
}
