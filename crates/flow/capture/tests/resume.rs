//! Connections break, processes end, slots vanish: what goes on, and what must not.

use std::time::Duration;

use change::{Kind, Source};
use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};

pub(crate) async fn counters(server: &PrivatePostgres) {
    server
        .execute("create table counters (id int primary key, n int); insert into counters select i, 0 from generate_series(1, 2000) i")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_killed_walsender_is_replaced_and_nothing_comes_twice() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let mut source = open(&config(&server, &["public.counters"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    for round in 0..3 {
        server.execute("update counters set n = n + 1").await.unwrap();
        server.execute("select pg_terminate_backend(pid) from pg_stat_replication").await.unwrap();
        server.execute("update counters set n = n + 1 where id % 2 = 0").await.unwrap();
        replay.until(&mut source, &end_of_log(&server, 0).await).await;
        let table = replay.table("public.counters");
        assert_eq!(table.visible(), selected(&server, "counters", &["id", "n"]).await);
        assert_eq!(table.log.len(), 3000 * (round + 1));
    }
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let mut server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let mut source = open(&config(&server, &["public.counters"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    server.restart().await.unwrap();
    server.execute("update counters set n = 5").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.counters").visible(), selected(&server, "counters", &["id", "n"]).await);
}

#[tokio::test]
async fn a_new_process_goes_on_where_the_lake_is_and_finishes_the_copy() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let config = config(&server, &["public.counters"]);
    let mut replay = Replay::default();
    let mut source = open(&config, &Default::default()).await.unwrap();
    while replay.tables.values().all(|table| table.copy.as_ref().is_none_or(|copy| copy.done.is_empty())) {
        replay.apply(source.next().await.unwrap());
    }
    drop(source);
    server.execute("update counters set n = 1 where id % 3 = 0; delete from counters where id % 5 = 0").await.unwrap();
    let mut source = open_when_free(&config, &replay).await;
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.counters").visible(), selected(&server, "counters", &["id", "n"]).await);
}

/// The server notices a dropped connection when it next writes to it: until then the slot is in use.
pub(crate) async fn open_when_free(
    config: &capture::postgres::PostgresConfig,
    replay: &Replay,
) -> capture::postgres::PostgresSource {
    let opened = async {
        loop {
            match open(config, &replay.resume("db")).await {
                Ok(source) => return source,
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), opened).await.expect("the slot does not become free")
}

#[tokio::test]
async fn only_what_is_confirmed_is_given_back_to_the_server() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let mut source = open(&config(&server, &["public.counters"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    let confirmed = "select (confirmed_flush_lsn - '0/0')::int8 from pg_replication_slots";
    let client = server.client().await.unwrap();
    let before: i64 = client.query_one(confirmed, &[]).await.unwrap().get(0);
    server.execute("update counters set n = 1").await.unwrap();
    let until = end_of_log(&server, 0).await;
    replay.until(&mut source, &until).await;
    assert_eq!(client.query_one(confirmed, &[]).await.unwrap().get::<_, i64>(0), before);
    let boundary = replay.boundary.clone().unwrap();
    source.confirm(&boundary).await.unwrap();
    let given_back = async {
        while client.query_one(confirmed, &[]).await.unwrap().get::<_, i64>(0) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_back).await.expect("the confirmation does not arrive");
    let now: i64 = client.query_one(confirmed, &[]).await.unwrap().get(0);
    assert_eq!(boundary.through.as_bytes()[4..12], now.to_be_bytes());
}

#[tokio::test]
async fn a_lost_or_recreated_slot_is_a_hard_stop() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let config = config(&server, &["public.counters"]);
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    drop(source);
    let gone = "select pg_terminate_backend(pid) from pg_stat_replication";
    server.execute(gone).await.unwrap();
    let dropped = async {
        while server.execute("select pg_drop_replication_slot('lockgate')").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dropped).await.expect("the slot cannot be dropped");
    let stopped = |error: Option<change::Error>, what: &str| {
        let error = error.expect("it must not go on");
        assert_eq!(error.kind(), Kind::SourceGone);
        assert!(error.what().contains(what), "{error}");
        assert!(error.how_to_fix().unwrap().contains("first copy again"));
    };
    stopped(open(&config, &replay.resume("db")).await.err(), "is gone");

    server.execute("update counters set n = 1").await.unwrap();
    server.execute("select pg_create_logical_replication_slot('lockgate', 'pgoutput')").await.unwrap();
    stopped(open(&config, &replay.resume("db")).await.err(), "made anew");

    let other = PrivatePostgres::start().await.unwrap();
    counters(&other).await;
    other.execute("create publication lockgate for table counters").await.unwrap();
    let mut elsewhere = config.clone();
    elsewhere.url = other.url_socket("postgres", "postgres");
    other.execute("select pg_create_logical_replication_slot('lockgate', 'pgoutput')").await.unwrap();
    let mut far = replay.resume("db");
    let stream = far.stream.as_mut().unwrap();
    let mut bytes = stream.through.as_bytes().to_vec();
    bytes[6] = 0xff;
    stream.through = change::Position::from_bytes(&bytes);
    stopped(open(&elsewhere, &far).await.err(), "system identifier");
}

#[tokio::test]
async fn a_dropped_table_is_told_and_the_others_go_on() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    server.execute("create table passing (id int primary key); insert into passing values (1)").await.unwrap();
    let mut source = open(&config(&server, &["public.*"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    server.execute("drop table passing; update counters set n = 3").await.unwrap();
    let told = async {
        while !replay.table("public.passing").dropped {
            let event = source.next().await.unwrap();
            replay.apply(event);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("nothing is said of the dropped table");
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.counters").visible(), selected(&server, "counters", &["id", "n"]).await);
    assert!((source.status())().lag.retained_bytes > 0);
}

#[tokio::test]
async fn a_copy_without_key_begins_anew_and_a_new_table_joins() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    server
        .execute(
            "create table visits (member int, code text); alter table visits replica identity full;
             insert into visits select i % 50, 'c' from generate_series(1, 9000) i",
        )
        .await
        .unwrap();
    let mut config = config(&server, &["public.visits"]);
    let mut replay = Replay::default();
    let mut source = open(&config, &Default::default()).await.unwrap();
    while replay.tables.values().all(|table| table.copy.as_ref().is_none_or(|copy| copy.done.is_empty())) {
        replay.apply(source.next().await.unwrap());
    }
    drop(source);
    server.execute("delete from visits where member = 3; insert into visits values (3, 'new')").await.unwrap();
    config.tables.push("public.counters".into());
    let mut source = open_when_free(&config, &replay).await;
    server.execute("update counters set n = 4 where id < 100; insert into visits values (3, 'new')").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.visits").visible(), selected(&server, "visits", &["member", "code"]).await);
    assert_eq!(replay.table("public.counters").visible(), selected(&server, "counters", &["id", "n"]).await);
}
