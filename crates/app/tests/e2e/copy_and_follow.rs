use super::project::Project;

const SETUP: &str = "
    CREATE TABLE claims (id bigint PRIMARY KEY, status text, amount numeric(12,2), note text, day date, at timestamptz);
    ALTER TABLE claims ALTER COLUMN note SET STORAGE EXTERNAL;
    INSERT INTO claims
      SELECT i, 'open', i * 1.25, repeat(md5(i::text), 150), '2026-01-01'::date + i % 300, '2026-01-01Z'::timestamptz + i * interval '1 s'
      FROM generate_series(1, 5000) i;";
const POLICY: &str = "  db.public.claims: { id: keep, status: keep, amount: keep, note: keep, day: keep, at: keep }\n";
const COLUMNS: [&str; 4] = ["id", "status", "amount", "day"];

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_and_every_kind_of_change_arrive() {
    let project = Project::new("follow", SETUP, &["public.claims"], POLICY).await;
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("claims", &COLUMNS).await;

    project
        .database
        .batch_execute(
            "INSERT INTO claims SELECT i, 'new', 1, 'short', '2026-05-05', now() FROM generate_series(6001, 6100) i;
             UPDATE claims SET amount = amount + 1 WHERE id % 7 = 0;
             DELETE FROM claims WHERE id % 11 = 0;
             UPDATE claims SET id = id + 1000000 WHERE id BETWEEN 100 AND 120;
             BEGIN;
             INSERT INTO claims VALUES (9000001, 'a', 1, 'x', '2026-06-06', now());
             UPDATE claims SET status = 'b' WHERE id = 9000001;
             UPDATE claims SET status = 'c' WHERE id = 9000001;
             DELETE FROM claims WHERE id = 9000001;
             INSERT INTO claims VALUES (9000001, 'd', 2, 'y', '2026-06-06', now());
             COMMIT;",
        )
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("claims", &COLUMNS).await;
    // Unchanged TOAST keeps its value, also through a change of the key.
    let notes = "SELECT id, length(note) AS n, md5(note) AS h FROM";
    let mut lake = project.query(&format!("{notes} db.public.claims"));
    let mut source = project.source(&format!("{notes} claims")).await;
    lake.sort_unstable();
    source.sort_unstable();
    assert!(lake == source, "the notes of {} rows differ", lake.iter().zip(&source).filter(|(l, s)| l != s).count());

    project
        .database
        .batch_execute("TRUNCATE claims; INSERT INTO claims VALUES (1, 'after', 1, 'n', '2026-07-07', now());")
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("claims", &COLUMNS).await;
    // The log keeps everything: the copy, each change once, the truncate.
    let log = project.query("SELECT \"_lg_op\", count(*) AS n FROM db.public.claims__changes GROUP BY 1 ORDER BY 1");
    // Of the 21 keys that were to change, 110 had been deleted before; a change of key is a delete and an insert.
    let (deletes, inserts, updates) = (454 + 9 + 20 + 1, 100 + 20 + 2 + 1, 714 + 14 + 2);
    assert_eq!(
        log,
        [format!("d,{deletes}"), format!("i,{inserts}"), "r,5000".into(), "t,1".into(), format!("u,{updates}")]
    );
    let doubles = project.query(
        "SELECT count(*) FROM (SELECT \"_lg_txid\", \"_lg_ordinal\" FROM db.public.claims__changes WHERE \"_lg_op\" <> 'r' AND \"_lg_op\" <> 't'
         GROUP BY 1, 2 HAVING count(*) > 2)",
    );
    assert_eq!(doubles, ["0"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_lockgate_follows_survives_a_restart_of_postgres_and_leaves_when_told() {
    let mut project = Project::new("live", SETUP, &["public.claims"], POLICY).await;
    let mut running = project.start();
    project.wait_for("SELECT count(*) FROM db.public.claims", "5000").await;
    project.database.execute("UPDATE claims SET status = 'x' WHERE id <= 10", &[]).await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.claims WHERE status = 'x'", "10").await;

    project.postgres.restart().await.unwrap();
    project.database = project.postgres.client().await.unwrap();
    project.database.execute("UPDATE claims SET status = 'y' WHERE id <= 20", &[]).await.unwrap();
    project.wait_for("SELECT count(*) FROM db.public.claims WHERE status = 'y'", "20").await;

    assert!(!running.has_ended());
    assert_eq!(running.terminate(), Some(0));
    project.assert_same("claims", &COLUMNS).await;
    let status = project.lockgate_ok(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tables"][0]["rows"], 5000);
    assert_eq!(status["tables"][0]["copied"], true);
    project.end().await;
}
