//! A table that leaves the stream for a while is never taken for whole, whatever its name.

use std::time::Duration;

use capture::postgres::{PostgresConfig, PostgresSource};
use change::{Error, Kind, Source};
use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};
use crate::resume::{counters, open_when_free};

const COUNTERS: &str = "public.counters";

/// A server whose table `counters` was copied whole, and the process that did it.
async fn followed() -> (PrivatePostgres, PostgresConfig, Replay, PostgresSource) {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let config = config(&server, &[COUNTERS]);
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    (server, config, replay, source)
}

async fn agrees_after_restart(server: &PrivatePostgres, config: &PostgresConfig, replay: &mut Replay) {
    replay.forget_stops();
    // The log's end lies above everything that the first process came to.
    server.execute("select pg_current_xact_id()").await.unwrap();
    let mut source = open_when_free(config, replay).await;
    replay.until(&mut source, &end_of_log(server, 0).await).await;
    let table = replay.table(COUNTERS);
    assert!(table.stopped.is_none(), "{:?}", table.stopped);
    let (lake, database) = (table.visible(), selected(server, "counters", &["id", "n"]).await);
    assert!(lake == database, "the lake has {} rows, the database {}", lake.len(), database.len());
}

/// The error that stops the table.
async fn stop(source: &mut PostgresSource, replay: &mut Replay) -> Error {
    let stopped = async {
        while replay.table(COUNTERS).stopped.is_none() {
            let event = source.next().await.unwrap();
            replay.apply(event);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("the table is not stopped");
    replay.take_stop(COUNTERS)
}

#[tokio::test]
async fn a_table_that_left_the_publication_and_came_back_is_copied_anew() {
    let (server, config, mut replay, source) = followed().await;
    drop(source);
    server
        .execute(
            "alter publication lockgate drop table counters; insert into counters values (5000, 1); delete from counters where id = 1;
             alter publication lockgate add table counters; insert into counters values (5001, 1)",
        )
        .await
        .unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn another_table_of_the_same_name_is_copied_anew() {
    let (server, config, mut replay, source) = followed().await;
    drop(source);
    server
        .execute(
            "drop table counters; create table counters (id int primary key, n int); insert into counters values (7000, 1);
             alter publication lockgate add table counters; insert into counters values (7001, 1)",
        )
        .await
        .unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_table_that_another_takes_the_name_of_stops_and_the_other_is_copied() {
    let (server, config, mut replay, mut source) = followed().await;
    server
        .execute(
            "alter table counters rename to counters_old; create table counters (id int primary key, n int);
             insert into counters values (8000, 1); alter publication lockgate add table counters;
             insert into counters_old values (9000, 1); insert into counters values (8001, 1)",
        )
        .await
        .unwrap();
    let error = stop(&mut source, &mut replay).await;
    assert_eq!(error.kind(), Kind::Contract);
    assert!(error.what().contains("another name"), "{error}");
    drop(source);
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_table_that_leaves_the_publication_stops_while_it_is_followed() {
    let (server, config, mut replay, mut source) = followed().await;
    server.execute("alter publication lockgate drop table counters; delete from counters where id < 9").await.unwrap();
    let error = stop(&mut source, &mut replay).await;
    assert!(error.what().contains("out of the publication"), "{error}");
    drop(source);
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_dropped_table_that_is_made_again_is_told() {
    let (server, config, mut replay, mut source) = followed().await;
    server.execute("drop table counters; create table counters (id int primary key, n int)").await.unwrap();
    let error = stop(&mut source, &mut replay).await;
    assert!(error.what().contains("made again"), "{error}");
    drop(source);
    server.execute("insert into counters values (1, 1)").await.unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_start_that_fails_after_publishing_does_not_make_the_table_whole() {
    let (server, config, mut replay, source) = followed().await;
    drop(source);
    server
        .execute(
            "alter publication lockgate drop table counters; insert into counters values (5000, 1); delete from counters where id = 1;
             create table beside (id int primary key)",
        )
        .await
        .unwrap();
    let mut other = config.clone();
    other.tables = vec!["public.beside".into()];
    let holder = open_when_free(&other, &Replay::default()).await;
    let error = open(&config, &replay.resume("db")).await.err().expect("the slot is held by another");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    drop(holder);
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_table_that_left_the_configuration_and_came_back_is_copied_anew() {
    let (server, config, mut replay, source) = followed().await;
    drop(source);
    server.execute("create table beside (id int primary key)").await.unwrap();
    let mut other = config.clone();
    other.tables = vec!["public.beside".into()];
    let mut without = open_when_free(&other, &replay).await;
    server.execute("insert into counters values (5000, 1); delete from counters where id = 1").await.unwrap();
    server.execute("insert into beside values (1)").await.unwrap();
    // The slot goes on without the table.
    replay.until(&mut without, &end_of_log(&server, 0).await).await;
    drop(without);
    server.execute("insert into counters values (5001, 1)").await.unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_table_of_a_publication_for_all_tables_goes_on() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    server.execute("create publication lockgate for all tables").await.unwrap();
    let config = config(&server, &[COUNTERS]);
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    drop(source);
    let low = replay.table(COUNTERS).copy.clone().unwrap().low;
    server.execute("update counters set n = 3").await.unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
    assert_eq!(replay.table(COUNTERS).copy.clone().unwrap().low, low, "it was copied anew for nothing");
}

fn is_lost(error: &Error, what: &str) {
    assert_eq!(error.kind(), Kind::SourceGone, "{error}");
    assert!(error.what().contains(what), "{error}");
    assert!(error.how_to_fix().unwrap().contains("first copy again"));
}

async fn probed(config: &PostgresConfig) -> String {
    let report = capture::postgres::probe(config, |_| true).await.unwrap();
    report.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[tokio::test]
async fn a_publication_that_is_dropped_or_made_again_is_a_hard_stop() {
    let (server, config, mut replay, mut source) = followed().await;
    server.execute("drop publication lockgate; update counters set n = 2 where id < 9").await.unwrap();
    let ended = async {
        loop {
            match source.next().await {
                Ok(event) => replay.apply(event),
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it goes on without its publication");
    is_lost(&error, "the publication lockgate is gone");
    drop(source);
    is_lost(&open(&config, &replay.resume("db")).await.err().unwrap(), "is gone");
    let found = probed(&config).await;
    assert!(found.contains("the publication lockgate is gone") && found.contains("first copy again"), "{found}");

    server.execute("create publication lockgate for table counters").await.unwrap();
    server.execute("update counters set n = 3 where id < 9").await.unwrap();
    is_lost(&open(&config, &replay.resume("db")).await.err().unwrap(), "made again");
    let client = server.client().await.unwrap();
    let version = client.query_one("select current_setting('server_version_num')::int4", &[]).await.unwrap();
    if version.get::<_, i32>(0) >= 180_000 {
        println!("skipped: from PostgreSQL 18 on only the start sees that the publication was made again");
        return;
    }
    let free = async {
        while !probed(&config).await.contains("made again") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), free).await.expect("probe does not see it");
}

#[tokio::test]
async fn other_tables_of_a_publication_and_the_upkeep_of_the_catalog_leave_it_as_it_is() {
    let (server, config, mut replay, source) = followed().await;
    drop(source);
    server.execute("create table beside (id int primary key)").await.unwrap();
    for harmless in [
        "alter publication lockgate add table beside",
        "alter publication lockgate drop table beside",
        "vacuum freeze pg_publication",
        "vacuum full pg_publication",
    ] {
        server.execute(harmless).await.unwrap();
    }
    server.execute("update counters set n = 1 where id < 9").await.unwrap();
    agrees_after_restart(&server, &config, &mut replay).await;
}

#[tokio::test]
async fn a_publication_that_is_altered_is_a_hard_stop_though_it_is_as_it_was_again() {
    let (server, config, mut replay, mut source) = followed().await;
    server.execute("alter publication lockgate set (publish = 'insert')").await.unwrap();
    server.execute("update counters set n = 2 where id < 9; delete from counters where id = 9").await.unwrap();
    let ended = async {
        loop {
            match source.next().await {
                Ok(event) => replay.apply(event),
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it goes on without updates");
    is_lost(&error, "leaves out update, delete, truncate");
    drop(source);
    is_lost(&open(&config, &replay.resume("db")).await.err().unwrap(), "leaves out update, delete, truncate");
    for back in ["set (publish = 'insert, update, delete, truncate')", "rename to other", "rename to lockgate"] {
        let publication = if back.ends_with("to lockgate") { "other" } else { "lockgate" };
        server.execute(&format!("alter publication {publication} {back}")).await.unwrap();
    }
    is_lost(&open(&config, &replay.resume("db")).await.err().unwrap(), "may not have published everything");
}

#[tokio::test]
async fn a_partition_that_leaves_stops_its_table_and_a_new_start_copies_what_is_left() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create table counters (id int primary key, n int) partition by range (id);
             create table low partition of counters for values from (0) to (100);
             create table high partition of counters for values from (100) to (200);
             insert into counters select i, 0 from generate_series(1, 150) i",
        )
        .await
        .unwrap();
    let config = config(&server, &[COUNTERS]);
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    server.execute("vacuum full low").await.unwrap();
    server.execute("alter table counters detach partition high").await.unwrap();
    let error = stop(&mut source, &mut replay).await;
    assert!(error.what().contains("detached or dropped"), "{error}");
    assert!(error.how_to_fix().unwrap().contains("Copy the table again"), "{error}");
    drop(source);
    agrees_after_restart(&server, &config, &mut replay).await;
}
