//! Tokens and codes as bytes and numbers, ages as text, and what stands for null, through copy, stream, remasking, rotation and erasure.

use super::erase::traced;
use super::foreign_readers::{Row, foreign_rows, python};
use super::project::Project;

const SETUP: &str = "
    CREATE TABLE members (member_id int PRIMARY KEY, chart text, ref text, age int, zip text, plan text);
    CREATE TABLE claims (claim_id int PRIMARY KEY, member_id int, ref text, reason text);
    CREATE TABLE visits (member_id int, zip text, note text); ALTER TABLE visits REPLICA IDENTITY FULL;
    INSERT INTO members SELECT i, 'chart ' || i, 'ref ' || i, i + 60, CASE WHEN i % 3 > 0 THEN '02139' END, CASE WHEN i % 4 > 0 THEN 'plan-of-person-' || i END
        FROM generate_series(1, 60) i;
    INSERT INTO claims SELECT i * 10 + k, i, 'ref ' || i, 'reason-of-person-' || i FROM generate_series(1, 60) i, generate_series(0, 2) k;
    INSERT INTO visits SELECT i, CASE WHEN i % 2 = 0 THEN '02139' END, 'note-of-person-' || i FROM generate_series(1, 60) i;";
const TABLES: [&str; 3] = ["public.members", "public.claims", "public.visits"];
const POLICY: &str = "  db.public.members:
    member_id: hmac_token(member,binary)
    chart: vault_code(chart,binary)
    ref: vault_code(ref,int64)
    age: age_cap(text)
    zip: { transform: zip3, null_as: '000' }
    plan: { transform: keep, null_as: none }
  db.public.claims: { claim_id: vault_code(claim int64), member_id: hmac_token(member binary), ref: vault_code(ref int64), reason: keep }
  db.public.visits: { member_id: hmac_token(member binary), zip: zip3, note: keep }
";
const CHANGES: &str = "UPDATE members SET plan = NULL, age = age + 1 WHERE member_id IN (7, 9); UPDATE members SET member_id = 70 WHERE member_id = 10;
    DELETE FROM members WHERE member_id = 11; INSERT INTO members VALUES (71, NULL, NULL, NULL, 'x', 'plan-of-person-71'), (72, 'chart 1', 'ref 1', -1, NULL, NULL);
    DELETE FROM claims WHERE claim_id = 72; UPDATE claims SET claim_id = claim_id + 5000 WHERE claim_id = 80; UPDATE claims SET reason = 'late' WHERE member_id = 9;
    DELETE FROM visits WHERE zip IS NULL AND member_id BETWEEN 21 AND 29; UPDATE visits SET zip = NULL WHERE member_id IN (20, 22);";
/// All rows, with bytes in hexadecimal digits.
const MEMBERS: &str = "SELECT encode(member_id, 'hex') AS member_id, encode(chart, 'hex') AS chart, ref, age, zip, plan FROM db.public.members";
const CLAIMS: &str = "SELECT claim_id, encode(member_id, 'hex') AS member_id, ref, reason FROM db.public.claims";
const VISITS: &str = "SELECT encode(member_id, 'hex') AS member_id, zip, note FROM db.public.visits";

impl Project {
    fn rows(&self, sql: &str) -> Vec<String> {
        let mut rows = self.query(sql);
        rows.sort_unstable();
        rows
    }

    fn all(&self) -> [Vec<String>; 3] {
        [MEMBERS, CLAIMS, VISITS].map(|sql| self.rows(sql))
    }

    /// What does not hang on keys and vault is what the source has, and tokens and codes join as the values do.
    async fn assert_as_the_source(&self) {
        let shown = "CASE WHEN age >= 90 THEN '90+' WHEN age >= 0 THEN cast(age AS text) END";
        let zip = "CASE WHEN zip = '02139' THEN '021' ELSE '000' END";
        let source = format!("SELECT {shown} AS age, {zip} AS zip, coalesce(plan, 'none') AS plan FROM members");
        let mut source = self.source(&source).await;
        source.sort_unstable();
        assert_eq!(self.rows("SELECT age, zip, plan FROM db.public.members"), source);
        let mut source = self.source("SELECT CASE WHEN zip = '02139' THEN '021' END AS zip, note FROM visits").await;
        source.sort_unstable();
        assert_eq!(self.rows("SELECT zip, note FROM db.public.visits"), source);
        for column in ["member_id", "ref"] {
            let joined = |schema: &str| {
                format!(
                    "SELECT m.plan, c.reason FROM {schema}members m JOIN {schema}claims c ON m.{column} = c.{column} WHERE m.plan IS NOT NULL AND m.plan <> 'none'"
                )
            };
            let mut source = self.source(&joined("")).await;
            source.sort_unstable();
            assert!(source.len() > 90);
            assert_eq!(self.rows(&joined("db.public.")), source, "{column}");
        }
        let distinct = "SELECT count(*), count(DISTINCT member_id), count(DISTINCT chart), count(DISTINCT ref) FROM";
        assert_eq!(
            self.query(&format!("{distinct} db.public.members")),
            self.source(&format!("{distinct} members")).await
        );
        assert_eq!(
            self.query("SELECT count(*), count(DISTINCT claim_id) FROM db.public.claims"),
            self.source("SELECT count(*), count(DISTINCT claim_id) FROM claims").await
        );
    }

