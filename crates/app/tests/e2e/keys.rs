//! Rotated keys: stored tokens become those of the new epoch from the lake alone, rows of two epochs never stand in one column, and nothing
//! of the old ones is left.

use std::process::Stdio;
use std::time::Duration;

use super::cells::allow_to_reveal;
use super::erase::traced;
use super::project::Project;

const SETUP: &str = "
    CREATE TABLE members (member_id int PRIMARY KEY, ssn text, npi bigint, code text, given text, born date, document text, plan text);
    CREATE TABLE claims (claim_id int PRIMARY KEY, member_id int, reason text);
    CREATE TABLE other (id int PRIMARY KEY, v text);
    INSERT INTO members SELECT i, '900-11-' || (1000 + i), 1234567893, 'code ' || i, 'Name ' || i, date '1980-01-01' + i,
        '{\"member\":' || i || ',\"n\":1.50}', 'plan ' || i FROM generate_series(1, 50) i;
    INSERT INTO claims SELECT i * 10 + k, i, 'reason ' || i FROM generate_series(1, 50) i, generate_series(0, 3) k;
    INSERT INTO other VALUES (1, 'x');";
const TABLES: [&str; 3] = ["public.members", "public.claims", "public.other"];
const POLICY: &str = "  db.public.members:
    member_id: hmac_token(member)
    ssn: siv_token(ssn)
    npi: fpe_ff1(provider npi)
    code: vault_code(code)
    given: { transform: dict_surrogate(first_name person), subject: member_id }
    born: { transform: date_shift(person 90), subject: member_id }
    document: { transform: json_paths, paths: { member: hmac_token(member), n: keep } }
    plan: keep
  db.public.claims: { claim_id: hmac_token(claim), member_id: hmac_token(member), reason: keep }
  db.public.other: { id: keep, v: keep }
";
const MEMBERS: &str =
    "SELECT member_id, ssn, npi, code, given, born, document, plan FROM db.public.members ORDER BY plan, member_id";
const CLAIMS: &str = "SELECT claim_id, member_id, reason FROM db.public.claims ORDER BY claim_id";
const LOGGED: &str = "SELECT member_id, ssn, npi, document, plan FROM db.public.members__changes WHERE \"_lg_op\" <> 'd' ORDER BY plan, \"_lg_position\"";
const JOINED: &str = "SELECT count(*) FROM db.public.members m JOIN db.public.claims c ON m.member_id = c.member_id WHERE m.document LIKE '%' || c.member_id || '%'";
/// What every token of the first epoch begins with.
const OLD: [&str; 3] = ["member.1.", "ssn.1.", "claim.1."];

impl Project {
    async fn change(&self, sql: &str) {
        self.database.batch_execute(sql).await.unwrap();
    }

    /// A command that ends with this code and says all of these.
    fn says(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.lockgate(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?} does not say `{part}`: {said}");
        }
        self.assert_no_key(&said);
    }

    fn key_text(&self) -> String {
        std::fs::read_to_string(self.dir.join("keys/test.key")).unwrap()
    }

    /// No key of the file stands in a text.
    fn assert_no_key(&self, said: &str) {
        for line in self.key_text().lines().filter(|line| line.starts_with("epoch ")) {
            let key = line.split(' ').nth(2).unwrap();
            assert!(!said.contains(&key[..12]), "a key is printed");
        }
    }

    /// Tables without their copies in the lake: the next run copies them anew.
    fn forget(&self, tables: &[&str]) {
        for table in tables {
            for folder in [table.to_string(), format!("{table}__changes")] {
                std::fs::remove_dir_all(self.lake_table(&folder)).unwrap();
            }
        }
    }
}

