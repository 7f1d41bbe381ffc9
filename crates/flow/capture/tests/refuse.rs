//! What cannot work is said before it is tried, with the statement that mends it.

use capture::postgres::{PostgresConfig, Secret, describe, probe};
use change::{Error, Kind};
use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};
use crate::resume::open_when_free;

async fn failure(config: &PostgresConfig) -> Error {
    probe(config, |_| true).await.expect_err("it must fail")
}

fn says(error: &Error, kind: Kind, what: &str, fix: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.what().contains(what), "{error}");
    assert!(error.how_to_fix().unwrap_or_default().contains(fix), "{error}");
}

#[tokio::test]
async fn every_way_not_to_connect_is_told_apart() {
    if cfg!(feature = "fips") {
        // As the program does when it starts.
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    }
    let server = PrivatePostgres::with().password("right").tls().start().await.unwrap();
    server.execute("create table t (id int primary key)").await.unwrap();
    let with = |url: &str, password: &str| {
        let mut config = config(&server, &["public.t"]);
        config.url = url.to_string();
        config.password = Some(Secret::new(password));
        config.sslrootcert = server.ca_certificate();
        config
    };
    let url = server.url("postgres", "postgres");
    assert!(
        probe(&with(&url, "right"), |_| true)
            .await
            .unwrap()
            .problems
            .iter()
            .all(|p| p.severity < change::Severity::Error)
    );
    says(&failure(&with(&url, "wrong")).await, Kind::Auth, "password of postgres", "`password`");
    says(
        &failure(&with(&server.url("postgres", "nowhere"), "right")).await,
        Kind::Config,
        "no database nowhere",
        "database name",
    );
    says(
        &failure(&with("postgresql://u@host.invalid/d", "x")).await,
        Kind::Unavailable,
        "host.invalid cannot be found",
        "Check the host",
    );
    let closed = url.replace(&format!(":{}/", server.port()), ":1/");
    says(&failure(&with(&closed, "right")).await, Kind::Unavailable, "refuses the connection", "Check the port");
    let mut untrusted = with(&url, "right");
    untrusted.sslrootcert = None;
    untrusted.url = format!("{}?sslmode=verify-full", url.split('?').next().unwrap());
    says(&failure(&untrusted).await, Kind::Unavailable, "no trusted TLS", "`sslrootcert`");
    let mut unnamed = with(&url, "right");
    unnamed.sslrootcert = Some("nowhere.pem".into());
    says(&failure(&unnamed).await, Kind::Config, "there is no such file", "sslrootcert");
    let mut passwordless = with(&url, "");
    passwordless.password = None;
    says(&failure(&passwordless).await, Kind::Auth, "password", "password");

    let mut source = open(&with(&url, "right"), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
}

#[tokio::test]
async fn missing_grants_settings_and_identities_come_with_their_statements() {
    let server = PrivatePostgres::with().setting("wal_level", "replica").start().await.unwrap();
    server
        .execute(
            "create role weak login; create table \"No Key\" (a int); create table fine (id int primary key);
             create table none (id int primary key); alter table none replica identity nothing; grant select on none to weak",
        )
        .await
        .unwrap();
    let mut config = config(&server, &["public.*", "public.absent"]);
    config.url = server.url_socket("weak", "postgres");
    let report = probe(&config, |_| true).await.unwrap();
    let all: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    for part in [
        "ALTER SYSTEM SET wal_level = 'logical'",
        "ALTER ROLE \"weak\" REPLICATION",
        "GRANT SELECT ON public.fine TO weak;",
        "ALTER TABLE \"public\".\"No Key\" REPLICA IDENTITY FULL",
        "ALTER TABLE \"public\".\"none\" REPLICA IDENTITY DEFAULT",
        "`public.absent` names no table",
        "CREATE PUBLICATION \"lockgate\" FOR TABLE ONLY \"public\".\"fine\"",
        "max_slot_wal_keep_size",
    ] {
        assert!(all.contains(part), "{part} is missing in:\n{all}");
    }
    // What nobody wants to follow needs nothing.
    let report = probe(&config, |table| table.table == "fine").await.unwrap();
    let some: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    assert!(
        some.contains("GRANT SELECT ON public.fine") && some.contains("FOR TABLE ONLY \"public\".\"fine\" WITH"),
        "{some}"
    );
    assert!(!some.contains("No Key") && !some.contains("none"), "{some}");
    assert_eq!(report.refused.iter().map(|table| table.table.as_str()).collect::<Vec<_>>(), ["fine"]);
    assert_eq!(report.tables.len(), 2);
    let error = open(&config, &Default::default()).await.err().unwrap();
    says(&error, Kind::Config, "wal_level is replica", "ALTER SYSTEM");
    let slots =
        server.client().await.unwrap().query_one("select count(*) from pg_replication_slots", &[]).await.unwrap();
    assert_eq!(slots.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_schema_or_partition_that_may_not_be_read_is_named_with_its_grant() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create schema \"Closed\"; create schema parts; create role reader login replication;
             create table \"Closed\".t (id int primary key); create table public.p (id int primary key) partition by range (id);
             create table parts.p1 partition of public.p for values from (0) to (9);
             grant select on \"Closed\".t, public.p to reader; create publication lockgate for table \"Closed\".t, public.p
             with (publish_via_partition_root = true)",
        )
        .await
        .unwrap();
    let mut config = config(&server, &["Closed.*", "public.*"]);
    config.url = server.url_socket("reader", "postgres");
    let report = probe(&config, |_| true).await.unwrap();
    let all: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let grants = [
        "GRANT USAGE ON SCHEMA \"Closed\" TO reader;",
        "GRANT USAGE ON SCHEMA parts TO reader; GRANT SELECT ON parts.p1 TO reader;",
    ];
    for grant in grants {
        assert!(all.contains(grant), "{grant} is missing in:\n{all}");
        server.execute(grant).await.unwrap();
    }
    assert!(
        probe(&config, |_| true)
            .await
            .unwrap()
            .problems
            .iter()
            .all(|problem| problem.severity < change::Severity::Error)
    );
    let mut source = open(&config, &Default::default()).await.unwrap();
    Replay::default().until(&mut source, &end_of_log(&server, 0).await).await;
}

#[tokio::test]
async fn a_table_whose_policies_hide_rows_is_refused_and_the_others_go_on() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create role reader login replication; create table open (id int primary key); insert into open values (1);
             create table hidden (id int primary key); insert into hidden select i from generate_series(1, 10) i;
             alter table hidden enable row level security; create policy few on hidden using (id <= 3);
             grant select on open, hidden to reader; create publication lockgate for table open, hidden",
        )
        .await
        .unwrap();
    let mut config = config(&server, &["public.*"]);
    config.url = server.url_socket("reader", "postgres");
    let report = probe(&config, |_| true).await.unwrap();
    let all: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    assert!(all.contains("ALTER ROLE \"reader\" BYPASSRLS;"), "{all}");
    assert_eq!(describe(&config, |_| ()).await.unwrap().len(), 2);
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let stopped = replay.table("public.hidden").stopped.as_ref().unwrap();
    says(stopped, Kind::Contract, "row-level security", "BYPASSRLS");
    assert_eq!(replay.table("public.open").visible().len(), 1);

    drop(source);
    server.execute("alter role reader bypassrls").await.unwrap();
    let mut source = open_when_free(&config, &replay).await;
    replay.forget_stops();
    server.execute("insert into hidden values (11)").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.hidden").visible(), selected(&server, "hidden", &["id"]).await);
}

