//! Erased persons are gone from every table, version, file and the vault, and do not come back.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use arrow::array::{Array, ArrayData};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::foreign_readers::{foreign_rows, python};
use super::project::{Project, files};

/// What is kept of person 7 and of nobody else: the program looks for tokens, the tests for these.
const TRACES: [&str; 3] = ["plan-of-person-7", "reason-of-person-7", "note-of-person-7"];

const SETUP: &str = "
    CREATE TABLE members (member_id int PRIMARY KEY, name text, plan text);
    CREATE TABLE claims (claim_id int PRIMARY KEY, member_id int, reason text);
    CREATE TABLE visits (member_id int, note text); ALTER TABLE visits REPLICA IDENTITY FULL;
    CREATE TABLE contacts (id int PRIMARY KEY, ssn text, document text);
    INSERT INTO members SELECT i, 'Name ' || i, 'plan-of-person-' || i FROM generate_series(1, 50) i;
    INSERT INTO claims SELECT i * 10 + k, i, 'reason-of-person-' || i FROM generate_series(1, 50) i, generate_series(0, 3) k;
    INSERT INTO visits SELECT i, 'note-of-person-' || i FROM generate_series(1, 50) i, generate_series(1, 2);
    INSERT INTO contacts SELECT i, '900-11-' || (1000 + i), '{\"member\":' || i || '}' FROM generate_series(1, 50) i;";
const TABLES: [&str; 4] = ["public.members", "public.claims", "public.visits", "public.contacts"];
const POLICY: &str = "  db.public.members: { member_id: hmac_token(member), plan: keep }
  db.public.claims: { claim_id: hmac_token(claim), member_id: hmac_token(member), reason: keep }
  db.public.visits: { member_id: hmac_token(member), note: keep }
  db.public.contacts:
    id: keep
    ssn: vault_code(ssn)
    document: { transform: json_paths, paths: { member: hmac_token(member) } }
";
/// Everything that the source may still send of person 7.
const LATE: &str = "UPDATE members SET plan = 'plan-of-person-7' WHERE member_id = 7; INSERT INTO claims VALUES (9007, 7, 'reason-of-person-7');
    UPDATE claims SET reason = 'reason-of-person-7' WHERE member_id = 7; UPDATE visits SET note = 'note-of-person-7' WHERE member_id = 7;
    DELETE FROM visits WHERE ctid IN (SELECT ctid FROM visits WHERE member_id = 7 LIMIT 1); DELETE FROM claims WHERE claim_id = 71;
    UPDATE contacts SET ssn = ssn WHERE id = 7; UPDATE members SET plan = 'late' WHERE member_id = 9;";

impl Project {
    pub(super) fn erase(&self, arguments: &[&str], ids: &str) -> Output {
        self.fed(&[&["erase"], arguments].concat(), ids)
    }

