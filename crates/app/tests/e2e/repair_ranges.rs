//! A repair that is killed goes on by range of the table: what it has seen of the source is not read again, and what it has seen too early does
//! not count.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbox::PrivatePostgres;
use serde_json::Value;
use tokio::time::Instant;

use super::project::{Project, files};

/// Rows lie where they were inserted; what is written later comes behind them, or where there is room.
const SETUP: &str = "
    CREATE TABLE member (id int PRIMARY KEY, plan text, note text) WITH (autovacuum_enabled = off);
    INSERT INTO member SELECT i, 'p' || i % 7, repeat('n', 40) FROM generate_series(1, 24000) i;
    ANALYZE member;";
const POLICY: &str = "  db.public.member: { id: hmac_token(member), plan: keep, note: drop }\n";

/// Blocks of a chunk, of some 2000 rows.
const STEP: u32 = 20;
/// For the planner of chunks, the table has so many rows in a block that a chunk of them has [`STEP`].
const DENSE: &str = "UPDATE pg_class SET reltuples = relpages * 150000.0 / 20 WHERE relname = 'member'";

/// Rows that go, and others that come in their place, in the middle of the table; and changes at its end. Nothing in its first chunk.
const GAP: [&str; 4] = [
    "UPDATE member SET plan = 'gap' WHERE id BETWEEN 5100 AND 5104; DELETE FROM member WHERE id BETWEEN 9000 AND 9040",
    "VACUUM member",
    "INSERT INTO member SELECT i, 'gap', repeat('n', 40) FROM generate_series(30001, 30030) i",
    DENSE,
];

