//! I3: planted identifiers are in nothing that the program writes, prints or asks, in no form of the list.
//!
//! `docs/guarantees.md` says what is searched and how. A find is sure when chance could not have made it ([`forms::SURE_BITS`]); shorter
//! forms count when two people's values of one column are found in the same form and place.

mod canary;
mod controls;
mod forms;
mod noninterference;
mod plant;
mod remasked;
mod repaired;
mod scanner;
mod sha1;
mod surface;
mod watched;

use std::path::PathBuf;

use plant::{Plan, TABLES};
use scanner::Scanner;
use surface::Surface;
use watched::{Watch, Watched};

use super::failure_modes::disk::Disk;
use super::project::{Project, files};

/// A project whose every trace is searched.
struct Searched {
    project: Project,
    scanner: Scanner,
    written: Vec<PathBuf>,
}

impl Searched {
    /// Runs the program to its end and searches what it said and which files it had open.
    async fn run(&mut self, surface: Surface, arguments: &[&str]) -> Watched {
        let watch = Watch::start(self.project.command(arguments), &self.project.dir);
        let watched = watch.end().await;
        self.search(surface, &arguments.join(" "), &watched);
        watched
    }

    fn search(&mut self, surface: Surface, what: &str, watched: &Watched) {
        let logged = if surface == Surface::Answers { Surface::Printed } else { surface };
        self.scanner.look(Surface::Printed, what, &watched.stdout);
        self.scanner.look(surface, what, &watched.stdout);
        self.scanner.look(logged, what, &watched.stderr);
        for (path, bytes) in &watched.nameless {
            self.scanner.look(Surface::Temporary, &path.display().to_string(), bytes);
        }
        self.written.extend(watched.written.iter().cloned());
    }

    /// Searches every file below the project folder as it is now.
    fn folder(&mut self) {
        for path in files(&self.project.dir) {
            self.scanner.file(Surface::of(&path, &self.project.dir), &path, &self.project.dir);
        }
    }

