//! I8: whatever is wrong is said with what happened, where, and what to do; nothing else stalls.

use sandbox::PrivatePostgres;

use super::project::{Project, files};

const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i;";
const POLICY: &str = "  db.public.t: { id: keep, v: keep }\n";

impl Project {
    /// Runs the program, which must fail with this code and a message with all of these parts.
    pub(super) fn refuses(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.lockgate(arguments);
        let message = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "lockgate {arguments:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "lockgate {arguments:?} does not say `{part}`: {message}");
        }
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
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
    project.refuses(&["query", "SELEKT 1"], 1, &["fix:"]);
    project.refuses(&["query", "SELECT * FROM db.public.nothing"], 1, &["nothing", "fix:"]);
    project.refuses(&["query", "DROP TABLE db.public.t"], 1, &["fix:"]);
    project.refuses(&["query", "SELECT 1 FROM db.public.t", "--at", "yesterday"], 1, &["--at", "fix:"]);
    project.refuses(&["query", "SELECT 1 FROM db.public.t", "--at", "999"], 1, &["999", "fix:"]);
    project.refuses(&["--no-such-option"], 2, &["--no-such-option"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.t"), ["20"]);
    project.end().await;
}
