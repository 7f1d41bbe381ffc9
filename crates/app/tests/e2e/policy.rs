//! `lockgate policy`: without a database, without a key file, without a row.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const POLICY: &str = "profile: limited_data_set
keys: file:./keys/none.key
tables:
  db.public.members:
    member_id: hmac_token(member)
    ssn: drop
    birth_date: dob_generalise
    zip: zip3
    plan_code: { transform: keep, reason: published list, reviewer: dpo@example.com }
  db.public.visits:
    visit_id: hmac_token(visit)
    seen: { transform: date_shift(person 90), subject: member_id }
";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockgate-policy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("policy.yaml"), POLICY).unwrap();
        Self(path)
    }

    fn lockgate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = Command::new(Path::new(env!("CARGO_BIN_EXE_lockgate")))
            .args(["--dir", self.0.to_str().unwrap(), "policy"])
            .args(arguments)
            .output()
            .unwrap();
        (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    fn says(&self, arguments: &[&str], code: i32, parts: &[&str]) -> String {
        let (found, text) = self.lockgate(arguments);
        assert_eq!(found, Some(code), "{text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?} does not say `{part}`:\n{text}");
        }
        text
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary folder harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn explain_says_what_becomes_of_every_column_and_class() {
    let folder = Folder::new("explain");
    let text = folder.says(
        &["explain"],
        0,
        &["claims limited_data_set", "db.public.members", "member_id", "domain member: hmac_token(member)"],
    );
    for part in ["social security numbers", "dpo@example.com", "data use agreement", "census-2020", "no column seems"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    let text = folder.says(&["explain", "--table", "db.public.visits"], 0, &["visit_id"]);
    assert!(!text.contains("birth_date"), "{text}");
    folder.says(&["explain", "--table", "db.public.visit"], 1, &["policy.yaml has no table db.public.visit", "fix:"]);
}

#[test]
fn diff_says_whether_a_change_tightens_or_loosens() {
    let folder = Folder::new("diff");
    let old = folder.0.join("old.yaml");
    std::fs::write(&old, POLICY.replace("zip: zip3", "zip: drop").replace("ssn: drop", "ssn: redact(SSN)")).unwrap();
    let old = old.to_str().unwrap();
    folder.says(
        &["diff", old],
        0,
        &["LOOSENS", "db.public.members.zip", "tightens", "db.public.members.ssn", "1 loosen, 0 alter, 1 tighten"],
    );
    folder.says(&["diff", old, old], 0, &["the two policies do the same"]);
    std::fs::write(old, POLICY.replace("zip3", "zipp3")).unwrap();
    folder.says(&["diff", old], 1, &["old.yaml:8", "zipp3", "fix:"]);
    folder.says(&["diff", "none.yaml"], 1, &["none.yaml cannot be read", "fix:"]);
}

#[test]
fn test_shows_made_up_values_before_and_after() {
    let folder = Folder::new("test");
    let parts =
        ["made-up values", "078-05-1120", "(not stored)", "member.1.", "1931-05-08", "03601", "000", "date_shift"];
    folder.says(&["test"], 0, &parts);
    std::fs::remove_file(folder.0.join("policy.yaml")).unwrap();
    folder.says(&["test"], 1, &["policy.yaml cannot be read", "fix:"]);
}
