//! Two project folders that write one lake in turn: what the one holds back, the other does not pass by.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::AsyncReadExt as _;

use super::project::Project;

const SETUP: &str = "CREATE TABLE person (id int PRIMARY KEY, born text, plan text);
    INSERT INTO person SELECT i, '1980-01-01', 'gold' FROM generate_series(1, 50) i;
    UPDATE person SET born = 'unknown' WHERE id = 7;";
const HOLD: &str = "  db.public.person: { id: keep, born: { transform: date_year, on_invalid: hold }, plan: keep }\nmax_invalid_percent: 50\n";
const NULL: &str = "  db.public.person: { id: keep, born: date_year, plan: keep }\nmax_invalid_percent: 50\n";

/// Another project folder over the same source and lake.
fn other_folder(project: &Project) -> PathBuf {
    let other = project.dir.join("other");
    std::fs::create_dir_all(other.join("keys")).unwrap();
    std::fs::copy(project.dir.join("keys/test.key"), other.join("keys/test.key")).unwrap();
    let text = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    let lake = format!("lake: {}", project.dir.join("lake").display());
    std::fs::write(other.join("lockgate.yaml"), text.replace("lake: ./lake", &lake)).unwrap();
    same_policy(project, &other);
    other
}

fn same_policy(project: &Project, other: &Path) {
    std::fs::copy(project.dir.join("policy.yaml"), other.join("policy.yaml")).unwrap();
}

fn lockgate(dir: &Path, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    let output = command.arg("--dir").arg(dir).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// A run that is killed when its time is over, unless it has ended: its exit code, and what it has said.
async fn run_for(dir: &Path, time: Duration) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lockgate"));
    let command = command.arg("--dir").arg(dir).args(["run", "--once"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        said.read_to_string(&mut text).await.unwrap();
        text
    });
    if tokio::time::timeout(time, child.wait()).await.is_err() {
        child.kill().await.unwrap();
    }
    (child.wait().await.unwrap().code(), reading.await.unwrap())
}

