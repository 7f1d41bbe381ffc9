use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};

const MEMBERS: &[&str] = &["id", "name", "note"];

async fn members(server: &PrivatePostgres, rows: u32) {
    server
        .execute(&format!(
            "create table members (id int primary key, name text, note text);
             insert into members select i, 'n' || i, repeat('x', 50) from generate_series(1, {rows}) i; analyze members"
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn copy_and_stream_come_to_the_databases_state() {
    let server = PrivatePostgres::start().await.unwrap();
    members(&server, 5000).await;
    let config = config(&server, &["public.members"]);
    let mut source = open(&config, &Default::default()).await.unwrap();
    server
        .execute(
            "update members set name = 'changed' where id % 7 = 0; delete from members where id % 11 = 0;
             update members set id = id + 100000 where id % 13 = 0; insert into members select i, 'new', null from generate_series(5001, 5100) i",
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
