//! Tables of every shape: no key, empty, partitioned, wide values, changing structure.

use super::project::Project;

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_shape_are_copied_and_followed() {
    let setup = "
        CREATE TABLE empty (id int PRIMARY KEY, v text);
        CREATE TABLE no_key (a int, b text);
        ALTER TABLE no_key REPLICA IDENTITY FULL;
        INSERT INTO no_key SELECT i % 3, 'same' FROM generate_series(1, 9) i;
        CREATE TABLE part (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
        INSERT INTO part SELECT i, '2026-01-01'::date + i, 'v' || i FROM generate_series(1, 300) i;
        CREATE TABLE wide (id int PRIMARY KEY, big text, small int);
        INSERT INTO wide SELECT i, repeat(md5(i::text), 65536), i FROM generate_series(1, 6) i;";
    let policy = "  db.public.empty: { id: keep, v: keep }
  db.public.no_key: { a: keep, b: keep }
  db.public.part: { id: keep, day: keep, v: keep }
  db.public.wide: { id: keep, big: keep, small: keep }\n";
    let tables = ["public.empty", "public.no_key", "public.part", "public.wide"];
    let project = Project::new("shapes", setup, &tables, policy).await;
    project.lockgate_ok(&["run", "--once"]);
    project.same_all().await;
    project
        .database
        .batch_execute(
            "INSERT INTO empty VALUES (1, 'first');
             INSERT INTO no_key VALUES (1, 'same'), (7, 'new');
             DELETE FROM no_key WHERE ctid = (SELECT min(ctid) FROM no_key WHERE a = 1);
             UPDATE no_key SET b = 'other' WHERE ctid = (SELECT min(ctid) FROM no_key WHERE a = 2);
             UPDATE part SET day = day + 180 WHERE id <= 20;
             DELETE FROM part WHERE id > 290;
             UPDATE wide SET small = small + 1;",
        )
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.same_all().await;
    project.end().await;
}

impl Project {
    async fn same_all(&self) {
        self.assert_same("empty", &["id", "v"]).await;
        self.assert_same("no_key", &["a", "b"]).await;
        self.assert_same("part", &["id", "day", "v"]).await;
        self.assert_same("wide", &["id", "md5(big)", "small"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn structure_that_changes_in_mid_stream_is_followed_or_stops_its_table_alone() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, v int, gone text); CREATE TABLE b (id int PRIMARY KEY, v text);
        INSERT INTO a SELECT i, i, 'g' FROM generate_series(1, 50) i; INSERT INTO b SELECT i, 'v' FROM generate_series(1, 50) i;";
    let policy =
        "  db.public.a: { id: keep, v: keep, gone: keep, added: keep }\n  db.public.b: { id: keep, v: keep }\n";
    let project = Project::new("schema", setup, &["public.a", "public.b"], policy).await;
    project.write_policy("  db.public.a: { id: keep, v: keep, gone: keep }\n  db.public.b: { id: keep, v: keep }\n");
    project.lockgate_ok(&["run", "--once"]);

    // A new column that no rule names is not stored; once a rule names it, its later values are.
    project
        .database
        .batch_execute("ALTER TABLE a ADD COLUMN added text; UPDATE a SET added = 'secret' WHERE id <= 5")
        .await
        .unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("a", &["id", "v", "gone"]).await;
    assert!(
        !project
            .query("SELECT * FROM information_schema.columns WHERE table_name = 'a'")
            .iter()
            .any(|c| c.contains("added"))
    );
    project.write_policy(policy);
    project.database.batch_execute("UPDATE a SET added = 'stored' WHERE id > 45; ALTER TABLE a ALTER COLUMN v TYPE bigint; UPDATE a SET v = 5000000000 WHERE id = 1; ALTER TABLE a DROP COLUMN gone; INSERT INTO a VALUES (99, 1, 'last')").await.unwrap();
    project.write_policy("  db.public.a: { id: keep, v: keep, added: keep }\n  db.public.b: { id: keep, v: keep }\n");
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*) FROM db.public.a WHERE added = 'stored'"), ["5"]);
    project.assert_same("a", &["id", "v"]).await;

    // A type that cannot be widened stops its table; the other goes on, and nothing is confirmed that the stopped one still needs.
    project.database.batch_execute("ALTER TABLE a ALTER COLUMN v TYPE text USING v::text; INSERT INTO a VALUES (100, 'text', 'x'); INSERT INTO b VALUES (100, 'on')").await.unwrap();
    let output = project.lockgate(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("db.public.a") && message.contains("`v`") || message.contains(" v"), "{message}");
    project.assert_same("b", &["id", "v"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_grows_and_a_column_that_goes_while_rows_wait_stop_nothing() {
    let setup = "CREATE TABLE first (id int PRIMARY KEY, v int); CREATE TABLE keyed (id int PRIMARY KEY, v int);
        CREATE TABLE keyless (a int, b text, gone text); ALTER TABLE keyless REPLICA IDENTITY FULL;
        INSERT INTO first VALUES (1, 1); INSERT INTO keyed SELECT i, i FROM generate_series(1, 40) i;
        INSERT INTO keyless SELECT i % 20, 'b', 'g' FROM generate_series(1, 40) i;";
    let policy = "  db.public.first: { id: keep, v: keep }\n  db.public.keyed: { id: keep, v: keep }\n";
    let keyless = "  db.public.keyless: { a: keep, b: keep, gone: keep }\n";
    let tables = ["public.first", "public.keyed", "public.keyless"];
    let project = Project::new("growing", setup, &tables, &format!("{policy}{keyless}")).await;
    project.lockgate_ok(&["run", "--once"]);
    // Everything waits for one commit: the next run reads it in one go.
    for transaction in [
        "UPDATE keyed SET v = 0 WHERE id < 20; DELETE FROM keyless WHERE a = 3; INSERT INTO keyless VALUES (50, 'new', 'g')",
        "ALTER TABLE keyed ALTER id TYPE bigint; ALTER TABLE keyless DROP COLUMN gone",
        // The first rows of the new structures come behind rows of another table.
        "INSERT INTO first VALUES (2, 2); UPDATE keyed SET v = 5 WHERE id < 10; INSERT INTO keyed VALUES (6000000000, 1);
         DELETE FROM keyed WHERE id = 30; DELETE FROM keyless WHERE a = 4; UPDATE keyless SET b = 'c' WHERE a IN (5, 50)",
        // Rows of both structures in one transaction.
        "UPDATE first SET v = 7 WHERE id = 1; DELETE FROM first WHERE id = 2; INSERT INTO first VALUES (2, 3);
         ALTER TABLE first ALTER id TYPE bigint; UPDATE first SET v = 8 WHERE id = 2; INSERT INTO first VALUES (7000000000, 1);
         DELETE FROM first WHERE id = 1",
    ] {
        project.database.batch_execute(&format!("BEGIN; {transaction}; COMMIT")).await.unwrap();
    }
    project.write_policy(&format!("{policy}  db.public.keyless: {{ a: keep, b: keep }}\n"));
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("first", &["id", "v"]).await;
    project.assert_same("keyed", &["id", "v"]).await;
    project.assert_same("keyless", &["a", "b"]).await;
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_back_with_another_type_stops_its_table_and_a_table_that_comes_back_is_copied_anew() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, c int); CREATE TABLE b (id int PRIMARY KEY, v text);
        INSERT INTO a SELECT i, i FROM generate_series(1, 30) i; INSERT INTO b SELECT i, 'v' FROM generate_series(1, 30) i;";
    let policy = "  db.public.a: { id: keep, c: keep }\n  db.public.b: { id: keep, v: keep }\n";
    let project = Project::new("comes-back", setup, &["public.a", "public.b"], policy).await;
    project.lockgate_ok(&["run", "--once"]);

    let change = "ALTER TABLE a DROP COLUMN c; INSERT INTO a VALUES (31); ALTER TABLE a ADD COLUMN c text;
        UPDATE a SET c = 'text' WHERE id < 5; INSERT INTO b VALUES (31, 'on')";
    project.database.batch_execute(change).await.unwrap();
    let output = project.lockgate(&["run", "--once"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("column `c` is Int32 in the lake and now Utf8"), "{message}");
    project.assert_same("b", &["id", "v"]).await;
    for folder in ["a", "a__changes"] {
        std::fs::remove_dir_all(project.lake_table(folder)).unwrap();
    }
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("a", &["id", "c"]).await;

    // What happens to a table while the configuration does not name it is not kept, so it is copied anew when it is named again.
    let file = project.dir.join("lockgate.yaml");
    let both = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, both.replace(", public.b", "")).unwrap();
    project.write_policy("  db.public.a: { id: keep, c: keep }\n");
    let change =
        "DELETE FROM b WHERE id < 4; UPDATE b SET v = 'meanwhile' WHERE id < 9; INSERT INTO a VALUES (99, 'on')";
    project.database.batch_execute(change).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("a", &["id", "c"]).await;
    std::fs::write(&file, both).unwrap();
    project.write_policy(policy);
    project.lockgate_ok(&["run", "--once"]);
    project.assert_same("b", &["id", "v"]).await;
    project.end().await;
}