    /// Other readers see the bytes, the numbers and the text that our reader sees.
    fn assert_read_by_others(&self) {
        let Some(python) = python() else { return };
        for (table, sql, columns) in [
            ("members", MEMBERS, &["member_id", "chart", "ref", "age", "zip", "plan"][..]),
            ("claims", CLAIMS, &["claim_id", "member_id", "ref", "reason"]),
            ("visits", VISITS, &["member_id", "zip", "note"]),
        ] {
            let answer = self.lockgate_ok(&["query", sql, "--format", "json"]);
            let ours = |line: &str| {
                let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
                let text = |column: &&str| match row.get(*column) {
                    None | Some(serde_json::Value::Null) => None,
                    Some(serde_json::Value::String(text)) => Some(text.clone()),
                    Some(other) => Some(other.to_string()),
                };
                columns.iter().map(|column| ((*column).to_owned(), text(column))).collect::<Row>()
            };
            let mut ours: Vec<Row> = answer.lines().map(ours).collect();
            ours.sort_unstable();
            for (reader, theirs) in foreign_rows(&python, &self.lake_table(table), columns) {
                assert!(theirs == ours, "{table}: {reader} sees other values than we do");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_numbers_ages_and_constants_are_the_same_by_copy_stream_and_remasking() {
    // A column that is kept at first becomes one of codes.
    let loose = POLICY.replace("chart: vault_code(chart,binary)", "chart: keep");
    let project = Project::new("codes", SETUP, &TABLES, &loose).await;
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute(CHANGES).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert!(!traced(&project.dir.join("lake"), &["chart 7"]).is_empty(), "the search finds what is there");
    project.write_policy(POLICY);
    let said = project.lockgate_ok(&["remask"]);
    assert!(said.contains("members: chart as the policy wants it now"), "{said}");
    assert_eq!(traced(&project.dir.join("lake"), &["chart 7"]), Vec::<String>::new());
    project.assert_as_the_source().await;
    project.assert_read_by_others();
    // A change that carries its key alone has nothing that stands for null.
    let silent = "SELECT count(*), count(plan), count(zip), count(member_id) FROM db.public.members__changes WHERE \"_lg_op\" = 'd'";
    assert_eq!(project.query(silent), ["2,0,0,2"]);
    assert_eq!(project.lockgate(&["verify"]).status.code(), Some(0));

    let before = project.all();
    project.lockgate_ok(&["keys", "rotate"]);
    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("is stored under key epoch 1"), "{said}");
    assert_eq!(project.all(), before);
    let said = project.lockgate_ok(&["remask"]);
    assert!(said.contains("members: member_id") && said.contains("visits: member_id"), "{said}");
    for (before, after) in before.iter().zip(project.all()) {
        assert!(before.len() == after.len() && !before.iter().any(|row| after.contains(row)), "tokens of both epochs");
    }
    project.database.batch_execute("UPDATE members SET plan = NULL WHERE member_id = 12; DELETE FROM claims WHERE member_id = 13; INSERT INTO visits VALUES (12, NULL, 'new')").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_as_the_source().await;
    project.assert_read_by_others();

    // Codes of the vault never change, and a fresh copy has what a remasked table has.
    let remasked = project.all();
    for table in ["members", "claims", "visits"] {
        for folder in [table.to_owned(), format!("{table}__changes")] {
            std::fs::remove_dir_all(project.lake_table(&folder)).unwrap();
        }
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.all(), remasked, "a fresh copy is another");

    // Text is not computed from bytes, nor a constant from what is stored.
    project.write_policy(&POLICY.replace("(member,binary)", "(member)").replace("(member binary)", "(member)"));
    let refused = project.lockgate(&["remask"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(3) && said.contains("cannot be computed from that"), "{said}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_known_by_bytes_and_by_numbers_are_erased_and_do_not_come_back() {
    let project = Project::new("codes_erase", SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute(CHANGES).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    let lake = project.dir.join("lake");
    let traces = |person: u8| ["plan", "reason", "note"].map(|kind| format!("{kind}-of-person-{person}"));
    let traced_of = |person: u8, kinds: usize| {
        let texts = traces(person);
        traced(&lake, &texts.iter().take(kinds).map(String::as_str).collect::<Vec<_>>())
    };
    assert!(traced_of(7, 3).len() >= 3 && traced_of(8, 2).len() >= 2, "the search finds what is there");

    let said = project.erase_ok(&["--subject", "db.public.members.member_id"], "7\n");
    assert!(said.contains("1 persons") && said.contains("no trace"), "{said}");
    assert_eq!(traced_of(7, 3), Vec::<String>::new());
    // By a number only the columns of its domain are known; visits have none.
    let output = project.erase(&["--subject", "db.public.claims.ref"], "ref 15\nref 999\n");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(": 1 persons, ") && said.contains("no trace"), "{said}{warned}");
    assert!(warned.contains("lines 2 of the identifiers match nothing"), "{warned}");
    assert_eq!(traced_of(15, 2), Vec::<String>::new());
    let counts = |lines: [&str; 3]| {
        for (table, expected) in ["members", "claims", "visits"].iter().zip(lines) {
            assert_eq!(project.query(&format!("SELECT count(*) FROM db.public.{table}")), [expected], "{table}");
        }
    };
    let visits = project.source("SELECT count(*) FROM visits WHERE member_id <> 7").await;
    counts(["59", "174", &visits[0]]);

    let late = "UPDATE members SET zip = '10001' WHERE member_id IN (7, 15); INSERT INTO claims VALUES (9007, 7, 'ref 7', 'reason-of-person-7'), (9015, 15, 'ref 15', 'reason-of-person-15');
        UPDATE visits SET note = 'note-of-person-7' WHERE member_id = 7; DELETE FROM claims WHERE claim_id IN (71, 151);";
    project.database.batch_execute(late).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    assert!(traced_of(7, 3).is_empty() && traced_of(15, 2).is_empty());
    counts(["59", "174", &visits[0]]);
    project.end().await;
}
