//! Failure mode 2 and its mending: what changed behind a lost slot is found by comparing, and written; nothing else is.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::held::copy_folder;
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

    // The second time in so little memory that buckets of keys are summed up first.
    let (report, _) = verify(&project, &[]);
    let (in_parts, code) = verify(&project, &["--memory", "1"]);
    assert_eq!((in_parts["tables"].clone(), code), (report["tables"].clone(), Some(1)));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_killed_goes_on_and_writes_nothing_twice() {
    let project = behind_a_gap("repairkill").await;
    project.database.batch_execute("UPDATE member SET plan = 'gap' WHERE id % 3 = 0").await.unwrap();
    let mut begun = false;
    for pause in [300, 900, 1300, 1700, 2100] {
        let slow = project.command(&["repair", "--rate", "9000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut repair = slow.unwrap();
        // The moment of the kill is what is varied: before the slot, in the first table, between its commits, at its end.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        repair.kill().unwrap();
        repair.wait().unwrap();
        begun |= project.dir.join("lake/db/_lockgate/repair.json").exists();
        if begun {
            let run = project.lockgate(&["run", "--once"]);
            let message = String::from_utf8_lossy(&run.stderr).into_owned();
            assert!(run.status.code() == Some(1) && message.contains("not finished"), "{message}");
        }
    }
    assert!(begun, "no repair had begun when it was killed");
    project.lockgate_ok(&["repair", "--memory", "1"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_same(&project).await;
    assert_equal(&project);
    // The gap's two inserts and three deletes, and one update for each row that changed in it.
    let thirds = project.source("SELECT count(*) FROM member WHERE plan = 'gap' OR id BETWEEN 100 AND 104").await;
    assert_eq!([log(&project, "member", "i"), log(&project, "member", "d")], [2, 3]);
    let updates = "SELECT count(DISTINCT id) AS n, count(*) AS m FROM db.public.member__changes WHERE _lg_op = 'u' AND plan IN ('gap', 'silver')";
    let logged = project.query(updates);
    let (keys, rows) = logged[0].split_once(',').unwrap();
    assert_eq!(keys, rows, "changed rows and their entries in the change log");
    assert_eq!(rows, thirds[0]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_no_difference_and_a_repair_beside_writers_ends_right() {
    let project = Project::new("verifyrun", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let running = project.start();
    let stop = Arc::new(AtomicBool::new(false));
    while project.source("SELECT active FROM pg_replication_slots").await != ["t"] {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let writer = tokio::spawn(write(project.postgres.client().await.unwrap(), stop.clone()));
    let (report, code) = verify(&project, &["--rate", "60000"]);
    for table in ["member", "claim", "event"] {
        assert_eq!(differences(&report, table), [0; 3], "{table}: {report}");
    }
    assert_eq!(code, Some(0));
    let beside = project.lockgate(&["repair", "--force"]);
    let said = String::from_utf8_lossy(&beside.stderr);
    assert_eq!(beside.status.code(), Some(0), "a repair that a run stands aside for: {said}");
    assert_eq!(running.terminate(), Some(0));

    // The writer goes on: what it does after the new slot comes by the stream, whatever the repair has seen of it.
    project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.unwrap();
    project.lockgate_ok(&["repair", "--rate", "30000"]);
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_same(&project).await;
    assert_equal(&project);
    project.end().await;
}

/// Small changes everywhere, until told to stop.
async fn write(database: tokio_postgres::Client, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sql = format!(
            "UPDATE member SET plan = 'w{number}' WHERE id % 500 = {0}; DELETE FROM member WHERE id = 20000 - {number};
             INSERT INTO claim VALUES ('W', {number}, 1, '2000-01-01'); DELETE FROM claim WHERE member = 'W' AND line = {number} - 3;
             INSERT INTO event VALUES ('w', {number} % 4); UPDATE event SET n = 5 WHERE kind = 'k{0}';",
            number % 7,
        );
        database.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_into_the_lake_is_found_and_mended() {
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i;";
    let project = Project::new("tamper", setup, &["public.t"], "  db.public.t: { id: keep, v: keep }\n").await;
    project.lockgate_ok(&["run", "--once"]);
    foreign_commit(&project.lake_table("t"));
    let (report, code) = verify(&project, &[]);
    assert_eq!((differences(&report, "t"), code), ([2, 1, 1], Some(1)));
    let refused = project.lockgate(&["repair"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    project.lockgate_ok(&["repair", "--force"]);
    let (report, code) = verify(&project, &[]);
    assert_eq!((differences(&report, "t"), code), ([0, 0, 0], Some(0)));
    project.database.batch_execute("UPDATE t SET v = 'w' WHERE id < 4").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v"]).await;
    project.end().await;
}

/// Replaces the table's one file by one without its first row, with another value in its second, and with a row that the source never had in
/// place of its last.
fn foreign_commit(table: &std::path::Path) {
    use arrow::array::{ArrayRef, AsArray, Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let parquet: Vec<_> =
        files(table).into_iter().filter(|file| file.extension().is_some_and(|e| e == "parquet")).collect();
    let [file] = parquet.as_slice() else { panic!("{} data files", parquet.len()) };
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let rows = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap().slice(1, 99);
    let ids: Int32Array = rows["id"].as_primitive::<arrow::datatypes::Int32Type>().iter().collect();
    let mut ids: Vec<i32> = ids.values().to_vec();
    ids[98] = 999;
    let mut values: Vec<Option<String>> = rows["v"].as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect();
    values[0] = Some("tampered".into());
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| -> ArrayRef {
        match field.name().as_str() {
            "id" => Arc::new(Int32Array::from(ids.clone())),
            "v" => Arc::new(StringArray::from(values.clone())),
            _ => column.clone(),
        }
    });
    let changed = arrow::array::RecordBatch::try_new(rows.schema(), columns.collect()).unwrap();
    let path = table.join("foreign.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&changed).unwrap();
    writer.close().unwrap();
    let logs = files(&table.join("_delta_log"));
    let newest = logs.iter().filter_map(|log| log.file_stem()?.to_str()?.parse::<u64>().ok()).max().unwrap();
    let old = file.file_name().unwrap().to_str().unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    let lines = [
        serde_json::json!({ "commitInfo": { "timestamp": 1, "operation": "MERGE" } }),
        serde_json::json!({ "remove": { "path": old, "dataChange": true, "deletionTimestamp": 1 } }),
        serde_json::json!({ "add": { "path": "foreign.parquet", "partitionValues": {}, "size": size, "modificationTime": 1,
            "dataChange": true, "stats": "{\"numRecords\":99}" } }),
    ];
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(table.join(format!("_delta_log/{:020}.json", newest + 1)), text.join("\n")).unwrap();
}

const PERSONS: &str = "CREATE TABLE person (id int PRIMARY KEY, born text, plan text);
    INSERT INTO person SELECT i, '1980-01-01', 'gold' FROM generate_series(1, 50) i;
    UPDATE person SET born = 'unknown' WHERE id = 7;";
const HOLD: &str = "  db.public.person: { id: keep, born: { transform: date_year, on_invalid: hold }, plan: keep }\nmax_invalid_percent: 50\n";
const NULL: &str = "  db.public.person: { id: keep, born: date_year, plan: keep }\nmax_invalid_percent: 50\n";

/// A project of which rows are held: one since the first copy, one since an update.
async fn with_held_rows(name: &str) -> Project {
    let project = Project::new(name, PERSONS, &["public.person"], HOLD).await;
    held(&project, 1);
    project.database.batch_execute("UPDATE person SET born = 'n/a', plan = 'held' WHERE id = 8").await.unwrap();
    held(&project, 2);
    project
}

/// Catches up; so many rows are held then.
fn held(project: &Project, rows: usize) {
    let run = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(if rows > 0 { 3 } else { 0 }), "{said}");
    let list: Value = serde_json::from_str(&project.lockgate_ok(&["held", "list", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), rows, "{list}");
}

async fn lose_the_slot(project: &Project, gap: &str) {
    project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.unwrap();
    project.database.batch_execute(gap).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_held_before_a_gap_do_not_come_in_over_what_a_repair_wrote() {
    let project = with_held_rows("repairheld").await;
    let report = project.lockgate(&["verify", "--json"]);
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("2 rows are held back"), "{report}");
    lose_the_slot(&project, "UPDATE person SET born = '1990-01-01', plan = 'mended' WHERE id IN (7, 8)").await;
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("2 held rows are given up") && said.contains("1 inserted, 1 updated, 0 deleted"), "{said}");
    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", "--all"]);
    held(&project, 0);
    project.assert_same("person", &["id", "plan"]).await;
    assert_eq!(differences(&verify(&project, &[]).0, "person"), [0; 3]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_of_which_every_table_was_taken_out_of_the_lake_is_finished() {
    let project = with_held_rows("repairnothing").await;
    lose_the_slot(&project, "UPDATE person SET plan = 'late' WHERE id = 7").await;
    project.write_policy(&NULL.replace("plan: keep", "plan: redact(NAME)"));
    let refused = project.lockgate(&["repair"]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("take both of its folders out of the lake"), "{said}");
    for folder in ["person", "person__changes"] {
        std::fs::remove_dir_all(project.lake_table(folder)).unwrap();
    }
    lose_the_slot(&project, "UPDATE person SET plan = 'later' WHERE id = 7").await;
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("the lake has nothing of it; next: lockgate run"), "{said}");
    project.lockgate_ok(&["run", "--once"]);
    let source = project.source("SELECT count(*) FROM person").await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.person WHERE plan = '[NAME]'"), source);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_writes_no_row_that_is_to_be_held() {
    let project = with_held_rows("repairholds").await;
    lose_the_slot(&project, "UPDATE person SET born = '1990-01-01', plan = 'mended' WHERE id = 7").await;
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("to be held back: the next run copies it anew"), "{said}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.person WHERE born IS NULL"), ["0"]);
    held(&project, 1);
    assert_eq!(project.query("SELECT id, plan FROM db.public.person WHERE id IN (7, 8)"), ["7,mended"]);
    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", "--all"]);
    held(&project, 0);
    project.assert_same("person", &["id", "plan"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_after_half_a_release_does_not_bring_its_rows_twice() {
    let project = with_held_rows("repairhalf").await;
    let (current, store) = (project.lake_table("person"), project.dir.join(".lockgate/held.sqlite"));
    let (current_before, store_before) = (project.dir.join("current"), project.dir.join("store"));
    copy_folder(&current, &current_before);
    std::fs::copy(&store, &store_before).unwrap();
    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", "--all"]);
    held(&project, 0);

    // As if the process had died when the change log had the release and the current rows had not.
    let ended = rusqlite::Connection::open(&store).unwrap();
    let begun: (String, i64, String) = ended
        .query_row("SELECT tbl, number, boundary FROM release_begun", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    drop(ended);
    for behind in ["held.sqlite-wal", "held.sqlite-shm"] {
        drop(std::fs::remove_file(project.dir.join(".lockgate").join(behind)));
    }
    std::fs::copy(&store_before, &store).unwrap();
    let again = rusqlite::Connection::open(&store).unwrap();
    again
        .execute("INSERT INTO release_begun VALUES (?1, ?2, ?3)", rusqlite::params![begun.0, begun.1, begun.2])
        .unwrap();
    assert_eq!(again.execute("UPDATE held SET state = 'taken', release_number = ?1", [begun.1]).unwrap(), 2);
    drop(again);
    std::fs::remove_dir_all(&current).unwrap();
    std::fs::remove_dir_all(project.dir.join(".lockgate/index")).unwrap();
    copy_folder(&current_before, &current);

    lose_the_slot(&project, "UPDATE person SET plan = 'later' WHERE id = 8").await;
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("rows that were released: the next run copies it anew"), "{said}");
    held(&project, 0);
    project.assert_same("person", &["id", "plan"]).await;
    // By the release, and by the new copy.
    let ops = "SELECT \"_lg_op\" FROM db.public.person__changes WHERE id = 7 ORDER BY \"_lg_position\"";
    assert_eq!(project.query(ops), ["r", "r"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_its_budget_the_slot_is_dropped_and_the_run_names_the_repair() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        INSERT INTO t SELECT i, 'v' || i, repeat('b' || i, 900) FROM generate_series(1, 1000) i; CREATE TABLE other (v text);";
    let policy = "  db.public.t: { id: keep, v: keep, big: keep }\n";
    let project = Project::new("budget", setup, &["public.t"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    let file = project.dir.join("lockgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = |policy: &str| {
        let budget =
            format!("slot: lockgate_e2e\n      wal_budget: {{ warn: 1MiB, critical: 16MiB, policy: {policy} }}\n");
        std::fs::write(&file, text.replace("slot: lockgate_e2e\n", &budget)).unwrap();
    };
    with("drop_and_repair");
    // The log is kept from the begin of the oldest transaction that is open.
    let other = project.postgres.client().await.unwrap();
    other.batch_execute("BEGIN; INSERT INTO other VALUES ('open')").await.unwrap();
    let run = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let wal = "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 30000); CHECKPOINT; UPDATE t SET v = 'late' WHERE id < 5";
    project.database.batch_execute(wal).await.unwrap();
    let ended = tokio::task::spawn_blocking(move || run.wait_with_output().unwrap());
    let ended =
        tokio::time::timeout(Duration::from_secs(40), ended).await.expect("the run goes on over its budget").unwrap();
    let message = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{message}");
    assert!(message.contains("was dropped") && message.contains("lockgate repair"), "{message}");
    assert_eq!(project.source("SELECT count(*) FROM pg_replication_slots").await, ["0"]);

    other.batch_execute("ROLLBACK").await.unwrap();
    let gap = "DELETE FROM t WHERE id > 990; INSERT INTO t VALUES (2000, 'in the gap', repeat('c', 4000)), (2001, 'gone', repeat('d', 4000));";
    project.database.batch_execute(gap).await.unwrap();
    project.lockgate_ok(&["repair"]);
    // Updates that leave out the large value, of rows that the repair wrote and of others.
    let after = "UPDATE t SET v = 'after' WHERE id IN (1, 500, 2000, 2001); DELETE FROM t WHERE id = 2001";
    project.database.batch_execute(after).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v", "big"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_named_in_short_or_in_full_and_one_that_is_not_there_is_refused_beside_others() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);";
    let project = Project::new("named", setup, &["public.t"], "  db.public.t: { id: keep }\n").await;
    for name in ["public.t", "db.public.t"] {
        project.lockgate_ok(&["run", "--once", "--table", name]);
        assert_eq!(verify(&project, &["--table", name]).1, Some(0));
        project.lockgate_ok(&["remask", "--table", name]);
        project.lockgate_ok(&["policy", "explain", "--table", name]);
    }
    for command in [&["run", "--once"][..], &["verify"], &["repair"], &["remask"], &["policy", "test"]] {
        let refused = project.lockgate(&[command, &["--table", "public.t", "--table", "public.typo"]].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains("no table public.typo"), "{command:?}: {said}");
    }
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_documents_and_years_of_birth_are_compared_by_value() {
    let setup = r#"CREATE TABLE t (id int PRIMARY KEY, born date, note text, doc jsonb);
        INSERT INTO t SELECT i, date '1900-01-01' + i * 200, 'walks ' || i || ' miles, born in 1930', jsonb_build_object('born', '1980-01-01', 'plan', i)
        FROM generate_series(1, 300) i;"#;
    let policy = "  db.public.t:
    id: keep
    born: dob_generalise
    note: { transform: scrub_text(detect), reason: r, reviewer: p }
    doc: { transform: json_paths, paths: { born: dob_generalise, plan: keep } }\n";
    let project = Project::new("byvalue", setup, &["public.t"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    let (report, code) = verify(&project, &[]);
    assert_eq!((differences(&report, "t"), code), ([0; 3], Some(0)), "{report}");
    assert_eq!(report["tables"][0]["notes"], serde_json::json!([]), "{report}");

    project.database.batch_execute("SELECT pg_drop_replication_slot('lockgate_e2e')").await.unwrap();
    let gap = r#"UPDATE t SET born = '1999-01-01' WHERE id = 10; UPDATE t SET note = 'runs' WHERE id = 20;
        UPDATE t SET doc = '{"born": "1980-01-01", "plan": "gold"}' WHERE id = 30; UPDATE t SET doc = '{"born": "1981-01-01", "plan": 40}' WHERE id = 40;
        UPDATE t SET born = '1901-01-01' WHERE id = 1;"#;
    project.database.batch_execute(gap).await.unwrap();
    let (report, code) = verify(&project, &[]);
    // Both births of row 1 are in the group above 89.
    assert_eq!((differences(&report, "t"), code), ([0, 0, 4], Some(1)), "{report}");
    project.lockgate_ok(&["repair"]);
    project.lockgate_ok(&["run", "--once"]);
    let (report, code) = verify(&project, &[]);
    assert_eq!((differences(&report, "t"), code), ([0; 3], Some(0)), "{report}");
    let mended = project.query("SELECT born, note, doc FROM db.public.t WHERE id IN (10, 20, 30, 40) ORDER BY id");
    assert!(mended[0].starts_with("1999,") && mended[1].contains(",runs,"), "{mended:?}");
    assert!(mended[2].contains("gold") && mended[3].contains("1981"), "{mended:?}");
    project.end().await;
}
