//! A policy comes into force once the users whom `roles.approve` names have approved exactly its text.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use zeroize::Zeroizing;

use super::failure_modes::patience::until;
use super::failure_modes::process::Process;
use super::online::alone;
use super::project::{Project, files};

const SETUP: &str = "CREATE TABLE one (id int PRIMARY KEY, v text); CREATE TABLE two (id int PRIMARY KEY, v text);
    INSERT INTO one SELECT i, 'v' || i FROM generate_series(1, 10) i; INSERT INTO two SELECT * FROM one;";
const TIGHT: &str = "  db.public.one: { id: keep, v: keep }\n";
const LOOSE: &str = "  db.public.one: { id: keep, v: keep }\n  db.public.two: { id: keep, v: drop }\n";
const ALICE: u32 = 61_001;
const BOB: u32 = 61_002;
const CAROL: u32 = 61_003;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A project of which the audit log can be written by whoever has its key, and of which other users have that.
async fn project(name: &str) -> Project {
    let project = Project::new(name, SETUP, &["public.one", "public.two"], TIGHT).await;
    let key = audit::SigningKey::generate(&Zeroizing::new([7; 32]));
    std::fs::write(project.dir.join("keys/audit.shared"), key.as_bytes()).unwrap();
    let yaml = project.dir.join("lockgate.yaml");
    let text = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(yaml, text + "audit: { key: '${file:keys/audit.shared}' }\n").unwrap();
    project.lockgate_ok(&["run", "--once"]);
    for file in files(&project.dir.join(".lockgate/audit")) {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    project
}

impl Project {
    fn ask_for_approvals(&self) {
        let yaml = self.dir.join("lockgate.yaml");
        let text = std::fs::read_to_string(&yaml).unwrap();
        std::fs::write(yaml, format!("{text}roles: {{ approve: [{ALICE}, {BOB}, {CAROL}] }}\n")).unwrap();
    }

    fn in_force(&self) -> std::path::PathBuf {
        self.dir.join(".lockgate/policy-in-force.yaml")
    }

    fn hash(&self) -> String {
        audit::Hash::of(&[&std::fs::read(self.dir.join("policy.yaml")).unwrap()]).to_string()
    }

    /// `lockgate policy approve` by a user of the machine.
    fn approve_as(&self, number: u32, more: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(&[&["policy", "approve"], more].concat());
        let output = command.uid(number).gid(number).output().unwrap();
        (output.status.code(), said(&output))
    }

    /// The policy as it is now, approved by a user, who is told this.
    fn approved_as(&self, number: u32, part: &str) {
        let (code, said) = self.approve_as(number, &["--hash", &self.hash()[..12]]);
        assert!(code == Some(0) && said.contains(part), "{said}");
    }

    fn runs(&self) {
        self.lockgate_ok(&["run", "--once"]);
        assert_eq!(text(&self.in_force()), text(&self.dir.join("policy.yaml")));
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Whether this process may act as other users.
fn is_root() -> bool {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !root {
        println!("skipped: only root can act as other users");
    }
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_named_nothing_is_asked() {
    let project = project("unasked").await;
    let mode = std::fs::metadata(project.in_force()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for policy in [LOOSE, TIGHT] {
        project.write_policy(policy);
        let shown = project.lockgate_ok(&["policy", "approve"]);
        assert!(shown.contains("db.public.two.id") && shown.contains("no approval is asked for"), "{shown}");
        project.runs();
    }
    // A comment leaves what is in force, and its text.
    std::fs::write(project.dir.join("policy.yaml"), format!("# why\n{}", text(&project.in_force()))).unwrap();
    assert!(project.lockgate_ok(&["policy", "approve"]).contains("nothing to approve"));
    project.lockgate_ok(&["run", "--once"]);
    assert!(!text(&project.in_force()).contains("why"));
    let listed = project.lockgate_ok(&["audit", "list", "--json", "--last", "1000"]);
    assert_eq!(listed.matches("policy_in_force").count(), 3, "{listed}");
    assert!(listed.contains(r#""loosens":1,"alters":0,"tightens":0,"approvers":[]"#), "{listed}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_loosens_needs_two_approvals_of_its_text_and_what_tightens_one() {
    if !is_root() {
        return;
    }
    let project = project("approvals").await;
    project.ask_for_approvals();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(project.in_force(), mode).unwrap();
    project.runs();
    project.write_policy(LOOSE);
    let once = ["run", "--once"];
    project.refuses(
        &once,
        1,
        &["0 of the 2", "LOOSENS db.public.two.id", "61001, 61002, 61003", &project.hash()[..12]],
    );
    assert!(!project.lake_table("two").exists());
    project.refuses(&["remask"], 1, &["0 of the 2"]);
    let listed = project.lockgate_ok(&["audit", "list", "--json", "--last", "1000"]);
    let refusal = format!(r#"{{"event":"policy_refused","file":"{}","approvals":0,"needed":2}}"#, project.hash());
    assert_eq!(listed.matches(&refusal).count(), 2, "{listed}");

    // By whom it is, of which text, and once for each.
    let (code, refused) = project.approve_as(0, &["--hash", &project.hash()]);
    assert!(code == Some(3) && refused.contains("may not approve"), "{refused}");
    let listed = project.lockgate_ok(&["audit", "list", "--json", "--last", "1000"]);
    let refusal = format!(r#"{{"event":"approval_refused","by":"root","file":"{}"}}"#, project.hash());
    assert_eq!(listed.matches(&refusal).count(), 1, "{listed}");
    let (code, shown) = project.approve_as(ALICE, &[]);
    assert!(code == Some(0) && shown.contains("1 loosen") && shown.contains(&project.hash()), "{shown}");
    for digits in ["000000000000", &project.hash()[..11]] {
        let (code, refused) = project.approve_as(ALICE, &["--hash", digits]);
        assert!(code == Some(1) && refused.contains("another hash"), "{refused}");
    }
    project.refuses(&once, 1, &["0 of the 2"]);
    project.approved_as(ALICE, "1 of the 2");
    project.approved_as(ALICE, "counts once");
    project.refuses(&once, 1, &["1 of the 2"]);
    std::fs::write(project.dir.join("policy.yaml"), format!("# why\n{}", text(&project.dir.join("policy.yaml"))))
        .unwrap();
    project.approved_as(BOB, "1 of the 2");
    project.write_policy(LOOSE);
    project.refuses(&once, 1, &["1 of the 2"]);
    project.approved_as(BOB, "2 of the 2 approvals that it needs: 61001, 61002");
    project.runs();
    project.assert_same("two", &["id"]).await;
    let listed = project.lockgate_ok(&["audit", "list", "--json", "--last", "1000"]);
    assert!(listed.contains(r#""loosens":1,"alters":0,"tightens":0,"approvers":["61001","61002"]"#), "{listed}");
    assert!(listed.contains(r#""event":"approval_refused""#), "{listed}");

    // Less is told: one is enough. What has been approved once is not approved for ever.
    project.write_policy(TIGHT);
    project.refuses(&once, 1, &["0 of the 1", "tightens db.public.two.id"]);
    project.approved_as(CAROL, "1 of the 1");
    project.runs();
    project.write_policy(LOOSE);
    project.refuses(&once, 1, &["0 of the 2"]);
    // Whatever text is put where the one in force lies.
    let in_force = text(&project.in_force());
    std::fs::copy(project.dir.join("policy.yaml"), project.in_force()).unwrap();
    project.refuses(&once, 1, &["it is not known which policy is in force", "0 of the 2"]);
    std::fs::write(project.in_force(), in_force).unwrap();
    project.write_policy(TIGHT);
    project.runs();
    let verified = project.lockgate(&["audit", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_under_its_policy_and_its_next_shift_asks() {
    let project = project("shift").await;
    project.ask_for_approvals();
    let run = Process::of(&mut project.command(&["--log", "info", "run"]), project.dir.join("run.log"));
    project.database.batch_execute("UPDATE one SET v = 'new' WHERE id = 1").await.unwrap();
    project.wait_for("SELECT v FROM db.public.one WHERE id = 1", "new").await;
    project.write_policy(LOOSE);
    project.database.batch_execute("UPDATE one SET v = 'newer' WHERE id = 1").await.unwrap();
    project.wait_for("SELECT v FROM db.public.one WHERE id = 1", "newer").await;
    let locks = alone(&project);
    until("the run waits", 20, async || run.said().contains("the run waits until the command has ended")).await;
    drop(locks);
    let (code, said) = run.end(30).await;
    assert!(code == Some(1) && said.contains("0 of the 2 approvals"), "{said}");
    let status = project.status();
    let why = status["last_error"].as_str().unwrap_or_default();
    assert!(why.contains("0 of the 2 approvals") && why.contains("policy approve --hash"), "{status}");
    assert_eq!(status["running"], false);
    assert!(!project.lake_table("two").exists());
    project.end().await;
}
