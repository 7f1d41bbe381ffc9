//! Commands whose role `lockgate.yaml` gives to others are refused before they begin, and the audit log says who tried.

use super::project::Project;

const SETUP: &str = "CREATE TABLE one (id int PRIMARY KEY, v text); INSERT INTO one VALUES (1, 'a');";
const POLICY: &str = "  db.public.one: { id: keep, v: keep }\n";
/// Who has the roles of the test; nobody runs as that.
const OTHER: u32 = 61_001;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_the_role_of_a_command_is_refused_before_it_begins_and_that_is_recorded() {
    let project = Project::new("roles", SETUP, &["public.one"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    let yaml = project.dir.join("lockgate.yaml");
    let open = std::fs::read_to_string(&yaml).unwrap();
    let roles = ["operate", "keys", "held", "erase", "audit"];
    let named: Vec<String> = roles.iter().map(|role| format!("{role}: [{OTHER}]")).collect();
    std::fs::write(&yaml, format!("{open}roles: {{ {} }}\n", named.join(", "))).unwrap();
    let keys = std::fs::read(project.dir.join("keys/test.key")).unwrap();

    let commands: [(&str, &[&str]); 11] = [
        ("operate", &["run", "--once"]),
        ("operate", &["repair"]),
        ("operate", &["remask"]),
        ("operate", &["release", "db.public.one", "--to", "out"]),
        ("keys", &["keys", "rotate"]),
        ("keys", &["keys", "retire", "1"]),
        ("keys", &["keys", "wrap", "aws-kms:key#file"]),
        ("held", &["held", "show", "1"]),
        ("held", &["held", "drop", "--all"]),
        ("erase", &["erase", "--due"]),
        ("audit", &["audit", "renew", "--because", "damaged"]),
    ];
    for (role, command) in commands {
        let refused = project.lockgate(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(3) && said.contains(&format!("`roles.{role}` names others")), "{said}");
        let listed = project.lockgate_ok(&["audit", "list", "--last", "3", "--json"]);
        let denied = listed.lines().filter(|line| line.contains(r#""event":"denied""#)).collect::<Vec<_>>();
        assert!(denied.len() == 1 && denied[0].contains(&format!(r#""role":"{role}""#)), "{role}: {listed}");
    }
    assert_eq!(std::fs::read(project.dir.join("keys/test.key")).unwrap(), keys);

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
