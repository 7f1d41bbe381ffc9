//! The network between Lockgate and an object store: an HTTP proxy that refuses, stalls, or loses answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub(crate) enum Weather {
    /// They pass.
    Fair,
    /// Every third is answered by 500, every third by 503.
    Refusing,
    /// Every third is never answered, and not done either.
    Stalling,
    /// Every third that writes is done, and its answer lost.
    Losing,
    /// All take half a second longer.
    Slow,
    /// All are answered by 503.
    Away,
}

const ALL: [Weather; 6] =
    [Weather::Fair, Weather::Refusing, Weather::Stalling, Weather::Losing, Weather::Slow, Weather::Away];

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    faults: AtomicU64,
}

/// A proxy in front of one store, until it is dropped.
pub(crate) struct StoreProxy {
    pub(crate) port: u16,
    weather: Arc<AtomicU8>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

impl StoreProxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut proxy = Self { port, weather: Arc::default(), counts: Arc::default(), tasks: JoinSet::new() };
        let (weather, counts) = (proxy.weather.clone(), proxy.counts.clone());
        proxy.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (weather, counts) = (weather.clone(), counts.clone());
                connections.spawn(async move {
                    // A client that leaves in the middle is one of the things that happen.
                    let _left = serve(client, target, &weather, &counts).await;
                });
            }
        });
        proxy
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.store(weather as u8, Ordering::Relaxed);
    }

    /// Requests that did not go as they should so far.
    pub(crate) fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }
}

/// One request of one connection; the store is told to close after it, and so the client is.
async fn serve(mut client: TcpStream, target: u16, weather: &AtomicU8, counts: &Counts) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client).await? else { return Ok(()) };
    let number = counts.requests.fetch_add(1, Ordering::Relaxed);
    let weather = ALL[usize::from(weather.load(Ordering::Relaxed))];
    let third = number.is_multiple_of(3);
    let fault = || counts.faults.fetch_add(1, Ordering::Relaxed);
    let refusal = match (weather, number % 3) {
        (Weather::Refusing, 0) => Some("500 Internal Server Error"),
        (Weather::Refusing, 1) | (Weather::Away, _) => Some("503 Slow Down"),
        _ => None,
    };
    if let Some(status) = refusal {
        fault();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    if weather == Weather::Stalling && third {
        fault();
        // Until the client has had enough.
        let _gone = client.read(&mut [0; 1]).await?;
        return Ok(());
    }
    if weather == Weather::Slow {
        fault();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut store = TcpStream::connect(("127.0.0.1", target)).await?;
    store.write_all(&request).await?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer).await?;
    let writes = request.starts_with(b"PUT") || request.starts_with(b"POST") || request.starts_with(b"DELETE");
    if weather == Weather::Losing && third && writes {
        fault();
        return Ok(());
    }
    client.write_all(&answer).await
}

/// A whole request, with `Connection: close` in its head; `None` when the client closes without one.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let length: usize = header("content-length").map_or(0, |(_, value)| value.trim().parse().unwrap());
    assert!(header("transfer-encoding").is_none(), "a request in chunks is not understood here");
    while bytes.len() < head + length {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let kept: Vec<&str> =
        text.trim_end().lines().filter(|line| !line.to_lowercase().starts_with("connection:")).collect();
    let mut request = format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).into_bytes();
    request.extend_from_slice(&bytes[head..head + length]);
    Ok(Some(request))
}
