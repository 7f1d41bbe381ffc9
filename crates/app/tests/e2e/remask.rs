//! A stricter policy over stored rows: the result is that of a fresh copy, and nothing of what is hidden now is left.

use std::path::Path;

use super::erase::traced;
use super::project::Project;

const SETUP: &str = "CREATE TABLE members (member_id int PRIMARY KEY, name text, zip text, plan text, born date); CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO members SELECT i, 'name-of-' || i, '02139', 'plan-' || i, date '1980-01-01' + i FROM generate_series(1, 60) i; INSERT INTO other VALUES (1);";
const LOOSE: &str = "  db.public.members: { member_id: keep, name: keep, zip: keep, plan: keep, born: keep }\n  db.public.other: { id: keep }\n";
const STRICT: &str = "  db.public.members: { member_id: hmac_token(member), zip: zip3, plan: keep, born: date_trunc(month) }\n  db.public.other: { id: keep }\n";
const COLUMNS: &str = "SELECT member_id, zip, plan, born FROM db.public.members ORDER BY plan";

#[tokio::test(flavor = "multi_thread")]
async fn stored_rows_become_what_a_fresh_copy_would_be_and_the_stream_goes_on() {
    let project = Project::new("remask", SETUP, &["public.members", "public.other"], LOOSE).await;
    project.lockgate_ok(&["run", "--once"]);
    let change =
        "UPDATE members SET plan = plan || '!' WHERE member_id % 3 = 0; DELETE FROM members WHERE member_id = 5";
    project.database.batch_execute(change).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let lake = project.dir.join("lake");
    let names = ["name-of-7", "name-of-33"];
    assert!(traced(&lake, &names).len() >= 2);

    project.write_policy(STRICT);
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3));
    let said = project.lockgate_ok(&["remask"]);
    assert!(
        said.contains("members: born, member_id, name, zip") || said.contains("name, born, member_id, zip"),
        "{said}"
    );
    assert!(said.contains("other: nothing to do"), "{said}");
    assert_eq!(traced(&lake, &names), Vec::<String>::new());
    assert_eq!(project.lockgate_ok(&["remask", "--table", "db.public.members"]), "db.public.members: nothing to do\n");

    let change = "UPDATE members SET plan = plan || '?' WHERE member_id < 10; DELETE FROM members WHERE member_id = 6; INSERT INTO members VALUES (99, 'name-of-99', '10001', 'plan-99', '1999-09-09')";
    project.database.batch_execute(change).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let remasked = project.query(COLUMNS);
    assert_eq!(remasked.len(), 59);
    assert!(remasked.iter().all(|row| row.starts_with("member.1.")));
    for folder in ["members", "members__changes"] {
        std::fs::remove_dir_all(project.lake_table(folder)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query(COLUMNS), remasked, "a fresh copy under the new policy is another");

    // What is not stored cannot be computed: that is said, with the way on.
    project.write_policy(LOOSE);
    let refused = project.lockgate(&["remask"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot be computed from that") && said.contains("Copy the table anew"), "{said}");
    assert_eq!(project.lockgate(&["audit", "verify"]).status.code(), Some(0));
    assert!(project.lockgate_ok(&["audit", "list"]).contains("remasked columns="));
    project.end().await;
}

/// Makes the log say that the rows were processed in another year.
fn backdate(folder: &Path) {
    let files = std::fs::read_dir(folder.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let mut found = false;
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let year = |year: i32| format!("processed_in\\\":{year}");
        let dated = (2026..2100).fold(text.clone(), |text, now| text.replace(&year(now), &year(2025)));
        found |= dated != text;
        std::fs::write(&path, dated).unwrap();
    }
    assert!(found, "no commit of {} says its year", folder.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_years_of_the_past_until_they_are_remasked() {
    let policy = "  db.public.members: { member_id: hmac_token(member), plan: keep, born: dob_generalise }\n  db.public.other: { id: keep }\n";
    let project = Project::new("remask_years", SETUP, &["public.members", "public.other"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    assert!(!project.lockgate_ok(&["status"]).contains("earlier or unknown year"));
    for folder in ["members", "members__changes", "other"] {
        backdate(&project.lake_table(folder));
    }
    let query = "SELECT member_id, plan, born FROM db.public.members ORDER BY plan";
    let before = project.query(query);
    project.database.batch_execute("UPDATE members SET plan = plan || '!'").await.unwrap();
    // What comes in the new year does not hide what is there of the old one.
    project.lockgate_ok(&["run", "--once"]);
    let status: serde_json::Value = serde_json::from_str(&project.lockgate_ok(&["status", "--json"])).unwrap();
    let outdated: Vec<_> = status["tables"].as_array().unwrap().iter().map(|line| &line["outdated_columns"]).collect();
    assert_eq!(outdated, [&serde_json::json!(["born"]), &serde_json::json!([])]);
    assert!(project.lockgate_ok(&["status"]).contains("db.public.members: made in an earlier or unknown year"));
    let said = project.lockgate_ok(&["remask"]);
    assert!(said.contains("db.public.members: born as the policy wants it now"), "{said}");
    assert!(said.contains("other: nothing to do"), "{said}");
    assert!(!project.lockgate_ok(&["status"]).contains("earlier or unknown year"));
    assert_eq!(project.lockgate_ok(&["remask", "--table", "db.public.members"]), "db.public.members: nothing to do\n");
    project.lockgate_ok(&["run", "--once"]);
    let after: Vec<String> = project.query(query).iter().map(|row| row.replace('!', "")).collect();
    assert_eq!(after, before);
    project.end().await;
}