#[tokio::test]
async fn a_table_that_cannot_be_followed_stops_alone() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute("create table nokey (a int); create table fine (id int primary key); insert into fine values (1)")
        .await
        .unwrap();
    let mut source = open(&config(&server, &["public.*"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let stopped = replay.table("public.nokey").stopped.as_ref().unwrap();
    says(stopped, Kind::Contract, "no primary key", "REPLICA IDENTITY FULL");
    assert_eq!(replay.table("public.fine").visible().len(), 1);
    server.execute("insert into nokey values (1); update nokey set a = 2").await.unwrap();

    server
        .execute("alter table fine drop constraint fine_pkey, replica identity nothing; insert into fine values (2)")
        .await
        .unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let stopped = replay.table("public.fine").stopped.as_ref().unwrap();
    says(stopped, Kind::Contract, "lost its replica identity", "REPLICA IDENTITY FULL");
}

#[tokio::test]
async fn an_error_never_repeats_a_value() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute("create table born (id int primary key, day date); insert into born values (1, '2024-01-01')")
        .await
        .unwrap();
    let mut source = open(&config(&server, &["public.born"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    server.execute("insert into born values (2, 'infinity'), (3, '2024-01-03')").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let stopped = replay.table("public.born").stopped.as_ref().unwrap();
    says(stopped, Kind::Data, "column day", "on_unfit: null");
    assert_eq!(replay.table("public.born").visible().len(), 1);
}

#[tokio::test]
async fn a_description_reduces_a_sample_and_tells_keys() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create table people (id int primary key, ssn text, mail text, state char(2));
             insert into people select i, (123450000 + i)::text, 'p' || i || '@example.org', 'NY' from generate_series(1111, 1400) i",
        )
        .await
        .unwrap();
    let distinct = |values: &[&str]| values.iter().collect::<std::collections::HashSet<_>>().len();
    let found = describe(&config(&server, &["public.people"]), distinct).await.unwrap();
    assert_eq!(found[0].shapes, [200, 200, 200, 1]);
    assert_eq!(found[0].schema.identity, change::Identity::Key(vec![0]));
    // A number that identifies looks the same in every type that can hold it.
    server
        .execute(
            "create table numbers (id int primary key, a bigint, b numeric, c numeric(9), d numeric(12,2), e float8, f text);
             insert into numbers select 1, n, n, n, n, n, n from (values (123456789)) v (n)",
        )
        .await
        .unwrap();
    let same = |values: &[&str]| values == ["123456789"];
    let found = describe(&config(&server, &["public.numbers"]), same).await.unwrap();
    assert_eq!(found[0].shapes, [false, true, true, true, true, true, true]);
}

#[tokio::test]
async fn slots_that_are_used_up_are_told_and_tried_again() {
    let server = PrivatePostgres::with().setting("max_replication_slots", "1").start().await.unwrap();
    server
        .execute("create table t (id int primary key); select pg_create_physical_replication_slot('anothers')")
        .await
        .unwrap();
    let config = config(&server, &["public.t"]);
    let error = open(&config, &Default::default()).await.err().unwrap();
    says(&error, Kind::Unavailable, "all replication slots", "max_replication_slots");
    server.execute("select pg_drop_replication_slot('anothers')").await.unwrap();
    assert!(open(&config, &Default::default()).await.is_ok());
}
