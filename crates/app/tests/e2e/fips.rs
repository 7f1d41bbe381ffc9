//! What a build says of its cryptography, and what it offers to every server: with the feature `fips` nothing but what the FIPS module may do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::server::Acceptor;
use rustls::{CipherSuite, NamedGroup};
use sandbox::PrivatePostgres;

use super::failure_modes::patience::until;
use super::failure_modes::process::Process;
use super::project::Project;

const SETUP: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) i;";
const POLICY: &str = "  db.public.t: { id: keep, v: keep }\n";
const HAS_FIPS: bool = cfg!(feature = "fips");

/// What a client offers at the start of TLS.
struct Hello {
    suites: Vec<CipherSuite>,
    groups: Vec<NamedGroup>,
}

impl Hello {
    /// Reads on until it is whole; `read` has every byte of it.
    fn read(client: &mut TcpStream, read: &mut Vec<u8>) -> Self {
        let mut acceptor = Acceptor::default();
        let mut buffer = [0; 4096];
        loop {
            let length = client.read(&mut buffer).unwrap();
            assert!(length > 0, "the client went away in its hello");
            read.extend_from_slice(&buffer[..length]);
            acceptor.read_tls(&mut &buffer[..length]).unwrap();
            if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error).unwrap() {
                let hello = accepted.client_hello();
                let groups = hello.named_groups().unwrap_or_default().to_vec();
                return Self { suites: hello.cipher_suites().to_vec(), groups };
            }
        }
    }

    fn is_what_the_build_may(&self) {
        let Self { suites, groups } = self;
        let has_usual = suites.contains(&CipherSuite::TLS13_CHACHA20_POLY1305_SHA256)
            && groups.contains(&NamedGroup::X25519)
            && suites.contains(&CipherSuite::TLS13_AES_256_GCM_SHA384);
        if !HAS_FIPS {
            return assert!(has_usual, "{suites:?} {groups:?}");
        }
        let approved = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            // No suite: the client's way to say that it renegotiates safely.
            CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV,
        ];
        assert!(!suites.is_empty() && suites.iter().all(|suite| approved.contains(suite)), "{suites:?}");
        let approved = [NamedGroup::secp256r1, NamedGroup::secp384r1, NamedGroup::X25519MLKEM768];
        assert!(!groups.is_empty() && groups.iter().all(|group| approved.contains(group)), "{groups:?}");
    }
}

/// Stands where a server is expected, and keeps what clients offer.
struct Front {
    port: u16,
    hellos: Arc<Mutex<Vec<Hello>>>,
}

