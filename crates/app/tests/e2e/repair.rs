//! Failure mode 2 and its mending: what changed behind a lost slot is found by comparing, and written; nothing else is.

use serde_json::Value;

use super::project::{Project, files};

const SETUP: &str = "
    CREATE TABLE member (id int PRIMARY KEY, ssn text, zip text, plan text, note text);
    INSERT INTO member SELECT i, 'ssn-' || i, '60629', 'p' || i % 7, repeat('n', 30) FROM generate_series(1, 20000) i;
    CREATE TABLE claim (member text, line int, amount numeric(10,2), born date, PRIMARY KEY (member, line));
    INSERT INTO claim SELECT 'M' || i / 3, i % 3, i, date '1950-01-01' + i % 20000 FROM generate_series(1, 3000) i;
    CREATE TABLE event (kind text, n int);
    ALTER TABLE event REPLICA IDENTITY FULL;
    INSERT INTO event SELECT 'k' || i % 5, i % 10 FROM generate_series(1, 500) i;";
const TABLES: [&str; 3] = ["public.member", "public.claim", "public.event"];
const POLICY: &str =
    "  db.public.member: { id: hmac_token(member), ssn: hmac_token(ssn), zip: zip3, plan: keep, note: drop }
  db.public.claim: { member: hmac_token(member), line: keep, amount: keep, born: dob_generalise }
  db.public.event: { kind: keep, n: keep }\n";

/// What must never be in an output, nor in a file below the project.
const CANARIES: [&str; 3] = ["517938264", "Zebulonova", "M-4471-QX"];

const GAP: &str = "
    INSERT INTO member VALUES (30001, '517938264', '10001', 'gold', 'Zebulonova'), (30002, 'x', '10001', 'gold', 'y');
    UPDATE member SET plan = 'silver' WHERE id BETWEEN 100 AND 104;
    DELETE FROM member WHERE id IN (7, 8, 9);
    UPDATE member SET note = 'Zebulonova' WHERE id = 50;
    INSERT INTO claim VALUES ('M-4471-QX', 1, 12.5, '1931-02-17');
    UPDATE claim SET line = 9 WHERE member = 'M5' AND line = 1;
    DELETE FROM event WHERE kind = 'k1' AND n = 1;";

/// A project whose tables were copied and followed a little, and whose slot was lost before [`GAP`].
async fn behind_a_gap(name: &str) -> Project {
    let project = Project::new(name, SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("UPDATE member SET plan = 'q' WHERE id < 10").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.unwrap();
    project.database.batch_execute(GAP).await.unwrap();
    project
}

/// The report of `verify`, and its exit code.
fn verify(project: &Project, more: &[&str]) -> (Value, Option<i32>) {
    let output = project.lockgate(&[&["verify", "--json"], more].concat());
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
}

/// Missing, surplus and different rows of a table.
fn differences(report: &Value, table: &str) -> [u64; 3] {
    let lines = report["tables"].as_array().unwrap();
    let line = lines.iter().find(|line| line["table"] == format!("db.public.{table}")).unwrap();
    assert!(line["error"].is_null(), "{line}");
    ["missing", "surplus", "different"].map(|field| line[field].as_u64().unwrap())
}

fn assert_equal(project: &Project) {
    let (report, code) = verify(project, &[]);
    for table in ["member", "claim", "event"] {
        assert_eq!(differences(&report, table), [0; 3], "{table}");
    }
    assert_eq!(code, Some(0));
}

fn log(project: &Project, table: &str, op: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM db.public.{table}__changes WHERE _lg_op = '{op}'");
    project.query(&sql)[0].parse().unwrap()
}

async fn assert_same(project: &Project) {
    project.assert_same("event", &["kind", "n"]).await;
    for (lake, source) in [
        (
            "SELECT plan, zip, count(*) AS n FROM db.public.member GROUP BY 1, 2 ORDER BY 1, 2",
            "SELECT plan, left(zip, 3), count(*) FROM member GROUP BY 1, 2 ORDER BY 1, 2",
        ),
        (
            "SELECT count(*) AS n, count(DISTINCT member) AS m, sum(amount) AS a, sum(line) AS l FROM db.public.claim",
            "SELECT count(*), count(DISTINCT member), sum(amount), sum(line) FROM claim",
        ),
    ] {
        assert_eq!(project.query(lake), project.source(source).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_behind_a_lost_slot_is_found_and_nothing_else_is_written() {
    let project = behind_a_gap("repair").await;
    let stopped = project.lockgate(&["run", "--once"]);
    let message = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(1), "{message}");
    assert!(message.contains("lockgate repair"), "{message}");

    let (report, code) = verify(&project, &[]);
    assert_eq!(code, Some(1));
    // A dropped column's change is no difference; a changed key is one row gone and one come.
    assert_eq!(differences(&report, "member"), [2, 3, 5]);
    assert_eq!(differences(&report, "claim"), [2, 1, 0]);
    let [missing, surplus, different] = differences(&report, "event");
    assert!(missing == 0 && surplus > 0 && different == 0);

    let before = ["i", "u", "d"].map(|op| log(&project, "member", op));
    let repaired = project.lockgate(&["--log", "trace", "repair"]);
    let said = String::from_utf8_lossy(&[repaired.stdout.clone(), repaired.stderr.clone()].concat()).into_owned();
    assert!(repaired.status.success(), "{said}");
    assert!(
        said.contains("2 inserted, 5 updated, 3 deleted") && said.contains("2 inserted, 0 updated, 1 deleted"),
        "{said}"
    );
    assert!(said.contains("event") && said.contains("copies it anew"), "{said}");
    let after = ["i", "u", "d"].map(|op| log(&project, "member", op));
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [2, 5, 3]);
    let positions = project.query(
        "SELECT count(*) AS n, count(DISTINCT _lg_position) AS d FROM db.public.member__changes WHERE _lg_op <> 'r'",
    );
    assert_eq!(positions, ["19,19"]);

    // The run goes on from the new slot, and copies anew what has no key.
    let more = "UPDATE member SET plan = 'bronze' WHERE id IN (100, 30001); INSERT INTO event VALUES ('new', 1); DELETE FROM claim WHERE line = 2";
    project.database.batch_execute(more).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_same(&project).await;
    assert_equal(&project);
    assert_eq!(log(&project, "member", "u"), after[1] + 2);

    let refused = project.lockgate(&["repair"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing is wrong"));
    no_canary(&project, said.as_bytes());
    project.end().await;
}

fn no_canary(project: &Project, said: &[u8]) {
    let mut places = vec![("an output".to_owned(), said.to_vec())];
    places.extend(
        files(&project.dir).into_iter().map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())),
    );
    for (place, bytes) in &places {
        for canary in CANARIES {
            assert!(
                !bytes.windows(canary.len()).any(|part| part == canary.as_bytes()),
                "a planted value is in {place}"
            );
        }
    }
    // The test of the test: what is kept is found.
    assert!(places.iter().any(|(_, bytes)| bytes.windows(6).any(|part| part == b"bronze")));
}
