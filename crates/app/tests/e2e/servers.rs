//! Every Postgres that is installed, TLS with full verification, a fresh folder by `init`, and two instances at once.

use sandbox::PrivatePostgres;
use sandbox::postgres::available;

use super::failure_modes::patience::until;
use super::failure_modes::process::Process;
use super::project::Project;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(8,2)); INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 500) i;";
const POLICY: &str = "  db.public.t: { id: keep, v: keep, n: keep }\n";

#[tokio::test(flavor = "multi_thread")]
async fn every_version_that_is_installed() {
    let mut tried = Vec::new();
    for installed in available() {
        if tried.contains(&installed.major) {
            continue;
        }
        tried.push(installed.major);
        let postgres = PrivatePostgres::with().bin(&installed.bin).start().await.unwrap();
        let project = Project::on(postgres, &format!("pg{}", installed.major), SETUP, &["public.t"], POLICY).await;
        project.lockgate_ok(&["check", "--connect"]);
        project.lockgate_ok(&["run", "--once"]);
        project.database.batch_execute("UPDATE t SET n = n + 1 WHERE id < 50; DELETE FROM t WHERE id > 490; INSERT INTO t VALUES (1000, 'x', 1)").await.unwrap();
        project.lockgate_ok(&["run", "--once"]);
        project.assert_same("t", &["id", "v", "n"]).await;
        project.end().await;
    }
    println!("Postgres {tried:?}");
    for major in (14..=18).filter(|major| !tried.contains(major)) {
        println!("skipped: Postgres {major} is not installed; scripts/setup.sh test installs it");
    }
    assert!(!tried.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_and_password_is_verified() {
    let Ok(postgres) = PrivatePostgres::with().tls().password("s3cret-pw").start().await else {
        println!("skipped: this Postgres cannot do TLS, or there is no openssl");
        return;
    };
    let project = Project::on(postgres, "tls", SETUP, &["public.t"], POLICY).await;
    std::fs::write(project.dir.join("pw"), "s3cret-pw\n").unwrap();
    let yaml = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    let with_password = yaml.replace("      slot:", "      password: ${file:pw}\n      slot:");
    std::fs::write(project.dir.join("lockgate.yaml"), &with_password).unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v", "n"]).await;
    // The same server without the authority that signed its certificate.
    let (before, after) = with_password.split_once("&sslrootcert=").unwrap();
    let rest = after.split_once('\n').unwrap().1;
    std::fs::write(project.dir.join("lockgate.yaml"), format!("{before}\n{rest}")).unwrap();
    let output = project.lockgate(&["check", "--connect"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("certificate") && message.contains("fix:"), "{message}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_rotated_is_read_anew_by_a_run_that_goes_on() {
    let asks = PrivatePostgres::with().hba("host all rotated 127.0.0.1/32 scram-sha-256");
    let postgres = asks.start().await.unwrap();
    let setup = format!(
        "CREATE ROLE rotated LOGIN SUPERUSER PASSWORD 'before-pw'; CREATE TABLE u (id int PRIMARY KEY); {SETUP}"
    );
    let policy = format!("{POLICY}  db.public.u: {{ id: keep }}\n");
    let project = Project::on(postgres, "rotated", &setup, &["public.t", "public.u"], &policy).await;
    std::fs::write(project.dir.join("pw"), "before-pw\n").unwrap();
    let yaml = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    let yaml = yaml.replace("postgresql://postgres@", "postgresql://rotated@");
    let yaml = yaml.replace("      slot:", "      password: ${file:pw}\n      slot:");
    std::fs::write(project.dir.join("lockgate.yaml"), yaml).unwrap();

    // What has never let it in is not tried again.
    std::fs::write(project.dir.join("pw"), "a-wrong-one\n").unwrap();
    let (code, said) = Process::start(&project).end(20).await;
    assert_eq!(code, Some(1), "{said}");
    std::fs::write(project.dir.join("pw"), "before-pw\n").unwrap();

    let mut run = Process::start(&project);
    project.wait_for("SELECT count(*) FROM db.public.t", "500").await;
    project.database.batch_execute("INSERT INTO t VALUES (8000, 'let in', 1)").await.unwrap();
    let lsn = project.database.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get::<_, String>(0);
    until("it is durable and confirmed", 30, async || {
        let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots";
        project.database.query_one(sql, &[&lsn]).await.unwrap().get(0)
    })
    .await;
    // A table that a new start brings back.
    let away = "ALTER PUBLICATION lockgate_e2e DROP TABLE u; INSERT INTO u VALUES (1); ALTER PUBLICATION lockgate_e2e ADD TABLE u";
    project.database.batch_execute(away).await.unwrap();
    until("the table is stopped", 30, async || run.said().contains("the table is stopped")).await;
    let rotate = "ALTER ROLE rotated PASSWORD 'after-pw';
                  SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated';
                  INSERT INTO t VALUES (9000, 'after', 1)";
    project.database.batch_execute(rotate).await.unwrap();
    let asked = std::cell::Cell::new(0);
    until("it is refused and tries again", 60, async || {
        asked.set(run.said().matches("the run starts over").count());
        asked.get() > 1
    })
    .await;
    assert!(!run.has_ended());
    assert!(!run.said().contains("-pw"), "{}", run.said());
    std::fs::write(project.dir.join("pw"), "after-pw\n").unwrap();
    project.wait_for("SELECT count(*) FROM db.public.t", "502").await;
    project.wait_for("SELECT count(*) FROM db.public.u", "1").await;
    until("no table is shown as stopped", 20, async || project.lockgate(&["status"]).status.code() == Some(0)).await;
    assert_eq!(run.terminate(), Some(0));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_a_server_that_asks_for_one() {
    let asks = PrivatePostgres::with().tls().hba("hostssl all certified 127.0.0.1/32 cert");
    let Ok(postgres) = asks.start().await else {
        println!("skipped: this Postgres cannot do TLS, or there is no openssl");
        return;
    };
    let (certificate, key) = postgres.client_certificate("certified").unwrap();
    let setup = format!("CREATE ROLE certified LOGIN SUPERUSER; {SETUP}");
    let project = Project::on(postgres, "mtls", &setup, &["public.t"], POLICY).await;
    let yaml = std::fs::read_to_string(project.dir.join("lockgate.yaml")).unwrap();
    let yaml = yaml.replace("postgresql://postgres@", "postgresql://certified@");
    std::fs::write(project.dir.join("lockgate.yaml"), &yaml).unwrap();
    let output = project.lockgate(&["check", "--connect"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("`sslcert`"), "{message}");

    let presented = format!("      sslcert: {}\n      sslkey: {}\n      slot:", certificate.display(), key.display());
    std::fs::write(project.dir.join("lockgate.yaml"), yaml.replace("      slot:", &presented)).unwrap();
    project.lockgate_ok(&["check", "--connect"]);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("t", &["id", "v", "n"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_a_folder_that_check_accepts_and_run_fills() {
    let setup = "CREATE TABLE members (member_id bigint PRIMARY KEY, ssn text, first_name text, birth_date date, zip text, plan_code text, notes text);
        CREATE TABLE loose (id int); CREATE VIEW seen AS SELECT 1 AS one;
        CREATE TABLE \"odd\"\"name.2024\" (id int PRIMARY KEY); INSERT INTO \"odd\"\"name.2024\" VALUES (1), (2);
        CREATE SCHEMA \"dot.ted\"; CREATE TABLE \"dot.ted\".t (id int PRIMARY KEY);
        INSERT INTO members SELECT i, '517-93-' || 1000 + i, 'Zebulonova', '1980-01-01', '60629', 'HMO', repeat('Zebulonova was seen. ', 20) FROM generate_series(1, 300) i;";
    let project = Project::new("init", setup, &["public.members"], "").await;
    let dir = project.dir.join("fresh");
    let url = project.postgres.url("postgres", "postgres");
    let fresh = dir.to_str().unwrap();
    let init = ["--dir", fresh, "init", "--name", "claims_db", "--from", &url, "--tables", "public.*"];
    let lockgate = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate")).args(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "lockgate {arguments:?}: {text}");
        assert!(!text.contains("Zebulonova"), "lockgate {arguments:?} prints a value");
        text
    };
    let said = lockgate(&init);
    assert!(said.contains("claims_db.public.loose is left out") && said.contains("REPLICA IDENTITY"), "{said}");
    let policy = std::fs::read_to_string(dir.join("policy.yaml")).unwrap();
    assert!(policy.contains("member_id: hmac_token(member)"), "{policy}");
    for dropped in ["ssn: drop", "first_name: drop", "notes: drop"] {
        assert!(policy.contains(dropped), "not `{dropped}`: {policy}");
    }
    assert!(!policy.contains("Zebulonova"));
    lockgate(&["--dir", fresh, "check", "--connect"]);
    lockgate(&["--dir", fresh, "run", "--once"]);
    let rows = lockgate(&[
        "--dir",
        fresh,
        "query",
        "SELECT count(*), count(DISTINCT member_id) FROM claims_db.public.members",
        "--format",
        "csv",
    ]);
    assert!(rows.ends_with("300,300\n"), "{rows}");
    let odd = "SELECT count(*) AS n FROM claims_db.public.\"odd\"\"name.2024\"";
    assert_eq!(lockgate(&["--dir", fresh, "query", odd, "--format", "csv"]), "n\n2\n");
    // A second init never overwrites.
    let again = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate")).args(init).output().unwrap();
    assert_eq!(again.status.code(), Some(1));

    let elsewhere = project.dir.join("elsewhere").display().to_string();
    let init = |tables: &str| {
        let arguments = ["--dir", &elsewhere, "init", "--name", "claims_db", "--from", &url, "--tables", tables];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate")).args(arguments).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    let (code, said) = init("public.seen");
    assert!(code == Some(1) && said.contains("claims_db.public.seen is a view"), "{said}");
    let (code, said) = init("*.*");
    assert!(code == Some(0) && said.contains("claims_db.dot.ted.t is left out"), "{said}");
    assert!(said.contains("wrote lockgate.yaml, policy.yaml and keys/dev.key"), "{said}");
    for file in ["lockgate.yaml", "policy.yaml"] {
        std::fs::remove_file(project.dir.join("elsewhere").join(file)).unwrap();
    }
    let (code, said) = init("public.members,public.seen");
    assert!(code == Some(0) && said.contains("keys/dev.key was there and stays"), "{said}");
    assert!(said.contains("claims_db.public.seen is left out: it is a view"), "{said}");
    lockgate(&["--dir", &elsewhere, "check", "--connect"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_is_turned_away() {
    let project = Project::new("two", SETUP, &["public.t"], POLICY).await;
    assert!(project.lockgate_ok(&["status"]).contains("source db: no slot yet"));
    let running = project.start();
    project.wait_for("SELECT count(*) FROM db.public.t", "500").await;
    let second = project.lockgate(&["run", "--once"]);
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && message.contains("fix:"), "{message}");
    project.database.batch_execute("UPDATE t SET v = 'still' WHERE id = 1").await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.t WHERE v = 'still'", "1").await;
    assert_eq!(running.terminate(), Some(0));
    project.assert_same("t", &["id", "v", "n"]).await;
    project.end().await;
}
