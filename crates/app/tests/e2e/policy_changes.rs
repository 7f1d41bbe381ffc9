//! A policy or a structure that changes under stored rows, and tables that cannot be followed: their own table stops, nothing is mixed,
//! nothing is lost.

use super::project::{Project, Running};

const SETUP: &str =
    "CREATE TABLE coded (code text PRIMARY KEY, ssn text, v int); CREATE TABLE other (id int PRIMARY KEY, v int);
    INSERT INTO coded SELECT 'K' || i, '900-11-' || (1000 + i), i FROM generate_series(1, 100) i;
    INSERT INTO other SELECT i, i FROM generate_series(1, 10) i;";
const TABLES: [&str; 2] = ["public.coded", "public.other"];
const POLICY: &str =
    "  db.public.coded: { code: keep, ssn: keep, v: keep }\n  db.public.other: { id: keep, v: keep }\n";

impl Project {
    /// A run with `--once`, which must hold exactly one table back and say all of these parts.
    fn held(&self, parts: &[&str]) {
        let output = self.lockgate(&["run", "--once"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not said:\n{said}");
        }
    }

    /// A run that has made its first copies and follows the log, as the table `other` shows.
    async fn follow(&self) -> Running {
        self.lockgate_ok(&["run", "--once"]);
        let running = self.start();
        self.database.batch_execute("UPDATE other SET v = 100 WHERE id = 1").await.unwrap();
        self.wait_for("SELECT max(v) FROM db.public.other", "100").await;
        running
    }

    /// What the source does while a run follows it, until the run is past it.
    async fn pass(&self, sql: &str) {
        self.database.batch_execute(&format!("{sql}; UPDATE other SET v = 200 WHERE id = 1")).await.unwrap();
        self.wait_for("SELECT max(v) FROM db.public.other", "200").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_rule_for_a_stored_column_stops_its_table_until_it_is_put_back_or_copied_anew() {
    let project = Project::new("rules", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let change = "UPDATE coded SET v = v + 1 WHERE code IN ('K1', 'K2'); DELETE FROM coded WHERE code = 'K3'; UPDATE other SET v = v + 1";
    project.database.batch_execute(change).await.unwrap();
    for (rule, column) in
        [("code: hmac_token(code), ssn: keep", "code"), ("code: keep, ssn: drop", "ssn"), ("code: keep", "ssn")]
    {
        project.write_policy(&POLICY.replace("code: keep, ssn: keep", rule));
        project.held(&[&format!("column `{column}` is stored under `keep`"), "copied anew"]);
        project.assert_same("other", &["id", "v"]).await;
    }
    // Nothing of the changes was confirmed: with the old rule they come in.
    project.write_policy(POLICY);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("coded", &["code", "ssn", "v"]).await;
    // Without its folders the table is copied under the new rule.
    project.write_policy(&POLICY.replace("ssn: keep", "ssn: drop"));
    for folder in ["coded", "coded__changes"] {
        std::fs::remove_dir_all(project.lake_table(folder)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("coded", &["code", "v"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_of_another_vault_stop_their_table() {
    let policy = POLICY.replace("ssn: keep", "ssn: vault_code(ssn)");
    let project = Project::new("vault", SETUP, &TABLES, &policy).await;
    project.lockgate_ok(&["run", "--once"]);
    std::fs::remove_dir_all(project.dir.join(".lockgate")).unwrap();
    project.held(&["another vault", "Restore that file from its backup"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_stops_its_table_before_null_is_stored_over_its_values() {
    let project = Project::new("renamed", SETUP, &TABLES, POLICY).await;
    let running = project.follow().await;
    project.pass("ALTER TABLE coded RENAME COLUMN ssn TO tax_number; UPDATE coded SET v = v + 1").await;
    assert_eq!(project.query("SELECT count(ssn) FROM db.public.coded"), ["100"]);
    assert_eq!(running.terminate(), Some(3));
    let status = project.lockgate(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("the column that was `ssn` is called `tax_number` now"));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_column_stops_its_table_where_the_policy_says_so_until_a_rule_names_it() {
    const HALTS: &str = "  db.public.person: { \"*\": { new_columns: halt }, id: keep, plan: keep }\n  db.public.other: { id: keep, v: keep }\n";
    let setup = "CREATE TABLE person (id int PRIMARY KEY, plan text); INSERT INTO person SELECT i, 'p' FROM generate_series(1, 20) i;
        CREATE TABLE other (id int PRIMARY KEY, v int); INSERT INTO other VALUES (1, 1);";
    let project = Project::new("halting", setup, &["public.person", "public.other"], HALTS).await;
    let running = project.follow().await;
    project.pass("ALTER TABLE person ADD COLUMN note text; UPDATE person SET note = 'secret' WHERE id = 1").await;
    assert_eq!(running.terminate(), Some(3));
    // In mid-stream, and again at a start.
    for _ in 0..2 {
        project.held(&["db.public.person is stopped", "person.note (text) has no rule", "`note: drop` keeps it out"]);
    }
    project.write_policy(&HALTS.replace("plan: keep", "plan: keep, note: drop"));
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.person__changes WHERE _lg_op = 'u'"), ["1"]);
    assert!(!project.query("SELECT * FROM information_schema.columns").iter().any(|column| column.contains("note")));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_takes_the_name_of_another_does_not_pass_under_its_rule() {
    const SETUP: &str = "CREATE TABLE person (id int PRIMARY KEY, ssn text, plan text); CREATE TABLE patient (LIKE person INCLUDING ALL);
        INSERT INTO person SELECT i, 'secret ' || i, 'plan ' || i FROM generate_series(1, 20) i; INSERT INTO patient SELECT * FROM person;
        CREATE TABLE other (id int PRIMARY KEY, v int); INSERT INTO other VALUES (1, 1);";
    const RULES: &str = "  db.public.person: { id: keep, ssn: drop, plan: keep }\n  db.public.patient: { id: keep, ssn: drop, plan: keep }
  db.public.other: { id: keep, v: keep }\n";
    let project = Project::new("taken", SETUP, &["public.person", "public.patient", "public.other"], RULES).await;
    let running = project.follow().await;
    // In mid-stream over a column that has left, and between two runs by a swap.
    let taken =
        "ALTER TABLE person DROP COLUMN plan; ALTER TABLE person RENAME COLUMN ssn TO plan; UPDATE person SET id = id";
    project.pass(taken).await;
    assert_eq!(running.terminate(), Some(3));
    let swapped = "ALTER TABLE patient RENAME COLUMN plan TO x; ALTER TABLE patient RENAME COLUMN ssn TO plan;
        ALTER TABLE patient RENAME COLUMN x TO ssn; UPDATE patient SET id = id";
    project.database.batch_execute(swapped).await.unwrap();
    for table in ["person", "patient"] {
        project.held(&[&format!("db.public.{table} is stopped"), "the column that was `ssn` is called `plan` now"]);
        for layer in ["", "__changes"] {
            let secret = format!("SELECT count(*) FROM db.public.{table}{layer} WHERE plan LIKE 'secret%'");
            assert_eq!(project.query(&secret), ["0"]);
        }
    }
    // What the fix says: the names have the rules that their values need, and the table is copied anew.
    let policy = project.dir.join("policy.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let text = text.replace("ssn: drop, plan: keep", "ssn: keep, plan: drop");
    std::fs::write(
        &policy,
        text.replace("person: { id: keep, ssn: keep, plan: drop", "person: { id: keep, plan: drop"),
    )
    .unwrap();
    for table in ["person", "person__changes", "patient", "patient__changes"] {
        std::fs::remove_dir_all(project.lake_table(table)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(ssn) FROM db.public.patient WHERE ssn LIKE 'plan%'"), ["20"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_followed_stops_alone_and_loses_nothing() {
    let project = Project::new("refused", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .database
        .batch_execute("UPDATE coded SET v = -1 WHERE code = 'K5'; ALTER TABLE coded DROP CONSTRAINT coded_pkey; UPDATE other SET v = 7")
        .await
        .unwrap();
    project.held(&["db.public.coded is stopped", "key"]);
    project.assert_same("other", &["id", "v"]).await;
    project.database.batch_execute("ALTER TABLE coded ADD PRIMARY KEY (code)").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("coded", &["code", "ssn", "v"]).await;
    // Its changes were kept: nothing was copied anew.
    let log = "SELECT _lg_op, count(*) FROM db.public.coded__changes GROUP BY 1 ORDER BY 1";
    assert_eq!(project.query(log), ["r,100", "u,1"]);
    // A table that is gone is named; what the lake holds of it stays.
    project.database.batch_execute("DROP TABLE coded; UPDATE other SET v = 8").await.unwrap();
    project.held(&["db.public.coded is stopped: the source has no such table"]);
    project.assert_same("other", &["id", "v"]).await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.coded"), ["100"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_were_logged_under_a_name_do_not_pass_by_the_rule_of_the_column_that_has_it_now() {
    const RULES: &str = "  db.public.person: { id: keep, plan: keep }\n";
    let setup = "CREATE TABLE person (id int PRIMARY KEY, plan text, code text); INSERT INTO person VALUES (1, 'p', 'secret'), (2, 'p', 'secret');";
    let project = Project::new("logged", setup, &["public.person"], RULES).await;
    project.lockgate_ok(&["run", "--once"]);
    let renamed =
        "UPDATE person SET plan = 'q'; ALTER TABLE person RENAME code TO old_code; ALTER TABLE person ADD code text;
        UPDATE person SET code = 'plain' WHERE id = 1";
    for statement in renamed.split(';') {
        project.database.batch_execute(statement).await.unwrap();
    }
    project.write_policy("  db.public.person: { id: keep, plan: keep, code: keep }\n");
    project.held(&["db.public.person is stopped", "its columns had other names", "copied anew"]);
    for layer in ["", "__changes"] {
        let columns = project.query(&format!("SELECT * FROM db.public.person{layer}"));
        assert!(columns.iter().all(|row| !row.contains("secret")));
        std::fs::remove_dir_all(project.lake_table(&format!("person{layer}"))).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT id, code FROM db.public.person ORDER BY id"), ["1,plain", "2,"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_source_has_dropped_is_null_also_after_a_new_start() {
    const RULES: &str = "  db.public.person: { id: keep, plan: keep, extra: keep, old: keep, ssn: drop }\n";
    let setup = "CREATE TABLE person (id int PRIMARY KEY, plan text, extra text, old text, ssn text);
        INSERT INTO person VALUES (1, 'p', 'e', 'o', 's'), (2, 'p', 'e', 'o', 's');";
    let project = Project::new("dropped", setup, &["public.person"], RULES).await;
    project.lockgate_ok(&["run", "--once"]);
    let dropped =
        "ALTER TABLE person DROP COLUMN extra, DROP COLUMN old, DROP COLUMN ssn; INSERT INTO person VALUES (3, 'p')";
    project.database.batch_execute(dropped).await.unwrap();
    let check = || {
        let output = project.lockgate(&["check", "--connect"]);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for _ in 0..2 {
        let said = project.lockgate(&["run", "--once"]);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        for column in ["extra", "ssn"] {
            assert!(said.contains(&format!("person.{column} was dropped at the source")), "{said}");
        }
        let (code, checked) = check();
        assert!(code == Some(0) && checked.contains("nothing to fix; next: lockgate run"), "{checked}");
        assert_eq!(project.query("SELECT id, extra FROM db.public.person ORDER BY id"), ["1,e", "2,e", "3,"]);
        let advice = |column: &str, fix: &str| {
            let line =
                checked.lines().skip_while(|line| !line.contains(&format!("person.{column} was dropped"))).nth(1);
            assert!(line.is_some_and(|line| line.contains(fix)), "{column}: {checked}");
        };
        advice("extra", "Keep the rule for as long as the lake keeps its values");
        advice("ssn", "nothing of it is in the lake");
    }
    // A rule that is `drop` only now leaves what is stored, until it is taken out.
    let rules = RULES.replace("old: keep", "old: drop");
    project.write_policy(&rules);
    let (_, checked) = check();
    assert!(
        checked.contains("person.old was dropped at the source, and its values from before are still"),
        "{checked}"
    );
    project.lockgate_ok(&["remask"]);
    assert_eq!(project.query("SELECT * FROM db.public.person WHERE id = 1").join("").matches('o').count(), 0);
    let (_, checked) = check();
    assert!(!checked.contains("still in the lake") && checked.contains("person.old was dropped"), "{checked}");
    // A lake that cannot be asked makes no column a mistake.
    let (lake, away) = (project.dir.join("lake"), project.dir.join("away"));
    std::fs::rename(&lake, &away).unwrap();
    std::fs::write(&lake, "no folder").unwrap();
    let (code, said) = check();
    assert!(code == Some(1) && said.contains("1 to fix"), "{said}");
    assert!(said.contains("Whether it ever had one is known once the lake can be read"), "{said}");
    std::fs::remove_file(&lake).unwrap();
    std::fs::rename(&away, &lake).unwrap();
    project.write_policy(RULES);
    // A name that no column ever had is a mistake, and one that was renamed is not one that was dropped.
    project.write_policy(&RULES.replace("extra: keep", "extra: keep, plans: keep"));
    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() != Some(0) && said.contains("Did you mean `plan`?"), "{said}");
    assert_eq!(project.lockgate(&["check", "--connect"]).status.code(), Some(1));
    project.write_policy(RULES);
    project
        .database
        .batch_execute("ALTER TABLE person RENAME COLUMN plan TO scheme; INSERT INTO person VALUES (4, 'q')")
        .await
        .unwrap();
    project.held(&["the column that was `plan` is called `scheme` now"]);
    assert_eq!(project.query("SELECT count(plan) FROM db.public.person"), ["3"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_delta_log_stops_its_table_and_no_other() {
    let project = Project::new("damaged", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let log = project.lake_table("coded").join("_delta_log");
    let entries = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let newest = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).max().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    project.database.batch_execute("UPDATE coded SET v = v + 1; UPDATE other SET v = v + 1").await.unwrap();
    project.held(&["db.public.coded is stopped", "Delta log"]);
    project.assert_same("other", &["id", "v"]).await;
    // Its changes are still there when the log is restored.
    std::fs::write(&newest, &whole).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let log = "SELECT _lg_op, count(*) FROM db.public.coded__changes GROUP BY 1 ORDER BY 1";
    assert_eq!(project.query(log), ["r,100", "u,100"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_for_some_tables_keeps_the_log_for_the_others() {
    let project = Project::new("some", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("UPDATE coded SET v = v + 1; UPDATE other SET v = v + 1").await.unwrap();
    project.lockgate_ok(&["run", "--once", "--table", "public.other"]);
    project.assert_same("other", &["id", "v"]).await;
    assert_eq!(project.query("SELECT max(v) FROM db.public.coded"), ["100"]);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("coded", &["code", "ssn", "v"]).await;
    let log = "SELECT _lg_op, count(*) FROM db.public.coded__changes GROUP BY 1 ORDER BY 1";
    assert_eq!(project.query(log), ["r,100", "u,100"]);
    project.end().await;
}
