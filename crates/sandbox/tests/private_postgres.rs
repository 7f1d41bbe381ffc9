use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox::PrivatePostgres;
use sandbox::postgres::available;

async fn number(server: &PrivatePostgres, sql: &str) -> i64 {
    server.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn data_survives_a_stop_and_a_crash_and_nothing_is_left_behind() {
    let mut server = PrivatePostgres::start().await.unwrap();
    let (folder, port) = (server.folder().to_path_buf(), server.port());
    server.execute("CREATE TABLE t (n bigint); INSERT INTO t VALUES (1)").await.unwrap();
    let level: String = server.client().await.unwrap().query_one("SHOW wal_level", &[]).await.unwrap().get(0);
    assert_eq!(level, "logical");

    server.restart().await.unwrap();
    assert_eq!(number(&server, "SELECT count(*) FROM t").await, 1);
    server.execute("INSERT INTO t VALUES (2)").await.unwrap();

    server.kill_9().await.unwrap();
    assert!(server.client().await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(number(&server, "SELECT count(*) FROM t").await, 2);
    assert_eq!(server.port(), port);

    drop(server);
    assert!(!folder.exists());
    std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[tokio::test]
async fn a_password_and_tls_are_asked_for_over_tcp() {
    let server = PrivatePostgres::with()
        .password("correct horse")
        .tls()
        .hba("hostssl all certified 127.0.0.1/32 cert")
        .start()
        .await
        .unwrap();
    server.execute("CREATE ROLE certified LOGIN").await.unwrap();
    let psql = |url: &str, password: &str| {
        Command::new("psql")
            .args([url, "-Atc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"])
            .env("PGPASSWORD", password)
            .output()
            .unwrap()
    };
    let url = server.url("postgres", "postgres");
    assert!(url.contains("verify-full"), "{url}");
    assert_eq!(psql(&url, "correct horse").stdout, b"t\n");
    assert!(!psql(&url, "wrong").status.success());

    assert_eq!(psql(&server.url_socket("postgres", "postgres"), "").status.code(), Some(0));

    let (certificate, key) = server.client_certificate("certified").unwrap();
    let url = server.url("certified", "postgres");
    assert!(!psql(&url, "").status.success());
    let with = format!("{url}&sslcert={}&sslkey={}", certificate.display(), key.display());
    assert_eq!(psql(&with, "").stdout, b"t\n");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let said = format!("{:#}", PrivatePostgres::with().setting("work_mem", "lots").start().await.unwrap_err());
    assert!(said.contains("work_mem"), "{said}");
}

#[test]
fn installed_servers_are_listed_newest_first() {
    let all = available();
    assert!(!all.is_empty());
    assert!(all.is_sorted_by_key(|installed| std::cmp::Reverse(installed.major)));
}

/// Not a test of its own, and without an end: the process that `a_killed_owner_leaves_nothing_behind`, which every test run has, starts
/// and kills.
#[tokio::test]
#[ignore = "never ends: `cargo x test -p sandbox a_killed_owner_leaves_nothing_behind` runs it in a process of its own, and kills that"]
async fn owner_to_be_killed() {
    let server = PrivatePostgres::start().await.unwrap();
    eprintln!("folder={}", server.folder().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing_behind() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "private_postgres::owner_to_be_killed", "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stderr.take().unwrap()).lines();
    let folder = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("folder=").map(PathBuf::from)).unwrap();
    let postmaster = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let process = PathBuf::from("/proc").join(postmaster.lines().next().unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = async {
        while folder.exists() || process.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), gone).await;
    assert!(waited.is_ok(), "{} or its server is still there", folder.display());
}
