use std::collections::{BTreeMap, HashSet};

use sandbox::PrivatePostgres;
use sandbox::claims::{Canary, Claims, Live, Scale, Table, create_tables, load};
use tokio_postgres::Client;

async fn loaded(lines: u64, seed: u64) -> (PrivatePostgres, Client, Claims, Vec<(Table, u64)>) {
    let server = PrivatePostgres::start().await.unwrap();
    let (client, data, rows) = loaded_into(&server, "claims", lines, seed).await;
    (server, client, data, rows)
}

async fn loaded_into(
    server: &PrivatePostgres,
    database: &str,
    lines: u64,
    seed: u64,
) -> (Client, Claims, Vec<(Table, u64)>) {
    let client = server.create_database(database).await.unwrap();
    client.batch_execute(create_tables()).await.unwrap();
    let data = Claims::new(seed, Scale::of_lines(lines));
    let rows = load(&client, &data, &Table::ALL).await.unwrap();
    (client, data, rows)
}

async fn contents(client: &Client, table: Table) -> (i64, String) {
    let sql = format!(
        "SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '') FROM {} t",
        table.name()
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn rows_with(client: &Client, canary: &Canary) -> i64 {
    let (table, column) = canary.column.split_once('.').unwrap();
    let sql = format!("SELECT count(*) FROM {table} WHERE position($1 IN {column}::text) > 0");
    client.query_one(&sql, &[&canary.value]).await.unwrap().get(0)
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_same_seed_gives_the_same_database_after_a_day_of_work() {
    let mut seen = Vec::new();
    let server = PrivatePostgres::start().await.unwrap();
    for (database, seed) in [("first", 7), ("again", 7), ("other", 8)] {
        let (client, data, _) = loaded_into(&server, database, 600, seed).await;
        let mut live = Live::new(data);
        for step in 0..160 {
            if step == 80 {
                live.migrate(&client).await.unwrap();
            }
            live.step(&client).await.unwrap();
        }
        let mut all = Vec::new();
        for table in Table::ALL {
            all.push(contents(&client, table).await);
        }
        seen.push((all, live.tally().clone()));
    }
    assert_eq!(seen[0], seen[1]);
    for (ours, other) in seen[1].0.iter().zip(&seen[2].0) {
        assert_ne!(ours.1, other.1);
    }
}

#[tokio::test]
async fn the_tally_is_what_happened_and_every_kind_of_change_happens() {
    let (_server, client, data, rows) = loaded(2_000, 1).await;
    let mut expected: BTreeMap<Table, i64> = rows.iter().map(|(table, rows)| (*table, *rows as i64)).collect();
    for (table, rows) in &expected {
        assert_eq!(contents(&client, *table).await.0, *rows, "{}", table.name());
    }
    let mut live = Live::new(data);
    for _ in 0..400 {
        live.step(&client).await.unwrap();
    }
    let tally = live.tally();
    // The landing table loses an unknown number of rows by truncates; the others only by deletes.
    for table in Table::ALL.into_iter().filter(|table| *table != Table::EligibilityStaging) {
        let change = tally.tables.get(&table).copied().unwrap_or_default();
        *expected.get_mut(&table).unwrap() += change.inserted as i64 - change.deleted as i64;
        assert_eq!(contents(&client, table).await.0, expected[&table], "{}", table.name());
    }
    let of = |table| tally.tables[&table];
    assert!(of(Table::EligibilityStaging).truncated > 3);
    for table in [Table::ClaimLines, Table::ClaimNotes] {
        let t = of(table);
        assert!(t.inserted > 0 && t.updated > 0 && t.deleted > 0 && t.moved > 0, "{}: {t:?}", table.name());
    }
    assert!(tally.transactions < 400, "no transaction was rolled back");
    assert!(number(&client, "SELECT count(*) FROM claim_lines WHERE line_status = 'REPRICED'").await > 100);
}

#[tokio::test]
async fn canaries_are_planted_and_notes_are_too_long_for_their_rows() {
    let (_server, client, data, _) = loaded(4_000, 3).await;
    for canary in &data.canaries() {
        assert!(rows_with(&client, canary).await > 0, "{} was not planted", canary.column);
    }
    let mut live = Live::new(data);
    live.migrate(&client).await.unwrap();
    while live.canaries().len() < 24 {
        live.step(&client).await.unwrap();
    }
    // Some are gone again: their transaction was rolled back, or the member has moved house.
    let mut planted = 0;
    for canary in live.canaries() {
        planted += usize::from(rows_with(&client, canary).await > 0);
    }
    assert!(planted >= 16, "{planted}");

    let canaries: Vec<_> = data.canaries().into_iter().chain(live.canaries().iter().cloned()).collect();
    let different: HashSet<&str> = canaries.iter().map(|canary| canary.value.as_str()).collect();
    assert_eq!(different.len(), canaries.len());
    assert!(canaries.iter().any(|canary| canary.column == "members.preferred_contact"));
    assert!(canaries.iter().flat_map(Canary::needles).all(|needle| needle.len() >= 8));
    let toasted = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'claim_notes'";
    assert!(number(&client, toasted).await > 100_000);
}

#[tokio::test]
async fn live_work_keeps_its_rate() {
    let (_server, client, data, _) = loaded(600, 5).await;
    let mut live = Live::new(data);
    live.run(&client, 1_000, std::time::Duration::from_secs(2)).await.unwrap();
    let rows = live.tally().rows();
    assert!((1_800..2_300).contains(&rows), "{rows}");
}