/// A project whose tables have a history, some of it under deletion vectors.
async fn project(name: &str) -> Project {
    let project = Project::new(name, SETUP, &TABLES, POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project
        .change("UPDATE members SET ssn = '900-12-1000' WHERE member_id IN (7, 8); UPDATE claims SET claim_id = claim_id + 5000 WHERE claim_id = 70;
            DELETE FROM claims WHERE claim_id = 72; INSERT INTO claims VALUES (72, 7, 'late');")
        .await;
    project.lockgate_ok(&["run", "--once"]);
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_stored_tokens_are_those_of_a_fresh_copy_and_none_of_the_old_is_left() {
    let project = project("rotate").await;
    let (members, log) = (project.query(MEMBERS), project.query(LOGGED).len());
    assert!(traced(&project.dir.join("lake"), &OLD).len() >= 4, "the search finds what is there");
    project.says(&["keys", "rotate"], 0, &["epoch 2 is the current one", "it wraps epoch 1", "lockgate remask"]);
    project.says(&["keys", "show"], 0, &["db.public.members", "member_id", "codes of the vault", "older", "current"]);
    project.change("UPDATE members SET plan = 'after' WHERE member_id = 3; INSERT INTO claims VALUES (9001, 3, 'after'); UPDATE other SET v = 'y'").await;
    // Nothing of two epochs is mixed; a table without tokens goes on.
    project.says(
        &["run", "--once"],
        3,
        &["is stored under key epoch 1", "new rows come under epoch 2", "lockgate remask"],
    );
    assert_eq!(project.query("SELECT v FROM db.public.other"), ["y"]);
    assert_eq!(project.query(MEMBERS), members);

    project.says(
        &["remask"],
        0,
        &["members: document, member_id, npi, ssn", "other: nothing to do", "sealed records moved to key epoch 2"],
    );
    assert_eq!(traced(&project.dir.join("lake"), &OLD), Vec::<String>::new());
    assert_eq!(project.query(LOGGED).len(), log);
    project.says(&["remask"], 0, &["members: nothing to do", "claims: nothing to do"]);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("members", &["plan"]).await;
    project.assert_same("claims", &["reason"]).await;
    assert_eq!(project.query("SELECT count(*) FROM db.public.claims"), ["201"]);
    assert_eq!(project.query(JOINED), ["201"], "the tables of the domain join");
    // Codes, shifts and invented values are as before.
    let stays = |rows: &[String]| -> Vec<String> {
        let mut rows: Vec<_> =
            rows.iter().map(|row| row.split(',').skip(3).take(3).collect::<Vec<_>>().join(",")).collect();
        rows.sort();
        rows
    };
    let moved = project.query(MEMBERS);
    assert_eq!(stays(&moved), stays(&members));
    assert!(moved.iter().zip(&members).all(|(now, before)| now.split(',').nth(2) != before.split(',').nth(2)));
    project.says(&["verify"], 0, &[]);
    project.says(&["repair", "--force"], 0, &[]);

    // A shaped identifier does not tell its epoch: whoever opens it says it.
    allow_to_reveal(&project);
    let npi = project.query("SELECT DISTINCT npi FROM db.public.members").join("\n");
    let reveal = ["reveal", "--column", "db.public.members.npi", "--purpose", "payment"];
    let refused = project.fed(&reveal, &npi);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("--epoch N"), "{said}");
    assert_eq!(project.fed(&[&reveal[..], &["--epoch", "2"]].concat(), &npi).stdout, b"1234567893\n");

    let claims = project.query(CLAIMS);
    project.forget(&["members", "claims"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query(MEMBERS), moved, "a fresh copy under the new key is another");
    assert_eq!(project.query(CLAIMS), claims);

    project.says(
        &["keys", "retire", "1"],
        1,
        &["epoch 1 is still needed by", "the rule of db.public.members.member_id", "codes of the vault"],
    );
    project.says(&["keys", "retire", "2"], 1, &["epoch 2 is the current one"]);
    assert_eq!(project.lockgate(&["audit", "verify"]).status.code(), Some(0));
    let audit = project.lockgate_ok(&["audit", "list"]);
    assert!(audit.contains("key_rotated") && audit.contains("sealed_anew") && audit.contains("keys_shown"), "{audit}");
    project.assert_no_key(&audit);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_midst_of_remasking_is_mended_by_doing_it_again() {
    let project = project("rotate-kill").await;
    project.lockgate_ok(&["keys", "rotate"]);
    project.lockgate_ok(&["keys", "rotate"]);
    project
        .change("DELETE FROM claims WHERE member_id = 9; UPDATE members SET plan = plan || '!' WHERE member_id < 5")
        .await;
    let mut killed = 0;
    for pause in (1..).map(|step| Duration::from_millis(25 * step)) {
        let mut remask = project.command(&["remask"]);
        let mut remask = remask.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(pause).await;
        if remask.try_wait().unwrap().is_some() {
            break;
        }
        remask.kill().unwrap();
        remask.wait().unwrap();
        killed += 1;
        // What is half done is not written to.
        let run = project.lockgate(&["run", "--once"]).status.code();
        assert!(run == Some(3) || run == Some(0), "{run:?}");
    }
    assert!(killed > 3, "{killed} kills");
    project.lockgate_ok(&["remask"]);
    assert_eq!(
        traced(&project.dir.join("lake"), &[OLD.as_slice(), &["member.2.", "ssn.2."]].concat()),
        Vec::<String>::new()
    );
    project.lockgate_ok(&["run", "--once"]);
    let (members, claims) = (project.query(MEMBERS), project.query(CLAIMS));
    assert_eq!((members.len(), claims.len()), (50, 196));
    project.forget(&["members", "claims"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!((project.query(MEMBERS), project.query(CLAIMS)), (members, claims));
    project.end().await;
}

const SIMPLE: &str = "  db.public.members: { member_id: hmac_token(member), ssn: siv_token(ssn), plan: keep }
  db.public.claims: { claim_id: keep, member_id: hmac_token(member), reason: keep }
  db.public.other: { id: keep, v: keep }
";

async fn simple(name: &str) -> Project {
    let project = Project::new(name, SETUP, &TABLES, SIMPLE).await;
    project.lockgate_ok(&["run", "--once"]);
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_may_stay_and_older_tokens_may_stand_beside_the_new_ones_for_a_while() {
    let project = simple("rotate-dual").await;
    let ids = "SELECT member_id FROM db.public.members ORDER BY plan";
    let ssns = "SELECT ssn FROM db.public.members ORDER BY plan";
    let (old_ids, old_ssns) = (project.query(ids), project.query(ssns));
    project.lockgate_ok(&["keys", "rotate"]);
    let dual = SIMPLE
        .replace("hmac_token(member)", "{ transform: hmac_token(member), dual: 1 }")
        .replace("siv_token(ssn)", "{ transform: siv_token(ssn), epoch: 1 }");
    project.write_policy(&dual);
    project.says(&["run", "--once"], 3, &["column `member_id__epoch1` is to stand beside another", "lockgate remask"]);
    project.says(
        &["remask"],
        0,
        &["members: member_id, member_id__epoch1 as", "claims: member_id, member_id__epoch1 as"],
    );
    project.change("INSERT INTO members VALUES (777, '900-99-1000', 1234567893, 'c', 'n', '1999-09-09', '{}', 'plan 7'); INSERT INTO claims VALUES (777, 777, 'x'), (778, 5, 'x')").await;
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query(ssns).len(), 51);
    // The pinned column is as it was, new rows included; the older tokens are beside the new ones in every row.
    assert!(project.query(ssns).iter().all(|ssn| ssn.starts_with("ssn.1.")));
    assert!(old_ssns.iter().all(|ssn| project.query(ssns).contains(ssn)));
    let both = project.query("SELECT member_id, member_id__epoch1 FROM db.public.members ORDER BY plan");
    assert!(both.iter().all(|row| row.starts_with("member.2.") && row.contains(",member.1.")), "{both:?}");
    assert!(old_ids.iter().all(|id| both.iter().any(|row| row.ends_with(&format!(",{id}")))));
    for column in ["member_id", "member_id__epoch1"] {
        let sql =
            format!("SELECT count(*) FROM db.public.members m JOIN db.public.claims c ON m.{column} = c.{column}");
        assert_eq!(project.query(&sql), ["202"], "{column}");
    }
    project.says(&["verify"], 0, &[]);
    let all = "SELECT member_id, member_id__epoch1, ssn, plan FROM db.public.members ORDER BY member_id";
    let stored = project.query(all);
    project.forget(&["members"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query(all), stored, "a fresh copy is another");

    let said = project.erase_ok(&["--subject", "db.public.members.member_id"], "5\n");
    assert!(said.contains("no trace"), "{said}");
    project.write_policy(&SIMPLE.replace("siv_token(ssn)", "{ transform: siv_token(ssn), epoch: 1 }"));
    project.says(&["run", "--once"], 3, &["the policy has no `dual` for it any more", "lockgate remask"]);
    project.says(&["remask"], 0, &["members: member_id__epoch1 as"]);
    assert_eq!(traced(&project.dir.join("lake"), &["member.1."]), Vec::<String>::new());
    project.lockgate_ok(&["run", "--once"]);
    project.says(&["keys", "retire", "1"], 1, &["the rule of db.public.members.ssn", "records of erased persons"]);
    // Without the pin it moves, too.
    project.write_policy(SIMPLE);
    project.says(&["run", "--once"], 3, &["column `ssn` is stored under key epoch 1"]);
    project.says(&["remask"], 0, &["members: ssn as"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(traced(&project.dir.join("lake"), &["ssn.1."]), Vec::<String>::new());
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_compromise_nothing_passes_before_the_exposed_tables_are_remasked() {
    let project = simple("rotate-exposed").await;
    let said = ["exposed: domains member, ssn", "exposed: tables db.public.claims, db.public.members", "no run starts"];
    project.says(&["keys", "rotate", "--compromised"], 0, &said);
    project.change("UPDATE other SET v = 'late'").await;
    let refused = ["what a compromised key made: db.public.claims, db.public.members", "lockgate remask"];
    project.says(&["run", "--once"], 3, &refused);
    project.says(&["remask", "--table", "db.public.members"], 0, &["members: member_id, ssn"]);
    project.says(&["run", "--once"], 3, &["what a compromised key made: db.public.claims"]);
    assert_eq!(project.query("SELECT v FROM db.public.other"), ["x"], "something passed");
    project.lockgate_ok(&["remask"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT v FROM db.public.other"), ["late"]);
    assert_eq!(traced(&project.dir.join("lake"), &OLD), Vec::<String>::new());
    project.says(&["keys", "show"], 0, &["compromised"]);
    project.write_policy(&SIMPLE.replace("siv_token(ssn)", "{ transform: siv_token(ssn), epoch: 1 }"));
    project.says(&["run", "--once"], 1, &["made by the key of epoch 1, which is compromised", "fix: Take `epoch`"]);
    let audit = project.lockgate_ok(&["audit", "list"]);
    assert!(audit.contains("compromised=true") && audit.contains("tables=[\"db.public.claims\""), "{audit}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_rows_erased_persons_and_holds_outlive_a_rotation() {
    let policy = "  db.public.members: { member_id: hmac_token(member), born: { transform: date_year, on_invalid: hold }, plan: keep }\nmax_invalid_percent: 50\n";
    let setup = "CREATE TABLE members (member_id int PRIMARY KEY, born text, plan text);
        INSERT INTO members SELECT i, '1980-01-01', 'plan-of-person-' || i FROM generate_series(1, 40) i;
        UPDATE members SET born = 'CANARY-1931' WHERE member_id = 30;";
    let project = Project::new("rotate-held", setup, &["public.members"], policy).await;
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3));
    let subject = ["--subject", "db.public.members.member_id"];
    project.erase_ok(&subject, "7\n");
    project.erase_ok(&[&subject[..], &["--hold"]].concat(), "8\n");
    project.lockgate_ok(&["keys", "rotate"]);
    // Before anything is remasked, persons are found by their older tokens.
    project.erase_ok(&subject, "9\n");
    project.says(&["remask"], 0, &["members: member_id", "3 sealed records moved to key epoch 2"]);
    project.change("UPDATE members SET plan = plan WHERE member_id IN (7, 9); UPDATE members SET plan = 'x' WHERE member_id IN (8, 30)").await;
    assert_eq!(project.lockgate(&["run", "--once"]).status.code(), Some(3), "a row is held");
    assert!(project.lockgate_ok(&["held", "show", "1"]).contains("member_id: member.2."));
    project.says(&["keys", "retire", "1"], 1, &["held rows", "records of erased persons", "the record of legal holds"]);
    project.write_policy(&policy.replace("{ transform: date_year, on_invalid: hold }", "date_year"));
    project.lockgate_ok(&["held", "release", "--all"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*), count(DISTINCT member_id) FROM db.public.members"), ["38,38"]);
    assert_eq!(
        project.query("SELECT count(*) FROM db.public.members WHERE plan IN ('plan-of-person-7', 'plan-of-person-9')"),
        ["0"]
    );
    project.forget(&["members"]);
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members"), ["38"], "erased persons came back");
    let mut erase = project.command(&[&["erase"][..], &subject].concat());
    let mut erase = erase.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut erase.stdin.take().unwrap(), b"8\n").unwrap();
    assert_eq!(erase.wait().unwrap().code(), Some(3), "a person on legal hold was erased");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_does_not_fit_the_lake_is_refused() {
    let project = simple("rotate-wrong").await;
    let path = project.dir.join("keys/test.key");
    let first = project.key_text();
    project.lockgate_ok(&["keys", "rotate"]);
    let unused = project.key_text();
    project.lockgate_ok(&["remask"]);
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["keys", "rotate"]);
    let third = project.key_text();
    let line = |text: &str, start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    let other = gate::KeyRing::rotated(
        &first,
        &zeroize::Zeroizing::new([9; 31].iter().copied().chain([1]).collect::<Vec<u8>>().try_into().unwrap()),
        0,
        false,
    )
    .unwrap();
    project.change("UPDATE members SET plan = plan || '!' WHERE member_id = 1").await;
    let damaged = unused
        .replace(&line(&unused, "epoch 2")[..20], &line(&unused, "epoch 2")[..20].replace("epoch 2 ", "epoch 2 f"));
    let cases: [(String, i32, &str); 9] = [
        (first.clone(), 3, "of key epoch 2, which the key file does not have"),
        (unused.replace("current 2", "current 1"), 1, "epoch 2 wraps it already"),
        (unused.replace(&format!("{}\n", line(&unused, "epoch 1")), ""), 1, "epoch 1 is missing"),
        (unused.replace(&format!("{}\n", line(&unused, "epoch 2")), ""), 1, "the current epoch has no key"),
        (other.to_string(), 3, "the key of epoch 2 is not the one"),
        (unused.replace("wraps 2 1\n", ""), 3, "the key of epoch 2 is not the one"),
        (third.replace("wraps 3 2", "wraps 2 3"), 1, "twice"),
        (damaged, 1, "64 hexadecimal digits"),
        (third.clone(), 3, "is stored under key epoch 2, and new rows come under epoch 3"),
    ];
    let tokens = project.query("SELECT member_id FROM db.public.members ORDER BY member_id");
    for (text, code, expected) in cases {
        std::fs::write(&path, text).unwrap();
        project.says(&["run", "--once"], code, &[expected, "fix:"]);
    }
    // A chain that was cut cannot be walked, and tables are left as they are.
    std::fs::write(&path, third.replace("wraps 3 2\n", "")).unwrap();
    project.says(&["remask"], 3, &["cannot be brought from there", "copy the table anew"]);
    assert_eq!(project.query("SELECT member_id FROM db.public.members ORDER BY member_id"), tokens);
    std::fs::write(&path, &third).unwrap();
    for (arguments, expected) in [
        (&["keys", "retire", "9"][..], "no key for epoch 9"),
        (&["keys", "retire", "2"], "db.public.members: member_id, ssn"),
        (&["keys", "rotate", "--out", "keys/test.key"], "cannot make the file"),
    ] {
        let mut command = project.command(arguments);
        let output = command.current_dir(&project.dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && said.contains(expected) && said.contains("fix:"),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(project.key_text(), third, "nothing was written");
    // A run goes on: it gives its turn, and the keys are not exchanged under it.
    project.lockgate_ok(&["remask"]);
    let running = project.start();
    project.wait_for("SELECT count(*) FROM db.public.members WHERE plan LIKE '%!'", "1").await;
    project.says(&["keys", "rotate"], 0, &["epoch 4 is the current one"]);
    project.says(&["remask"], 0, &["members: "]);
    project.change("UPDATE members SET plan = plan || '!' WHERE member_id = 1").await;
    project.wait_for("SELECT count(*) FROM db.public.members WHERE plan LIKE '%!!'", "1").await;
    assert_eq!(running.terminate(), Some(0));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nothing_needs_is_retired_and_one_from_elsewhere_is_written_where_the_user_says() {
    let policy = "  db.public.members: { member_id: siv_token(member), plan: keep }\n";
    let project = Project::new("rotate-retire", SETUP, &["public.members"], policy).await;
    project.lockgate_ok(&["run", "--once"]);
    let path = project.dir.join("keys/test.key");
    let first = project.key_text();
    std::fs::write(
        project.dir.join("policy.yaml"),
        format!("profile: none\nkeys: env:LOCKGATE_TEST_KEYS\ntables:\n{policy}"),
    )
    .unwrap();
    let with = |arguments: &[&str], keys: &str| {
        let mut command = project.command(arguments);
        let output = command.env("LOCKGATE_TEST_KEYS", keys).output().unwrap();
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (code, said) = with(&["keys", "rotate"], &first);
    assert!(code == Some(1) && said.contains("--out FILE"), "{said}");
    let new = project.dir.join("keys/new.key");
    let (code, said) = with(&["keys", "rotate", "--out", new.to_str().unwrap()], &first);
    assert!(
        code == Some(0)
            && said.contains("1. set LOCKGATE_TEST_KEYS to the text of")
            && said.contains("3. lockgate remask"),
        "{said}"
    );
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&new).unwrap().permissions()) & 0o777, 0o600);
    let text = std::fs::read_to_string(&new).unwrap();
    assert_eq!(with(&["remask"], &text).0, Some(0));
    assert_eq!(with(&["run", "--once"], &text).0, Some(0));
    project.write_policy(policy);
    std::fs::write(&path, &text).unwrap();
    project.says(&["keys", "retire", "1"], 0, &["the key of epoch 1 is out of the file"]);
    assert!(!project.key_text().contains(first.lines().find(|line| line.starts_with("epoch 1")).unwrap()));
    project.change("UPDATE members SET plan = 'after' WHERE member_id = 1").await;
    project.lockgate_ok(&["run", "--once"]);
    project.says(&["keys", "show"], 0, &["retired", "current"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.members WHERE member_id LIKE 'member.2.%'"), ["50"]);
    assert!(project.lockgate_ok(&["audit", "list"]).contains("key_retired"));
    let said = project.erase_ok(&["--subject", "db.public.members.member_id"], "3\n");
    assert!(said.contains("2 rows taken out of 2 tables"), "{said}");
    project.write_policy(&policy.replace("siv_token(member)", "hmac_token(x)"));
    project.says(&["run", "--once"], 1, &["through epoch 1, whose key was retired"]);
    project.end().await;
}
