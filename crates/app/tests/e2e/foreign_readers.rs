//! I7: readers that we did not write see what our reader sees, on tables with deletion vectors, a grown structure and a truncate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::project::Project;

/// A row by column, every value as text; null as `None`.
pub(crate) type Row = BTreeMap<String, Option<String>>;

#[tokio::test(flavor = "multi_thread")]
async fn foreign_readers_see_what_we_see() {
    let Some(python) = python() else {
        println!("skipped: no foreign readers are installed; `scripts/setup.sh test` installs them");
        return;
    };
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2), local timestamp); CREATE TABLE cut (id int PRIMARY KEY);
        INSERT INTO t SELECT i, 'v' || i, i, '2026-01-02 03:04:05.6' FROM generate_series(1, 3000) i; INSERT INTO cut SELECT generate_series(1, 100);";
    let policy = "  db.public.t: { id: keep, v: keep, n: keep, local: keep, more: keep }\n  db.public.cut: { id: keep, local: keep }\n";
    let project = Project::new(
        "readers",
        setup,
        &["public.t", "public.cut"],
        &policy.replace(", more: keep", "").replace("cut: { id: keep, local: keep }", "cut: { id: keep }"),
    )
    .await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .database
        .batch_execute(
            "UPDATE t SET n = n + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id % 10 = 0; ALTER TABLE t ADD COLUMN more date;
             UPDATE t SET more = '2026-02-03' WHERE id < 50; TRUNCATE cut; ALTER TABLE cut ADD COLUMN local timestamp; INSERT INTO cut VALUES (7, '2026-01-01');",
        )
        .await
        .unwrap();
    project.write_policy(policy);
    project.lockgate_ok(&["run", "--once"]);
    let tables: [(&str, &[&str]); 4] = [
        ("t", &["id", "v", "n", "more"]),
        ("cut", &["id"]),
        ("t__changes", &["id", "v", "n", "more", "_lg_op"]),
        ("cut__changes", &["id", "_lg_op"]),
    ];
    for (table, columns) in tables {
        let ours = our_rows(&project, table, columns);
        for (reader, theirs) in foreign_rows(&python, &project.lake_table(table), columns) {
            assert_eq!(theirs.len(), ours.len(), "rows of {table} through {reader}");
            assert!(theirs == ours, "{table}: {reader} sees other values than we do");
        }
    }
    project.end().await;
}

/// The Python that has the readers, if set-up has made it.
pub(crate) fn python() -> Option<PathBuf> {
    let tools = std::env::var_os("LOCKGATE_TOOLS").map_or_else(|| root().join(".tools"), PathBuf::from);
    Some(tools.join("venv/bin/python")).filter(|python| python.is_file())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn our_rows(project: &Project, table: &str, columns: &[&str]) -> Vec<Row> {
    let texts: Vec<String> = columns.iter().map(|column| format!("cast({column} as varchar) AS {column}")).collect();
    let sql = format!("SELECT {} FROM db.public.{table}", texts.join(", "));
    let answer = project.lockgate_ok(&["query", &sql, "--format", "json"]);
    let row = |line: &str| {
        let mut row: Row = serde_json::from_str(line).unwrap();
        // JSON lines leave out nulls.
        for column in columns {
            row.entry((*column).to_owned()).or_default();
        }
        row
    };
    let mut rows: Vec<Row> = answer.lines().map(row).collect();
    rows.sort_unstable();
    rows
}

/// What every reader sees, by the reader's name.
pub(crate) fn foreign_rows(python: &Path, table: &Path, columns: &[&str]) -> Vec<(String, Vec<Row>)> {
    let mut command = Command::new(python);
    command.arg(root().join("tests/readers/read.py")).args(["all", "--rows", "--columns", &columns.join(",")]);
    let output = command.arg(table).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |line: &str| {
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        let reader = found["reader"].as_str().unwrap().to_owned();
        assert!(found["ok"].as_bool().unwrap(), "{reader} cannot read {}: {}", table.display(), found["error"]);
        let rows = found["rows"].as_array().unwrap().iter().map(|row| row.as_str().unwrap());
        let mut rows: Vec<Row> = rows.map(|row| serde_json::from_str(row).unwrap()).collect();
        rows.sort_unstable();
        (reader, rows)
    };
    let seen: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(read).collect();
    assert!(seen.len() >= 3, "only {} readers answered", seen.len());
    seen
}
