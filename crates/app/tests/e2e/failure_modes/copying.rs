//! The first copy: its seam with the stream, its end in the middle, its cost for the source and for us.

use std::time::Duration;

use tokio_postgres::Client;

use super::super::project::Project;
use super::patience::until;
use super::process::Process;
use super::proxy::{Line, Proxy};

/// One partition is one chunk at least.
const CHUNKS: u32 = 12;
const ROWS: u32 = 3000;
const MEMORY_MIB_MAX: u64 = 512;

fn setup() -> String {
    let partitions: String = (0..CHUNKS)
        .map(|at| format!("CREATE TABLE big_{at} PARTITION OF big FOR VALUES WITH (MODULUS {CHUNKS}, REMAINDER {at});"))
        .collect();
    format!(
        "CREATE TABLE big (id bigint PRIMARY KEY, n bigint, wide text) PARTITION BY HASH (id); {partitions}
         INSERT INTO big SELECT i, 0, repeat('w', 300) FROM generate_series(1, {CHUNKS} * {ROWS}) i;"
    )
}

/// Changes, removes, moves and adds rows all over the table, one short transaction after the other.
async fn disturb(client: Client, mut stop: tokio::sync::oneshot::Receiver<()>) {
    let mut round = 0_i64;
    while stop.try_recv().is_err() {
        round += 1;
        let sql = format!(
            "UPDATE big SET n = n + 1 WHERE id % 997 = {0}; DELETE FROM big WHERE id % 9973 = {0};
             UPDATE big SET id = -id WHERE id = {0} * 7 AND id > 0;
             INSERT INTO big SELECT 1000000 + {0} * 100 + i, 1, repeat('x', 300) FROM generate_series(1, 100) i;",
            round
        );
        client.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The age of our oldest transaction on the server, in seconds.
async fn oldest_transaction(project: &Project) -> f64 {
    let age = "SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8 FROM pg_stat_activity
        WHERE application_name LIKE 'lockgate%' AND backend_type = 'client backend'";
    project.database.query_one(age, &[]).await.unwrap().get(0)
}

/// Starts a run, of which the status will tell.
fn start(project: &Project) -> Process {
    let status = project.dir.join(".lockgate/status.json");
    if status.exists() {
        std::fs::remove_file(status).unwrap();
    }
    Process::start(project)
}

fn chunks_done(project: &Project) -> u64 {
    let Ok(text) = std::fs::read(project.dir.join(".lockgate/status.json")) else { return 0 };
    let status: serde_json::Value = serde_json::from_slice(&text).unwrap();
    status["tables"]["db.public.big"]["chunks_done"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_05_and_06_a_copy_that_is_killed_at_every_stage_of_a_growing_changing_table_ends_right() {
    let project =
        Project::new("stages", &setup(), &["public.big"], "  db.public.big: { id: keep, n: keep, wide: keep }\n").await;
    // So that no stage is over before it was seen.
    let proxy = Proxy::before(&project).await;
    proxy.set(Line::Slow(Duration::from_millis(8)));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let disturbance = tokio::spawn(disturb(project.postgres.client().await.unwrap(), stopped));
    let mut oldest = 0.0_f64;
    let mut memory_mib = 0;
    for chunks in [1, u64::from(CHUNKS) / 2, u64::from(CHUNKS) * 9 / 10] {
        let running = start(&project);
        until("the copy is so far", 60, async || {
            oldest = oldest.max(oldest_transaction(&project).await);
            memory_mib = memory_mib.max(running.memory_mib_max());
            chunks_done(&project) >= chunks
        })
        .await;
        running.kill_9();
    }
    proxy.set(Line::Open);
    let running = start(&project);
    until("the copy is whole", 60, async || {
        oldest = oldest.max(oldest_transaction(&project).await);
        chunks_done(&project) >= u64::from(CHUNKS)
    })
    .await;
    stop.send(()).unwrap();
    disturbance.await.unwrap();
    memory_mib = memory_mib.max(running.memory_mib_max());
    assert_eq!(running.terminate(), Some(0));
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("big", &["id", "n", "wide"]).await;
    // No chunk was copied twice into the log.
    let twice = "SELECT count(*) FROM (SELECT id FROM db.public.big__changes WHERE \"_lg_op\" = 'r' GROUP BY 1 HAVING count(*) > 1)";
    assert_eq!(project.query(twice), ["0"]);
    println!("oldest transaction of ours on the server {oldest:.1} s, most memory {memory_mib} MiB");
    assert!(oldest < 10.0, "a transaction of ours was {oldest:.1} s old");
    assert!(memory_mib < MEMORY_MIB_MAX, "{memory_mib} MiB");
    project.end().await;
}
