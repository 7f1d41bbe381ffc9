//! The clouds' key managers, all by one contract: what opens, what is refused and how it is said, and that no secret is in any message.
//!
//! AWS is moto, which checks signatures and rights; Google's and Microsoft's are doubles that decrypt and check what they are sent
//! (`tests/servers/key_manager.py`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::failure_modes::patience::until;
use super::project::Project;

/// Sixty-four digits that no output may hold.
const MASTER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEYS: &str = "lockgate-keys 1\ntenant test\nepoch 1 {MASTER} 9cfca3b4\ncurrent 1\n";

type Variables = BTreeMap<String, String>;

/// A manager that ends with the test.
pub(crate) struct Manager {
    process: Child,
    pub(crate) dir: PathBuf,
    place: Place,
}

#[derive(Deserialize)]
struct Place {
    variables: Variables,
    reference: String,
    alias: Option<String>,
    other: String,
    absent: String,
    endpoint: Option<String>,
    identities: BTreeMap<String, Variables>,
    authority: String,
    tls: String,
    plain: String,
    control: String,
}

#[derive(Deserialize)]
struct Asked {
    keys: u32,
    followed: u32,
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Its standard input closes with it; a kill is for one that does not listen.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What `lockgate` ended with and all that it said.
struct Said {
    code: i32,
    text: String,
}

impl Said {
    fn says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "`{part}` is not said: {}", self.text);
        }
    }
}

