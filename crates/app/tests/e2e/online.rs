//! Commands that have to be alone, beside a run that goes on: it gives its turn at a boundary, waits, and goes on with everything read anew.

use std::fs::File;
use std::process::{Command, Stdio};

use super::erase::traced;
use super::failure_modes::ledger::{Writer, setup};
use super::failure_modes::patience::until;
use super::failure_modes::process::Process;
use super::project::Project;

const ACCOUNTS: u32 = 500;
const TABLES: [&str; 2] = ["public.account", "public.entry"];
const LOOSE: &str = "  db.public.account: { id: hmac_token(account), balance: keep, note: keep }
  db.public.entry: { id: keep, account: hmac_token(account), amount: keep }\n";
const STRICT: &str = "  db.public.account: { id: hmac_token(account), balance: keep }
  db.public.entry: { id: keep, account: hmac_token(account), amount: keep }\n";
/// What the dropped column holds, of an account that nobody works with.
const NOTE: &str = "note-of-the-quiet-account";

/// The ledger with an account that its workload does not touch, followed by a run.
async fn followed(name: &str, policy: &str) -> (Project, Process) {
    let quiet = format!("INSERT INTO account VALUES (9999, 7, '{NOTE}'), (9998, 8, 'other');");
    let project = Project::new(name, &(setup(ACCOUNTS) + &quiet), &TABLES, policy).await;
    let run = Process::of(&mut project.command(&["--log", "info", "run"]), project.dir.join("run.log"));
    project.wait_for("SELECT count(*) FROM db.public.account", &(ACCOUNTS + 2).to_string()).await;
    (project, run)
}

/// A command alone in the folder, as its locks are: they are given back when this is dropped, as a killed process gives them.
pub(super) fn alone(project: &Project) -> [File; 2] {
    ["wish.lock", "turn.lock"].map(|name| {
        let file =
            File::options().write(true).create(true).truncate(false).open(project.dir.join(".lockgate").join(name));
        let file = file.unwrap();
        file.lock().unwrap();
        file
    })
}

