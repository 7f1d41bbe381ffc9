//! First copy and stream together come to the database's state, whatever happens on the way.

use std::time::Duration;

use change::{Event, Origin, Source};
use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};
use crate::resume::open_when_free;

const MEMBERS: &[&str] = &["id", "name", "note"];

async fn members(server: &PrivatePostgres, rows: u32) {
    let sql = format!(
        "create table members (id int primary key, name text, note text);
         insert into members select i, 'n' || i, repeat('x', 50) from generate_series(1, {rows}) i"
    );
    server.execute(&sql).await.unwrap();
    server.execute("analyze members").await.unwrap();
}

#[tokio::test]
async fn copy_and_stream_come_to_the_databases_state() {
    let server = PrivatePostgres::start().await.unwrap();
    members(&server, 5000).await;
    let mut source = open(&config(&server, &["public.members"]), &Default::default()).await.unwrap();
    server
        .execute(
            "update members set name = 'changed' where id % 7 = 0; delete from members where id % 11 = 0;
             update members set id = id + 100000 where id % 13 = 0;
             insert into members select i, 'new', null from generate_series(5001, 5100) i",
        )
        .await
        .unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let table = replay.table("public.members");
    assert!(table.copy.as_ref().unwrap().chunks > 3);
    assert_eq!(table.visible(), selected(&server, "members", MEMBERS).await);
    assert!(table.log.is_sorted_by(|a, b| a.1 < b.1));
}

