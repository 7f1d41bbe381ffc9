//! The network between Lockgate and Postgres: a TCP proxy that cuts, delays or swallows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use sandbox::PrivatePostgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::project::Project;
use super::ledger::edit;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Line {
    /// They pass.
    Open,
    /// Connections are cut and new ones refused.
    Down,
    /// Each piece waits so long, in both directions.
    Slow(Duration),
}

/// A proxy in front of one server, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    line: watch::Sender<Line>,
    /// Raised when the connections that are open go mute: they stay open, swallow everything and say nothing, for good.
    muted: watch::Sender<u64>,
    /// Bytes that the server may still say before the connection that says them is cut; negative for no limit.
    budget: Arc<AtomicI64>,
    /// Bytes that the server has said.
    said: Arc<AtomicU64>,
    target: Arc<AtomicU16>,
    tasks: JoinSet<()>,
}

/// What both directions of a connection look at.
#[derive(Clone)]
struct Rules {
    line: watch::Receiver<Line>,
    muted: watch::Receiver<u64>,
    budget: Arc<AtomicI64>,
    said: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut proxy = Self {
            port,
            line: watch::Sender::new(Line::Open),
            muted: watch::Sender::new(0),
            budget: Arc::new(AtomicI64::new(-1)),
            said: Arc::default(),
            target: Arc::new(AtomicU16::new(target)),
            tasks: JoinSet::new(),
        };
        let (line, muted) = (proxy.line.clone(), proxy.muted.clone());
        let (budget, said, target) = (proxy.budget.clone(), proxy.said.clone(), proxy.target.clone());
        proxy.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let rules = Rules {
                    line: line.subscribe(),
                    muted: muted.subscribe(),
                    budget: budget.clone(),
                    said: said.clone(),
                };
                let port = target.load(Ordering::Relaxed);
                if *rules.line.borrow() == Line::Down {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                connections.spawn(carry(client, server, rules));
            }
        });
        proxy
    }

    /// A proxy in front of the project's server, and the project's file changed to go through it.
    pub(crate) async fn before(project: &Project) -> Self {
        let own = project.postgres.port();
        let proxy = Self::start(own).await;
        let port = proxy.port;
        edit(&project.dir, "lockgate.yaml", |text| text.replace(&format!(":{own}/"), &format!(":{port}/")));
        proxy
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    pub(crate) fn mute_open_connections(&self) {
        self.muted.send_modify(|times| *times += 1);
    }

    /// The connection on which the server says its next byte beyond `bytes` is cut there, once.
    pub(crate) fn cut_after(&self, bytes: i64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// Whether the cut of [`Proxy::cut_after`] is still to come.
    pub(crate) fn will_cut(&self) -> bool {
        self.budget.load(Ordering::Relaxed) >= 0
    }

    /// Bytes that the server has said so far.
    pub(crate) fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }

    /// Another server behind the same address, for new connections.
    pub(crate) fn point_to(&self, server: &PrivatePostgres) {
        self.target.store(server.port(), Ordering::Relaxed);
    }
}

async fn carry(client: TcpStream, server: TcpStream, rules: Rules) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // When one direction ends, both do, and both sockets close.
    tokio::select! {
        () = pump(from_client, to_server, rules.clone(), false) => {}
        () = pump(from_server, to_client, rules, true) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rules: Rules, of_server: bool) {
    let Rules { mut line, mut muted, budget, said } = rules;
    let mut bytes = vec![0_u8; 16 * 1024];
    loop {
        let weather = *line.borrow_and_update();
        if weather == Line::Down {
            return;
        }
        let read = tokio::select! {
            biased;
            _ = muted.changed() => return swallow(from).await,
            _ = line.changed() => continue,
            read = from.read(&mut bytes) => read,
        };
        let Ok(mut size @ 1..) = read else { return };
        if let Line::Slow(delay) = weather {
            tokio::time::sleep(delay).await;
        }
        let mut cut = false;
        let left = budget.load(Ordering::Relaxed);
        if of_server && left >= 0 {
            cut = size as i64 > left;
            size = size.min(usize::try_from(left).unwrap());
            budget.store(if cut { -1 } else { left - size as i64 }, Ordering::Relaxed);
        }
        if of_server {
            said.fetch_add(size as u64, Ordering::Relaxed);
        }
        if to.write_all(&bytes[..size]).await.is_err() || cut {
            return;
        }
    }
}

/// Takes everything and never ends, as a device does that has forgotten where a connection leads.
async fn swallow(mut from: OwnedReadHalf) {
    let mut bytes = vec![0_u8; 16 * 1024];
    while let Ok(1..) = from.read(&mut bytes).await {}
    std::future::pending().await
}
