//! A table with a k_gate leaves in groups of at least k, as DuckDB counts them, and in no other way.

use std::path::Path;
use std::process::Command;

use super::foreign_readers::python;
use super::project::{Project, files};

/// 400 persons, nearly half of them in places and years of their own, and visits of 40 of them.
const SETUP: &str = "
    CREATE TABLE members (member_id int PRIMARY KEY, zip text, born date, plan text);
    CREATE TABLE visits (id int PRIMARY KEY, member_id int, zip text);
    INSERT INTO members SELECT i, CASE WHEN i <= 220 THEN '10025' ELSE (10001 + i * 137 % 9000)::text END,
        date '1940-06-01' + CASE WHEN i <= 220 THEN i % 3 * 366 ELSE i * 61 END, 'plan' FROM generate_series(1, 400) i;
    INSERT INTO visits SELECT i, i % 40, CASE WHEN i % 40 = 7 THEN '90210' ELSE '10025' END FROM generate_series(1, 800) i;";
const TABLES: [&str; 2] = ["public.members", "public.visits"];
const POLICY: &str = "  db.public.members:
    '*': { k_gate: { columns: { zip: [prefix(2), prefix(1)], born: [round(5), round(20)] } } }
    member_id: hmac_token(member)
    zip: zip3
    born: dob_generalise
    plan: keep
  db.public.visits:
    '*': { k_gate: { k: 5, person: member_id, columns: { zip: [redact(ANY)] } } }
    id: keep
    member_id: hmac_token(member)
    zip: zip3
";

