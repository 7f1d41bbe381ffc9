//! Rows that the gate holds back: sealed, in order, once, whatever crashes, until somebody decides.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::project::{Project, files};

const SETUP: &str = "CREATE TABLE person (id int PRIMARY KEY, name text, born text, plan text, body text);
    INSERT INTO person SELECT i, 'n' || i, '1980-01-01', 'gold', 'b' FROM generate_series(1, 50) i;
    UPDATE person SET name = 'Zebulonova', born = 'CANARY-1931' WHERE id = 7;";
const HOLD: &str = "  db.public.person: { id: keep, name: hmac_token(name), born: { transform: date_year, on_invalid: hold }, plan: keep, body: keep }\nmax_invalid_percent: 50\n";
const NULL: &str = "  db.public.person: { id: keep, name: hmac_token(name), born: date_year, plan: keep, body: keep }\nmax_invalid_percent: 50\n";

impl Project {
    async fn source_does(&self, sql: &str) {
        self.database.batch_execute(sql).await.unwrap();
    }

    /// A run to its end that leaves rows held, or none.
    fn catch_up(&self, held: bool) {
        let output = self.lockgate(&["run", "--once"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if held { 3 } else { 0 }), "{said}");
        assert_eq!(said.contains("rows are held back, with values"), held, "{said}");
    }

    /// The numbers of the held rows, and the whole list.
    fn held_rows(&self) -> (Vec<i64>, serde_json::Value) {
        let list: serde_json::Value = serde_json::from_str(&self.lockgate_ok(&["held", "list", "--json"])).unwrap();
        (list.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect(), list)
    }

    fn ops_of(&self, id: i32) -> Vec<String> {
        let sql = format!("SELECT \"_lg_op\" FROM db.public.person__changes WHERE id = {id} ORDER BY \"_lg_position\"");
        self.query(&sql)
    }