    /// Runs the program with lines on its standard input.
    pub(super) fn fed(&self, arguments: &[&str], ids: &str) -> Output {
        let mut command = self.command(arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(ids.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    pub(super) fn erase_ok(&self, arguments: &[&str], ids: &str) -> String {
        let output = self.erase(arguments, ids);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "lockgate erase {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts that nothing of person 7 is in any file of the project, and that all others are in the tables.
    fn assert_gone(&self, members: u32) {
        let traced = traced(&self.dir.join("lake"), &TRACES);
        assert!(traced.is_empty(), "{traced:?}");
        for (table, rows) in
            [("members", members), ("claims", members * 4), ("visits", members * 2), ("contacts", members)]
        {
            assert_eq!(self.query(&format!("SELECT count(*) FROM db.public.{table}")), [rows.to_string()], "{table}");
        }
    }
}

/// Files in which one of the texts stands, as bytes or in a decoded column.
pub(crate) fn traced(folder: &Path, texts: &[&str]) -> Vec<String> {
    let has = |bytes: &[u8]| {
        texts.iter().any(|text| {
            bytes.windows(text.len()).enumerate().any(|(at, window)| {
                // `person-7` and not `person-70`.
                window == text.as_bytes() && !bytes.get(at + text.len()).is_some_and(u8::is_ascii_digit)
            })
        })
    };
    fn in_data(data: &ArrayData, has: &dyn Fn(&[u8]) -> bool) -> bool {
        data.buffers().iter().any(|buffer| has(buffer)) || data.child_data().iter().any(|child| in_data(child, has))
    }
    let is_traced = |path: &Path| {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            // A run beside the test has removed it since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let mut found = has(&bytes);
        if path.extension().is_some_and(|extension| extension == "parquet") {
            for batch in ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap() {
                found |= batch.unwrap().columns().iter().any(|column| in_data(&column.to_data(), &has));
            }
        }
        found
    };
    files(folder).into_iter().filter(|path| is_traced(path)).map(|path| path.display().to_string()).collect()
}

/// A project whose tables have a history, some of it under deletion vectors.
async fn project(name: &str) -> Project {
    let project = Project::new(name, SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let changes = "UPDATE members SET name = 'x' WHERE member_id IN (7, 8); UPDATE claims SET claim_id = claim_id + 5000 WHERE claim_id = 70;
        DELETE FROM claims WHERE claim_id = 72; INSERT INTO claims VALUES (72, 7, 'reason-of-person-7'); UPDATE visits SET note = note || '' WHERE member_id = 7;";
    project.database.batch_execute(changes).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_nowhere_and_no_late_change_or_new_copy_brings_them_back() {
    let project = project("erase").await;
    let before = traced(&project.dir.join("lake"), &TRACES);
    assert!(before.len() >= 6, "the search finds what is there: {before:?}");
    let said = project.erase_ok(&["--subject", "db.public.members.member_id"], "7\n8\n");
    assert!(said.contains("2 persons") && said.contains("no trace"), "{said}");
    // Contacts are known by their document, in which the member's token stands.
    project.assert_gone(48);
    // Changes that carry nothing but the key of a claim of the person are gone as well.
    let [claims, others] = ["claims__changes", "claims"]
        .map(|table| project.query(&format!("SELECT count(DISTINCT claim_id) FROM db.public.{table}")));
    assert_eq!(claims, others);
    let receipt = files(&project.dir.join(".lockgate/receipts")).pop().unwrap();
    let receipt = std::fs::read_to_string(receipt).unwrap();
    assert!(receipt.contains(r#""objects_with_traces": 0"#) && !receipt.contains("member.1."), "{receipt}");
    let log = std::fs::read_to_string(project.dir.join(".lockgate/audit/audit.jsonl")).unwrap();
    assert!(["erase_requested", "\"erased\"", "erase_purged"].iter().all(|event| log.contains(event)));
    if let Some(python) = python() {
        for table in ["members", "claims__changes"] {
            for (reader, rows) in foreign_rows(&python, &project.lake_table(table), &["member_id"]) {
                assert!(!rows.is_empty(), "{reader} sees no rows of {table}");
            }
        }
    }

    project.database.batch_execute(LATE).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_gone(48);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members WHERE plan = 'late'"), ["1"]);
    for table in ["members", "claims"] {
        for folder in [table.to_owned(), format!("{table}__changes")] {
            std::fs::remove_dir_all(project.lake_table(&folder)).unwrap();
        }
    }
    std::fs::remove_dir_all(project.dir.join(".lockgate/index")).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_gone(48);

    // Nor when the column that names the person is not stored any more.
    let policy = project.dir.join("policy.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let stricter = text.replace(
        "claim_id: hmac_token(claim), member_id: hmac_token(member)",
        "claim_id: hmac_token(claim), member_id: drop",
    );
    assert_ne!(text, stricter);
    std::fs::write(&policy, stricter).unwrap();
    project.lockgate_ok(&["remask"]);
    project
        .database
        .batch_execute("UPDATE claims SET reason = 'reason-of-person-7' WHERE member_id = 7")
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_gone(48);
    for folder in ["claims", "claims__changes"] {
        std::fs::remove_dir_all(project.lake_table(folder)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    project.assert_gone(48);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_matches_nobody_is_said_and_kept_out_all_the_same() {
    let project = project("eraseunknown").await;
    let output = project.erase(&["--subject", "db.public.members.member_id"], "7\n777\n\n99999999\n");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(": 1 persons, "), "{said}{warned}");
    assert!(warned.contains("lines 2, 4 of the identifiers match nothing"), "{warned}");
    let receipt = files(&project.dir.join(".lockgate/receipts")).pop().unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    assert_eq!((&receipt["persons"], &receipt["persons_suppressed"]), (&1.into(), &3.into()), "{receipt}");
    assert_eq!(receipt["unmatched_lines"], serde_json::json!([2, 4]), "{receipt}");
    let late = "INSERT INTO members VALUES (777, 'n', 'came-later'), (778, 'n', 'came-later')";
    project.database.batch_execute(late).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members WHERE plan = 'came-later'"), ["1"]);

    // What the column cannot have is refused before anything is done, and on hold as well.
    for arguments in
        [&["--subject", "db.public.members.member_id"][..], &["--subject", "db.public.members.member_id", "--hold"]]
    {
        let output = project.erase(arguments, "8\n078\n9\nabc\n 8\n");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("lines 2, 4-5 of the identifiers"), "{said}");
        assert!(!said.contains("078") && !said.contains("abc"), "{said}");
    }
    let log = std::fs::read_to_string(project.dir.join(".lockgate/audit/audit.jsonl")).unwrap();
    assert_eq!(log.matches("erase_requested").count(), 1);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members"), ["50"]);
    // A person whose code the vault knows is there; one whom it does not know is not.
    let output = project.erase(&["--subject", "db.public.contacts.ssn"], "nobody\n900-11-1009\n");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(": 1 persons, ") && warned.contains("lines 1 of"), "{said}{warned}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_is_mended_by_going_on() {
    let project = project("erasekill").await;
    let mut killed = 0;
    for pause in [5, 30, 60, 100, 150, 220, 300, 400] {
        let mut command = project.command(&["erase", "--subject", "db.public.members.member_id"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"7\n").unwrap();
        // Moments, not conditions, are what is tried here.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed >= 3, "{killed} kills");
    project.database.batch_execute(LATE).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.erase_ok(&["--subject", "db.public.members.member_id"], "7\n");
    assert_eq!(project.erase_ok(&["--due"], ""), "nothing to do\n");
    project.assert_gone(49);
    assert_eq!(project.lockgate(&["audit", "verify"]).status.code(), Some(0));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_leave_the_vault_and_no_new_one_is_made() {
    let project = project("erasevault").await;
    let codes = || {
        let python = std::process::Command::new("python3")
            .args(["-c", "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM code').fetchone()[0])"])
            .arg(project.dir.join(".lockgate/vault.sqlite"))
            .output()
            .unwrap();
        String::from_utf8(python.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(codes(), "50");
    project.erase_ok(&["--subject", "db.public.contacts.ssn"], "900-11-1007\nnobody\n");
    assert_eq!(codes(), "49");
    project.database.batch_execute("UPDATE contacts SET ssn = ssn WHERE id IN (7, 8)").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(codes(), "49");
    assert_eq!(project.query("SELECT count(*), count(*) FILTER (WHERE id = 7) FROM db.public.contacts"), ["49,0"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_blocks_old_versions_may_wait_and_wrong_requests_are_refused() {
    let project = project("erasehold").await;
    let subject = ["--subject", "db.public.members.member_id"];
    project.erase_ok(&[&subject[..], &["--hold"]].concat(), "7\n");
    let held = project.erase(&subject, "7\n8\n");
    assert_eq!(held.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&held.stderr).contains("lines 1 of the identifiers"));
    let count = "SELECT count(*) FROM db.public.members";
    assert_eq!(project.query(count), ["49"]);
    project.erase_ok(&[&subject[..], &["--lift"]].concat(), "7\n");
    let said = project.erase_ok(&[&subject[..], &["--purge", "after"]].concat(), "7\n");
    assert!(said.contains("lockgate erase --due"), "{said}");
    assert_eq!(project.query(count), ["48"]);
    assert!(!traced(&project.lake_table("members"), &TRACES).is_empty(), "older versions stay");

    let refused = [
        (vec!["--subject", "db.public.members.name"], "7\n", 1, "no rule for"),
        (vec!["--subject", "db.public.claims.nothing"], "7\n", 1, "no rule for"),
        (vec!["--subject", "members"], "7\n", 1, "source.schema.table.column"),
        (vec!["--subject", "db.public.contacts.document"], "7\n", 1, "no person can be found"),
        (vec!["--subject", "db.public.members.member_id"], "\n\n", 1, "no identifiers"),
        (vec!["--subject", "db.public.members.member_id", "--ids", "nowhere"], "", 1, "in nowhere cannot be read"),
        (subject.to_vec(), "7\n\n078\nabc\n99999999\n", 1, "lines 3-4 of the identifiers are nothing that"),
        (vec![], "7\n", 2, "--subject"),
        (vec!["--due", "--hold"], "7\n", 2, "--due"),
    ];
    for (arguments, ids, code, part) in refused {
        let output = project.erase(&arguments, ids);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let running = project.start();
    project.database.batch_execute("UPDATE members SET plan = 'now' WHERE member_id = 1").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.members WHERE plan = 'now'", "1").await;
    project.erase_ok(&subject, "9\n");
    assert_eq!(project.query(count), ["47"]);
    assert_eq!(running.terminate(), Some(0));
    project.end().await;
}
