//! X12 documents in a column: they join with the tables, wrong ones are held, and an erased person's are gone.

use super::project::Project;

const CLAIM: &str = include_str!("../../../flow/gate/data/x12/sample-837p.x12");
/// Whom the sample is about.
const MEMBER: &str = "1EG4TE5MK73";
const POLICY: &str = "  db.public.members: { member_id: hmac_token(member), plan: keep }
  db.public.inbox:
    id: keep
    doc: { transform: x12_map(837p), on_invalid: hold, paths: { NM1*IL.09: hmac_token(member) } }
";

#[tokio::test(flavor = "multi_thread")]
async fn documents_join_wrong_ones_are_held_and_erased_persons_are_gone() {
    let setup = format!(
        "CREATE TABLE members (member_id text PRIMARY KEY, plan text); CREATE TABLE inbox (id int PRIMARY KEY, doc text);
         INSERT INTO members VALUES ('{MEMBER}', 'gold'), ('other', 'silver');
         INSERT INTO inbox VALUES (1, '{CLAIM}'), (2, '{}'), (3, NULL), (4, '{}'), (5, 'Jane Sample, 078-05-1120')",
        CLAIM.replace(MEMBER, "other"),
        CLAIM.replace("GE*1*1", "GE*2*1"),
    );
    let project = Project::new("x12", &setup, &["public.members", "public.inbox"], POLICY).await;
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3), "rows are held");
    assert_eq!(project.query("SELECT id FROM db.public.inbox ORDER BY id"), ["1", "2", "3"]);
    let held = project.lockgate_ok(&["held", "list"]);
    assert!(held.contains("x12_map(837p") && !held.contains("Jane"), "{held}");
    let joined =
        "SELECT plan FROM db.public.inbox i JOIN db.public.members m ON strpos(i.doc, m.member_id) > 0 ORDER BY i.id";
    assert_eq!(project.query(joined), ["gold", "silver"]);
    let document = project.query("SELECT doc FROM db.public.inbox WHERE id = 1").join("\n");
    for gone in ["JANE", "SAMPLE", "EXAMPLE", "078051120", MEMBER, "19310508"] {
        assert!(!document.contains(gone), "{gone} is in {document}");
    }
    project.lockgate_ok(&["verify", "--table", "public.members"]);
    for id in [4, 5] {
        project.database.batch_execute(&format!("DELETE FROM inbox WHERE id = {id}")).await.unwrap();
    }
    assert_eq!(
        project.lockgate(&["run", "--once"]).status.code(),
        Some(3),
        "what follows held rows is held behind them"
    );
    project.lockgate_ok(&["held", "drop", "--all"]);

    project.erase_ok(&["--subject", "db.public.members.member_id"], &format!("{MEMBER}\n"));
    assert_eq!(project.query("SELECT id FROM db.public.inbox ORDER BY id"), ["2", "3"]);
    // A late document of the person does not come in.
    project.database.batch_execute(&format!("INSERT INTO inbox VALUES (9, '{CLAIM}')")).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.inbox WHERE id = 9"), ["0"]);

    // Without hold, a wrong envelope stops the table, and only it.
    project.write_policy(&POLICY.replace(", on_invalid: hold", ""));
    project
        .database
        .batch_execute("INSERT INTO inbox VALUES (10, 'ISA*'); INSERT INTO members VALUES ('new', 'x')")
        .await
        .unwrap();
    let stopped = project.lockgate(&["run", "--once"]);
    assert_eq!(stopped.status.code(), Some(3));
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(said.contains("cannot read 1 value") && !said.contains("ISA*"), "{said}");
    assert_eq!(project.query("SELECT count(*) FROM db.public.members"), ["2"]);
    project.end().await;
}
