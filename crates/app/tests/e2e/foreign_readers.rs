//! I7: readers that we did not write see what our reader sees, on tables with deletion vectors, a grown structure and a truncate.

use std::path::PathBuf;
use std::process::Command;

use super::project::Project;

#[tokio::test(flavor = "multi_thread")]
async fn foreign_readers_see_what_we_see() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".venv/bin/python");
    if !python.exists() {
        println!("skipped: no foreign readers are installed (.venv); `make test` installs them");
        return;
    }
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2)); CREATE TABLE cut (id int PRIMARY KEY);
        INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 3000) i; INSERT INTO cut SELECT generate_series(1, 100);";
    let policy = "  db.public.t: { id: keep, v: keep, n: keep, more: keep }\n  db.public.cut: { id: keep }\n";
    let project =
        Project::new("readers", setup, &["public.t", "public.cut"], &policy.replace(", more: keep", "")).await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .database
        .batch_execute(
            "UPDATE t SET n = n + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id % 10 = 0; ALTER TABLE t ADD COLUMN more date;
             UPDATE t SET more = '2026-02-03' WHERE id < 50; TRUNCATE cut; INSERT INTO cut VALUES (7);",
        )
        .await
        .unwrap();
    project.write_policy(policy);
    project.lockgate_ok(&["run", "--once"]);
    for (table, columns) in [("t", "id,v,n,more"), ("cut", "id"), ("t__changes", "id,v,n,_lg_op")] {
        let ours = project.query(&format!("SELECT count(*) AS n, sum(id) AS s FROM db.public.{table}"));
        let output = Command::new(&python)
            .arg(root.join("tests/readers/read.py"))
            .arg("--summary")
            .arg(columns)
            .arg(project.lake_table(table))
            .output()
            .unwrap();
        assert!(output.status.success(), "{table}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let readers: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(readers.len() >= 2, "{table}: {text}");
        for reader in &readers {
            assert_eq!(
                format!("{},{}", reader["rows"], reader["sum_id"]),
                ours[0],
                "{table} through {}",
                reader["reader"]
            );
            assert_eq!(reader["hash"], readers[0]["hash"], "{table} through {}", reader["reader"]);
        }
    }
    project.end().await;
}
