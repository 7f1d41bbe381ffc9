//! The audit log of real runs: what it says, that it is proven, and that it is not once somebody was at it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::project::{Project, files};

const SETUP: &str =
    "CREATE TABLE coded (code text PRIMARY KEY, ssn text, v int); CREATE TABLE other (id int PRIMARY KEY, v int);
    INSERT INTO coded SELECT 'K' || i, '900-11-' || (1000 + i), i FROM generate_series(1, 100) i;
    INSERT INTO other SELECT i, i FROM generate_series(1, 10) i;";
const POLICY: &str =
    "  db.public.coded: { code: hmac_token(code), ssn: drop, v: keep }\n  db.public.other: { id: keep, v: keep }\n";

async fn project(name: &str) -> Project {
    let project = Project::new(name, SETUP, &["public.coded", "public.other"], POLICY).await;
    let path = project.dir.join("lockgate.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}audit: {{ anchor: ./anchor }}\n")).unwrap();
    project
}

/// The exit code of `lockgate audit verify` and what it says.
fn verify(project: &Project, more: &[&str]) -> (Option<i32>, String) {
    let output = project.lockgate(&[&["audit", "verify"], more].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_recorded_proven_and_found_out_when_changed() {
    let project = project("audit").await;
    project.lockgate_ok(&["run", "--once"]);
    let change = "UPDATE other SET v = v + 1; ALTER TABLE other ADD COLUMN secret_note text; UPDATE other SET secret_note = 'canary-note'";
    project.database.batch_execute(change).await.unwrap();
    project.write_policy(&POLICY.replace("id: keep, v: keep", "id: keep, v: null_out"));
    let held = project.lockgate(&["run", "--once"]);
    assert_eq!(held.status.code(), Some(3));
    project.write_policy(POLICY);
    project.lockgate_ok(&["run", "--once"]);

    let log = project.dir.join(".lockgate/audit/audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    for event in [
        "opened",
        "run_started",
        "table_committed",
        "table_stopped",
        "policy_changed",
        "columns_dropped",
        "run_stopped",
        "closed",
    ] {
        assert!(text.contains(&format!(r#""event":"{event}""#)), "{event} is not in the log:\n{text}");
    }
    for value in ["canary", "900-11-", "K17", "\"K"] {
        assert!(!text.contains(value), "a row's value is in the audit log");
    }
    assert!(
        text.contains(r#""rows":100"#) && text.contains(r#""reason":"privacy""#) && text.contains("secret_note"),
        "{text}"
    );
    for private in [project.dir.join("keys/audit.key"), log.clone()] {
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o077, 0, "{}", private.display());
    }
    let listed = project.lockgate_ok(&["audit", "list", "--last", "3"]);
    assert_eq!(listed.lines().count(), 3);
    assert!(listed.contains("run_stopped ending=done"), "{listed}");

    let public = project.dir.join(".lockgate/audit/audit.pub").to_string_lossy().into_owned();
    let (code, said) = verify(&project, &["--key", &public]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("proven: all") && said.contains("4 heads of this log lie at the anchor"), "{said}");

    // A copy is proven anywhere, without the project; with the key of somebody else it is not.
    let copy = project.dir.join("copy");
    self::copy(&project.dir.join(".lockgate/audit"), &copy);
    let elsewhere = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(["--dir", "nowhere", "audit", "verify", "--file", copy.to_str().unwrap()])
            .args(more)
            .output();
        output.unwrap().status.code()
    };
    assert_eq!(elsewhere(&[]), Some(0));
    assert_eq!(elsewhere(&["--key", &"7".repeat(64)]), Some(1));

    // A key that is lost is not replaced by another, which would accuse somebody.
    let (key, away) = (project.dir.join("keys/audit.key"), project.dir.join("away.key"));
    std::fs::rename(&key, &away).unwrap();
    let lost = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(lost.status.code() != Some(0) && said.contains("Restore the key from its backup"), "{said}");
    assert!(!key.exists());
    std::fs::rename(&away, &key).unwrap();

    std::fs::write(&log, text.replace(r#""rows":100"#, r#""rows":101"#)).unwrap();
    let (code, said) = verify(&project, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("its hash does not follow") && said.contains("NOT PROVEN: 1 findings"), "{said}");

    // The log is set back as a whole to the end of the first run: only the anchor knows.
    let end = text.find(r#""event":"closed""#).unwrap();
    let end = end + text[end..].find('\n').unwrap() + 1;
    std::fs::write(&log, &text[..end]).unwrap();
    let heads = project.dir.join(".lockgate/audit/heads.jsonl");
    let first: Vec<String> = std::fs::read_to_string(&heads).unwrap().lines().take(2).map(str::to_owned).collect();
    std::fs::write(&heads, format!("{}\n", first.join("\n"))).unwrap();
    let (code, said) = verify(&project, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("head 3 of the anchor covers") && said.contains("the log was set back"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_begun_anew_names_the_one_before_it_and_is_proven_with_its_copy_only() {
    let project = project("anew").await;
    project.lockgate_ok(&["run", "--once"]);
    let (log, kept) = (project.dir.join(".lockgate/audit"), project.dir.join("kept"));
    std::fs::rename(&log, &kept).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let listed = project.lockgate_ok(&["audit", "list"]);
    assert!(listed.lines().next().unwrap().contains("begun anchor=head former="), "{listed}");

    let key = kept.join("audit.pub").to_string_lossy().into_owned();
    let anchor = project.dir.join("anchor").to_string_lossy().into_owned();
    let (code, said) = verify(&project, &["--key", &key, "--anchor", &anchor]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("thrown away or begun anew") && said.contains("--before FOLDER"), "{said}");
    let before = kept.to_string_lossy().into_owned();
    let (code, said) = verify(&project, &["--key", &key, "--anchor", &anchor, "--before", &before]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("proven: all") && said.contains("before it: "), "{said}");

    // An anchor that does not answer keeps no run from starting; what it has tells later.
    std::fs::remove_dir_all(&log).unwrap();
    let path = project.dir.join("lockgate.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let away = "{ anchor: s3://away/audit, anchor_options: { aws_endpoint: 'http://127.0.0.1:9', allow_http: 'true', aws_region: x } }";
    std::fs::write(&path, text.replace("{ anchor: ./anchor }", away)).unwrap();
    let run = project.start();
    let begun = || std::fs::read_to_string(log.join("audit.jsonl")).is_ok_and(|text| text.contains("run_started"));
    for _ in 0..600 {
        if begun() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    drop(run);
    let listed = project.lockgate_ok(&["audit", "list"]);
    assert!(listed.contains("begun anchor=away") && listed.contains("run_started"), "{listed}");
    assert_eq!(verify(&project, &["--key", &key, "--anchor", &anchor, "--before", &before]).0, Some(1));
    project.end().await;
}

/// What one short process writes: opened, its act, closed.
fn act(project: &Project) {
    let refused = project.lockgate(&["reveal", "--column", "db.public.coded.code", "--purpose", "payment"]);
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in files(from) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anchor_keeps_the_heads_of_both_histories_of_a_log_that_was_set_back() {
    let project = project("histories").await;
    let (log, kept) = (project.dir.join(".lockgate/audit"), project.dir.join("kept"));
    let (key, anchor) = (kept.join("audit.pub").to_string_lossy().into_owned(), project.dir.join("anchor"));
    let at = anchor.to_string_lossy().into_owned();
    act(&project);
    // As heads were named before their hash was in the name.
    let [first, _] = files(&anchor).try_into().unwrap();
    let name = first.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(name.len(), "0000000001-000000000002-0123456789abcdef.json".len(), "{name}");
    std::fs::rename(&first, first.with_file_name("0000000001-000000000002.json")).unwrap();
    copy(&log, &kept);
    act(&project);
    assert_eq!(verify(&project, &["--key", &key, "--anchor", &at]).0, Some(0));

    // The same number of entries once more, behind the same first ones.
    std::fs::remove_dir_all(&log).unwrap();
    copy(&kept, &log);
    act(&project);
    let (code, said) = verify(&project, &["--key", &key, "--anchor", &at]);
    // Two of the first process, one each of the others, and the one that covers what the last one had to say of it.
    assert_eq!((code, files(&anchor).len()), (Some(1), 5), "{said}");
    assert!(said.contains("head 3 was kept elsewhere and is not in the log"), "{said}");
    assert!(said.contains("5 heads of this log lie at the anchor"), "{said}");
    // The log says so itself, wherever it is looked at.
    let (code, said) = verify(&project, &["--key", &key, "--file", &log.to_string_lossy()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("by the anchor there was head 3, and 2 was the last"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_somebody_without_the_key_stop_the_next_run_and_are_found_with_it() {
    let project = project("keyless").await;
    project.lockgate_ok(&["run", "--once"]);
    let log = project.dir.join(".lockgate/audit/audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let (last, entries) = (text.lines().last().unwrap(), text.lines().count());
    let at = last.split_once(r#""at":"#).unwrap().1.split(',').next().unwrap();
    let entry =
        format!(r#"{{"seq":{entries},"writer":"ee","nth":1,"at":{at},"up":0,"what":{{"event":"keys_shown"}}}}"#);
    let hash = audit::Hash::of(&[&audit::Hash::parse(&last[9..73]).unwrap().0, entry.as_bytes()]);
    let mac = &last[82..146];
    std::fs::write(&log, format!("{text}{{\"hash\":\"{hash}\",\"mac\":\"{mac}\",\"entry\":{entry}}}\n")).unwrap();

    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("was written by somebody without its key"), "{said}");
    let key = project.dir.join("keys/audit.key").to_string_lossy().into_owned();
    let (code, said) = verify(&project, &["--key", &key]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("its MAC is not of the key"), "{said}");
    std::fs::write(&log, text).unwrap();
    let (code, said) = verify(&project, &["--key", &key]);
    assert!(code == Some(0) && said.contains("proven: all") && said.contains("MACs of"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_who_did_what_and_its_signature_holds() {
    let project = project("report").await;
    project.lockgate_ok(&["run", "--once"]);
    let refused = project.lockgate(&["reveal", "--column", "db.public.coded.code", "--purpose", "payment"]);
    assert_eq!(refused.status.code(), Some(3));
    let file = project.dir.join("week.txt").to_string_lossy().into_owned();
    let text = project.lockgate_ok(&["audit", "report", "--out", &file]);
    assert_eq!(text, std::fs::read_to_string(&file).unwrap());
    let who = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    for part in [
        &format!("{}, reveal\n", who.trim()),
        &format!("{}, run\n", who.trim()),
        "reveals: db.public.coded.code for payment: refused: once",
        "tables: db.public.coded committed: once, changes 100",
        "runs: ended: done: once",
        "proven: all",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains("900-11-"), "a row's value is in the report");
    let key = project.dir.join(".lockgate/audit/audit.pub").to_string_lossy().into_owned();
    let (code, said) = verify(&project, &["--key", &key, "--report", &file]);
    assert!(code == Some(0) && said.contains("week.txt: signed"), "{said}");
    std::fs::write(&file, text.replace("refused: once", "refused: none")).unwrap();
    let (code, said) = verify(&project, &["--key", &key, "--report", &file]);
    assert!(code == Some(1) && said.contains("the key did not sign it"), "{said}");

    // Another time has nothing of it; a log that is not proven is reported on as such.
    let earlier = project.lockgate_ok(&["audit", "report", "--since", "2020-01-01", "--until", "2020-01-08"]);
    assert!(earlier.contains("0 entries in this time") && !earlier.contains("reveal"), "{earlier}");
    let log = project.dir.join(".lockgate/audit/audit.jsonl");
    let entries = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, entries.replace(r#""rows":100"#, r#""rows":101"#)).unwrap();
    let output = project.lockgate(&["audit", "report"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT PROVEN"));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_heads_that_are_taken_away_between_two_runs_are_found_for_good() {
    let project = project("emptied").await;
    project.lockgate_ok(&["run", "--once"]);
    let (log, heads) = (project.dir.join(".lockgate/audit"), project.dir.join(".lockgate/audit/heads.jsonl"));
    let (log, key) = (log.to_string_lossy().into_owned(), project.dir.join("keys/audit.key"));
    let evidence = ["--file", &log, "--key", &key.to_string_lossy()];
    assert_eq!(verify(&project, &evidence).0, Some(0));
    std::fs::write(&heads, "").unwrap();
    let (code, said) = verify(&project, &evidence);
    assert!(code == Some(1) && said.contains("names head 1, and head 0 is the last that is left"), "{said}");

    // The pipeline goes on, and what was found is found again.
    project.database.batch_execute("UPDATE other SET v = 77").await.unwrap();
    for _ in 0..2 {
        project.lockgate_ok(&["run", "--once"]);
        let (code, said) = verify(&project, &evidence);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("by the log there was head 1, and 0 was the last"), "{said}");
        // The anchor's second head is not the one that took its number.
        assert!(said.contains("by the anchor there was head 2") && said.contains("NOT PROVEN: 2 findings"), "{said}");
    }
    assert_eq!(project.query("SELECT min(v) FROM db.public.other"), ["77"]);
    let listed = project.lockgate_ok(&["audit", "list"]);
    assert!(listed.contains("heads_missing head=1 known=log left=0"), "{listed}");

    // Who wants a log that is proven again begins one; the finding stays with the one that it is about.
    let renewed = project.lockgate_ok(&["audit", "renew", "--because", "damaged"]);
    assert!(renewed.contains("its last entry says so") && renewed.contains("give it to the auditor"), "{renewed}");
    let (code, said) = verify(&project, &evidence);
    assert!(code == Some(1) && said.contains("set aside, thrown away or begun anew"), "{said}");
    let (code, said) = verify(&project, &[]);
    assert!(code == Some(1) && said.contains("FOUND in log") && said.contains("before it: "), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_key_is_lost_goes_on_in_another_that_says_why() {
    let project = project("lost").await;
    project.lockgate_ok(&["run", "--once"]);
    let log = project.dir.join(".lockgate/audit");
    let old = std::fs::read_to_string(log.join("audit.pub")).unwrap().trim().to_owned();
    std::fs::remove_file(project.dir.join("keys/audit.key")).unwrap();
    let all = [
        vec!["run", "--once"],
        vec!["remask"],
        vec!["erase", "--due"],
        vec!["repair"],
        vec!["reveal", "--column", "db.public.coded.code", "--purpose", "payment"],
        vec!["policy", "approve"],
        vec!["keys", "show"],
    ];
    for command in all {
        let lost = project.lockgate(&command);
        let said = String::from_utf8_lossy(&lost.stderr).into_owned();
        assert!(lost.status.code() == Some(3) && said.contains("renew --because key-lost"), "{command:?}: {said}");
    }
    // Proving needs no key that is secret, and a report is not signed with another.
    assert_eq!(verify(&project, &["--key", &old]).0, Some(0));
    let week = project.dir.join("week.txt").to_string_lossy().into_owned();
    assert_eq!(project.lockgate(&["audit", "report", "--out", &week]).status.code(), Some(3));

    let renewed = project.lockgate_ok(&["audit", "renew", "--because", "key-lost"]);
    assert!(renewed.contains("it cannot say so itself"), "{renewed}");
    project.lockgate_ok(&["run", "--once"]);
    let new = std::fs::read_to_string(log.join("audit.pub")).unwrap().trim().to_owned();
    assert_ne!(new, old);
    let listed = project.lockgate_ok(&["audit", "list"]);
    let begun = listed.lines().next().unwrap();
    assert!(begun.contains("because=key_lost") && begun.contains(&old), "{listed}");
    // At the same anchor, with the heads of both keys.
    let (code, said) = verify(&project, &["--key", &new]);
    assert!(code == Some(0) && said.contains("which the log after it names: give the one that you keep"), "{said}");
    let (code, said) = verify(&project, &["--key", &new, "--key", &old]);
    assert!(code == Some(0) && said.contains(&old) && !said.contains("names: give"), "{said}");
    let (code, said) = verify(&project, &["--key", &old]);
    assert!(code == Some(1) && said.contains("is missing or of another key, and so it is with"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_of_the_audit_log_is_said_without_a_defect() {
    let project = project("wrong").await;
    project.lockgate_ok(&["run", "--once"]);
    let log = project.dir.join(".lockgate/audit/audit.jsonl").to_string_lossy().into_owned();
    let policy = project.dir.join("policy.yaml").to_string_lossy().into_owned();
    let cases: [(&[&str], i32, &str); 13] = [
        (&["list", "--last", "0"], 2, "0 is not in 1"),
        (&["list", "--last", "-1"], 2, "unexpected argument"),
        (&["list", "--file", "nowhere"], 1, "cannot be read"),
        (&["list", "--file", &policy, "--last", "1"], 0, "(no entry: run lockgate audit verify)"),
        (&["verify", "--file", "nowhere"], 1, "cannot be read"),
        (&["verify", "--file", "/dev/null", "--key", &"7".repeat(64)], 1, "there is no entry"),
        (&["verify", "--file", &policy, "--key", &"7".repeat(64)], 1, "line 1 is no entry"),
        (&["verify", "--key", "123"], 1, "the key 123 cannot be read"),
        (&["verify", "--key", &policy], 1, "64 hexadecimal digits"),
        (&["verify", "--before", "nowhere"], 1, "cannot be read"),
        (&["verify", "--anchor", "ftp://nowhere/x"], 1, "error: "),
        (&["report", "--since", "2026-11-22", "--until", "2026-11-21"], 1, "is not before"),
        (&["renew", "--because", "key-lost"], 1, "is not lost"),
    ];
    for (arguments, code, part) in cases {
        let output = project.lockgate(&[&["audit"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(part), "{arguments:?}: {:?} {said}", output.status);
        assert!(!said.contains("defect"), "{arguments:?}: {said}");
    }
    // A byte that is no text.
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[5] = 0xff;
    std::fs::write(&log, bytes).unwrap();
    let listed = project.lockgate_ok(&["audit", "list", "--last", "1000"]);
    assert!(listed.starts_with("(no entry") && listed.contains("run_started"), "{listed}");
    let (code, said) = verify(&project, &[]);
    assert!(code == Some(1) && said.contains("line 1 is no entry"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_done() {
    let project = project("unrecorded").await;
    project.lockgate_ok(&["run", "--once"]);
    let log = project.dir.join(".lockgate/audit/audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, &text[..text.find('\n').unwrap() + 1]).unwrap();
    project.database.batch_execute("UPDATE other SET v = 77").await.unwrap();
    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("audit log was changed") && said.contains("audit verify"), "{said}");
    assert_eq!(project.query("SELECT max(v) FROM db.public.other"), ["10"]);

    // Where no entry is left, that is found, and there is a way on.
    std::fs::remove_file(&log).unwrap();
    let (code, said) = verify(&project, &[]);
    assert!(code == Some(1) && said.contains("there is no entry") && said.contains("cut off"), "{said}");
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3));
    project.lockgate_ok(&["audit", "renew", "--because", "damaged"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT max(v) FROM db.public.other"), ["77"]);
    let (code, said) = verify(&project, &[]);
    assert!(code == Some(1) && said.contains("FOUND in log") && said.contains("there is no entry"), "{said}");
    // Also when the file is not there at all.
    let aside = std::fs::read_dir(project.dir.join(".lockgate")).unwrap().flatten();
    let aside = aside.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("audit-")).unwrap();
    std::fs::remove_file(aside.join("audit.jsonl")).unwrap();
    assert_eq!(verify(&project, &[]), (code, said));
    let report = project.lockgate(&["audit", "report"]);
    assert_eq!(report.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&report.stdout).contains("runs: ended: done: once"));
    project.end().await;
}
