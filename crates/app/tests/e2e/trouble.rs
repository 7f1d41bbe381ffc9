//! One table in trouble keeps no other from being remasked or erased, and what a failure leaves does no harm later.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::erase::traced;
use super::project::{Project, files};

/// The entries of a table's log, in their order.
fn entries(table: &Path) -> Vec<PathBuf> {
    let json = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json");
    let mut entries: Vec<PathBuf> = files(&table.join("_delta_log")).into_iter().filter(json).collect();
    entries.sort_unstable();
    entries
}

/// The data file that a table got last, below its folder.
fn newest_file(table: &Path) -> String {
    let text: String = entries(table).iter().map(|entry| std::fs::read_to_string(entry).unwrap() + "\n").collect();
    let actions = text.lines().filter(|line| !line.is_empty());
    let mut added =
        actions.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().get("add").cloned());
    added.next_back().unwrap()["path"].as_str().unwrap().to_owned()
}

/// Another program deletes the rows of a file of a table's current rows. Returns its entry in the log.
fn foreign_delete(project: &Project, table: &str) -> PathBuf {
    let table = project.lake_table(table);
    let newest = entries(&table).pop().unwrap();
    let version: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let entry = table.join(format!("_delta_log/{:020}.json", version + 1));
    let lines = [
        r#"{"commitInfo":{"timestamp":1,"operation":"DELETE"}}"#.to_owned(),
        format!(r#"{{"remove":{{"path":"{}","deletionTimestamp":1,"dataChange":true}}}}"#, newest_file(&table)),
    ];
    let mut file = std::fs::File::create_new(&entry).unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    entry
}

const TABLES: [&str; 3] = ["public.members", "public.other", "public.visits"];
const SETUP: &str = "
    CREATE TABLE members (id int PRIMARY KEY, name text); CREATE TABLE other (id int PRIMARY KEY, name text);
    CREATE TABLE visits (id int PRIMARY KEY, name text);
    INSERT INTO members SELECT i, 'member-' || i FROM generate_series(1, 20) i;
    INSERT INTO other SELECT i, 'other-' || i FROM generate_series(1, 20) i;
    INSERT INTO visits SELECT i, 'visit-' || i FROM generate_series(1, 20) i;";

/// All names as they are, but for those of these tables.
fn policy(strict: &[&str]) -> String {
    let rule = |table: &str| if strict.contains(&table) { "hmac_token(name)" } else { "keep" };
    let line = |table: &str| format!("  db.public.{table}: {{ id: keep, name: {} }}\n", rule(table));
    ["members", "other", "visits"].map(line).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_trouble_keeps_no_other_from_being_remasked_and_what_it_leaves_ends_no_history() {
    let project = Project::new("trouble", SETUP, &TABLES, &policy(&[])).await;
    project.lockgate_ok(&["run", "--once"]);
    let entry = foreign_delete(&project, "members");
    let visits = project.lake_table("visits__changes");
    let cut = visits.join(newest_file(&visits));
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, b"cut").unwrap();
    project.write_policy(&policy(&["members", "other", "visits"]));
    let remasked = project.lockgate(&["remask"]);
    let [printed, said] = [&remasked.stdout, &remasked.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(remasked.status.code(), Some(3), "{said}");
    assert!(said.contains("db.public.members") && said.contains("another program has changed"), "{said}");
    assert!(said.contains("db.public.visits"), "{said}");
    assert!(printed.contains("db.public.other: name as the policy wants it now"), "{printed}");
    assert_eq!(traced(&project.lake_table("other"), &["other-7"]), Vec::<String>::new());

    // Nothing of the visits has changed: once their rule is what it was, there is nothing to do and nothing to end.
    let marker = project.dir.join("lake/_lockgate/remasking/db.public.visits");
    assert!(marker.exists());
    std::fs::write(&cut, whole).unwrap();
    std::fs::remove_file(entry).unwrap();
    project.write_policy(&policy(&["members", "other"]));
    let printed = project.lockgate_ok(&["remask"]);
    assert!(printed.contains("db.public.visits: nothing to do"), "{printed}");
    assert!(printed.contains("db.public.members: name as the policy wants it now"), "{printed}");
    assert!(!marker.exists());
    assert!(project.lake_table("visits").join("_delta_log/00000000000000000000.json").exists(), "its history is ended");
    for receipt in files(&project.dir.join(".lockgate/receipts")) {
        assert!(!std::fs::read_to_string(receipt).unwrap().contains("visits"));
    }
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.lockgate(&["verify"]).status.code(), Some(0));
    project.end().await;
}

const PERSONS: &str = "
    CREATE TABLE claims (claim_id int PRIMARY KEY, member_id int, reason text);
    CREATE TABLE members (member_id int PRIMARY KEY, plan text);
    INSERT INTO claims SELECT i, i, 'reason-of-person-' || i FROM generate_series(1, 50) i;
    INSERT INTO members SELECT i, 'plan-of-person-' || i FROM generate_series(1, 50) i;";
const TOKENS: &str = "  db.public.claims: { claim_id: hmac_token(claim), member_id: hmac_token(member), reason: keep }
  db.public.members: { member_id: hmac_token(member), plan: keep }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_trouble_keeps_no_other_from_being_erased_and_the_request_goes_on() {
    let project = Project::new("troubleerase", PERSONS, &["public.claims", "public.members"], TOKENS).await;
    project.lockgate_ok(&["run", "--once"]);
    // The first in order.
    let entry = foreign_delete(&project, "claims");
    let subject = ["--subject", "db.public.members.member_id"];
    for (person, members) in [("7\n", "49"), ("8\n", "48")] {
        let refused = project.erase(&subject, person);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("db.public.claims") && said.contains("lockgate repair --force"), "{said}");
        assert_eq!(project.query("SELECT count(*) FROM db.public.members"), [members]);
    }
    assert!(!traced(&project.lake_table("claims"), &["reason-of-person-7"]).is_empty());
    std::fs::remove_file(entry).unwrap();
    let printed = project.erase_ok(&["--due"], "");
    assert_eq!(printed.matches("no trace").count(), 2, "{printed}");
    let traces = ["reason-of-person-7", "reason-of-person-8", "plan-of-person-7", "plan-of-person-8"];
    assert_eq!(traced(&project.dir.join("lake"), &traces), Vec::<String>::new());
    assert_eq!(project.query("SELECT count(*) FROM db.public.claims"), ["48"]);
    assert_eq!(project.erase_ok(&["--due"], ""), "nothing to do\n");
    project.lockgate_ok(&["run", "--once"]);
    project.end().await;
}
