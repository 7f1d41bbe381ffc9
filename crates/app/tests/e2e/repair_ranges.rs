//! A repair that is killed goes on by range of the table: what it has seen of the source is not read again, and what it has seen too early does
//! not count.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbox::PrivatePostgres;
use tokio::time::Instant;

use super::project::{Project, files};

/// Rows lie where they were inserted; what is written later comes behind them, or where there is room.
const SETUP: &str = "
    CREATE TABLE member (id int PRIMARY KEY, plan text, note text) WITH (autovacuum_enabled = off);
    INSERT INTO member SELECT i, 'p' || i % 7, repeat('n', 40) FROM generate_series(1, 24000) i;
    ANALYZE member;";
const POLICY: &str = "  db.public.member: { id: hmac_token(member), plan: keep, note: drop }\n";

/// Rows that go, and others that come in their place, in the middle of the table; and changes at its end.
const GAP: [&str; 3] = [
    "UPDATE member SET plan = 'gap' WHERE id BETWEEN 100 AND 104; DELETE FROM member WHERE id BETWEEN 9000 AND 9040",
    "VACUUM member",
    "INSERT INTO member SELECT i, 'gap', repeat('n', 40) FROM generate_series(30001, 30030) i",
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

/// Starts a repair and kills it when it has asked for so many ranges.
async fn kill_after(project: &Project, rate: &str, ranges: usize) -> (String, Vec<(u32, u32)>) {
    let before = asked(project).len();
    let said = kill_when(start(project, rate), || asked(project).len() >= before + ranges).await;
    (said, asked(project).split_off(before))
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

/// Where the rows lie that changed, by chunk of `step` blocks.
async fn changed(project: &Project, step: u32) -> BTreeSet<u32> {
    let sql = format!(
        "SELECT DISTINCT (ctid::text::point)[0]::int / {step} FROM member WHERE plan = 'gap' OR plan LIKE 'w%' OR id > 22000"
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
    for (rate, ranges) in [("1000", 2), ("1000", 1), ("500", 3), ("8000", 2), ("8000", 3)] {
        let (said, ranges) = kill_after(&project, rate, ranges).await;
        // A range that was planned at another pace is read in transactions that are as short as at this one.
        if rate == "500" {
            let planned = tries.first().map(|tried: &Vec<(u32, u32)>| tried[0].1).unwrap();
            assert!(ranges.iter().all(|(from, to)| to - from <= planned.div_ceil(2)), "{ranges:?} of {planned}");
        }
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

    let step = tries[0][0].1;
    let chunks = tries.iter().flatten().map(|(from, _)| from / step).collect::<BTreeSet<_>>();
    let all = *chunks.iter().max().unwrap() + 1;
    assert!(all > 8 && chunks.len() == all as usize, "{chunks:?} of {all}");
    let differing: BTreeSet<u32> = changed(&project, step).await.into_iter().filter(|chunk| *chunk < all).collect();
    assert!(differing.len() < 6, "{differing:?}");
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for (number, tried) in tries.iter().enumerate() {
        let of: Vec<u32> = tried.iter().map(|(from, _)| from / step).collect();
        let again = of.iter().find(|chunk| seen.contains_key(chunk) && !differing.contains(chunk));
        assert_eq!(again, None, "try {number} of {tries:?}");
        // The last one may not have been whole when the try was killed.
        let last = of.last().copied();
        seen.extend(of.into_iter().filter(|chunk| Some(*chunk) != last).map(|chunk| (chunk, number)));
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
    // The rows lie elsewhere now: the ranges are others.
    project.database.batch_execute("VACUUM FULL member").await.unwrap();
    let (said, again) = kill_after(&project, "1000", 3).await;
    assert!(!said.contains("goes on"), "{said}");
    assert_eq!(again[0].0, 0);

    // What is changed now is in no stream: the next slot begins behind it.
    let gap = "UPDATE member SET plan = 'gap2' WHERE id < 50; DELETE FROM member WHERE id = 60";
    lose_the_slot(&project, &[gap]).await;
    let (said, again) = kill_after(&project, "1000", 3).await;
    assert!(!said.contains("goes on"), "{said}");
    assert_eq!(again[0].0, 0);

    let seen = project.dir.join(".lockgate/repair");
    assert!(!files(&seen).is_empty());
    project.erase_ok(&["--subject", "db.public.member.id"], "61\n");
    assert!(!seen.exists(), "what was seen of an erased person is kept");
    project.database.batch_execute("DELETE FROM member WHERE id = 61").await.unwrap();

    // Half of what was seen is torn off, and a part of it is not what it was.
    let (_, read) = kill_after(&project, "1000", 4).await;
    let source = seen.join("db/public/member/source");
    let mut bytes = std::fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&source, bytes).unwrap();
    let begun = asked(&project).len();
    let said = project.lockgate_ok(&["repair"]);
    let last = asked(&project).split_off(begun);
    assert!(said.contains("goes on: "), "{said}");
    assert!(last.iter().any(|range| read[..read.len() - 1].contains(range)), "{last:?} of {read:?}");
    assert!(!last.contains(&read[0]) || last.iter().filter(|range| **range == read[0]).count() == 1, "{last:?}");
    assert_repaired(&project).await;
    project.end().await;
}