impl Manager {
    /// `None`, and said, when the tools for it are not installed.
    pub(crate) fn start(kind: &str, name: &str) -> Option<Self> {
        let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
        let tools = std::env::var("LOCKGATE_TOOLS").map_or_else(|_| root.join(".tools"), PathBuf::from);
        let python = tools.join("venv/bin/python");
        if !python.exists() {
            println!("skipped: no key manager of {kind} in {}; scripts/setup.sh test installs it", tools.display());
            return None;
        }
        let dir = std::env::temp_dir().join(format!("lockgate-km-{kind}-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("server")).unwrap();
        std::fs::write(dir.join("dev.key"), KEYS.replace("{MASTER}", MASTER)).unwrap();
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        std::fs::set_permissions(dir.join("dev.key"), mode).unwrap();
        let mut process = Command::new(python)
            .arg(root.join("tests/servers/key_manager.py"))
            .arg(kind)
            .arg(dir.join("server"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let place = serde_json::from_str(&line).unwrap();
        Some(Self { process, dir, place })
    }

    /// What a program needs in its environment to be who is named.
    pub(crate) fn variables(&self, identity: &str) -> Variables {
        let who = self.place.identities[identity].iter();
        self.place.variables.iter().chain(who).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The key that wraps `file`.
    pub(crate) fn reference(&self, file: &str) -> String {
        format!("{}{file}", self.place.reference)
    }

    /// Spoils the next answers.
    pub(crate) fn spoil(&self, fault: &str, times: u32) {
        self.control("POST", &format!("{{\"fault\":\"{fault}\",\"times\":{times}}}"));
    }

    fn asked(&self) -> Asked {
        serde_json::from_str(&self.control("GET", "")).unwrap()
    }

    fn control(&self, method: &str, body: &str) -> String {
        let address = self.place.control.strip_prefix("http://").unwrap().split_once('/').unwrap().0;
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} /control HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn run(&self, variables: &Variables, arguments: &[&str]) -> Said {
        self.said(arguments, &self.command(variables, arguments).output().unwrap())
    }

    fn command(&self, variables: &Variables, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.arg("--dir").arg(&self.dir).args(["--log", "trace"]).args(arguments);
        command.env_clear().env("HOME", &self.dir).envs(variables);
        command
    }

    fn said(&self, arguments: &[&str], output: &Output) -> Said {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for secret in self.secrets() {
            assert!(!text.contains(&secret), "a secret is printed by {arguments:?}");
        }
        Said { code: output.status.code().unwrap(), text }
    }

    /// Wraps what `from` names, for a file that is of no further use.
    fn open(&self, identity: &str, from: &str) -> Said {
        self.run(&self.variables(identity), &["keys", "wrap", "--from", from, &self.reference("again")])
    }

    /// Everything that would be worth something to a reader of a log.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec!["hunter2".to_owned(), MASTER.to_owned(), "PRIVATE KEY".to_owned()];
        secrets.extend(
            ["container-token", "machine-token", "metadata-token", "federated-token", "msi-header"].map(str::to_owned),
        );
        let hidden = ["AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET"];
        let identities = self.place.identities.values().flatten();
        secrets
            .extend(identities.filter(|(name, _)| hidden.contains(&name.as_str())).map(|(_, secret)| secret.clone()));
        secrets
    }

    /// The same server with another address.
    fn at(&self, place: &str, mut variables: Variables, reference: &str) -> (Variables, String) {
        let reference = reference.replace(&self.place.plain, place);
        if let Some(endpoint) = &self.place.endpoint {
            variables.insert(endpoint.clone(), place.to_owned());
        }
        (variables, reference)
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Wraps the keys and tries everything that may go wrong when they are to be opened.
fn contract(kind: &str) {
    let Some(manager) = Manager::start(kind, "contract") else { return };
    let (good, file) = (manager.variables("good"), manager.dir.join("keys/wrapped"));
    let reference = manager.reference("keys/wrapped");
    let wrapped = manager.run(&good, &["keys", "wrap", "--from", "file:dev.key", &reference]);
    wrapped.says(0, &["is written, and was opened again", &reference]);
    let written = text(&file);
    assert!(!written.contains("epoch") && written.contains("tenant test"), "{written}");

    manager.open("good", &reference).says(0, &[]);
    let before = manager.asked().keys;
    let again = text(&manager.dir.join("again"));
    for (fault, times) in [("throttle", 2), ("error", 2)] {
        manager.spoil(fault, times);
        manager.open("good", &reference).says(0, &["asked again"]);
    }
    // Each opening and each wrapping with its proof, and the two tries that failed.
    assert_eq!(manager.asked().keys - before, 2 * (3 + 2), "one call opens a file");
    assert_ne!(text(&manager.dir.join("again")), again, "a file that is wrapped again has another key");

    for (fault, code, parts) in [
        ("throttle", 4, &["the server is busy or unwell", "Nothing passes without keys"]),
        ("error", 4, &["503", "Nothing passes without keys"]),
        ("denied", 1, &["may not use the key", "fix:"]),
        ("redirect", 1, &["redirects are not followed", "fix:"]),
        ("strange", 1, &["is not one of this manager", "fix:"]),
        ("huge", 1, &["too large", "fix:"]),
        ("disabled", 3, &["the key is disabled", "fix:"]),
    ] {
        manager.spoil(fault, 99);
        manager.open("good", &reference).says(code, parts);
    }
    assert_eq!(manager.asked().followed, 0);
    manager.spoil("none", 0);
    let again = text(&manager.dir.join("again"));
    let refused =
        manager.run(&good, &["keys", "wrap", "--from", "file:dev.key", &format!("{}again", manager.place.absent)]);
    refused.says(1, &["there is no such key", "fix:"]);
    assert_eq!(text(&manager.dir.join("again")), again, "a file is replaced by one that is proved");
    manager.open("good", &format!("{}keys/wrapped", manager.place.other)).says(3, &["not wrapped by this key", "fix:"]);
    if let Some(alias) = &manager.place.alias {
        manager.open("good", &format!("{alias}keys/wrapped")).says(0, &[]);
    }
    files(&manager, &reference, &written);
    networks(&manager, &reference);
}

/// Files that are not what was written.
fn files(manager: &Manager, reference: &str, written: &str) {
    let file = manager.dir.join("keys/wrapped");
    let other = written.replace("manager aws-kms", "manager gcp-kms").replace("manager azure-kv", "manager gcp-kms");
    let other = if other == written { written.replace("manager gcp-kms", "manager aws-kms") } else { other };
    let cut = &written[..written.len() - 9];
    for (content, code, part) in [
        (&other, 1, "was wrapped by"),
        (&written.replace("lockgate-wrapped 1", "lockgate-wrapped 2"), 3, "is no wrapped key file"),
        (&String::new(), 3, "is no wrapped key file"),
        (&cut.to_owned(), 3, "key file"),
        (&written.replace("tenant test", "tenant else"), 3, "another"),
        (&text(&manager.dir.join("dev.key")), 3, "is no wrapped key file"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = manager.open("good", reference);
        assert!(said.text.contains("fix:"), "{}", said.text);
        said.says(code, &[part]);
    }
    std::fs::remove_file(&file).unwrap();
    manager.open("good", reference).says(3, &["cannot read the wrapped key file", "fix:"]);
    std::fs::write(&file, written).unwrap();
}

/// Servers that are not there, or are somebody else.
fn networks(manager: &Manager, reference: &str) {
    let arguments = |reference: &str| ["keys", "wrap", "--from", reference, reference].map(str::to_owned);
    let run = |variables: &Variables, reference: &str| {
        manager.run(variables, &arguments(reference).each_ref().map(String::as_str))
    };
    let (mut variables, at_tls) = manager.at(&manager.place.tls, manager.variables("good"), reference);
    run(&variables, &at_tls).says(1, &["certificate is not trusted", "fix:"]);
    variables.insert("SSL_CERT_FILE".into(), manager.place.authority.clone());
    variables.insert("AWS_CA_BUNDLE".into(), manager.place.authority.clone());
    run(&variables, &at_tls).says(0, &[]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (variables, nowhere) = manager.at(&format!("http://{free}/"), manager.variables("good"), reference);
    run(&variables, &nowhere).says(4, &["did not answer", "Nothing passes without keys"]);
    let (variables, plain) = manager.at("http://keys.example/", manager.variables("good"), reference);
    assert_ne!(run(&variables, &plain).code, 0, "a token is sent without TLS");
    manager.spoil("hang", 99);
    let started = Instant::now();
    manager.open("good", reference).says(4, &["did not answer"]);
    assert!(started.elapsed() < Duration::from_secs(20), "a server that hangs is waited for a bounded time");
    manager.spoil("none", 0);
}

#[test]
fn aws_kms_keeps_the_contract() {
    contract("aws");
}

#[test]
fn google_cloud_kms_keeps_the_contract() {
    contract("gcp");
}

#[test]
fn azure_key_vault_keeps_the_contract() {
    contract("azure");
}

#[test]
fn who_asks_is_found_where_the_tools_of_each_cloud_look() {
    let refused = ["fix:"];
    for (kind, good, bad) in [
        (
            "aws",
            &["profile", "container", "container token", "machine", "web"][..],
            &[("denied", 1), ("unknown", 1), ("wrong container", 1), ("half", 1), ("no profile", 1), ("nobody", 1)][..],
        ),
        (
            "gcp",
            &["default file", "machine", "token"],
            &[("unknown", 1), ("person", 1), ("no file", 1), ("damaged file", 1)],
        ),
        (
            "azure",
            &["certificate", "federated", "machine", "assigned", "service"],
            &[("unknown", 1), ("stranger", 1), ("no tenant", 1), ("no certificate", 1)],
        ),
    ] {
        let Some(manager) = Manager::start(kind, "who") else { return };
        let reference = manager.reference("keys/wrapped");
        manager.run(&manager.variables("good"), &["keys", "wrap", "--from", "file:dev.key", &reference]).says(0, &[]);
        for who in good {
            println!("{kind}: {who}");
            manager.open(who, &reference).says(0, &[]);
        }
        for (who, code) in bad {
            println!("{kind}: {who}");
            manager.open(who, &reference).says(*code, &refused);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_file_has_its_name_only_once_the_audit_log_says_so() {
    let Some(manager) = Manager::start("aws", "recorded") else { return };
    let source = "lake: ./lake\nsources:\n  db:\n    postgres: { url: 'postgresql://u@localhost/d?sslmode=disable' }\n    tables: [public.*]\n";
    std::fs::write(manager.dir.join("lockgate.yaml"), source).unwrap();
    std::fs::write(manager.dir.join("policy.yaml"), "profile: none\ntables:\n  db.public.t: { id: keep }\n").unwrap();
    let (good, reference) = (manager.variables("good"), manager.reference("keys/wrapped"));
    let wrap = ["keys", "wrap", "--from", "file:dev.key", &reference];
    manager.run(&good, &wrap).says(0, &["is written"]);
    let (file, unnamed) = (manager.dir.join("keys/wrapped"), manager.dir.join("keys/wrapped.new"));
    let (log, first) = (manager.dir.join(".lockgate/audit/audit.jsonl"), text(&file));
    let recorded = |file: &str| text(&log).contains(&audit::Hash::of(&[file.as_bytes()]).to_string());
    assert!(recorded(&first) && !unnamed.exists());

    // While the manager keeps it waiting, the log becomes one that cannot be written.
    manager.spoil("throttle", 3);
    let child = manager.command(&good, &wrap).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the log is open", 20, async || text(&log).matches("\"opened\"").count() == 2).await;
    let before = text(&log);
    std::fs::write(&log, format!("{before}nothing\n")).unwrap();
    manager.said(&wrap, &child.wait_with_output().unwrap()).says(3, &["the audit log was changed"]);
    assert_eq!(text(&file), first, "the file is exchanged, and no entry says so");
    assert!(!recorded(&text(&unnamed)));
    // What it has left is no hindrance.
    std::fs::write(&log, before).unwrap();
    manager.run(&good, &wrap).says(0, &["is written"]);
    assert!(text(&file) != first && recorded(&text(&file)) && !unnamed.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_manager_unwraps_make_the_same_tokens_and_a_file_may_be_replaced_under_a_run() {
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;";
    let rules = "  db.public.t: { id: hmac_token(id), v: keep }\n";
    let project = Project::new("key-managers", setup, &["public.t"], rules).await;
    project.lockgate_ok(&["run", "--once"]);
    let tokens = project.query("SELECT id FROM db.public.t ORDER BY v");
    for kind in ["aws", "gcp", "azure"] {
        let Some(manager) = Manager::start(kind, "tokens") else { return };
        let variables = manager.variables("good");
        let reference = manager.reference(&format!("keys/{kind}"));
        let run = |arguments: &[&str]| {
            let output = project.command(arguments).envs(&variables).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
        };
        // No way around the audit log: a folder whose file cannot be read is refused.
        let (file, wrap) =
            (project.dir.join("lockgate.yaml"), ["keys", "wrap", "--from", "file:keys/test.key", &reference]);
        let yaml = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, "lake: [").unwrap();
        assert_eq!(project.command(&wrap).envs(&variables).output().unwrap().status.code(), Some(1));
        assert!(!project.dir.join(format!("keys/{kind}")).exists());
        std::fs::write(&file, yaml).unwrap();
        run(&wrap);
        assert!(project.lockgate_ok(&["audit", "list", "--last", "3"]).contains("keys_wrapped"));
        let policy = format!("profile: none\nkeys: {reference}\ntables:\n{rules}");
        std::fs::write(project.dir.join("policy.yaml"), policy).unwrap();
        run(&["check"]);
        project.database.execute("UPDATE t SET v = v || '.' WHERE id = 1", &[]).await.unwrap();
        let before = manager.asked().keys;
        run(&["run", "--once"]);
        assert_eq!(manager.asked().keys, before + 1, "one call at start, none for a row");
        assert_eq!(project.query("SELECT id FROM db.public.t ORDER BY v"), tokens, "{kind}");
        // Another wrapping of the same keys, under a run: it goes on, and the next start reads the new file.
        let running = project.spawn(project.command(&["run"]).envs(&variables).stderr(Stdio::null()));
        let count = |value: &str| format!("SELECT count(*) FROM db.public.t WHERE v = '{value}'");
        for value in [format!("{kind}-before"), format!("{kind}-after")] {
            project.database.execute("UPDATE t SET v = $1 WHERE id = 2", &[&value]).await.unwrap();
            project.wait_for(&count(&value), "1").await;
            run(&["keys", "wrap", &reference]);
        }
        let before = manager.asked().keys;
        assert_eq!(running.terminate(), Some(0));
        assert_eq!(manager.asked().keys, before, "a run asks once");
        project.database.execute("UPDATE t SET v = 'v2' WHERE id = 2", &[]).await.unwrap();
        run(&["run", "--once"]);
        assert_eq!(project.query("SELECT id FROM db.public.t ORDER BY v"), tokens, "{kind}");
    }
    project.end().await;
}
