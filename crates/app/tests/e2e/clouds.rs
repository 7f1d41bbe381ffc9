//! The same pipeline on S3, Azure Blob and GCS, each behind an emulator whose conditional writes hold.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::project::Project;

/// An emulator that ends with the test.
pub(crate) struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // Its standard input closes with it; a kill is for one that does not listen.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an emulator and gives the lake's URL and the store's options; `None`, and said, when the tools for it are not installed.
pub(crate) fn start(kind: &str) -> Option<(Emulator, serde_json::Value)> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
    let tools = std::env::var("LOCKGATE_TOOLS").map_or_else(|_| root.join(".tools"), PathBuf::from);
    let python = tools.join("venv/bin/python");
    if !python.exists() {
        println!("skipped: no emulator for {kind} in {}; scripts/setup.sh test installs it", tools.display());
        return None;
    }
    let mut child = Command::new(python)
        .arg(root.join("tests/servers/emulator.py"))
        .arg(kind)
        .env("LOCKGATE_TOOLS", tools)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let emulator = Emulator(child);
    serde_json::from_str(&line).ok().map(|place| (emulator, place))
}

/// Puts the project's lake into the store that an emulator is.
pub(crate) fn move_lake(project: &Project, place: &serde_json::Value) {
    let yaml = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    let mut text = yaml.replace("lake: ./lake", &format!("lake: {}\nlake_options:", place["url"].as_str().unwrap()));
    let at = text.find("sources:").unwrap();
    for (number, (name, value)) in place["options"].as_object().unwrap().iter().enumerate() {
        std::fs::write(project.dir.join(format!("option{number}")), value.as_str().unwrap()).unwrap();
        text.insert_str(at, &format!("  {name}: ${{file:option{number}}}\n"));
    }
    std::fs::write(project.dir.join("lockgate.yaml"), text).unwrap();
}

async fn run_on(kind: &str) {
    let Some((_emulator, place)) = start(kind) else { return };
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 2000) i;";
    let project =
        Project::new(&format!("cloud-{kind}"), setup, &["public.t"], "  db.public.t: { id: keep, v: keep }\n").await;
    move_lake(&project, &place);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v"]).await;
    project
        .database
        .batch_execute("UPDATE t SET v = 'w' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0")
        .await
        .unwrap();
    // Without the local index everything is found again from the lake.
    std::fs::remove_dir_all(project.dir.join(".lockgate")).unwrap();
    project.lockgate_ok(&["check", "--connect"]);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_s3() {
    run_on("s3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_say_that_it_encrypts_is_refused() {
    let Some((_emulator, mut place)) = start("s3") else { return };
    let setup = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);";
    let project = Project::new("cloud-plain", setup, &["public.t"], "  db.public.t: { id: keep }\n").await;
    place["options"].as_object_mut().unwrap().remove("aws_server_side_encryption");
    move_lake(&project, &place);
    for arguments in [&["run", "--once"][..], &["check", "--connect"]] {
        let refused = project.lockgate(arguments);
        let said = [refused.stdout, refused.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("does not say that it encrypts") && said.contains("allow_unencrypted"), "{said}");
    }
    let file = project.dir.join("lockgate.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, yaml.replace("lake_options:\n", "lake_options:\n  allow_unencrypted: true\n")).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_azure() {
    run_on("azure").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_gcs() {
    run_on("gcs").await;
}
