//! The stream is cut in the middle of transactions.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sandbox::PrivatePostgres;

use crate::replay::{Replay, config, end_of_log, open, selected};
use crate::resume::counters;

/// A proxy in front of the server that cuts the connection on which the server says its next byte beyond `budget`, once; no limit below zero.
fn cutting(server: &PrivatePostgres, budget: &Arc<AtomicI64>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, target, budget) = (listener.local_addr().unwrap().port(), server.port(), budget.clone());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", target)).unwrap());
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pump(client, forth, None));
            let budget = budget.clone();
            std::thread::spawn(move || pump(server, back, Some(budget)));
        }
    });
    port
}

fn pump(mut from: TcpStream, mut to: TcpStream, budget: Option<Arc<AtomicI64>>) {
    let mut bytes = [0_u8; 4096];
    while let Ok(mut size @ 1..) = from.read(&mut bytes) {
        let left = budget.as_ref().map_or(-1, |budget| budget.load(Ordering::SeqCst));
        let cut = left >= 0 && size as i64 > left;
        if left >= 0 {
            size = size.min(left as usize);
            budget.as_ref().unwrap().store(if cut { -1 } else { left - size as i64 }, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..size]).is_err() || cut {
            break;
        }
    }
    for end in [from, to] {
        // It may be closed already.
        let _closed = end.shutdown(Shutdown::Both);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_boundary_lies_within_a_transaction_that_was_cut_off() {
    let server = PrivatePostgres::start().await.unwrap();
    counters(&server).await;
    let budget = Arc::new(AtomicI64::new(-1));
    let port = cutting(&server, &budget);
    let mut config = config(&server, &["public.counters"]);
    config.url = format!("postgresql://postgres@localhost:{port}/postgres?sslmode=disable");
    let mut source = open(&config, &Default::default()).await.unwrap();
    let mut replay = Replay::default();
    replay.until(&mut source, &end_of_log(&server, 0).await).await;
    for bytes in [300, 700, 1500, 4000, 9000] {
        // The first is whole when the second is cut; both are sent again.
        budget.store(bytes, Ordering::SeqCst);
        server
            .execute(
                "update counters set n = n + 1 where id <= 2; commit; update counters set n = n + 1 where id <= 400",
            )
            .await
            .unwrap();
        replay.until(&mut source, &end_of_log(&server, 0).await).await;
        assert!(budget.load(Ordering::SeqCst) < 0, "nothing was cut");
    }
    let table = replay.table("public.counters");
    assert_eq!(table.visible(), selected(&server, "counters", &["id", "n"]).await);
    assert_eq!(table.log.len(), 5 * 402);
}
