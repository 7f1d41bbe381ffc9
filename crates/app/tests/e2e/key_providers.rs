//! Keys from other places than a file: the same tokens wherever they come from, and a clear refusal when a place does not give them.
//!
//! No registry that the tests may use has a Vault or an OpenBao, so their two routes are answered by a double here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::project::Project;

const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;";
const RULES: &str = "  db.public.t: { id: hmac_token(id), v: keep }\n";
const TOKEN: &str = "hvs.planted-token";

/// Names and values of a process's environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// Answers every request by a function of its first line and body, as often as asked.
struct VaultDouble {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl VaultDouble {
    fn start(answer: impl Fn(&str, &str, usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = request(&mut stream);
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                let number = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                let (status, body) = match head.contains(&format!("x-vault-token: {TOKEN}")) {
                    true => answer(head.lines().next().unwrap(), body, number),
                    false => (403, "{\"errors\":[\"permission denied\"]}".into()),
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert!(read > 0, "a request ended too early");
    }
}

impl Project {
    fn write_keys(&self, reference: &str) {
        std::fs::write(self.dir.join("policy.yaml"), format!("profile: none\nkeys: {reference}\ntables:\n{RULES}"))
            .unwrap();
    }

    fn with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(arguments);
        ["VAULT_ADDR", "VAULT_TOKEN", "VAULT_TOKEN_FILE", "BAO_ADDR", "BAO_TOKEN"].iter().for_each(|name| {
            command.env_remove(name);
        });
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// A run with other variables, which ends with this code and says all of these.
    fn ends(&self, variables: &[(&str, &str)], code: i32, parts: &[&str]) {
        let output = self.with(&["run", "--once"], variables);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not said: {said}");
        }
        assert!(
            !said.contains(TOKEN) && !said.contains("hunter2") && !said.contains("epoch 1 "),
            "a secret is printed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_keys_from_every_place_make_the_same_tokens() {
    let project = Project::new("key-places", SETUP, &["public.t"], RULES).await;
    project.lockgate_ok(&["run", "--once"]);
    let tokens = project.query("SELECT id FROM db.public.t ORDER BY v");
    let keys = std::fs::read_to_string(project.dir.join("keys/test.key")).unwrap();
    std::fs::remove_file(project.dir.join("keys/test.key")).unwrap();
    std::fs::write(project.dir.join("keys/wrapped"), "vault:v1:wrapped\n").unwrap();
    let (encoded, key_text) = (STANDARD.encode(&keys), keys.clone());
    let vault = VaultDouble::start(move |line, body, number| match line {
        // The first answer is that of a server that has just been started.
        _ if number == 0 => (503, "{\"errors\":[\"Vault is sealed\"]}".into()),
        "GET /v1/secret/data/lockgate/prod HTTP/1.1" => {
            (200, serde_json::json!({ "data": { "data": { "keys": keys, "other": "x" }, "metadata": {} } }).to_string())
        }
        "POST /v1/transit/decrypt/lockgate HTTP/1.1" if body.contains("vault:v1:wrapped") => {
            (200, serde_json::json!({ "data": { "plaintext": encoded } }).to_string())
        }
        _ => (404, "{\"errors\":[]}".into()),
    });
    std::fs::write(project.dir.join("token"), format!("{TOKEN}\n")).unwrap();
    let server = [("VAULT_ADDR", vault.address.as_str()), ("VAULT_TOKEN_FILE", "token")];
    let with_token = [("BAO_ADDR", vault.address.as_str()), ("BAO_TOKEN", TOKEN)];
    let places: [(&str, &[(&str, &str)]); 3] = [
        ("env:LOCKGATE_TEST_KEYS", &[("LOCKGATE_TEST_KEYS", key_text.as_str())]),
        ("vault:kv/secret/lockgate/prod#keys", &server),
        ("vault:transit/transit/lockgate#keys/wrapped", &with_token),
    ];
    for (number, (reference, variables)) in places.into_iter().enumerate() {
        project.write_keys(reference);
        project.database.execute(&format!("UPDATE t SET v = v || '.' WHERE id = {}", number + 1), &[]).await.unwrap();
        project.ends(variables, 0, &[]);
        let output = project.with(&["check"], variables);
        assert!(output.status.success());
        assert_eq!(project.query("SELECT id FROM db.public.t ORDER BY v"), tokens, "{reference}");
    }
    assert!(vault.asked() >= 3);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_gives_no_keys_is_told_as_such_and_nothing_passes() {
    let project = Project::new("key-refusals", SETUP, &["public.t"], RULES).await;
    let vault = VaultDouble::start(|line, _, _| match line {
        "GET /v1/secret/data/sealed HTTP/1.1" => (503, "{\"errors\":[\"Vault is sealed\"]}".into()),
        "GET /v1/secret/data/damaged HTTP/1.1" => (200, "{\"data\":{\"data\":{\"keys\":\"lockgate-keys 1\"}}}".into()),
        "GET /v1/secret/data/other HTTP/1.1" => (200, "{\"data\":{\"data\":{\"password\":\"hunter2\"}}}".into()),
        "GET /v1/secret/data/strange HTTP/1.1" => (200, "hunter2".into()),
        "POST /v1/transit/decrypt/wrong HTTP/1.1" => {
            (400, "{\"errors\":[\"cipher: message authentication failed\"]}".into())
        }
        _ => (404, "{\"errors\":[]}".into()),
    });
    std::fs::write(project.dir.join("keys/wrapped"), "vault:v1:wrapped\n").unwrap();
    let address = vault.address.as_str();
    let good = [("VAULT_ADDR", address), ("VAULT_TOKEN", TOKEN)];
    let cases: [(&str, Variables<'_>, i32, &[&str]); 13] = [
        ("env:LOCKGATE_NO_SUCH_KEYS", &[], 1, &["LOCKGATE_NO_SUCH_KEYS", "fix:"]),
        ("vault:kv/secret/a#keys", &[], 1, &["VAULT_ADDR is not set", "fix:"]),
        (
            "vault:kv/secret/a#keys",
            &[("VAULT_ADDR", "http://vault.internal:8200"), ("VAULT_TOKEN", TOKEN)],
            1,
            &["not https", "fix:"],
        ),
        ("vault:kv/secret/a#keys", &[("VAULT_ADDR", address)], 1, &["VAULT_TOKEN", "fix:"]),
        (
            "vault:kv/secret/a#keys",
            &[("VAULT_ADDR", address), ("VAULT_TOKEN", "wrong")],
            1,
            &["the token may not", "fix:"],
        ),
        ("vault:kv/secret/a#keys", &good, 1, &["nothing at this mount and path", "fix:"]),
        ("vault:kv/secret/other#keys", &good, 1, &["no field `keys`", "fix:"]),
        ("vault:kv/secret/strange#keys", &good, 1, &["KV version 2", "fix:"]),
        ("vault:kv/secret/damaged#keys", &good, 1, &["`tenant` line is missing", "fix:"]),
        ("vault:transit/transit/wrong#keys/wrapped", &good, 1, &["the server refused with 400", "fix:"]),
        ("vault:transit/transit/wrong#keys/test.key", &good, 1, &["was not encrypted by the transit engine", "fix:"]),
        ("vault:kv/secret/sealed#keys", &good, 4, &["503", "Nothing passes without keys"]),
        ("aws-kms:alias/lockgate", &good, 1, &["aws-kms are not supported", "fix:"]),
    ];
    for (reference, variables, code, parts) in cases {
        project.write_keys(reference);
        let started = tokio::time::Instant::now();
        project.ends(variables, code, parts);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{reference}: a server that is away is asked for a bounded time"
        );
    }
    assert!(!project.lake_table("t").exists(), "something passed without keys");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_wrapping_of_the_same_keys_writes_no_row_and_stops_nothing() {
    let project = Project::new("key-rewrap", SETUP, &["public.t"], RULES).await;
    let encoded = STANDARD.encode(std::fs::read_to_string(project.dir.join("keys/test.key")).unwrap());
    let vault =
        VaultDouble::start(move |_, body, _| match body.contains("vault:v1:old") || body.contains("vault:v2:new") {
            true => (200, serde_json::json!({ "data": { "plaintext": encoded } }).to_string()),
            false => (400, "{\"errors\":[]}".into()),
        });
    let server = [("VAULT_ADDR", vault.address.as_str()), ("VAULT_TOKEN", TOKEN)];
    std::fs::write(project.dir.join("keys/wrapped"), "vault:v1:old\n").unwrap();
    project.write_keys("vault:transit/transit/lockgate#keys/wrapped");
    project.ends(&server, 0, &[]);
    let versions = || -> Vec<usize> {
        let log = |folder| std::fs::read_dir(project.lake_table(folder).join("_delta_log")).unwrap().count();
        ["t", "t__changes"].map(log).to_vec()
    };
    let (before, tokens) = (versions(), project.query("SELECT id FROM db.public.t ORDER BY v"));
    // A run goes on while the manager's key is rotated; the next one reads the other wrapping.
    let mut running = project.command(&["run"]);
    let mut running =
        running.envs(server).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::fs::write(project.dir.join("keys/wrapped"), "vault:v2:new\n").unwrap();
    project.database.execute("INSERT INTO t VALUES (99, 'z')", &[]).await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.t", "21").await;
    assert!(running.try_wait().unwrap().is_none(), "the run stopped");
    running.kill().unwrap();
    running.wait().unwrap();
    let after = versions();
    project.ends(&server, 0, &[]);
    let output = project.with(&["remask"], &server);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "db.public.t: nothing to do\n");
    assert_eq!(versions(), after, "something was written");
    assert!(after.iter().zip(&before).all(|(after, before)| after - before == 1), "{before:?} {after:?}");
    assert_eq!(project.query("SELECT id FROM db.public.t WHERE v <> 'z' ORDER BY v"), tokens);
    project.end().await;
}