/// A server that logs what it is asked, and a project whose table was copied and whose slot was lost before [`GAP`].
async fn behind_a_gap(name: &str) -> Project {
    let postgres = PrivatePostgres::with().setting("log_statement", "all").start().await.unwrap();
    let project = Project::on(postgres, name, SETUP, &["public.member"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    lose_the_slot(&project, &GAP).await;
    project
}

async fn lose_the_slot(project: &Project, gap: &[&str]) {
    for sql in [&["SELECT pg_drop_replication_slot('lockgate_e2e')"], gap].concat() {
        project.database.batch_execute(sql).await.unwrap();
    }
}

/// The ranges of blocks that the server was asked for, in order.
fn asked(project: &Project) -> Vec<(u32, u32)> {
    let log = project.postgres.log().unwrap();
    let block = |line: &str, before: &str| line.split_once(before)?.1.split_once(',')?.0.parse().ok();
    let ranges = log.lines().filter(|line| line.contains("copy (select"));
    ranges.filter_map(|line| Some((block(line, "ctid >= '(")?, block(line, "ctid < '(")?))).collect()
}

/// A repair at a pace, which tells what it says.
fn start(project: &Project, rate: &str) -> Child {
    let mut command = project.command(&["repair", "--rate", rate]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills a repair once `reached`; gives what it has said.
async fn kill_when(mut repair: Child, reached: impl Fn() -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !reached() {
        assert!(repair.try_wait().unwrap().is_none(), "the repair ended before it was to be killed");
        assert!(Instant::now() < deadline, "the repair did not come so far within two minutes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    repair.kill().unwrap();
    String::from_utf8(repair.wait_with_output().unwrap().stdout).unwrap()
}

/// Starts a repair and kills it when it has begun so many chunks, the last of which was not read whole; gives what it has asked for.
async fn kill_after(project: &Project, rate: &str, chunks: usize) -> (String, Vec<(u32, u32)>) {
    let before = asked(project).len();
    let said = kill_when(start(project, rate), || chunks_of(&asked(project)[before..]).len() >= chunks).await;
    (said, asked(project).split_off(before))
}

fn chunks_of(ranges: &[(u32, u32)]) -> BTreeSet<u32> {
    ranges.iter().map(|(from, _)| from / STEP).collect()
}

/// How many blocks were read at a time, but for what the ends of chunks and of the table leave.
fn width(ranges: &[(u32, u32)]) -> Option<u32> {
    ranges.iter().map(|(from, to)| to - from).max()
}

/// Small changes at the end of the table, until told to stop.
async fn write(database: tokio_postgres::Client, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sql = format!(
            "UPDATE member SET plan = 'w{number}' WHERE id BETWEEN 23001 AND 24000 AND id % 100 = {}; DELETE FROM member WHERE id = 23900 - {number};
             INSERT INTO member VALUES (40000 + {number}, 'w', 'n');",
            number % 9,
        );
        database.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where the rows lie that changed, by chunk.
async fn changed(project: &Project) -> BTreeSet<u32> {
    let sql = format!(
        "SELECT DISTINCT (ctid::text::point)[0]::int / {STEP} FROM member WHERE plan = 'gap' OR plan LIKE 'w%' OR id > 22000"
    );
    project.source(&sql).await.iter().map(|chunk| chunk.parse().unwrap()).collect()
}

async fn assert_repaired(project: &Project) {
    project.lockgate_ok(&["run", "--once"]);
    let lake = "SELECT plan, count(*) AS n, count(DISTINCT id) AS d FROM db.public.member GROUP BY 1 ORDER BY 1";
    let source = "SELECT plan, count(*), count(DISTINCT id) FROM member GROUP BY 1 ORDER BY plan COLLATE \"C\"";
    assert_eq!(project.query(lake), project.source(source).await);
    let verified = project.lockgate(&["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    let seen = project.dir.join(".lockgate/repair");
    assert!(!seen.exists() || files(&seen).is_empty(), "what was seen is kept beyond the repair");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_repair_has_seen_of_the_source_is_not_read_again() {
    let project = behind_a_gap("ranges").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(project.postgres.client().await.unwrap(), stop.clone()));
    let before = asked(&project).len();

    let mut tries = Vec::new();
    // Whatever the pace of the tries before, a transaction reads what this one allows.
    for (rate, chunks, blocks) in [("1000", 2, 1), ("1000", 1, 1), ("12000", 3, 3), ("1000", 2, 1), ("8000", 3, 2)] {
        let (said, ranges) = kill_after(&project, rate, chunks).await;
        assert_eq!(width(&ranges), Some(blocks), "{rate}: {ranges:?}");
        assert_eq!(said.contains("goes on: "), !tries.is_empty(), "{said}");
        tries.push(ranges);
    }
    // While it writes what differs: one range more was asked for since that was known.
    let updates = project.dir.join(".lockgate/repair/db/public/member/updates");
    let begun = asked(&project).len();
    let known_at = Cell::new(None);
    let found = || {
        let now = asked(&project).len();
        if known_at.get().is_none() && updates.metadata().is_ok_and(|file| file.len() > 0) {
            known_at.set(Some(now));
        }
        known_at.get().is_some_and(|known| now > known)
    };
    let said = kill_when(start(&project, "2000"), found).await;
    assert!(said.contains("goes on: "), "{said}");
    tries.push(asked(&project).split_off(begun));
    let begun = asked(&project).len();
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("goes on: ") && said.contains("db: repaired"), "{said}");
    tries.push(asked(&project).split_off(begun));
    // A repair that was begun slowly goes on as fast as any: a transaction for each chunk.
    assert!(tries.last().is_some_and(|last| last.iter().all(|(from, _)| from % STEP == 0)), "{tries:?}");

    let chunks = chunks_of(&tries.concat());
    let all = *chunks.iter().max().unwrap() + 1;
    assert!(all > 8 && chunks.len() == all as usize, "{chunks:?} of {all}");
    let differing: BTreeSet<u32> = changed(&project).await.into_iter().filter(|chunk| *chunk < all).collect();
    assert!(differing.len() < 6, "{differing:?}");
    let mut seen = BTreeSet::new();
    for (number, tried) in tries.iter().enumerate() {
        let of = chunks_of(tried);
        let again = of.iter().find(|chunk| seen.contains(*chunk) && !differing.contains(*chunk));
        assert_eq!(again, None, "try {number} of {tries:?}");
        // The last one may not have been whole when the try was killed.
        let last = tried.last().map(|(from, _)| from / STEP);
        seen.extend(of.into_iter().filter(|chunk| Some(*chunk) != last));
    }

    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert!(asked(&project).len() > before);
    assert_repaired(&project).await;
    // What changed in the gap is in the change log once.
    let logged = |op: &str| {
        format!("SELECT count(*) AS n FROM db.public.member__changes WHERE _lg_op = '{op}' AND plan = 'gap'")
    };
    assert_eq!([project.query(&logged("u")), project.query(&logged("i"))], [["5"], ["30"]]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_before_a_rewrite_another_gap_or_an_erasure_does_not_count() {
    let project = behind_a_gap("rangesvoid").await;
    let (_, first) = kill_after(&project, "1000", 3).await;
    assert_eq!(first[0].0, 0);
    let seen = project.dir.join(".lockgate/repair");
    let begun = std::fs::read_to_string(seen.join("db/public/member/begun.json")).unwrap();
    let begun: Value = serde_json::from_str(&begun).unwrap();
    assert!(begun["ground"]["stamp"]["processed_in"].is_null(), "it ends with the year: {begun}");
    // The rows lie elsewhere now: the ranges are others.
    for sql in ["VACUUM FULL member", DENSE] {
        project.database.batch_execute(sql).await.unwrap();
    }
    let (said, again) = kill_after(&project, "1000", 3).await;
    assert!(!said.contains("goes on"), "{said}");
    assert_eq!(again[0].0, 0);

    // What is changed now is in no stream: the next slot begins behind it.
    let gap = "UPDATE member SET plan = 'gap2' WHERE id BETWEEN 5200 AND 5250; DELETE FROM member WHERE id = 5260";
    lose_the_slot(&project, &[gap]).await;
    let (said, again) = kill_after(&project, "1000", 3).await;
    assert!(!said.contains("goes on"), "{said}");
    assert_eq!(again[0].0, 0);

    assert!(!files(&seen).is_empty());
    project.erase_ok(&["--subject", "db.public.member.id"], "5261\n");
    assert!(!seen.exists(), "what was seen of an erased person is kept");
    project.database.batch_execute("DELETE FROM member WHERE id = 5261").await.unwrap();

    let (_, read) = kill_after(&project, "4000", 4).await;
    assert_eq!(chunks_of(&read), (0..4).collect());
    // Part of what was seen is not what it was: what lies before it counts, and nothing behind.
    let source = seen.join("db/public/member/source");
    let mut bytes = std::fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&source, bytes).unwrap();
    let (said, again) = kill_after(&project, "4000", 3).await;
    assert!(said.contains("goes on: 1 of "), "{said}");
    assert_eq!(chunks_of(&again), (1..4).collect());
    // Half of it is torn off.
    let file = std::fs::File::options().write(true).open(&source).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let begun = asked(&project).len();
    let said = project.lockgate_ok(&["repair"]);
    let last = asked(&project).split_off(begun);
    assert!(said.contains("goes on: 1 of "), "{said}");
    let last = chunks_of(&last);
    assert!(!last.contains(&0) && (1..4).all(|chunk| last.contains(&chunk)), "{last:?}");
    assert_repaired(&project).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_of_a_table_goes_when_its_source_is_repaired_without_it() {
    let project = behind_a_gap("rangesleft").await;
    kill_after(&project, "1000", 2).await;
    assert!(!files(&project.dir.join(".lockgate/repair")).is_empty());
    for table in ["member", "member__changes"] {
        std::fs::remove_dir_all(project.lake_table(table)).unwrap();
    }
    let said = project.lockgate_ok(&["repair"]);
    assert!(said.contains("is not in the lake: the next run copies it") && said.contains("db: repaired"), "{said}");
    assert!(!project.dir.join(".lockgate/repair/db").exists(), "what was seen is kept for good");
    assert_repaired(&project).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_read_once_a_row_is_to_be_held() {
    const HOLD: &str = "  db.public.member: { id: hmac_token(member), plan: keep, note: { transform: date_year, on_invalid: hold } }\nmax_invalid_percent: 50\n";
    let postgres = PrivatePostgres::with().setting("log_statement", "all").start().await.unwrap();
    let all_fit = SETUP.replace("repeat('n', 40)", "'1980-01-01'");
    let project = Project::on(postgres, "rangeshold", &all_fit, &["public.member"], HOLD).await;
    project.lockgate_ok(&["run", "--once"]);
    // It stays in the first block, where there is room now.
    let gap = [
        "DELETE FROM member WHERE id BETWEEN 2 AND 9",
        "VACUUM member",
        "UPDATE member SET note = 'unknown' WHERE id = 1",
    ];
    lose_the_slot(&project, &gap).await;
    let begun = asked(&project).len();
    let said = project.lockgate_ok(&["repair", "--rate", "1000"]);
    assert!(said.contains("to be held back: the next run copies it anew"), "{said}");
    let read = asked(&project).split_off(begun);
    assert!(read.len() < 4, "{read:?}");
    project.end().await;
}