    /// A planted value that is in a file or in an output.
    fn assert_nowhere(&self, outputs: &[String]) {
        for canary in ["CANARY", "Zebulonova"] {
            for file in files(&self.dir) {
                let bytes = std::fs::read(&file).unwrap();
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "a planted value is in {}", file.display());
            }
            assert!(outputs.iter().all(|output| !output.contains(canary)), "a planted value is printed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_row_and_what_follows_it_wait_sealed_and_come_in_by_position() {
    let project = Project::new("held", SETUP, &["public.person"], HOLD).await;
    project.catch_up(true);
    assert_eq!(project.query("SELECT count(*), count(born) FROM db.public.person"), ["49,49"]);
    project
        .source_does(
            "UPDATE person SET plan = 'silver' WHERE id = 7; UPDATE person SET plan = 'silver' WHERE id = 8;
             INSERT INTO person VALUES (100, 'n', 'CANARY-2', 'a', repeat('x', 20)); UPDATE person SET plan = 'b' WHERE id = 100;
             DELETE FROM person WHERE id = 100; INSERT INTO person VALUES (100, 'n', '1990-01-01', 'c', 'b');
             UPDATE person SET id = 101 WHERE id = 100;",
        )
        .await;
    project.catch_up(true);
    // Nothing of the two keys passes, everything else does.
    assert_eq!(project.query("SELECT count(*) FROM db.public.person WHERE id IN (7, 100, 101)"), ["0"]);
    assert_eq!(project.query("SELECT plan FROM db.public.person WHERE id = 8"), ["silver"]);
    let (ids, list) = project.held_rows();
    assert_eq!(ids.len(), 7, "{list}");
    assert_eq!(list[0]["column"], "born");
    assert_eq!(list[4]["column"], serde_json::Value::Null, "the delete waits behind");
    let shown = project.lockgate_ok(&["held", "show", &ids[0].to_string()]);
    assert!(
        shown.contains("born: (cannot be read)") && shown.contains("plan: gold") && shown.contains("name.1."),
        "{shown}"
    );
    let status = project.lockgate_ok(&["status"]);
    assert!(status.contains("7 rows are held back"), "{status}");
    project.assert_nowhere(&[list.to_string(), shown, status]);

    // Under the same rule a release changes nothing, and says so.
    project.lockgate_ok(&["held", "release", &ids[0].to_string()]);
    project.catch_up(true);
    let (again, list) = project.held_rows();
    assert_eq!(again, ids);
    assert!(list[0]["refused"].as_str().unwrap().contains("born"), "{list}");

    // The later row of a key waits for the earlier.
    project.write_policy(NULL);
    let said = project.lockgate_ok(&["held", "release", &ids[1].to_string()]);
    assert!(said.contains("waits"), "{said}");
    project.catch_up(true);
    assert_eq!(project.held_rows().0, ids);

    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.person WHERE born IS NULL"), ["1"]);
    assert_eq!(project.ops_of(7), ["r", "u"]);
    assert_eq!(project.ops_of(100), ["i", "u", "d", "i", "d"]);
    assert_eq!(project.ops_of(101), ["i"]);
    // The keys are free.
    project.source_does("UPDATE person SET plan = 'z' WHERE id IN (7, 101)").await;
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;
    assert_eq!(project.ops_of(7), ["r", "u", "u"]);
    project.assert_nowhere(&[]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_value_neither_comes_in_nor_is_shown_under_the_name_that_its_column_had() {
    let setup = "CREATE TABLE person (id int PRIMARY KEY, born text, code text);
        INSERT INTO person SELECT i, '1980-01-01', 'CANARY-MRN-' || i FROM generate_series(1, 9) i;
        UPDATE person SET born = 'n/a' WHERE id = 7;";
    let rules = |born: &str, more: &str| {
        format!("  db.public.person: {{ id: keep, born: {born}{more} }}\nmax_invalid_percent: 50\n")
    };
    let hold = "{ transform: date_year, on_invalid: hold }";
    let project = Project::new("held-renamed", setup, &["public.person"], &rules(hold, "")).await;
    project.catch_up(true);
    let id = project.held_rows().0[0].to_string();
    let show = |parts: &[&str]| {
        let shown = project.lockgate_ok(&["held", "show", &id]);
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
        project.assert_nowhere(&[shown]);
    };
    show(&["id: 7", "born: (cannot be read)"]);
    project
        .source_does(
            "ALTER TABLE person RENAME code TO old_code; ALTER TABLE person ADD code text;
             UPDATE person SET code = 'plain' WHERE id = 8",
        )
        .await;
    // The rule is for the new column, which no run has seen.
    project.write_policy(&rules(hold, ", code: keep"));
    show(&["id: 7", "code: (not shown)"]);
    project.catch_up(true);
    show(&["id: 7", "code: (renamed since)"]);
    let (lake, away) = (project.dir.join("lake"), project.dir.join("away"));
    std::fs::rename(&lake, &away).unwrap();
    show(&["id: (not shown)", "code: (not shown)", "born: (cannot be read)"]);
    if lake.exists() {
        std::fs::remove_dir_all(&lake).unwrap();
    }
    std::fs::rename(&away, &lake).unwrap();

    project.write_policy(&rules("date_year", ", code: keep"));
    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(false);
    project.assert_same("person", &["id", "code"]).await;
    project.assert_nowhere(&[project.query("SELECT * FROM db.public.person__changes").join("\n")]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_a_row_that_was_refused_comes_in_when_that_is_dropped() {
    let project = Project::new("held-behind", SETUP, &["public.person"], HOLD).await;
    project.catch_up(true);
    project.source_does("UPDATE person SET born = '1931-01-01', plan = 'mended' WHERE id = 7").await;
    project.catch_up(true);
    let (ids, list) = project.held_rows();
    assert_eq!(ids.len(), 2, "{list}");
    project.lockgate_ok(&["held", "release", &ids[0].to_string()]);
    project.catch_up(true);
    let (_, list) = project.held_rows();
    assert!(list[0]["refused"].is_string() && list[1]["refused"].is_null(), "{list}");
    project.lockgate_ok(&["held", "drop", &ids[0].to_string()]);
    project.catch_up(false);
    assert!(project.held_rows().0.is_empty());
    project.assert_same("person", &["id", "plan", "body"]).await;
    // Marked by somebody, it waits marked.
    project
        .source_does("UPDATE person SET born = 'CANARY-4' WHERE id = 8; UPDATE person SET plan = 'b' WHERE id = 8")
        .await;
    project.catch_up(true);
    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(true);
    let (_, list) = project.held_rows();
    assert!(list[0]["refused"].is_string() && list[1]["refused"].is_null(), "{list}");
    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", &project.held_rows().0[0].to_string()]);
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;
    project.assert_nowhere(&[list.to_string()]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_dropped_or_grow_too_old_and_what_stands_on_them_goes_with_them() {
    let project = Project::new("held-drop", SETUP, &["public.person"], HOLD).await;
    project.catch_up(true);
    let large = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)";
    project
        .source_does(&format!(
            "INSERT INTO person VALUES (60, 'n', 'CANARY', 'a', {large}); UPDATE person SET plan = 'b' WHERE id = 60;"
        ))
        .await;
    project.catch_up(true);
    let (ids, list) = project.held_rows();
    assert_eq!(ids.len(), 3, "{list}");
    // The update leaves out the large value, which is in the insert.
    let refused = project.lockgate(&["held", "drop", &ids[1].to_string()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains(&format!("row {}", ids[2])) && said.contains("fix:"),
        "{said}"
    );
    project.lockgate_ok(&["held", "drop", &ids[0].to_string()]);
    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(false);
    assert_eq!(
        project.query("SELECT id, plan, length(body) FROM db.public.person WHERE id IN (7, 60)"),
        ["60,b,12800"]
    );
    // A dropped row is not in the lake until the source writes it again.
    project.source_does("UPDATE person SET plan = 'c' WHERE id = 7").await;
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;

    project.write_policy(HOLD);
    project.source_does("INSERT INTO person VALUES (61, 'n', 'CANARY', 'a', 'b')").await;
    project.catch_up(true);
    let store = rusqlite::Connection::open(project.dir.join(".lockgate/held.sqlite")).unwrap();
    store.execute("UPDATE held SET held_at = held_at - 8 * 86400000000", []).unwrap();
    drop(store);
    assert!(project.lockgate_ok(&["held", "list"]).contains("no row is held"));
    project.catch_up(false);
    // What was held before a truncate would come back to life.
    project.source_does("INSERT INTO person VALUES (62, 'n', 'CANARY', 'a', 'b')").await;
    project.catch_up(true);
    project.source_does("TRUNCATE person; INSERT INTO person VALUES (62, 'n', '1980-01-01', 'a', 'b')").await;
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;
    for (arguments, part) in [(["held", "show", "99"], "no row 99"), (["held", "drop", "99"], "no row 99")] {
        let output = project.lockgate(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(part) && said.contains("fix:"), "{said}");
    }
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_unreadable_rows_stop_the_table_and_a_rule_that_cannot_hold_is_refused() {
    let policy = HOLD.replace("max_invalid_percent: 50\n", "");
    let project = Project::new("held-many", SETUP, &["public.person"], &policy).await;
    project.catch_up(true);
    project
        .source_does("INSERT INTO person SELECT i, 'n', CASE WHEN i % 100 = 0 THEN 'CANARY' ELSE '1980-01-01' END, 'p', 'b' FROM generate_series(1000, 3999) i")
        .await;
    let output = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("values cannot be read, more than 0.1 %"), "{said}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.person"), ["49"]);
    project.assert_nowhere(&[said]);

    project.source_does("CREATE TABLE bare (v text); ALTER TABLE bare REPLICA IDENTITY FULL").await;
    let lockgate_yaml = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    std::fs::write(
        project.dir.join("lockgate.yaml"),
        lockgate_yaml.replace("[public.person]", "[public.person, public.bare]"),
    )
    .unwrap();
    project.write_policy(&format!("  db.public.bare: {{ \"*\": {{ on_invalid: hold }}, v: date_year }}\n{policy}"));
    let output = project.lockgate(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("bare.v holds rows back") && said.contains("primary key"),
        "{said}"
    );
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_one_of_two_tables_lacks_comes_in_at_its_own_place() {
    let setup = format!("{SETUP} CREATE TABLE other (id int PRIMARY KEY);");
    let other = "  db.public.other: { id: keep }\n";
    let tables = ["public.person", "public.other"];
    let project = Project::new("held-resume", &setup, &tables, &format!("{other}{HOLD}")).await;
    project.catch_up(true);
    // Without the other table nothing is confirmed, so the source can send all of this again.
    let run = ["run", "--once", "--table", "public.person"];
    project.source_does("UPDATE person SET plan = 'b' WHERE id = 7; UPDATE person SET plan = 'b' WHERE id = 8").await;
    assert_eq!(project.lockgate(&run).status.code(), Some(3));
    let (log, store) = (project.lake_table("person__changes"), project.dir.join(".lockgate/held.sqlite"));
    let (log_before, store_before) = (project.dir.join("log"), project.dir.join("store"));
    copy_folder(&log, &log_before);
    std::fs::copy(&store, &store_before).unwrap();

    project.write_policy(&format!("{other}{NULL}"));
    project.lockgate_ok(&["held", "release", "--all"]);
    project.lockgate_ok(&run);
    project.source_does("UPDATE person SET plan = 'c' WHERE id = 7; UPDATE person SET plan = 'c' WHERE id = 8").await;
    project.lockgate_ok(&run);
    assert_eq!(project.ops_of(7), ["r", "u", "u"]);

    // As if the process had died when one of the two had the release and the other had not.
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
    std::fs::remove_dir_all(&log).unwrap();
    copy_folder(&log_before, &log);
    assert_eq!(project.ops_of(7), [""; 0]);

    project.lockgate_ok(&run);
    assert_eq!(project.ops_of(7), ["r", "u", "u"]);
    assert_eq!(project.ops_of(8), ["r", "u", "u"]);
    assert!(project.held_rows().0.is_empty());
    project.catch_up(false);
    project.assert_same("person", &["id", "plan", "body"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_rows_of_an_erased_person_go_and_those_of_others_stay() {
    let setup = "CREATE TABLE person (id int PRIMARY KEY, name text, born text, plan text, body text);
        INSERT INTO person SELECT i, 'name-' || i, '1980-01-01', 'p', 'b' FROM generate_series(1, 9) i;";
    let project = Project::new("held-erase", setup, &["public.person"], HOLD).await;
    project.catch_up(false);
    // Held, behind it, a delete that carries the key alone; one of somebody else; and a key that passes from the person to another.
    let changes = "UPDATE person SET born = 'CANARY' WHERE id IN (7, 8); UPDATE person SET plan = 'q' WHERE id = 7;
        DELETE FROM person WHERE id = 7; INSERT INTO person VALUES (7, 'other', '1990-01-01', 'o', 'b')";
    project.source_does(changes).await;
    project.catch_up(true);
    let (ids, _) = project.held_rows();
    assert_eq!(ids.len(), 5);
    // A column that came later is in no held row, and its rule keeps none from being looked at or erased.
    project.source_does("ALTER TABLE person ADD later text").await;
    project.write_policy(&HOLD.replace("body: keep", "body: keep, later: keep"));
    let shown = project.lockgate_ok(&["held", "show", &ids[0].to_string()]);
    assert!(shown.contains("plan: p") && !shown.contains("later"), "{shown}");

    let subject = ["--subject", "db.public.person.name"];
    let said = project.erase_ok(&subject, "name-7\n");
    assert!(said.contains("3 held rows erased"), "{said}");
    project.assert_nowhere(&[said]);
    let (rows, list) = project.held_rows();
    assert_eq!(rows.len(), 2, "{list}");
    let receipt = std::fs::read_to_string(files(&project.dir.join(".lockgate/receipts")).pop().unwrap()).unwrap();
    assert!(receipt.contains(r#""held_rows_removed": 3"#), "{receipt}");

    project.write_policy(NULL);
    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(false);
    assert!(project.held_rows().0.is_empty());
    project.assert_same("person", &["id", "plan", "body"]).await;
    // Of the person nothing came in; of their key, the other's insert did.
    assert_eq!(project.ops_of(7), ["i"]);
    assert!(project.erase_ok(&subject, "name-7\n").contains("0 held rows erased"));

    // Of somebody there is nothing but a held row, and of somebody else nothing at all.
    project.write_policy(HOLD);
    project
        .source_does(
            "INSERT INTO person VALUES (10, 'name-10', 'CANARY-5', 'p', 'b'), (11, 'name-11', 'CANARY-6', 'p', 'b')",
        )
        .await;
    project.catch_up(true);
    let output = project.erase(&subject, "name-12\nname-13\nname-10\nname-14\n");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(": 1 persons, ") && said.contains("1 held rows erased"), "{said}{warned}");
    assert!(warned.contains("lines 1-2, 4 of the identifiers"), "{warned}");
    assert_eq!(project.held_rows().0.len(), 1);
    project.end().await;
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(&file, copy).unwrap();
    }
}

const KILLS: usize = 6;
const SEED: u64 = 20_261_122;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_around_holds_and_releases_loses_and_doubles_nothing() {
    let setup = "CREATE TABLE person (id int PRIMARY KEY, name text, born text, plan text, body text, v int);
        INSERT INTO person SELECT i, 'n', '1980-01-01', 'p', 'b', 0 FROM generate_series(1, 300) i;";
    let with_v = |policy: &str| policy.replace("body: keep", "body: keep, v: keep");
    let project = Project::new("held-kill", setup, &["public.person"], &with_v(HOLD)).await;
    project.catch_up(false);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(project.postgres.client().await.unwrap(), stop.clone()));
    let mut random = StdRng::seed_from_u64(SEED);
    for round in 0..2 * KILLS {
        if round == KILLS {
            assert!(!project.held_rows().0.is_empty());
            project.write_policy(&with_v(NULL));
        }
        let running = project.start();
        for _ in 0..3 {
            // The moment of the kill is what is being drawn here.
            tokio::time::sleep(Duration::from_millis(random.random_range(20..500))).await;
            if round >= KILLS {
                project.lockgate_ok(&["held", "release", "--all"]);
            }
        }
        running.kill_9();
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    // Rows that were held before the last start, and what waits behind them, are in when it ends.
    project.lockgate_ok(&["held", "release", "--all"]);
    project.catch_up(false);
    assert!(project.held_rows().0.is_empty());
    project.assert_same("person", &["id", "v", "plan"]).await;
    // Every update raised `v` by one, and is in the change log once and in order.
    let log = "SELECT count(*) FROM (SELECT id, count(*) AS n, count(DISTINCT \"_lg_position\") AS d, max(v) AS v FROM db.public.person__changes
        WHERE \"_lg_op\" = 'u' GROUP BY id) WHERE n <> v OR n <> d";
    assert_eq!(project.query(log), ["0"], "keys whose updates are not in the change log exactly once");
    project.end().await;
}

/// Updates single rows until told to stop; one in twenty gets a date that cannot be read.
async fn write(database: tokio_postgres::Client, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(SEED);
    while !stop.load(Ordering::Relaxed) {
        let id: i32 = random.random_range(1..=300);
        let born = if random.random_range(0..20) == 0 { "CANARY" } else { "1981-01-01" };
        let sql = "UPDATE person SET v = v + 1, born = $2 WHERE id = $1";
        database.execute(sql, &[&id, &born]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_held_for_too_long_are_erased_and_the_audit_log_says_so_first() {
    let project = Project::new("held-old", SETUP, &["public.person"], HOLD).await;
    project.catch_up(true);
    let store = rusqlite::Connection::open(project.dir.join(".lockgate/held.sqlite")).unwrap();
    let age = || store.execute("UPDATE held SET held_at = held_at - 8 * 86400000000", []).unwrap();
    let expired = || project.lockgate_ok(&["audit", "list"]).matches("expired").count();
    assert_eq!(expired(), 0);
    assert_eq!(age(), 1);
    project.catch_up(false);
    assert_eq!((expired(), project.held_rows().0.len()), (1, 0));
    // By the next command as by the next run, and once.
    project.source_does("UPDATE person SET born = 'CANARY-3' WHERE id = 9").await;
    project.catch_up(true);
    age();
    assert!(project.held_rows().0.is_empty());
    assert_eq!(expired(), 2);
    project.lockgate_ok(&["held", "list"]);
    assert_eq!(expired(), 2);
    project.lockgate_ok(&["audit", "verify"]);
    project.assert_nowhere(&[project.lockgate_ok(&["audit", "list"])]);
    project.end().await;
}
