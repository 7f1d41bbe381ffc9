//! A stricter policy over stored rows: the result is that of a fresh copy, and nothing of what is hidden now is left.

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