impl Project {
    pub(super) fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.lockgate(&["status", "--json"]).stdout).unwrap()
    }

    /// The run goes on: what the source commits now arrives.
    async fn goes_on(&self, mark: i64) {
        self.database.execute("INSERT INTO entry (account, amount) VALUES (9998, $1)", &[&mark]).await.unwrap();
        self.wait_for(&format!("SELECT count(*) FROM db.public.entry WHERE amount = {mark}"), "1").await;
    }

    /// Ends the run, catches up, and compares everything with the source, through the gate.
    async fn ends_equal(self, run: Process) {
        assert_eq!(run.terminate(), Some(0));
        self.lockgate_ok(&["run", "--once"]);
        let verified = self.lockgate(&["verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
        for table in ["account", "entry"] {
            let counts = format!(
                "SELECT count(*) = count(DISTINCT \"_lg_position\") FROM db.public.{table}__changes WHERE \"_lg_op\" IN ('i', 'u')"
            );
            assert_eq!(self.query(&counts), ["true"], "{table}: a change twice");
        }
        assert_eq!(self.lockgate(&["audit", "verify"]).status.code(), Some(0));
        self.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stands_aside_for_remask_erase_and_keys_and_goes_on() {
    let (project, mut run) = followed("online", LOOSE).await;
    let writer = Writer::start(&project.postgres, ACCOUNTS as i32);
    let lake = project.dir.join("lake");
    assert!(!traced(&lake, &[NOTE]).is_empty());

    project.write_policy(STRICT);
    let said = project.lockgate_ok(&["remask"]);
    assert!(said.contains("account: note as the policy wants it now"), "{said}");
    assert_eq!(traced(&lake, &[NOTE]), Vec::<String>::new());
    project.goes_on(1_000_001).await;

    let said = project.erase_ok(&["--subject", "db.public.account.id"], "9999\n");
    assert!(said.contains("1 persons") && said.contains("no trace"), "{said}");
    project.database.batch_execute("UPDATE account SET balance = 77 WHERE id = 9999").await.unwrap();
    project.goes_on(1_000_002).await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.account WHERE balance = 77"), ["0"], "the person is back");

    project.lockgate_ok(&["keys", "rotate"]);
    until("tables of the old epoch are stopped", 20, async || {
        project.status()["tables"][0]["stopped"].as_str().is_some_and(|why| why.contains("key epoch 1"))
    })
    .await;
    project.lockgate_ok(&["remask"]);
    assert_eq!(traced(&lake, &["account.1."]), Vec::<String>::new());
    project.goes_on(1_000_003).await;
    project.lockgate_ok(&["repair", "--force"]);
    project.goes_on(1_000_004).await;

    assert!(!run.has_ended(), "the run that was there at first");
    let audit = project.lockgate_ok(&["audit", "list"]);
    assert!(
        audit.matches("gave_way").count() >= 4 && audit.contains("policy_changed") && audit.contains("key_changed"),
        "{audit}"
    );
    assert!(writer.stop().await > 50);
    project.database.batch_execute("DELETE FROM account WHERE id = 9999").await.unwrap();
    project.ends_equal(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_one_that_was_killed() {
    let (project, mut run) = followed("onlinekill", LOOSE).await;
    // The one that is alone dies.
    let locks = alone(&project);
    until("the run waits", 20, async || run.said().contains("the run waits until the command has ended")).await;
    let status = project.status();
    assert!(status["running"] == true && status["waits"].as_str().unwrap().contains("has ended"), "{status}");
    let once = project.lockgate(&["run", "--once"]);
    assert_eq!(once.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&once.stderr).contains("works alone"));
    drop(locks);
    project.goes_on(1).await;
    until("the status says that it goes on", 20, async || project.status()["waits"].is_null()).await;

    // One that waits for the run dies before the run has seen it, and two others take their turns one after the other.
    run.signal("STOP");
    let ask = |name: &str, arguments: &[&str]| {
        let log = project.dir.join(name);
        Process::of(project.command(arguments).stdin(Stdio::null()), log)
    };
    let first = ask("first.log", &["remask"]);
    until("it says what it waits for", 20, async || first.said().contains("to reach a boundary")).await;
    let second = ask("second.log", &["keys", "rotate"]);
    until("the next one, too", 20, async || second.said().contains("waiting for `lockgate remask` to end")).await;
    first.kill_9();
    let third = ask("third.log", &["remask"]);
    run.signal("CONT");
    for asker in [second, third] {
        let (code, said) = asker.end(60).await;
        assert_eq!(code, Some(0), "{said}");
    }
    project.lockgate_ok(&["remask"]);
    project.goes_on(2).await;
    assert!(!run.has_ended());

    // The run dies while one waits for it.
    run.signal("STOP");
    let asker = ask("fourth.log", &["keys", "rotate"]);
    until("it waits", 20, async || asker.said().contains("to reach a boundary")).await;
    run.kill_9();
    let (code, said) = asker.end(30).await;
    assert_eq!(code, Some(0), "{said}");
    project.lockgate_ok(&["remask"]);
    let run = Process::start(&project);
    project.goes_on(3).await;
    project.ends_equal(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_any_more_ends_the_run_as_a_start_would_and_a_stop_is_heard_while_it_waits() {
    let (project, run) = followed("onlinefit", LOOSE).await;
    let beside = Process::of(
        project.command(&["run", "--table", "public.entry"]).stdin(Stdio::null()),
        project.dir.join("beside.log"),
    );
    until("the second runs", 20, async || beside.said().contains("in use")).await;
    let locks = alone(&project);
    until("both wait", 30, async || {
        [&run, &beside].iter().all(|run| run.said().contains("the run waits until the command has ended"))
    })
    .await;
    assert_eq!(beside.terminate(), Some(0));
    project.write_policy("  db.public.account: { id: no_such_transform }\n");
    drop(locks);
    let (code, said) = run.end(30).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no_such_transform"), "{said}");
    let status = project.status();
    assert!(
        status["running"] == false && status["last_error"].as_str().unwrap().contains("lockgate check"),
        "{status}"
    );
    assert_eq!(status["last_exit_code"], 1, "{status}");
    assert_eq!(project.lockgate(&["status"]).status.code(), Some(1));

    // A rule that the stored rows do not follow stops its table, as at any start.
    project.write_policy(STRICT);
    let run = Process::start(&project);
    until("the table is stopped", 30, async || project.status()["tables"][0]["stopped"].is_string()).await;
    project.lockgate_ok(&["remask"]);
    project.goes_on(5).await;
    until("nothing is stopped", 10, async || project.status()["tables"][0]["stopped"].is_null()).await;
    project.ends_equal(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_wishes_are_refused_before_a_run_is_asked() {
    let (project, run) = followed("onlinewrong", LOOSE).await;
    let said =
        |output: std::process::Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let (code, text) = said(project.lockgate(&["remask", "--table", "db.public.nothing"]));
    assert!(code == Some(1) && text.contains("policy.yaml has no table"), "{text}");
    let (code, text) = said(project.erase(&["--subject", "db.public.account.id"], "\n"));
    assert!(code == Some(1) && text.contains("no identifiers"), "{text}");
    // A run that cannot answer: who asked it would wait.
    run.signal("STOP");
    let spool = project.dir.join(".lockgate/spool/db");
    std::fs::create_dir_all(&spool).unwrap();
    std::fs::write(spool.join("00000001.spool"), b"x").unwrap();
    for arguments in [&["remask"][..], &["repair"], &["keys", "rotate"], &["keys", "retire", "1"], &["erase", "--due"]]
    {
        let (code, text) = said(project.lockgate(arguments));
        assert!(code == Some(1) && text.contains("rows wait in"), "{arguments:?}: {text}");
    }
    std::fs::remove_dir_all(spool).unwrap();
    let away = project.dir.join("away.yaml");
    std::fs::rename(project.dir.join("policy.yaml"), &away).unwrap();
    let (code, text) = said(project.lockgate(&["remask"]));
    assert!(code == Some(1) && text.contains("policy.yaml"), "{text}");
    std::fs::rename(&away, project.dir.join("policy.yaml")).unwrap();
    run.signal("CONT");
    assert!(!run.said().contains("gives its turn"), "{}", run.said());
    project.goes_on(1).await;
    project.ends_equal(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_once_goes_on_to_its_end_and_the_command_waits_for_it() {
    let (project, run) = followed("onlineonce", LOOSE).await;
    assert_eq!(run.terminate(), Some(0));
    let mut once = project.command(&["run", "--once"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stopped = Command::new("kill").args(["-STOP", &once.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let asker = Process::of(project.command(&["keys", "rotate"]).stdin(Stdio::null()), project.dir.join("asker.log"));
    if !asker.said().contains("epoch 2") {
        let go_on = Command::new("kill").args(["-CONT", &once.id().to_string()]).status().unwrap();
        assert!(go_on.success());
    }
    assert_eq!(asker.end(60).await.0, Some(0));
    assert!(once.wait().unwrap().code().is_some());
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_in_the_folder_is_told_so_and_leaves_the_status_to_the_first() {
    let (project, run) = followed("onlinesecond", LOOSE).await;
    let second = Process::of(&mut project.command(&["run"]), project.dir.join("second.log"));
    let told = format!("a run is going on in this project folder (process {})", run.id());
    until("the second is told", 20, async || second.said().contains(&told)).await;
    until("it waits for the slot", 20, async || second.said().contains("in use")).await;
    let is_well = || {
        let status = project.status();
        assert!(status["running"] == true && status["last_error"].is_null(), "{status}");
    };
    until("the first has written its status", 20, async || project.status()["running"] == true).await;
    is_well();
    let once = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    assert!(once.status.code() == Some(4) && said.contains(&told), "{said}");
    is_well();
    project.goes_on(1).await;

    // A replacement goes on by itself, and with the status, when the first is gone.
    let (writer, next) = (project.dir.join(".lockgate/run.lock"), second.id().to_string());
    run.kill_9();
    until("the second writes the status", 30, async || std::fs::read_to_string(&writer).unwrap() == next).await;
    project.goes_on(2).await;
    until("it says that it is well", 20, async || {
        let status = project.status();
        status["running"] == true && status["tables"][0]["stopped"].is_null()
    })
    .await;
    project.ends_equal(second).await;
}