impl Front {
    /// Ends with the test's process, as its connections do.
    fn start(serve: impl Fn(TcpStream) -> Hello + Copy + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self { port: listener.local_addr().unwrap().port(), hellos: Arc::default() };
        let hellos = front.hellos.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, hellos) = (client.unwrap(), hellos.clone());
                std::thread::spawn(move || {
                    let hello = serve(client);
                    hellos.lock().unwrap().push(hello);
                });
            }
        });
        front
    }

    /// Before a Postgres with TLS, which gets and gives every byte as it is.
    fn of_postgres(port: u16) -> Self {
        Self::start(move |mut client| {
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut request, mut answer) = ([0; 8], [0]);
            client.read_exact(&mut request).unwrap();
            server.write_all(&request).unwrap();
            server.read_exact(&mut answer).unwrap();
            client.write_all(&answer).unwrap();
            let mut read = Vec::new();
            let hello = Hello::read(&mut client, &mut read);
            server.write_all(&read).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    // Either end may break it off; the other one is told.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
            hello
        })
    }

    /// In the place of a server that goes away after a client's first words.
    fn of_nobody() -> Self {
        Self::start(|mut client| Hello::read(&mut client, &mut Vec::new()))
    }

    fn seen(&self) -> usize {
        self.hellos.lock().unwrap().len()
    }

    fn saw_what_the_build_may(&self, at_least: usize) {
        let hellos = self.hellos.lock().unwrap();
        assert!(hellos.len() >= at_least, "{} connections", hellos.len());
        hellos.iter().for_each(Hello::is_what_the_build_may);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_to_the_database_offers_what_the_build_may() {
    let postgres = match PrivatePostgres::with().tls().setting("log_replication_commands", "on").start().await {
        Ok(postgres) => postgres,
        Err(error) if cfg!(feature = "fips") => panic!("this build is tested with a Postgres that does TLS: {error:#}"),
        Err(_) => return println!("skipped: this Postgres cannot do TLS, or there is no openssl"),
    };
    let front = Front::of_postgres(postgres.port());
    let project = Project::on(postgres, "fips-database", SETUP, &["public.t"], POLICY).await;
    let port = |port| format!("@localhost:{port}/");
    project.edit("lockgate.yaml", &port(project.postgres.port()), &port(front.port));
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("UPDATE t SET v = 'new' WHERE id < 5").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v"]).await;
    // The stream comes by the same way as the rest, through another library.
    assert!(project.postgres.log().unwrap().contains("START_REPLICATION"));
    front.saw_what_the_build_may(4);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_and_key_managers_are_offered_what_the_build_may() {
    let project = Project::new("fips-https", SETUP, &["public.t"], POLICY).await;
    let (store, keys) = (Front::of_nobody(), Front::of_nobody());
    let options = format!(
        "lake: s3://bucket/lake\nlake_options: {{ aws_endpoint: 'https://127.0.0.1:{}', aws_region: here, allow_unencrypted: 'true', \
         aws_access_key_id: '${{env:STORE_KEY}}', aws_secret_access_key: '${{env:STORE_KEY}}' }}",
        store.port
    );
    project.edit("lockgate.yaml", "lake: ./lake", &options);
    let mut command = project.command(&["run"]);
    let run = Process::of(command.env("STORE_KEY", "none"), project.dir.join("store.log"));
    until("the store is asked", 30, async || store.seen() > 0).await;
    run.kill_9();
    store.saw_what_the_build_may(1);

    project.edit("lockgate.yaml", &options, "lake: ./lake");
    project.edit("policy.yaml", "file:./keys/test.key", "vault:kv/secret/lockgate#keys");
    project.edit("policy.yaml", "v: keep", "v: hmac_token(v)");
    let mut command = project.command(&["run"]);
    command.env("VAULT_ADDR", format!("https://127.0.0.1:{}", keys.port)).env("VAULT_TOKEN", "hvs.none");
    let run = Process::of(&mut command, project.dir.join("keys.log"));
    until("the key manager is asked", 30, async || keys.seen() > 0).await;
    run.kill_9();
    keys.saw_what_the_build_may(1);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_chacha20_only_is_refused_by_a_fips_build_and_by_no_other() {
    let of_1_2 = [("ssl_max_protocol_version", "TLSv1.2"), ("ssl_ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305")];
    let of_1_3 = [("ssl_min_protocol_version", "TLSv1.3"), ("ssl_tls13_ciphers", "TLS_CHACHA20_POLY1305_SHA256")];
    for (name, major, settings) in [("fips-1-2", None, of_1_2), ("fips-1-3", Some(18), of_1_3)] {
        // Only since version 18 has Postgres a setting for the suites of TLS 1.3.
        let server = major.map_or_else(PrivatePostgres::with, |major| PrivatePostgres::with().major(major));
        let server = settings.iter().fold(server.tls(), |server, (name, value)| server.setting(*name, *value));
        let Ok(postgres) = server.start().await else {
            println!("skipped: {name}: no Postgres with TLS and these settings, or there is no openssl");
            continue;
        };
        let project = Project::on(postgres, name, SETUP, &["public.t"], POLICY).await;
        let output = project.lockgate(&["run", "--once"]);
        let said = String::from_utf8_lossy(&output.stderr);
        if HAS_FIPS {
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(said.contains("no trusted TLS connection"), "{said}");
        } else {
            assert!(output.status.success(), "{said}");
            project.assert_same("t", &["id", "v"]).await;
        }
        project.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_and_the_audit_log_say_which_build_it_is() {
    let project = Project::new("fips-said", SETUP, &["public.t"], POLICY).await;
    let version = project.lockgate_ok(&["--version"]);
    let features: Vec<&str> = [(HAS_FIPS, "fips"), (cfg!(feature = "ner"), "ner")]
        .iter()
        .filter_map(|(is_on, name)| is_on.then_some(*name))
        .collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    assert!(version.contains(&format!("\nfeatures: {features}\n")), "{version}");
    assert_eq!(version.contains("\ncryptography: AWS-LC FIPS "), HAS_FIPS, "{version}");
    assert_eq!(project.lockgate_ok(&["-V"]).lines().count(), 1);

    project.lockgate_ok(&["run", "--once"]);
    let log = project.lockgate_ok(&["audit", "list"]);
    let opened = log.lines().find(|line| line.contains(" opened ")).unwrap();
    assert_eq!(opened.contains("fips_module="), HAS_FIPS, "{opened}");
    project.lockgate_ok(&["audit", "verify"]);
    project.end().await;
}