fn duckdb(python: &Path, sql: &str) -> Vec<String> {
    let program = "import duckdb, sys\nfor row in duckdb.sql(sys.argv[1]).fetchall(): print(*row)";
    let output = Command::new(python).args(["-c", program, sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn report(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("release.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_leaves_in_groups_of_at_least_k_and_in_no_other_way() {
    let project = Project::new("release", SETUP, &TABLES, POLICY).await;
    let early = project.lockgate(&["release", "db.public.members", "--to", "out"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("not in the lake yet"));
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("DELETE FROM members WHERE member_id = 1").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);

    let folder = |name: &str| project.dir.join(name);
    let release =
        |table: &str, to: &str| project.lockgate(&["release", table, "--to", &folder(to).display().to_string()]);
    let said = release("db.public.members", "members");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let told = report(&folder("members"));
    let rows = told["rows"].as_u64().unwrap();
    assert!((219..399).contains(&rows), "{told}");
    let left_out = 399 - rows;
    assert_eq!(told["suppressed_rows"].as_u64(), (left_out >= 11).then_some(left_out));
    assert!(told["levels"].as_array().unwrap().len() >= 2, "{told}");
    assert!(told["levels"].as_array().unwrap().iter().all(|level| level["rows"].as_u64().unwrap() >= 11));
    let mut names: Vec<_> = files(&folder("members")).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["release.json", "rows.parquet"]);
    let log = project.lockgate_ok(&["audit", "list", "--json"]);
    assert!(log.contains("\"released\"") && log.contains(told["sha256"].as_str().unwrap()), "{log}");
    assert!(release("db.public.visits", "visits").status.success());
    // 20 visits of one person are one person.
    assert_eq!(
        (&report(&folder("visits"))["rows"], &report(&folder("visits"))["suppressed_rows"]),
        (&780.into(), &serde_json::Value::Null)
    );

    match python() {
        None => println!("skipped: DuckDB is not installed; `scripts/setup.sh test` installs it"),
        Some(python) => {
            let file = |name: &str| format!("'{}'", folder(name).join("rows.parquet").display());
            let groups =
                format!("SELECT min(c), sum(c) FROM (SELECT count(*) c FROM {} GROUP BY zip, born)", file("members"));
            let line = duckdb(&python, &groups).remove(0);
            let (least, all) = line.split_once(' ').unwrap();
            assert!(least.parse::<u64>().unwrap() >= 11 && all.parse::<u64>().unwrap() == rows, "{line}");
            let persons =
                format!("SELECT min(c) FROM (SELECT count(DISTINCT member_id) c FROM {} GROUP BY zip)", file("visits"));
            assert!(duckdb(&python, &persons)[0].parse::<u64>().unwrap() >= 5);
            let columns =
                duckdb(&python, &format!("SELECT column_name FROM (DESCRIBE SELECT * FROM {})", file("members")));
            assert_eq!(columns, ["member_id", "zip", "born", "plan"]);
        }
    }

    for (question, code) in [
        ("SELECT * FROM db.public.members", 3),
        ("SELECT count(*) FROM db.public.members__changes", 3),
        ("SELECT zip FROM db.public.visits UNION ALL SELECT zip FROM db.public.members", 3),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM db.public.members WHERE zip = '100')", 3),
        ("DESCRIBE db.public.members", 3),
        ("SHOW TABLES", 0),
    ] {
        let answer = project.lockgate(&["query", question, "--format", "csv"]);
        assert_eq!(answer.status.code(), Some(code), "{question}: {}", String::from_utf8_lossy(&answer.stderr));
        assert!(!String::from_utf8_lossy(&answer.stdout).contains("members"));
    }
    let refused = [
        (release("db.public.members", "members"), "is not empty"),
        (release("db.public.nothing", "other"), "has no table"),
        (release("members", "other"), "source.schema.table"),
    ];
    for (output, part) in refused {
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let explained = project.lockgate_ok(&["policy", "explain"]);
    assert!(explained.contains("is released in groups: k 11; zip: prefix(2) > prefix(1)"), "{explained}");
    project.write_policy(&POLICY.replace("[redact(ANY)]", "[round(5)]"));
    let unfit = release("db.public.visits", "other");
    assert_eq!(unfit.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&unfit.stderr).contains("`round(5)` reads"));
    project.write_policy(
        &POLICY.replace("    '*': { k_gate: { k: 5, person: member_id, columns: { zip: [redact(ANY)] } } }\n", ""),
    );
    assert!(String::from_utf8_lossy(&release("db.public.visits", "other").stderr).contains("has no k_gate"));

    let expires = |day: &str| {
        let claim =
            format!("profile: expert\nexpert: {{ name: a, method: b, expires: {day} }}\nkeys: file:./keys/test.key\n");
        std::fs::write(project.dir.join("policy.yaml"), format!("{claim}tables:\n{POLICY}")).unwrap();
    };
    expires("2020-01-31");
    let expired = release("db.public.members", "other");
    let said = String::from_utf8_lossy(&expired.stderr);
    assert!(expired.status.code() == Some(3) && said.contains("determination expired on 2020-01-31"), "{said}");
    assert!(!folder("other").join("rows.parquet").exists());
    assert!(project.lockgate_ok(&["status"]).contains("holds through 2020-01-31"));
    expires("9999-01-31");
    assert!(!project.lockgate_ok(&["status"]).contains("holds through"));
    assert!(release("db.public.members", "last").status.success());
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_hides_by_now_is_not_released_before_it_is_remasked() {
    let setup = "CREATE TABLE members (member_id int PRIMARY KEY, zip text, plan text);
        INSERT INTO members SELECT i, '10025', 'plan' FROM generate_series(1, 40) i;";
    let policy = "  db.public.members:
    '*': { k_gate: { columns: { zip: [prefix(2)] } } }
    member_id: hmac_token(member)
    zip: zip3
    plan: keep
";
    let project = Project::new("release_stale", setup, &["public.members"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    let release = |to: &str| {
        let to = project.dir.join(to).display().to_string();
        project.lockgate(&["release", "db.public.members", "--to", &to])
    };
    assert!(release("before").status.success());
    let before = report(&project.dir.join("before"));
    assert_eq!(before["policy"], before["stored_under"]);

    project.write_policy(&policy.replace("plan: keep", "plan: drop"));
    let refused = release("stale");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("plan is stored under `keep`, and the policy now says `drop`"), "{said}");
    assert!(said.contains("lockgate remask"), "{said}");
    assert!(!project.dir.join("stale").exists());
    assert_eq!(project.lockgate_ok(&["audit", "list", "--json"]).matches("\"released\"").count(), 1);

    project.lockgate_ok(&["remask"]);
    assert!(release("after").status.success());
    let after = report(&project.dir.join("after"));
    assert!(after["policy"] == after["stored_under"] && after["policy"] != before["policy"], "{after}");
    // Other groups of the same rows: the rows are still those of then.
    project.write_policy(&policy.replace("plan: keep", "plan: drop").replace("prefix(2)", "prefix(1)"));
    assert!(release("groups").status.success());
    let groups = report(&project.dir.join("groups"));
    assert!(groups["stored_under"] == after["policy"] && groups["policy"] != after["policy"], "{groups}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_row_of_a_table_with_a_k_gate_is_not_shown() {
    let setup = "CREATE TABLE members (member_id int PRIMARY KEY, zip text, born text, plan text);
        INSERT INTO members SELECT i, '10025', '1980-01-01', 'plan' FROM generate_series(1, 20) i;
        INSERT INTO members VALUES (21, '90210', 'n/a', 'silver');";
    let policy = "  db.public.members:
    '*': { k_gate: { columns: { zip: [prefix(2)] } } }
    member_id: hmac_token(member)
    zip: zip3
    born: { transform: date_year, on_invalid: hold }
    plan: keep
max_invalid_percent: 50
";
    let project = Project::new("held_groups", setup, &["public.members"], policy).await;
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3));
    let list: serde_json::Value = serde_json::from_str(&project.lockgate_ok(&["held", "list", "--json"])).unwrap();
    let id = list[0]["id"].to_string();
    let shown = project.lockgate_ok(&["held", "show", &id]);
    assert!(shown.contains("born: (cannot be read)") && shown.contains("has a k_gate"), "{shown}");
    assert!(!shown.contains("902") && !shown.contains("silver") && !shown.contains("member.1."), "{shown}");
    project.write_policy(&policy.replace("    '*': { k_gate: { columns: { zip: [prefix(2)] } } }\n", ""));
    let shown = project.lockgate_ok(&["held", "show", &id]);
    assert!(shown.contains("plan: silver") && shown.contains("zip: 902"), "{shown}");
    project.end().await;
}
