//! Keys from other places than a file: the same tokens wherever they come from, and a clear refusal when a place does not give them.
//!
//! No registry that the tests may use has a Vault or an OpenBao, so their two routes are answered by a double here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
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
                let line = head.lines().next().unwrap();
                // Logins and unwrapping ask for no token of ours.
                let open = line.contains("/v1/auth/") || line.contains("/v1/sys/wrapping/");
                let (status, body) = match open || head.contains(&format!("x-vault-token: {TOKEN}")) {
                    true => answer(line, body, number),
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
        let ours = |name: &str| ["VAULT_", "BAO_", "AWS_"].iter().any(|prefix| name.starts_with(prefix));
        std::env::vars().filter(|(name, _)| ours(name)).for_each(|(name, _)| {
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
        ("aws-kms:alias/lockgate", &good, 1, &["not a reference to keys", "fix:"]),
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

/// Whoever has these may log in, once.
const SECRET_ID: &str = "planted-secret-id";
const WRAPPED: &str = "hvs.planted-wrapping-token";

/// An AppRole, a role of Kubernetes and one wrapped secret id, as the API's documentation has them.
fn logins(keys: String) -> VaultDouble {
    let unwrapped = AtomicBool::new(false);
    let auth = serde_json::json!({
        "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null, "wrap_info": null, "warnings": null,
        "auth": { "client_token": TOKEN, "accessor": "a", "policies": ["lockgate"], "lease_duration": 1200, "renewable": true },
    });
    VaultDouble::start(move |line, body, number| {
        let sent: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let refused = || (400, "{\"errors\":[\"invalid role or secret ID\"]}".to_owned());
        match line {
            // It has just been started.
            _ if number == 0 => (503, "{\"errors\":[\"Vault is sealed\"]}".into()),
            "POST /v1/sys/wrapping/unwrap HTTP/1.1" if !unwrapped.swap(true, Ordering::Relaxed) => {
                (200, serde_json::json!({ "data": { "secret_id": SECRET_ID, "secret_id_accessor": "b" } }).to_string())
            }
            "POST /v1/sys/wrapping/unwrap HTTP/1.1" => {
                (400, "{\"errors\":[\"wrapping token is not valid or does not exist\"]}".into())
            }
            "POST /v1/auth/approle/login HTTP/1.1" if sent["role_id"] == "r" && sent["secret_id"] == SECRET_ID => {
                (200, auth.to_string())
            }
            "POST /v1/auth/k8s/login HTTP/1.1" if sent["role"] == "lockgate" && sent["jwt"] == "planted-jwt" => {
                (200, auth.to_string())
            }
            "POST /v1/auth/approle/login HTTP/1.1" => refused(),
            "POST /v1/auth/k8s/login HTTP/1.1" => (403, "{\"errors\":[\"permission denied\"]}".into()),
            "POST /v1/auth/token/revoke-self HTTP/1.1" => (204, String::new()),
            "GET /v1/secret/data/a HTTP/1.1" => {
                (200, serde_json::json!({ "data": { "data": { "keys": keys }, "metadata": {} } }).to_string())
            }
            _ => (404, "{\"errors\":[]}".into()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_role_and_a_service_account_log_in_and_their_token_ends_with_the_keys() {
    let project = Project::new("key-logins", SETUP, &["public.t"], RULES).await;
    let vault = logins(std::fs::read_to_string(project.dir.join("keys/test.key")).unwrap());
    project.write_keys("vault:kv/secret/a#keys");
    std::fs::write(project.dir.join("secret-id"), format!("{SECRET_ID}\n")).unwrap();
    std::fs::write(project.dir.join("jwt"), "planted-jwt\n").unwrap();
    let address = ("VAULT_ADDR", vault.address.as_str());
    let role = [address, ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID_FILE", "secret-id")];
    let wrapped = [address, ("BAO_ROLE_ID", "r"), ("BAO_SECRET_ID", WRAPPED), ("BAO_SECRET_ID_WRAPPED", "true")];
    let mount = ("VAULT_AUTH_MOUNT", "k8s");
    let pod = [address, ("VAULT_KUBERNETES_ROLE", "lockgate"), mount, ("VAULT_KUBERNETES_TOKEN_FILE", "jwt")];
    for variables in [&role[..], &wrapped, &pod] {
        let before = vault.asked.lock().unwrap().len();
        project.ends(variables, 0, &[]);
        let asked: Vec<String> = vault.asked.lock().unwrap()[before..].to_vec();
        assert!(asked.last().unwrap().starts_with("POST /v1/auth/token/revoke-self"), "a token outlives its use");
        assert!(
            !asked.iter().any(|request| request.contains("login") && request.contains(WRAPPED)),
            "it was not unwrapped"
        );
    }
    let wrong = [address, ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID", "hunter2")];
    let half = [address, ("VAULT_ROLE_ID", "r")];
    let nowhere = [address, ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID_FILE", "nowhere")];
    let stranger = [address, ("VAULT_KUBERNETES_ROLE", "other"), mount, ("VAULT_KUBERNETES_TOKEN_FILE", "jwt")];
    let elsewhere = [address, ("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID", SECRET_ID), ("VAULT_AUTH_MOUNT", "nowhere")];
    let cases: [(Variables<'_>, &[&str]); 6] = [
        (&wrong, &["the login was refused with 400", "fix:"]),
        (&half, &["only half of the AppRole", "fix:"]),
        (&nowhere, &["cannot read the token file", "fix:"]),
        (&stranger, &["the login was refused with 403", "fix:"]),
        (&elsewhere, &["there is no such login", "fix:"]),
        (&wrapped, &["the wrapped secret id was refused", "treat it as stolen"]),
    ];
    for (variables, parts) in cases {
        project.ends(variables, 1, parts);
    }
    project.end().await;
}

/// How many seconds the manager stays away after what the test looks at; 0 when not set. Half an hour was measured by it.
const OUTAGE: &str = "LOCKGATE_KEY_OUTAGE_SECONDS";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_a_manager_that_is_away_confirms_nothing_and_goes_on_by_itself() {
    let project = Project::new("key-outage", SETUP, &["public.t"], RULES).await;
    project.lockgate_ok(&["run", "--once"]);
    let keys = std::fs::read_to_string(project.dir.join("keys/test.key")).unwrap();
    let (away, back) = (Arc::new(AtomicBool::new(true)), keys.clone());
    let is_away = away.clone();
    let vault = VaultDouble::start(move |_, _, _| match is_away.load(Ordering::Relaxed) {
        true => (503, "{\"errors\":[\"Vault is sealed\"]}".into()),
        false => (200, serde_json::json!({ "data": { "data": { "keys": back }, "metadata": {} } }).to_string()),
    });
    project.write_keys("vault:kv/secret/a#keys");
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    let before = project.source(confirmed).await;
    project
        .database
        .batch_execute("INSERT INTO t SELECT i, repeat('w', 9000) FROM generate_series(21, 120) i")
        .await
        .unwrap();
    let said = project.dir.join("said");
    let mut command = project.command(&["run"]);
    command.env("VAULT_ADDR", &vault.address).env("VAULT_TOKEN", TOKEN);
    let mut run = project.spawn(command.stderr(std::fs::File::create(&said).unwrap()));
    // Two alarms: it has asked in vain, waited, and asked in vain again.
    let alarms = || std::fs::read_to_string(&said).unwrap().matches("waiting for keys").count();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while alarms() < 2 {
        assert!(!run.has_ended(), "{}", std::fs::read_to_string(&said).unwrap());
        assert!(tokio::time::Instant::now() < deadline, "no alarm: {}", std::fs::read_to_string(&said).unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = std::fs::read_to_string(&said).unwrap();
    for part in ["nothing passes and nothing is confirmed", "the slot of db keeps", "more than at first", "503"] {
        assert!(text.contains(part), "`{part}` is not said: {text}");
    }
    assert!(!text.contains(TOKEN) && !text.contains("epoch 1 "));
    assert_eq!(project.source(confirmed).await, before, "something was confirmed without keys");
    assert_eq!(project.query("SELECT count(*) FROM db.public.t"), ["20"]);
    let status = project.lockgate_ok(&["status"]);
    assert!(status.contains("run: going on") && status.contains("waiting for keys"), "{status}");
    // As long as it is told to be, with changes all the while.
    let outage = std::env::var(OUTAGE).map_or(0, |seconds| seconds.parse().unwrap());
    let (asked, ends) = (alarms(), tokio::time::Instant::now() + Duration::from_secs(outage));
    let mut rows = 120;
    while tokio::time::Instant::now() < ends {
        rows += 1;
        project.database.execute("INSERT INTO t VALUES ($1, 'meanwhile')", &[&rows]).await.unwrap();
        assert!(!run.has_ended(), "{}", std::fs::read_to_string(&said).unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(alarms() - asked >= outage as usize / 90, "{} alarms in {outage} s", alarms() - asked);
    assert_eq!(project.source(confirmed).await, before, "something was confirmed without keys");
    away.store(false, Ordering::Relaxed);
    project.wait_for("SELECT count(*) FROM db.public.t", &rows.to_string()).await;
    assert_eq!(run.terminate(), Some(0));
    assert_eq!(project.query("SELECT count(DISTINCT id) FROM db.public.t"), [rows.to_string()]);
    let verified = project.with(&["verify"], &[("VAULT_ADDR", &vault.address), ("VAULT_TOKEN", TOKEN)]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    assert!(!project.lockgate_ok(&["status"]).contains("waiting for keys"));

    // Told to stop while it waits, it does.
    away.store(true, Ordering::Relaxed);
    let mut command = project.command(&["run"]);
    command.env("VAULT_ADDR", &vault.address).env("VAULT_TOKEN", TOKEN);
    let run = project.spawn(command.stderr(std::fs::File::create(&said).unwrap()));
    while alarms() < 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(run.terminate(), Some(4));
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