/// A run to its end: its exit code, and what it has said.
fn run(dir: &Path) -> (Option<i32>, String) {
    let (output, said) = lockgate(dir, &["run", "--once"]);
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_held_in_one_folder_are_passed_by_in_no_other_and_do_not_come_in_behind_it() {
    let project = Project::new("elsewhere", SETUP, &["public.person"], HOLD).await;
    let other = other_folder(&project);
    let source = async |sql: &str| project.database.batch_execute(sql).await.unwrap();
    let plans = || project.query("SELECT id, plan FROM db.public.person WHERE id IN (7, 8) ORDER BY id");
    assert_eq!(run(&project.dir).0, Some(3));

    // The other one writes nothing of the table, and says why.
    source("UPDATE person SET plan = 'late' WHERE id IN (7, 8)").await;
    let (code, said) = run(&other);
    assert!(code != Some(0) && said.contains("1 rows of it are held back in another project folder"), "{said}");
    assert_eq!(plans(), ["8,gold"]);
    let (code, said) = run(&project.dir);
    assert_eq!((code, plans()), (Some(3), vec!["8,late".to_owned()]), "{said}");

    // When nothing is held any more the lake says so, though nothing follows.
    project.write_policy(NULL);
    same_policy(&project, &other);
    project.lockgate_ok(&["held", "release", "--all"]);
    let (code, said) = run(&project.dir);
    assert_eq!(code, Some(0), "{said}");
    source("UPDATE person SET plan = 'later' WHERE id = 7").await;
    let (code, said) = run(&other);
    assert_eq!((code, plans()), (Some(0), vec!["7,later".to_owned(), "8,late".to_owned()]), "{said}");

    // A row that is held where nobody goes on: what the source has of it is written, and it does not come in over that.
    project.write_policy(HOLD);
    same_policy(&project, &other);
    source("UPDATE person SET born = '1990-01-01' WHERE id = 7").await;
    assert_eq!(run(&project.dir).0, Some(0));
    source("UPDATE person SET born = 'n/a', plan = 'held' WHERE id = 9").await;
    assert_eq!(run(&project.dir).0, Some(3));
    source("UPDATE person SET born = '1991-01-01', plan = 'newest' WHERE id = 9").await;
    let (code, said) = run(&other);
    assert!(code != Some(0) && said.contains("another project folder"), "{said}");
    let (output, said) = lockgate(&other, &["repair", "--force"]);
    assert!(output.status.success(), "{said}");
    assert_eq!(run(&other).0, Some(0));
    project.assert_same("person", &["id", "plan"]).await;
    project.lockgate_ok(&["held", "release", "--all"]);
    source("UPDATE person SET plan = 'after' WHERE id = 10").await;
    let (code, said) = run(&project.dir);
    assert!(code != Some(0) && said.contains("another project folder has written the table since"), "{said}");
    assert_eq!(project.query("SELECT plan FROM db.public.person WHERE id IN (9, 10) ORDER BY id"), ["newest", "gold"]);
    project.lockgate_ok(&["held", "drop", "--all"]);
    let (code, said) = run(&project.dir);
    assert_eq!(code, Some(0), "{said}");
    project.assert_same("person", &["id", "plan"]).await;

    // Also when nothing differs, a repair ends what was said of held rows.
    source("UPDATE person SET born = 'n/a' WHERE id = 11").await;
    assert_eq!(run(&project.dir).0, Some(3));
    source("UPDATE person SET born = '1980-01-01' WHERE id = 11").await;
    let (code, said) = run(&other);
    assert!(code != Some(0) && said.contains("another project folder"), "{said}");
    let (output, said) = lockgate(&other, &["repair", "--force"]);
    assert!(output.status.success(), "{said}");
    let (code, said) = run(&other);
    assert_eq!(code, Some(0), "{said}");
    project.end().await;
}

/// What an operator does when a run of a folder says so: true when that run could not go on.
fn is_turned_away(dir: &Path, said: &str) -> bool {
    if said.contains("another project folder has written the table since") {
        let (output, said) = lockgate(dir, &["held", "drop", "--all"]);
        assert!(output.status.success(), "{said}");
        return true;
    }
    said.contains("held back in another project folder") || said.contains("or in another project folder")
}

async fn in_turn(seed: u64) {
    let project = Project::new("in-turn", SETUP, &["public.person"], HOLD).await;
    let other = other_folder(&project);
    let mut random = StdRng::seed_from_u64(seed);
    let source = async |sql: &str| project.database.batch_execute(sql).await.unwrap();
    let (mut stopped, mut killed) = (0, 0);
    for round in 0..30 {
        let mut changes = String::new();
        for _ in 0..random.random_range(1..6) {
            let (id, born) = (random.random_range(1..15), if random.random_bool(0.3) { "n/a" } else { "1980-01-01" });
            changes += &format!("UPDATE person SET born = '{born}', plan = 'round {round}' WHERE id = {id};");
        }
        source(&changes).await;
        let dir = if random.random_bool(0.5) { &project.dir } else { &other };
        // Both folders get the same rules; under those that hold nothing what is held here comes in.
        project.write_policy(if random.random_bool(0.6) { HOLD } else { NULL });
        same_policy(&project, &other);
        if random.random_bool(0.4) {
            let (output, said) = lockgate(dir, &["held", "release", "--all"]);
            assert!(output.status.success(), "{said}");
        }
        let (code, said) = run_for(dir, Duration::from_millis(random.random_range(50..900))).await;
        killed += u64::from(code.is_none());
        let turned_away = is_turned_away(dir, &said);
        stopped += u64::from(turned_away);
        assert!(matches!(code, None | Some(0 | 3)) || turned_away, "round {round}: {said}");
    }
    project.write_policy(NULL);
    same_policy(&project, &other);
    let done = (0..6).any(|_| {
        let ended = [&other, &project.dir].map(|dir| {
            lockgate(dir, &["held", "release", "--all"]);
            let (code, said) = run(dir);
            assert!(code == Some(0) || is_turned_away(dir, &said), "{said}");
            code == Some(0)
        });
        ended == [true, true]
    });
    assert!(done, "the folders do not come to an end");
    project.assert_same("person", &["id", "plan"]).await;
    let (born, unreadable) = (
        project.query("SELECT id, born IS NULL FROM db.public.person ORDER BY id"),
        project.source("SELECT id, (born = 'n/a')::text FROM person ORDER BY id").await,
    );
    assert_eq!(born, unreadable);
    assert!(stopped > 0 && killed > 0, "{stopped} stopped, {killed} killed");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_folders_in_turn_and_kills_between_them_lose_and_turn_back_nothing() {
    for seed in 0..2 {
        in_turn(seed).await;
    }
}
