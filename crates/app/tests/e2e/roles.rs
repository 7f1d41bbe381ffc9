//! Commands whose role `lockgate.yaml` gives to others are refused before they begin, and the audit log says who tried.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::project::{Project, files};

const SETUP: &str = "CREATE TABLE one (id int PRIMARY KEY, v text); INSERT INTO one VALUES (1, 'a');";
const POLICY: &str = "  db.public.one: { id: keep, v: keep }\n";
/// Who has the roles of the test; nobody runs as that.
const OTHER: u32 = 61_001;

/// Everything in the project folder but the audit log.
fn state(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_log = |path: &PathBuf| path.strip_prefix(&project.dir).unwrap().to_string_lossy().contains("audit");
    let kept = files(&project.dir).into_iter().filter(|path| !of_log(path));
    kept.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_the_role_of_a_command_is_refused_before_it_begins_and_that_is_recorded() {
    let project = Project::new("roles", SETUP, &["public.one"], POLICY).await;
    let yaml = project.dir.join("lockgate.yaml");
    let open = std::fs::read_to_string(&yaml).unwrap();
    let roles = ["operate", "keys", "held", "erase", "audit"];
    let named: Vec<String> = roles.iter().map(|role| format!("{role}: [{OTHER}]")).collect();
    let closed = format!("{open}roles: {{ {} }}\n", named.join(", "));
    // Who is refused begins no log, and does not make its key.
    std::fs::write(&yaml, &closed).unwrap();
    let refused = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && said.contains("could not be recorded"), "{said}");
    assert!(!project.dir.join("keys/audit.key").exists() && !project.dir.join(".lockgate").exists());
    std::fs::write(&yaml, &open).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    std::fs::write(&yaml, &closed).unwrap();
    let before = state(&project);
    assert!(before.len() > 10, "{:?}", before.keys());

    let commands: [(&str, &[&str]); 13] = [
        ("operate", &["run", "--once"]),
        ("operate", &["repair"]),
        ("operate", &["remask"]),
        ("operate", &["release", "db.public.one", "--to", "out"]),
        ("keys", &["keys", "rotate"]),
        ("keys", &["keys", "retire", "1"]),
        ("keys", &["keys", "wrap", "aws-kms:key#file"]),
        ("held", &["held", "show", "1"]),
        ("held", &["held", "drop", "--all"]),
        ("held", &["held", "release", "--all"]),
        ("erase", &["erase", "--due"]),
        ("erase", &["erase", "--subject", "db.public.one.id", "--hold", "--ids", "/dev/null"]),
        ("audit", &["audit", "renew", "--because", "damaged"]),
    ];
    for (role, command) in commands {
        let refused = project.lockgate(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(3) && said.contains(&format!("`roles.{role}` names others")), "{said}");
        let listed = project.lockgate_ok(&["audit", "list", "--last", "3", "--json"]);
        let denied = listed.lines().filter(|line| line.contains(r#""event":"denied""#)).collect::<Vec<_>>();
        assert!(denied.len() == 1 && denied[0].contains(&format!(r#""role":"{role}""#)), "{role}: {listed}");
        let config = audit::Hash::of(&[closed.as_bytes()]);
        assert!(listed.contains(&format!(r#""config":"{config}""#)), "{role}: {listed}");
    }
    assert!(state(&project) == before, "what was refused has changed something");

    // Who may not write the log is refused all the same.
    let refused = project.command(&["held", "drop", "--all"]).uid(OTHER + 1).gid(OTHER + 1).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && said.contains("the attempt could not be recorded"), "{said}");

    // What only reads asks for no role.
    for command in [&["status"] as &[&str], &["held", "list"], &["keys", "show"], &["audit", "verify"], &["verify"]] {
        project.lockgate_ok(command);
    }
    let checked = String::from_utf8(project.lockgate(&["check"]).stderr).unwrap();
    assert!(checked.contains(&format!("{OTHER} has more than one role: {}", roles.join(", "))), "{checked}");
    let report = project.lockgate_ok(&["audit", "report"]);
    assert!(report.contains("may not change keys: refused"), "{report}");

    // Whoever is named goes on as before.
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    std::fs::write(&yaml, format!("{open}roles: {{ operate: [{user}], keys: [{OTHER}] }}\n")).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.end().await;
}