#[tokio::test]
async fn a_truncate_and_an_empty_table_are_followed() {
    let server = PrivatePostgres::start().await.unwrap();
    members(&server, 300).await;
    server.execute("create table empty (id int primary key)").await.unwrap();
    let mut source = open(&config(&server, &["public.*"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.empty").copy.as_ref().unwrap().chunks, 0);
    server.execute("truncate members, empty; insert into members values (1, 'after', null)").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.members").truncated, 1);
    assert_eq!(replay.table("public.members").visible(), selected(&server, "members", MEMBERS).await);
}

#[tokio::test]
async fn a_schema_change_in_the_stream_comes_before_its_rows() {
    let server = PrivatePostgres::start().await.unwrap();
    members(&server, 100).await;
    let mut source = open(&config(&server, &["public.members"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.schema_changes, 1);
    server.execute("update members set name = 'old' where id = 1").await.unwrap();
    server.execute("alter table members add column score numeric(6,2)").await.unwrap();
    server.execute("update members set score = 1.5 where id = 2").await.unwrap();
    server.execute("alter table members drop column note; update members set name = 'x' where id = 3").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.schema_changes, 3);
    let expected = selected(&server, "members", &["id", "name", "score"]).await;
    assert_eq!(replay.table("public.members").visible(), expected);
}

#[tokio::test]
async fn unchanged_toast_is_read_again_while_the_copy_is_unfinished_and_left_out_after() {
    let server = PrivatePostgres::start().await.unwrap();
    let big = "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)";
    server
        .execute(&format!(
            "create table docs (id int primary key, n int, body text); insert into docs select i, 0, {big} from generate_series(1, 200) i"
        ))
        .await
        .unwrap();
    let mut source = open(&config(&server, &["public.docs"]), &Default::default()).await.unwrap();
    server
        .execute("update docs set n = 1 where id <= 50; update docs set id = id + 1000 where id <= 10")
        .await
        .unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let columns = ["id", "n", "body"];
    assert_eq!(replay.table("public.docs").visible(), selected(&server, "docs", &columns).await);
    let before = replay.table("public.docs").unsent;
    server.execute("update docs set n = 2 where id = 100").await.unwrap();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.docs").unsent, before + 1);
    assert_eq!(replay.table("public.docs").visible(), selected(&server, "docs", &columns).await);
}

/// The row is in no chunk, and gone when its values are looked for: no later update of it may be taken for a loss.
#[tokio::test]
async fn a_row_that_chunks_missed_and_that_is_gone_again_leaves_no_trace() {
    let server = PrivatePostgres::start().await.unwrap();
    let big = "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)";
    server
        .execute(&format!(
            "create table docs (id int primary key, n int, body text, filler text) with (autovacuum_enabled = off);
             insert into docs select i, 0, case when i = 150 then {big} end, repeat('x', 700) from generate_series(1, 200) i;
             delete from docs where id <= 10"
        ))
        .await
        .unwrap();
    server.execute("vacuum analyze docs").await.unwrap();
    let mut config = config(&server, &["public.docs"]);
    config.copy.chunk_rows = 10;
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    while replay.tables.values().all(|table| table.copy.as_ref().is_none_or(|copy| copy.done.is_empty())) {
        replay.apply(source.next().await.unwrap());
    }
    server.execute("update docs set n = 1 where id = 150").await.unwrap();
    let place =
        server.client().await.unwrap().query_one("select ctid::text from docs where id = 150", &[]).await.unwrap();
    assert!(place.get::<_, String>(0).starts_with("(0,"), "the row does not move to where it was read already");
    // The copy is stored, and what was streamed beside it is not.
    let streamed = |event: &Event| match event {
        Event::Changes(batch) => batch.origin() == Origin::Stream,
        event => matches!(event, Event::Boundary(_)),
    };
    let copied = async {
        while replay.table("public.docs").copy.as_ref().is_none_or(|copy| copy.finished.is_none()) {
            let event = source.next().await.unwrap();
            if !streamed(&event) {
                replay.apply(event);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), copied).await.expect("the copy does not end");
    drop(source);
    server.execute("update docs set n = 2 where id = 150").await.unwrap();
    server.execute("delete from docs where id = 150").await.unwrap();
    let end = end_of_log(&server, 0).await;
    let mut source = open_when_free(&config, &replay).await;
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    let table = replay.table("public.docs");
    assert!(table.visible() == selected(&server, "docs", &["id", "n", "body", "filler"]).await);
    assert!(table.copy.as_ref().and_then(|copy| copy.finished.clone()).is_some_and(|finished| finished >= end));
}

/// Rows with two large values each, more chunks than events are read ahead.
async fn large(server: &PrivatePostgres, table: &str) {
    let big = "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)";
    let sql = format!(
        "create table {table} (id int primary key, n int, big text, other text);
         insert into {table} select i, 0, case when i < 9 then {big} end, case when i < 9 then {big} end from generate_series(1, 9000) i"
    );
    server.execute(&sql).await.unwrap();
    server.execute(&format!("analyze {table}")).await.unwrap();
}

#[tokio::test]
async fn a_table_that_may_be_read_no_longer_stops_alone() {
    let server = PrivatePostgres::start().await.unwrap();
    large(&server, "docs").await;
    members(&server, 100).await;
    server
        .execute(
            "create role reader login replication; grant select on docs, members to reader;
             create publication lockgate for table docs, members",
        )
        .await
        .unwrap();
    let mut config = config(&server, &["public.*"]);
    config.url = server.url_socket("reader", "postgres");
    let mut source = open(&config, &Default::default()).await.unwrap();
    server.execute("update docs set n = 1 where id < 9; revoke select on docs from reader").await.unwrap();
    server.execute("update members set name = 'x' where id < 9").await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert!(replay.table("public.docs").stopped.is_some());
    assert_eq!(replay.table("public.members").visible(), selected(&server, "members", MEMBERS).await);
}

#[tokio::test]
async fn partitions_are_followed_as_their_root() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create table claims (id int, day date, amount numeric(10,2), primary key (id, day)) partition by range (day);
             create table claims_a partition of claims for values from ('2024-01-01') to ('2024-07-01');
             create table claims_b (amount numeric(10,2), day date not null, id int not null);
             alter table claims attach partition claims_b for values from ('2024-07-01') to ('2025-01-01');
             insert into claims select i, date '2024-01-01' + i % 360, i from generate_series(1, 2000) i",
        )
        .await
        .unwrap();
    let mut source = open(&config(&server, &["public.*"]), &Default::default()).await.unwrap();
    server.execute("update claims set day = day + 180 where id % 17 = 0 and day < '2024-06-01'; delete from claims where id = 5").await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.tables.len(), 1, "partitions are not tables of their own");
    assert_eq!(replay.table("public.claims").visible(), selected(&server, "claims", &["id", "day", "amount"]).await);
}

#[tokio::test]
async fn a_table_without_key_is_copied_under_one_snapshot() {
    let server = PrivatePostgres::start().await.unwrap();
    server
        .execute(
            "create table visits (member int, code text); alter table visits replica identity full;
             insert into visits select i % 50, 'c' || i % 3 from generate_series(1, 3000) i",
        )
        .await
        .unwrap();
    let mut source = open(&config(&server, &["public.visits"]), &Default::default()).await.unwrap();
    server.execute("insert into visits values (1, 'c1'), (1, 'c1'); delete from visits where member = 7; update visits set code = 'z' where member = 8").await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    assert_eq!(replay.table("public.visits").visible(), selected(&server, "visits", &["member", "code"]).await);
}

#[tokio::test]
async fn a_large_transaction_is_handed_over_in_parts() {
    let server = PrivatePostgres::start().await.unwrap();
    members(&server, 10).await;
    let mut source = open(&config(&server, &["public.members"]), &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    server.execute("insert into members select i, 'n', null from generate_series(100, 30099) i").await.unwrap();
    let until = end_of_log(&server, 0).await;
    let mut parts = 0;
    while replay.boundary.as_ref().is_none_or(|boundary| boundary.through < until) {
        let event = change::Source::next(&mut source).await.unwrap();
        parts += usize::from(matches!(&event, change::Event::Changes(batch) if batch.len() <= 8192));
        replay.apply(event);
    }
    assert!(parts >= 4, "{parts}");
    assert_eq!(replay.table("public.members").visible().len(), 30_010);
}
