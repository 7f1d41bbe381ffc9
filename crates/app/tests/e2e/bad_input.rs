//! I8: whatever is wrong is said with what happened, where, and what to do; nothing else stalls.

use std::process::Stdio;

use sandbox::PrivatePostgres;

use super::project::{Project, files};

const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i;";
const POLICY: &str = "  db.public.t: { id: keep, v: keep }\n";

impl Project {
    /// Runs the program, which must fail with this code and a message with all of these parts.
    pub(super) fn refuses(&self, arguments: &[&str], code: i32, parts: &[&str]) -> String {
        let output = self.lockgate(arguments);
        let message = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "lockgate {arguments:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "lockgate {arguments:?} does not say `{part}`: {message}");
        }
        message
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_are_refused_with_their_line() {
    let project = Project::new("files", SETUP, &["public.t"], POLICY).await;
    let refuse = |file: &str, from: &str, to: &str, parts: &[&str]| {
        project.edit(file, from, to);
        project.refuses(&["check"], 1, parts);
        project.refuses(&["run", "--once"], 1, parts);
        project.edit(file, to, from);
    };
    refuse("lockgate.yaml", "tables:", "tabels:", &["lockgate.yaml:", "tabels", "fix:"]);
    refuse("lockgate.yaml", "max_rows: 20000", "max_rows: lots", &["lockgate.yaml:", "max_rows", "fix:"]);
    refuse("policy.yaml", "v: keep", "v: kepe", &["policy.yaml:4", "kepe", "keep", "fix:"]);
    refuse("policy.yaml", "profile: none", "profile: nun", &["policy.yaml:1", "nun", "fix:"]);
    refuse("policy.yaml", "file:./keys/test.key", "file:./keys/none.key", &["none.key", "fix:"]);
    refuse("policy.yaml", "profile: none", "profile: safe_harbor", &["policy.yaml", "safe_harbor", "fix:"]);
    project.edit("policy.yaml", "v: keep", "vv: keep");
    project.refuses(&["check", "--connect"], 1, &["policy.yaml:4", "vv", "fix:"]);
    project.edit("policy.yaml", "vv: keep", "v: keep");
    project.lockgate_ok(&["check", "--connect"]);
    std::fs::write(project.dir.join("keys/test.key"), "lockgate-keys 1\ntenant t\nepoch 1 xyz abc\ncurrent 1\n")
        .unwrap();
    project.refuses(&["check"], 1, &["test.key", "fix:"]);
    std::fs::remove_file(project.dir.join("policy.yaml")).unwrap();
    project.refuses(&["check"], 1, &["policy.yaml", "lockgate init"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_databases_are_told_apart() {
    let postgres = PrivatePostgres::with().password("right").start().await.unwrap();
    let project = Project::on(postgres, "database", SETUP, &["public.t"], POLICY).await;
    let url = project.postgres.url("postgres", "postgres");
    let refuse = |to: String, code: i32, parts: &[&str]| {
        project.edit("lockgate.yaml", &url, &to);
        project.refuses(&["run", "--once"], code, parts);
        project.edit("lockgate.yaml", &to, &url);
    };
    let port = format!(":{}", project.postgres.port());
    refuse(url.replace(&port, ":1"), 4, &["localhost", "fix:"]);
    let elsewhere = url.replace("localhost", "no-such-host.invalid");
    refuse(elsewhere.clone(), 1, &["sslmode", "verify-full", "fix:"]);
    refuse(elsewhere.replace("sslmode=disable", "sslmode=verify-full"), 4, &["no-such-host.invalid", "fix:"]);
    refuse(url.replace("/postgres?", "/nowhere?"), 1, &["nowhere", "fix:"]);
    // Without a password, then with a wrong one, then as a role that may not.
    project.refuses(&["run", "--once"], 1, &["password", "fix:"]);
    std::fs::write(project.dir.join("pw"), "wrong\n").unwrap();
    project.edit("lockgate.yaml", "      slot:", "      password: ${file:pw}\n      slot:");
    project.refuses(&["run", "--once"], 1, &["password", "fix:"]);
    std::fs::write(project.dir.join("pw"), "right\n").unwrap();
    project.edit("lockgate.yaml", "[public.t]", "[public.nothing]");
    project.refuses(&["check", "--connect"], 1, &["public.nothing", "fix:"]);
    project.edit("lockgate.yaml", "[public.nothing]", "[public.t]");
    project
        .database
        .batch_execute("CREATE ROLE reader LOGIN PASSWORD 'right'; GRANT USAGE ON SCHEMA public TO reader")
        .await
        .unwrap();
    let reader = project.postgres.url("reader", "postgres");
    project.edit("lockgate.yaml", &url, &reader);
    project.refuses(&["check", "--connect"], 1, &["REPLICATION", "GRANT SELECT", "fix:"]);
    project.edit("lockgate.yaml", &reader, &url);
    project.lockgate_ok(&["check", "--connect"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_logical_decoding_is_refused_with_the_setting() {
    let postgres = PrivatePostgres::with().setting("wal_level", "replica").start().await.unwrap();
    let project = Project::on(postgres, "wal", SETUP, &["public.t"], POLICY).await;
    project.refuses(&["check", "--connect"], 1, &["wal_level", "logical", "fix:"]);
    project.refuses(&["run", "--once"], 1, &["wal_level", "logical", "fix:"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_rebuilt_and_a_damaged_log_is_refused() {
    let project = Project::new("damage", SETUP, &["public.t"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let indexes: Vec<_> = files(&project.dir.join(".lockgate/index")).into_iter().collect();
    assert!(!indexes.is_empty());
    for index in indexes {
        let mut bytes = std::fs::read(&index).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0xff;
        }
        std::fs::write(&index, bytes).unwrap();
    }
    project.database.batch_execute("UPDATE t SET v = 'w' WHERE id <= 10; DELETE FROM t WHERE id = 20").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v"]).await;

    let log = project.lake_table("t").join("_delta_log");
    let last = files(&log).into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")).max().unwrap();
    std::fs::write(&last, "{\"add\":{\"path\"").unwrap();
    let output = project.lockgate(&["run", "--once"]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("db.public.t") && message.contains("fix:"), "{message}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_and_types_that_do_not_fit_stop_their_table_and_name_the_column() {
    let setup = "CREATE TABLE good (id int PRIMARY KEY); INSERT INTO good SELECT generate_series(1, 5);
        CREATE TABLE day (id int PRIMARY KEY, d date); INSERT INTO day VALUES (1, '2026-01-01');";
    let policy = "  db.public.good: { id: keep }\n  db.public.day: { id: keep, d: keep }\n";
    let project = Project::new("values", setup, &["public.good", "public.day"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .database
        .batch_execute("INSERT INTO day VALUES (2, 'infinity'); INSERT INTO good VALUES (6)")
        .await
        .unwrap();
    project.refuses(&["run", "--once"], 3, &["db.public.day", "d", "fix:"]);
    project.assert_same("good", &["id"]).await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.day"), ["1"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_answered() {
    let project = Project::new("questions", SETUP, &["public.t"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    for (sql, cause, fix) in [
        ("SELEKT 1", "SELEKT", "Correct the statement"),
        ("SELECT * FROM db.public.nothing", "table 'db.public.nothing' not found", "SHOW TABLES"),
        ("DROP TABLE db.public.t", "DDL not supported", "Ask with SELECT"),
        ("SELECT nothing FROM db.public.t", "nothing", "DESCRIBE"),
        ("SELECT 1 / 0", "Divide by zero", "NULLIF"),
        ("SELECT CAST('abc' AS int)", "abc", "TRY_CAST"),
        ("SELECT CAST(v || 'abc' AS int) FROM db.public.t", "abc", "TRY_CAST"),
    ] {
        let said = project.refuses(&["query", sql], 1, &[cause, "fix:", fix]);
        assert_eq!(said.matches(cause).count(), 1, "the cause once: {said}");
    }
    project.refuses(&["query", "SELECT 1 FROM db.public.t", "--at", "yesterday"], 1, &["--at", "fix:"]);
    project.refuses(&["query", "SELECT 1 FROM db.public.t", "--at", "999"], 1, &["999", "fix:"]);
    project.refuses(&["--no-such-option"], 2, &["--no-such-option"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.t"), ["20"]);
    let shown = ["query", "SHOW TABLES", "--at", "2020-01-01T00:00:00Z"];
    assert!(project.lockgate_ok(&shown).contains("t__changes"));
    project.refuses(
        &["query", "SELECT count(*) FROM db.public.t", "--at", "2020-01-01T00:00:00Z"],
        1,
        &["db.public.t did not exist then: its first version is of", "fix: Ask for a later time"],
    );
    // After the end of its history the table was no other one either.
    project.write_policy("  db.public.t: { id: keep }\n");
    project.lockgate_ok(&["remask"]);
    for at in ["2020-01-01T00:00:00Z", "0"] {
        let said = project.refuses(
            &["query", "SELECT count(*) FROM db.public.t", "--at", at],
            1,
            &["were removed by remask, erase or retention", "fix: Ask for version"],
        );
        assert!(!said.contains("remove the table's folder"), "{said}");
        let oldest = said.split("Ask for version ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        project.lockgate_ok(&["query", "SELECT count(*) FROM db.public.t", "--at", &oldest]);
    }
    // A file that somebody took away: what is missing, and no word of the statement.
    let data =
        files(&project.lake_table("t")).into_iter().filter(|file| file.extension().is_some_and(|e| e == "parquet"));
    for file in data.filter(|file| !file.display().to_string().contains("_delta_log")) {
        std::fs::remove_file(file).unwrap();
    }
    let said = project.refuses(
        &["query", "SELECT id FROM db.public.t"],
        3,
        &[".parquet of the lake cannot be read", "fix: Do not remove files from the lake by hand"],
    );
    assert!(!said.contains("SHOW TABLES"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_only_the_head_of_an_output_is_no_failure() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('v', 50) FROM generate_series(1, 20000) i;";
    let project = Project::new("head", setup, &["public.t"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    for arguments in [
        &["completions", "bash"][..],
        &["query", "SELECT * FROM db.public.t", "--format", "csv"],
        &["query", "SELECT * FROM db.public.t", "--format", "json"],
        &["query", "SELECT * FROM db.public.t"],
    ] {
        let mut command = project.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Its reader goes before anything is read.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "lockgate {arguments:?}: {said}");
    }
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_said_once_and_where_they_stand() {
    let setup = format!(
        "{SETUP} CREATE TABLE u (id int PRIMARY KEY); CREATE ROLE reader LOGIN REPLICATION; GRANT SELECT ON t TO reader;"
    );
    let project = Project::new("once", &setup, &["public.t", "public.u"], POLICY).await;
    // A table that the policy does not name needs neither grant nor publication.
    project.database.batch_execute("CREATE PUBLICATION lockgate_e2e FOR TABLE t").await.unwrap();
    project.edit("lockgate.yaml", "postgresql://postgres@", "postgresql://reader@");
    project.lockgate_ok(&["check", "--connect"]);
    project.write_policy(&format!("{POLICY}  db.public.u: {{ id: keep }}\n"));
    let said = project.refuses(&["check", "--connect"], 1, &["GRANT SELECT ON public.u TO reader", "ADD TABLE"]);
    assert!(!said.contains("Did you mean") && !said.contains("no source captures"), "{said}");
    project.write_policy(POLICY);
    for (from, to, line, part) in [
        ("slot: lockgate_e2e", "slot: Lockgate", 6, "replication slot"),
        ("tables: [public.t, public.u]", "tables: [public.t, db.public.u]", 7, "Write `public.u`"),
        ("max_seconds: 0.3", "max_seconds: 0", 8, "`max_seconds: 0` is too small"),
        ("lake: ./lake", "lake: hdfs://x/y", 1, "hdfs:// are not known"),
    ] {
        project.edit("lockgate.yaml", from, to);
        let said = project.refuses(&["check"], 1, &[&format!("lockgate.yaml:{line}: "), part, "1 to fix"]);
        assert_eq!(said.matches("fix: ").count(), 1, "{said}");
        project.edit("lockgate.yaml", to, from);
    }
    project.write_policy("  db.public.t: { id: keep, v: no_such }\n");
    let said = project.refuses(&["check", "--connect"], 1, &["policy.yaml:4"]);
    assert_eq!(said.matches("no_such").count(), 1, "the files and the databases tell the same: {said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_stopped_tables_does_not_say_that_it_caught_up() {
    let project = Project::new("allstopped", SETUP, &["public.t"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project.write_policy("  db.public.t: { id: keep }\n");
    let said = project.refuses(&["run", "--once"], 3, &["db.public.t is stopped", "every table is stopped"]);
    assert!(!said.contains("caught up:") && !said.contains("next: lockgate query"), "{said}");
    project.end().await;
}
