//! Extreme shapes at a small size; `cargo x scale` has the large ones.

use std::process::{Command, Output};

use super::project::Project;

const TABLES: usize = 40;

/// Runs the program under another limit on open files (`-Sn` soft, `-n` both).
fn limited(project: &Project, limit: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} 128 && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_lockgate")]);
    command.arg("--dir").arg(&project.dir).args(["run", "--once"]).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tables_are_opened_under_a_low_soft_limit_and_refused_under_a_low_hard_one() {
    let each = |text: &dyn Fn(usize) -> String| (1..=TABLES).map(text).collect::<String>();
    let setup = each(&|at| format!("CREATE TABLE t{at} (id int PRIMARY KEY); INSERT INTO t{at} VALUES ({at});"));
    let policy = each(&|at| format!("  db.public.t{at}: {{ id: keep }}\n"));
    let project = Project::new("many", &setup, &["public.*"], &policy).await;
    let refused = limited(&project, "-n");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("40 tables need about 260 open files") && said.contains("LimitNOFILE=260"), "{said}");
    let opened = limited(&project, "-Sn");
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    for table in [1, TABLES] {
        project.assert_same(&format!("t{table}"), &["id"]).await;
    }
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_beyond_a_batch_arrive_whole_and_so_does_the_next_one() {
    let insert = |first: u32| {
        format!(
            "INSERT INTO large VALUES ({first}, repeat('abcdefgh', 3000000), NULL);
             INSERT INTO large VALUES ({first} + 1, NULL, decode(repeat('0123456789abcdef', 3000000), 'hex'));
             INSERT INTO large VALUES ({first} + 2, 'next', '\\x00ff');"
        )
    };
    let setup = format!("CREATE TABLE large (id int PRIMARY KEY, v text, b bytea); {}", insert(1));
    let policy = "  db.public.large: { id: keep, v: keep, b: keep }\n";
    let project = Project::new("large", &setup, &["public.large"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("large", &["id", "md5(v)", "md5(b)"]).await;
    project.database.batch_execute(&insert(11)).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("large", &["id", "md5(v)", "md5(b)"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_as_many_columns_as_postgres_has_is_copied_and_followed() {
    let columns = |text: &dyn Fn(usize) -> String| (2..=1600).map(text).collect::<String>();
    let declared = columns(&|at| format!(", c{at} smallint"));
    let values = columns(&|at| format!(", g + {at}"));
    let insert =
        |first: u32| format!("INSERT INTO broad SELECT g{values} FROM generate_series({first}, {first} + 9) g");
    let setup = format!("CREATE TABLE broad (id int PRIMARY KEY{declared}); {}", insert(1));
    let policy = format!("  db.public.broad:\n    id: keep\n{}", columns(&|at| format!("    c{at}: keep\n")));
    let project = Project::new("broad", &setup, &["public.broad"], &policy).await;
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute(&insert(11)).await.unwrap();
    project
        .database
        .batch_execute("UPDATE broad SET c1600 = 7 WHERE id < 5; DELETE FROM broad WHERE id = 9")
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let names: Vec<String> = (2..=1600).map(|at| format!("c{at}")).collect();
    let names: Vec<&str> = std::iter::once("id").chain(names.iter().map(String::as_str)).collect();
    project.assert_same("broad", &names).await;
    project.end().await;
}