    async fn sql(&self, sql: &str) {
        self.project.database.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_identifier_leaves_the_gate() {
    let asked = |variable, default| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let first: u64 = asked("LOCKGATE_LEAK_SEED_FIRST", 1);
    for seed in first..first + asked("LOCKGATE_LEAK_SEEDS", 1) {
        search(Plan { seed }).await;
    }
}

/// Everything that is done with one seed's people.
async fn search(plan: Plan) {
    let project = plant::project("leaks", &plan.setup(), &TABLES, plant::POLICY).await;
    let disk = Disk::mount(&project.dir.join("lake"), 64);
    let mut searched = Searched { project, scanner: Scanner::new(plan.canaries()), written: Vec::new() };
    println!("seed {}: {} values in {} forms", plan.seed, plan.canaries().len(), searched.scanner.needles());
    prepare(&mut searched).await;
    copy_and_follow(&mut searched, &plan).await;
    if let Some(disk) = &disk {
        spool(&mut searched, &plan, disk).await;
    }
    hold(&mut searched, &plan).await;
    refuse(&mut searched, &plan).await;
    ask(&mut searched).await;
    remasked::remask(&mut searched).await;
    repaired::repair(&mut searched).await;
    let asked = plant::asked(&searched.project).await;
    // A copy, the stream, and large values that are read again by key.
    for statement in ["copy (", "start_replication", "$1::text"] {
        assert!(asked.to_lowercase().contains(statement), "the server's log does not show that we ask `{statement}`");
    }
    searched.scanner.look(Surface::Statements, "what the server was asked", asked.as_bytes());
    searched.folder();

    let seen = searched.scanner.seen();
    println!("bytes searched: {seen:?}");
    // Temporary files need not be there: none is best.
    let absent = |surface: &Surface| *surface == Surface::Temporary || *surface == Surface::Spool && disk.is_none();
    for surface in Surface::ALL.into_iter().filter(|surface| !absent(surface)) {
        assert!(seen.get(&surface).is_some_and(|bytes| *bytes > 0), "nothing of {surface:?} was searched");
    }
    let elsewhere: Vec<_> = searched.written.iter().filter(|path| !path.starts_with(&searched.project.dir)).collect();
    assert!(elsewhere.is_empty(), "files were written outside the project folder: {elsewhere:?}");
    let hits = searched.scanner.hits();
    assert!(hits.is_empty(), "planted values were found: {hits:#?}");
    drop(disk);
    searched.project.end().await;
}

/// The lake's disk is full for a while, and the source's log over its budget: rows wait on the local disk. Killed there.
async fn spool(searched: &mut Searched, plan: &Plan, disk: &Disk) {
    let file = searched.project.dir.join("lockgate.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    let budget = "slot: lockgate_e2e\n      wal_budget: { warn: 1MiB, critical: 1MiB, policy: spool }\n";
    std::fs::write(&file, before.replace("slot: lockgate_e2e\n", budget)).unwrap();
    let run = ["--log", "trace", "--log-format", "json", "run", "--json"];
    let mut watch = Watch::start(searched.project.command(&run), &searched.project.dir);
    until(&searched.project, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE active)", &mut watch).await;
    disk.fill();
    searched.sql(&plan.spooled()).await;
    let end: String =
        searched.project.database.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let safe = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_type = 'logical'");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(90);
    while !searched.project.database.query_one(&safe, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(tokio::time::Instant::now() < deadline, "nothing is spooled within a minute and a half");
        searched.sql("INSERT INTO beside SELECT repeat('b', 500) FROM generate_series(1, 2000)").await;
        watch.look();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    watch.kill_9();
    let watched = watch.end().await;
    searched.search(Surface::JsonLog, "a run that fills a spool and is killed", &watched);
    searched.folder();
    disk.free();
    let watched = searched.run(Surface::JsonLog, &["--log", "trace", "--log-format", "json", "run", "--once"]).await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    assert_eq!(
        searched.project.query("SELECT count(*) FROM db.public.person"),
        ["12"],
        "the spool's rows did not arrive"
    );
    std::fs::write(file, before).unwrap();
}

/// Rows that are held back, and what is said of them.
async fn hold(searched: &mut Searched, plan: &Plan) {
    searched.sql(&plan.held()).await;
    let watched = searched.run(Surface::TextLog, &["--log", "trace", "run", "--once"]).await;
    assert_eq!(watched.code, Some(3), "{}", String::from_utf8_lossy(&watched.stderr));
    for command in [&["held", "list"][..], &["held", "list", "--json"], &["status"]] {
        searched.run(Surface::Printed, command).await;
    }
    searched.folder();
}

/// `init` and `check` look at the database; a first run is killed before it has copied anything.
async fn prepare(searched: &mut Searched) {
    let url = searched.project.postgres.url("postgres", "postgres");
    let fresh = searched.project.dir.join("fresh");
    let init = ["--log", "trace", "init", "--name", "db", "--from", &url, "--tables", "public.*"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.arg("--dir").arg(&fresh).args(init);
    let watched = Watch::start(command, &searched.project.dir).end().await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    searched.search(Surface::Printed, "init", &watched);
    for command in [&["check"][..], &["--log", "trace", "check", "--connect"]] {
        assert_eq!(searched.run(Surface::Printed, command).await.code, Some(0));
    }
}

async fn copy_and_follow(searched: &mut Searched, plan: &Plan) {
    let trace = |format: &'static str| ["--log", "trace", "--log-format", format];
    let run = |format| [&trace(format)[..], &["run", "--json"]].concat();
    // Killed as soon as there is a slot: what changes now is in the log before the copy reads it.
    let mut watch = Watch::start(searched.project.command(&run("text")), &searched.project.dir);
    until(&searched.project, "SELECT EXISTS (SELECT FROM pg_replication_slots)", &mut watch).await;
    watch.kill_9();
    let watched = watch.end().await;
    searched.search(Surface::TextLog, "a run that is killed at its start", &watched);
    searched.sql(&plan.before_the_copy()).await;
    let once = |format| [&run(format)[..], &["--once"]].concat();
    let watched = searched.run(Surface::TextLog, &once("text")).await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    searched.folder();

    let mut watch = Watch::start(searched.project.command(&run("json")), &searched.project.dir);
    has_no_core_dump(&watch);
    for change in plan.changes() {
        searched.sql(&change).await;
        watch.look();
    }
    // One commit each, until the Delta log has a checkpoint.
    let log = searched.project.lake_table("visit__changes").join("_delta_log");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !log.is_dir() || !files(&log).iter().any(|file| file.to_string_lossy().contains(".checkpoint")) {
        assert!(tokio::time::Instant::now() < deadline, "no checkpoint of the Delta log within a minute");
        searched.sql("INSERT INTO visit (plan) VALUES ('gold')").await;
        watch.look();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    searched.sql(&plan.replayed()).await;
    watch.kill_9();
    let watched = watch.end().await;
    searched.search(Surface::JsonLog, "a run that is killed", &watched);
    searched.folder();
    let watched = searched.run(Surface::JsonLog, &once("json")).await;
    assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
    searched.sql(&plan.last_change()).await;
    assert_eq!(searched.run(Surface::JsonLog, &once("json")).await.code, Some(0));
    let people = "SELECT count(*) FROM db.public.person";
    // Copied 4 (2 of them updated into others), inserted 2, moved 2, replayed 2.
    assert_eq!(searched.project.query(people), ["10"], "the changes did not arrive");
}

/// Errors of every kind that a value can provoke, and of every kind that a question can.
async fn refuse(searched: &mut Searched, plan: &Plan) {
    searched.sql(&plan.unreadable()).await;
    for format in ["text", "json"] {
        let surface = if format == "text" { Surface::TextLog } else { Surface::JsonLog };
        let watched = searched.run(surface, &["--log", "trace", "--log-format", format, "run", "--once"]).await;
        assert_eq!(watched.code, Some(3), "{}", String::from_utf8_lossy(&watched.stderr));
        let said = String::from_utf8_lossy(&watched.stderr).into_owned();
        for table in TABLES.into_iter().filter(|table| table.contains("odd")) {
            assert!(said.contains(table), "{table} is not stopped: {said}");
        }
    }
    for (status, code) in [(&["status"][..], 3), (&["status", "--json"], 3)] {
        let watched = searched.run(Surface::Printed, status).await;
        assert!(
            [Some(0), Some(code)].contains(&watched.code),
            "{status:?}: {}",
            String::from_utf8_lossy(&watched.stderr)
        );
    }
    for question in [
        "SELECT ssn FROM db.public.person",
        "SELECT CAST(name AS int) FROM db.public.person",
        "SELECT CAST(note AS date) FROM db.public.person",
        "SELECT phone.x FROM db.public.person",
        "SELECT 1 / (count(*) - count(*)) FROM db.public.person",
        "SELECT * FROM db.public.person WHERE name = 1 ORDER BY nothing",
    ] {
        searched.run(Surface::Printed, &["--log", "trace", "query", question]).await;
    }
}

/// Answers in every format, and what the policy's commands print.
async fn ask(searched: &mut Searched) {
    for table in ["person", "person__changes", "visit", "visit__changes"] {
        for format in ["table", "csv", "json", "parquet"] {
            let question = format!("SELECT * FROM db.public.{table}");
            let watched = searched.run(Surface::Answers, &["query", &question, "--format", format]).await;
            assert_eq!(watched.code, Some(0), "{}", String::from_utf8_lossy(&watched.stderr));
            if format == "parquet" {
                let answer = searched.project.dir.with_extension("parquet");
                std::fs::write(&answer, &watched.stdout).unwrap();
                searched.scanner.file(Surface::Answers, &answer, &searched.project.dir);
                std::fs::remove_file(answer).unwrap();
            }
        }
    }
    let policy = searched.project.dir.join("policy.yaml").display().to_string();
    let proposed = searched.project.dir.join("fresh/policy.yaml").display().to_string();
    let diff = ["policy", "diff", &proposed, &policy];
    for command in [&["policy", "explain"][..], &["policy", "test"], &["policy", "grants"], &diff] {
        assert_eq!(searched.run(Surface::Printed, command).await.code, Some(0));
    }
}

async fn until(project: &Project, condition: &str, watch: &mut Watch) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !project.database.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(tokio::time::Instant::now() < deadline, "not within a minute: {condition}");
        watch.look();
    }
}

/// Somebody follows the source, or nobody.
async fn until_slot_is(project: &Project, active: bool) {
    let found = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE active)";
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while project.database.query_one(found, &[]).await.unwrap().get::<_, bool>(0) != active {
        assert!(tokio::time::Instant::now() < deadline, "the source is not followed, or still is, after a minute");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Raw rows are in the memory of a run, so its image must not be written to a disk.
fn has_no_core_dump(watch: &Watch) {
    let limits = PathBuf::from(format!("/proc/{}/limits", watch.id()));
    let deadline = std::time::Duration::from_secs(10);
    let has_none = || {
        let limits = std::fs::read_to_string(&limits).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        line.split_whitespace().filter(|word| *word == "1").count() == 2
    };
    // The program is told from its parent only once it has begun to run itself.
    let begun = tokio::time::Instant::now();
    while !has_none() {
        assert!(begun.elapsed() < deadline, "a run may leave a core dump");
        std::thread::yield_now();
    }
}
