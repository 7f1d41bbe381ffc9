//! Asking a server for keys: a few bounded tries, no redirect followed, and nothing of what was sent or answered in a message.

use std::time::Duration;

use change::{Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

/// Tries in a row, the pause before the second, how long each may take, and after how long no other is begun.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(5);
const ENOUGH: Duration = Duration::from_secs(10);
/// The largest answer that is read, bytes: a key file with thousands of epochs is smaller.
const ANSWER_MAX: usize = 256 << 10;

/// One server's client.
pub(super) struct Http {
    client: Client,
    who: &'static str,
}

/// An answer, whatever its status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    /// `who` begins every message, as in `keys from vault`. Beside the system's authorities, `authorities` are trusted.
    ///
    /// # Errors
    /// `Config` when TLS cannot be set up, `Privacy` when it is not what the build asks for.
    pub(super) fn new(who: &'static str, authorities: &[Certificate]) -> Result<Self> {
        crate::fips::ready().map_err(|error| error.context(who))?;
        let plain =
            Client::builder().timeout(PATIENCE).connect_timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let client = authorities.iter().fold(plain, |client, one| client.add_root_certificate(one.clone()));
        let client = client
            .build()
            .map_err(|error| Error::new(Kind::Config, format!("{who}: TLS cannot be set up")).source(error))?;
        Ok(Self { client, who })
    }

    pub(super) fn who(&self) -> &'static str {
        self.who
    }

    /// The client that requests for [`Http::send`] are made of.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// One try.
    ///
    /// # Errors
    /// `Unavailable` when nothing answers in time, `Config` when the server cannot prove who it is, or answers with something too large.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Reply> {
        let mut response = request.send().await.map_err(|error| self.silent(error))?;
        let status = response.status();
        // Made in one piece: a buffer that grows would leave parts of a key behind.
        let mut body = Zeroizing::new(Vec::with_capacity(ANSWER_MAX));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.silent(error))? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(Error::new(
                    Kind::Config,
                    format!("{}: the answer is no key file: it is too large", self.who),
                )
                .fix("Look whether the server's address and the reference in `keys` of policy.yaml are right."));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }

    fn silent(&self, error: reqwest::Error) -> Error {
        let error = error.without_url();
        if distrusted(&error) {
            return Error::new(Kind::Config, format!("{}: the server's certificate is not trusted", self.who))
                .source(error)
                .fix("Look whether the address is right, and whether the system knows the authority that signed it.");
        }
        Error::new(Kind::Unavailable, format!("{}: the server did not answer", self.who))
            .source(error)
            .fix("Look whether its address is right and it is up, and can be reached. Nothing passes without keys.")
    }
}

/// Whether TLS failed for what the server is, not for how it is.
fn distrusted(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return matches!(error, rustls::Error::InvalidCertificate(_));
        }
        // An I/O error names as its source that of the error within, and not that error.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = within.map(|within| within as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

/// Asks until there is an answer, some tries within seconds; what is not `Unavailable` is an answer.
///
/// # Errors
/// Those of `ask`; the last one when there was no answer.
pub(super) async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = tokio::time::Instant::now();
    let mut pause = PAUSE;
    for attempt in 1..TRIES {
        match ask().await {
            Err(error) if error.kind() == Kind::Unavailable && started.elapsed() < ENOUGH => {
                tracing::warn!(error = error.what(), attempt, "the server with the keys will be asked again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            answered => return answered,
        }
    }
    ask().await
}

/// Runs `work` in a thread of its own: whoever asks may be part of a runtime, and keys are read once.
pub(super) fn aside<T: Send>(work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Error::new(Kind::Unavailable, "the system gave no thread to ask for keys").source(error)
            })?;
            runtime.block_on(work())
        });
        asking.join()
    });
    asked.unwrap_or_else(|_| Err(Error::new(Kind::Bug, "asking for keys broke down")))
}

/// The value of an environment variable; an empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Reads a server's address: https, or http to this machine.
///
/// # Errors
/// `Config`, naming `from`.
pub(super) fn address(who: &str, from: &str, text: &str) -> Result<Url> {
    let wrong = |what: &str, fix: &str| Error::new(Kind::Config, format!("{who}: {from} {what}")).fix(fix);
    let url = Url::parse(text).map_err(|_| wrong("is not a URL", "Write it like https://keys.internal:8200."))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(wrong("is not https", "Without TLS only a loopback address is allowed.")),
    }
}

/// Whether nothing leaves this machine on the way there.
pub(super) fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// A secret as a header's value, which no log of requests shows.
///
/// # Errors
/// `Config` for what no header can hold.
pub(super) fn header(who: &str, what: &str, text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| {
        Error::new(Kind::Config, format!("{who}: {what} cannot be sent in a header"))
            .fix("Look for a line break in it.")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
