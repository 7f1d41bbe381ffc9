//! What the policy drops can be kept in the database: by a publication with column lists, and by rights to the other columns alone.

use sandbox::PrivatePostgres;

use super::project::Project;

const SETUP: &str = "CREATE SCHEMA care;
    CREATE TABLE care.members (id int PRIMARY KEY, name text, ssn text, note text);
    INSERT INTO care.members SELECT i, 'name ' || i, '900-55-' || i, repeat('n', 9000) FROM generate_series(1, 60) i;
    CREATE TABLE visits (id int, day date, who int, \"the reason\" text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE visits_2025 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO visits SELECT i, '2025-12-01'::date + i, i, 'secret' FROM generate_series(1, 60) i;
    CREATE TABLE logs (at int, line text, who text); ALTER TABLE logs REPLICA IDENTITY FULL;
    INSERT INTO logs VALUES (1, 'a', 'b'); CREATE ROLE least LOGIN REPLICATION;";
const TABLES: [&str; 3] = ["care.members", "public.visits", "public.logs"];

fn policy(ssn: &str) -> String {
    format!(
        "  db.care.members: {{ id: keep, name: hmac_token(name), ssn: {ssn} }}
  db.public.visits: {{ id: keep, day: keep, who: keep, the reason: drop }}
  db.public.logs: {{ at: keep, line: keep, who: drop }}
"
    )
}

async fn project() -> Project {
    let project = Project::new("grants", SETUP, &TABLES, &policy("drop")).await;
    project.edit("lockgate.yaml", "postgresql://postgres@", "postgresql://least@");
    project
}

impl Project {
    /// Runs what `policy grants` prints, as the owner of the tables.
    async fn grant(&self) -> String {
        let sql = self.lockgate_ok(&["policy", "grants"]);
        self.database.batch_execute(&sql).await.unwrap();
        sql
    }

    fn checked(&self) -> (Option<i32>, String) {
        let output = self.lockgate(&["check", "--connect"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_the_policy_drops_stay_in_the_database_when_its_grants_are_run() {
    let project = project().await;
    let (code, said) = project.checked();
    assert!(code == Some(1) && said.contains("least may not read the table"), "{said}");
    let sql = project.grant().await;
    for part in [
        r#"ONLY "care"."members" ("id", "name")"#,
        r#"ONLY "public"."visits" ("id", "day", "who")"#,
        r#"GRANT SELECT ("ctid", "id", "day", "who") ON public.visits_2026 TO "least";"#,
        r#"GRANT SELECT ON public.logs TO "least";"#,
        "-- db.public.logs gives out more than the policy reads: its changed rows are named by all their columns",
    ] {
        assert!(sql.contains(part), "{part}: {sql}");
    }
    let (code, said) = project.checked();
    assert!(code == Some(0) && !said.contains("leaves out"), "{said}");
    assert!(project.lockgate_ok(&["policy", "grants"]).contains("-- db: nothing to do"));

    let least = project.postgres.client_to("least", "postgres").await.unwrap();
    for denied in ["SELECT ssn FROM care.members", "SELECT \"the reason\" FROM visits", "SELECT * FROM visits_2025"] {
        let error = least.batch_execute(denied).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{denied}");
    }

    project.lockgate_ok(&["run", "--once"]);
    let changes = "INSERT INTO care.members VALUES (100, 'new', '900-55-9999', 'x'); DELETE FROM care.members WHERE id = 1;
        UPDATE care.members SET name = 'other', ssn = 'another' WHERE id = 2; UPDATE care.members SET ssn = 'another' WHERE id = 3;
        UPDATE visits SET who = 0, day = '2026-05-05' WHERE id = 4; INSERT INTO visits VALUES (100, '2025-02-02', 1, 'secret');
        UPDATE logs SET who = 'c'; INSERT INTO logs VALUES (2, 'c', 'd');";
    project.database.batch_execute(changes).await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);
    let count = "SELECT (SELECT count(*) FROM db.care.members) a, (SELECT count(*) FROM db.public.visits) b, (SELECT count(*) FROM db.public.logs) c";
    assert_eq!(project.query(count), ["60,61,2"]);

    let lost = "SELECT pg_drop_replication_slot('lockgate_e2e'); DELETE FROM care.members WHERE id = 5; UPDATE visits SET who = -1 WHERE id = 6";
    project.database.batch_execute(lost).await.unwrap();
    project.lockgate_ok(&["repair"]);
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);
    assert_eq!(project.query(count), ["59,61,2"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_rule_reads_and_the_publication_leaves_out_is_said_and_comes_with_the_next_grants() {
    let project = project().await;
    project.grant().await;
    project.lockgate_ok(&["run", "--once"]);
    project.write_policy(&policy("hmac_token(ssn)"));
    let (code, said) = project.checked();
    let part = "db.care.members: the publication leaves out columns that rules read: ssn";
    assert!(code == Some(0) && said.contains(part), "{said}");
    let ran = project.lockgate(&["run", "--once"]);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.success() && said.contains("the publication leaves out columns that the policy reads"),
        "{said}"
    );

    let sql = project.grant().await;
    assert!(sql.contains("-- db.care.members is published anew") && !sql.contains("visits"), "{sql}");
    project.lockgate_ok(&["run", "--once"]);
    assert_eq!(project.query("SELECT count(*), count(DISTINCT ssn) FROM db.care.members"), ["60,60"]);
    project.lockgate_ok(&["verify"]);

    // And back: the right is taken away again.
    project.write_policy(&policy("drop"));
    let sql = project.grant().await;
    assert!(sql.contains(r#"REVOKE SELECT ("ssn") ON care.members FROM "least";"#), "{sql}");
    let least = project.postgres.client_to("least", "postgres").await.unwrap();
    assert!(least.batch_execute("SELECT ssn FROM care.members").await.is_err());
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lists_and_rights_cannot_keep_back_is_said_and_breaks_nothing() {
    let project = project().await;
    // Rights by another role; a partition whose changed rows are named by all their columns; and a table that nobody follows.
    let more = "CREATE ROLE readers; GRANT readers TO least; GRANT SELECT ON care.members TO readers, least;
        ALTER TABLE visits_2026 REPLICA IDENTITY FULL; CREATE TABLE \"Other\nTable\" (id int PRIMARY KEY);
        CREATE PUBLICATION lockgate_e2e FOR TABLE care.members, \"Other\nTable\" WITH (publish_via_partition_root = false);";
    project.database.batch_execute(more).await.unwrap();
    let sql = project.grant().await;
    for part in [
        "-- db.care.members gives out more than the policy reads: the user may read more of it through another role",
        "-- db.public.visits gives out more than the policy reads: its changed rows are named by all their columns",
        "-- public.\"Other Table\" is published and has no rules",
        "-- db.care.members is published anew",
        "-- whoever else reads lockgate_e2e gets no more than this either",
        r#"REVOKE SELECT ON care.members FROM "least";"#,
        "SET (publish_via_partition_root = true)",
    ] {
        assert!(sql.contains(part), "{part}: {sql}");
    }
    project.lockgate_ok(&["run", "--once"]);
    project.database.batch_execute("UPDATE visits SET who = 0; UPDATE care.members SET ssn = 'x'").await.unwrap();
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);
    // A right that is there through others cannot be taken from here: the statements do not come again and again.
    let again = project.lockgate_ok(&["policy", "grants"]);
    assert!(again.contains("-- db: nothing to do") && again.contains("through another role"), "{again}");
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_schemas_stays_whole_and_so_do_the_rights() {
    let project = project().await;
    let wide = "GRANT SELECT ON care.members TO least;
        CREATE PUBLICATION lockgate_e2e FOR TABLES IN SCHEMA care, public WITH (publish_via_partition_root = true)";
    project.database.batch_execute(wide).await.unwrap();
    let sql = project.grant().await;
    assert!(sql.contains("its publication names schemas or all tables") && !sql.contains("REVOKE"), "{sql}");
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_has_statements_of_its_own() {
    let project = project().await;
    let refused = project.lockgate(&["policy", "grants", "west"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("Name one of: db"), "{said}");
    project.edit(
        "lockgate.yaml",
        "commit:",
        &format!(
            "  west: {{ postgres: {{ url: '{}' }}, tables: [public.visits] }}\ncommit:",
            project.postgres.url("least", "postgres")
        ),
    );
    let refused = project.lockgate(&["policy", "grants"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("Name one of: db, west"), "{said}");
    assert!(!project.lockgate_ok(&["policy", "grants", "west"]).contains("members"));
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_any_spelling_and_columns_of_every_partitions_identity_are_listed() {
    let odd = "CREATE TABLE \"MixedCase\" (\"Id\" int PRIMARY KEY, \"a \"\"b\" text, \"Secret\" text, g int GENERATED ALWAYS AS (\"Id\" * 2) STORED);
        INSERT INTO \"MixedCase\" VALUES (1, 'kept', 'not'); CREATE ROLE \"Least Of All\" LOGIN REPLICATION;
        CREATE TABLE visits (id int, day date, shift int NOT NULL, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE visits_2026 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE UNIQUE INDEX by_shift ON visits_2026 (id, day, shift); ALTER TABLE visits_2026 REPLICA IDENTITY USING INDEX by_shift;
        INSERT INTO visits VALUES (1, '2026-02-02', 3, 'secret');";
    let policy = "  db.public.MixedCase: { Id: keep, 'a \"b': keep, Secret: drop }
  db.public.visits: { id: keep, day: keep, shift: drop, what: drop }
";
    let project = Project::new("grants-odd", odd, &["public.MixedCase", "public.visits"], policy).await;
    project.edit("lockgate.yaml", "postgresql://postgres@", "postgresql://Least%20Of%20All@");
    let sql = project.grant().await;
    for part in [
        r#"ONLY "public"."MixedCase" ("Id", "a ""b")"#,
        r#"GRANT SELECT ("ctid", "Id", "a ""b") ON public."MixedCase" TO "Least Of All";"#,
        r#"ONLY "public"."visits" ("id", "day", "shift")"#,
    ] {
        assert!(sql.contains(part), "{part}: {sql}");
    }
    // The server looks at the list for the identity of the partition, and would refuse this.
    project
        .database
        .batch_execute("UPDATE visits SET what = 'other'; UPDATE \"MixedCase\" SET \"Secret\" = 'x'")
        .await
        .unwrap();
    assert!(project.lockgate_ok(&["policy", "grants"]).contains("-- db: nothing to do"));
    project.lockgate_ok(&["run", "--once", "--table", "public.MixedCase"]);
    assert_eq!(project.query(r#"SELECT "Id", "a ""b" FROM db.public."MixedCase""#), ["1,kept"]);
    project.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_postgres_15_tables_stay_whole_and_that_is_said() {
    let Ok(postgres) = PrivatePostgres::with().major(14).start().await else {
        println!("skipped: no PostgreSQL 14 is installed");
        return;
    };
    let project = Project::on(postgres, "grants-14", SETUP, &TABLES, &policy("drop")).await;
    project.edit("lockgate.yaml", "postgresql://postgres@", "postgresql://least@");
    let sql = project.grant().await;
    assert!(
        sql.contains("-- db.care.members gives out more than the policy reads: column lists came with PostgreSQL 15"),
        "{sql}"
    );
    assert!(sql.contains(r#"GRANT SELECT ON care.members TO "least";"#), "{sql}");
    project.lockgate_ok(&["run", "--once"]);
    project.lockgate_ok(&["verify"]);
    project.end().await;
}
