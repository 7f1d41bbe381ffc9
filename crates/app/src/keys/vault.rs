//! Keys from HashiCorp Vault or OpenBao, which speak the same HTTP: <https://openbao.org/api-docs/secret/kv/kv-v2/>,
//! <https://openbao.org/api-docs/secret/transit/>. Address, token and authority come from the variables that their own programs read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use change::{Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, Method, StatusCode, Url};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

/// What is asked of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// KV version 2: the key file is a field of a secret.
    Secret { mount: String, path: String, field: String },
    /// Transit: the key file lies in the project, encrypted by a key that never leaves the server.
    Transit { mount: String, key: String, file: PathBuf },
}

/// Where the server is and who asks.
pub(super) struct VaultServer {
    address: Url,
    token: HeaderValue,
    namespace: Option<HeaderValue>,
    authority: Option<Certificate>,
}

/// Tries of one request, the pause before the second, and how long each may take.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// `kv/MOUNT/PATH#FIELD`, `transit/MOUNT/KEY#FILE`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (place, behind) = text.split_once('#')?;
        let mut parts = place.splitn(3, '/').map(str::to_owned);
        let (engine, mount, path) = (parts.next()?, parts.next()?, parts.next()?);
        if mount.is_empty() || path.is_empty() || behind.is_empty() {
            return None;
        }
        match engine.as_str() {
            "kv" => Some(Self::Secret { mount, path, field: behind.to_owned() }),
            "transit" => Some(Self::Transit { mount, key: path, file: behind.into() }),
            _ => None,
        }
    }

    /// What can be seen without the server.
    pub(super) fn check(&self, project: &Path) -> Result<()> {
        match self {
            Self::Secret { .. } => Ok(()),
            Self::Transit { file, .. } => wrapped(&project.join(file)).map(|_| ()),
        }
    }
}

fn wrapped(path: &Path) -> Result<String> {
    let wrong = |what: String| {
        Error::new(Kind::Privacy, what)
            .fix("Make it with `vault write -field=ciphertext transit/encrypt/KEY plaintext=$(base64 -w0 dev.key)`.")
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("cannot read the wrapped key file {}", path.display())).source(error))?;
    let text = text.trim();
    match text.starts_with("vault:v") {
        true => Ok(text.to_owned()),
        false => Err(wrong(format!("{} was not encrypted by the transit engine", path.display()))),
    }
}

impl VaultServer {
    /// `VAULT_ADDR`, `VAULT_TOKEN` or `VAULT_TOKEN_FILE`, `VAULT_NAMESPACE`, `VAULT_CACERT`; `BAO_` before the rest for OpenBao.
    ///
    /// # Errors
    /// `Config` when one is missing or cannot be used.
    pub(super) fn from_environment(project: &Path) -> Result<Self> {
        let read = |name: &str| {
            let named = |prefix: &str| std::env::var(format!("{prefix}_{name}")).ok().filter(|text| !text.is_empty());
            named("VAULT").or_else(|| named("BAO"))
        };
        let wrong = |what: &str, fix: &str| Error::new(Kind::Config, format!("keys from vault: {what}")).fix(fix);
        let address = read("ADDR")
            .ok_or_else(|| wrong("VAULT_ADDR is not set", "Set it: export VAULT_ADDR=https://vault.internal:8200"))?;
        let address = Url::parse(&address)
            .map_err(|_| wrong("VAULT_ADDR is not a URL", "Write it like https://vault.internal:8200."))?;
        let loopback = matches!(address.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if address.scheme() != "https" && !(address.scheme() == "http" && loopback) {
            return Err(wrong("VAULT_ADDR is not https", "Without TLS only a loopback address is allowed."));
        }
        let secret = match (read("TOKEN"), read("TOKEN_FILE")) {
            (Some(token), _) => Zeroizing::new(token),
            (None, Some(path)) => {
                std::fs::read_to_string(project.join(&path)).map(Zeroizing::new).map_err(|error| {
                    wrong(
                        &format!("cannot read the token file {path}"),
                        "Let the agent write it where this user can read it.",
                    )
                    .source(error)
                })?
            }
            (None, None) => {
                return Err(wrong("neither VAULT_TOKEN nor VAULT_TOKEN_FILE is set", "Set one of them."));
            }
        };
        let header = |text: &str, what: &str| {
            let mut value = HeaderValue::from_str(text.trim())
                .map_err(|_| wrong(&format!("{what} cannot be sent in a header"), "Look for a line break in it."))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let authority = read("CACERT").map(|path| {
            let failed = || wrong(&format!("VAULT_CACERT: {path} holds no certificate"), "Name a PEM file.");
            let pem = std::fs::read(project.join(&path)).map_err(|error| failed().source(error))?;
            Certificate::from_pem(&pem).map_err(|_| failed())
        });
        Ok(Self {
            address,
            token: header(&secret, "the token")?,
            namespace: read("NAMESPACE").map(|namespace| header(&namespace, "VAULT_NAMESPACE")).transpose()?,
            authority: authority.transpose()?,
        })
    }

    /// The text of the key file.
    ///
    /// # Errors
    /// `Auth` when the token may not, `Config` when there is no such secret or key, `Unavailable` when the server does not answer.
    pub(super) fn fetch(self, engine: &Engine, project: &Path) -> Result<Zeroizing<String>> {
        let request = match engine {
            Engine::Secret { mount, path, .. } => (Method::GET, format!("v1/{mount}/data/{path}"), None),
            Engine::Transit { mount, key, file } => {
                let body = serde_json::json!({ "ciphertext": wrapped(&project.join(file))? });
                (Method::POST, format!("v1/{mount}/decrypt/{key}"), Some(body.to_string()))
            }
        };
        let body = self.ask(request)?;
        let unreadable = || self_unreadable(engine);
        match engine {
            Engine::Secret { field, .. } => {
                let Answer { data: Secret { mut data } } = serde_json::from_slice(&body).map_err(|_| unreadable())?;
                let found = data.remove(field).map(Zeroizing::new);
                data.values_mut().for_each(Zeroize::zeroize);
                found.ok_or_else(|| {
                    Error::new(Kind::Config, format!("keys from vault: the secret has no field `{field}`"))
                        .fix("Put the text of the key file there: vault kv put MOUNT/PATH FIELD=@dev.key")
                })
            }
            Engine::Transit { .. } => {
                let Answer { data: Decrypted { plaintext } } =
                    serde_json::from_slice(&body).map_err(|_| unreadable())?;
                let plaintext = Zeroizing::new(plaintext);
                let bytes = STANDARD.decode(plaintext.as_bytes()).map(Zeroizing::new).map_err(|_| unreadable())?;
                let text = std::str::from_utf8(&bytes).map_err(|_| unreadable())?;
                Ok(Zeroizing::new(text.to_owned()))
            }
        }
    }

    /// One request, in a thread of its own: whoever asks may be part of a runtime, and keys are read once.
    fn ask(&self, request: (Method, String, Option<String>)) -> Result<Zeroizing<Vec<u8>>> {
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                    Error::new(Kind::Unavailable, "the system gave no thread to ask for keys").source(error)
                })?;
                runtime.block_on(self.ask_again(request))
            });
            asking.join()
        });
        asked.unwrap_or_else(|_| Err(Error::new(Kind::Bug, "asking for keys broke down")))
    }

    async fn ask_again(&self, (method, path, body): (Method, String, Option<String>)) -> Result<Zeroizing<Vec<u8>>> {
        let wrong = |what: &str| Error::new(Kind::Config, format!("keys from vault: {what}"));
        let mut client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        if let Some(authority) = &self.authority {
            client = client.add_root_certificate(authority.clone());
        }
        let client = client.build().map_err(|error| wrong("TLS cannot be set up").source(error))?;
        let url = self.address.join(&path).map_err(|_| wrong("mount and path make no URL"))?;
        let mut pause = PAUSE;
        for attempt in 1.. {
            let mut request = client.request(method.clone(), url.clone()).header("X-Vault-Token", self.token.clone());
            if let Some(namespace) = &self.namespace {
                request = request.header("X-Vault-Namespace", namespace.clone());
            }
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            match answer(request).await {
                Err(error) if error.kind() == Kind::Unavailable && attempt < TRIES => {
                    tracing::warn!(%error, attempt, "the server with the keys will be asked again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answered => return answered,
            }
        }
        Err(Error::new(Kind::Bug, "nobody asked for keys"))
    }
}

fn self_unreadable(engine: &Engine) -> Error {
    let place = match engine {
        Engine::Secret { .. } => "is no KV version 2 secret of text fields",
        Engine::Transit { .. } => "is not the text of a key file",
    };
    Error::new(Kind::Privacy, format!("keys from vault: what the server gave {place}"))
        .fix("Look at the mount and the path in `keys` of policy.yaml.")
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |what: String| Error::new(Kind::Unavailable, format!("keys from vault: {what}"));
    let silent = |error: reqwest::Error| {
        failed("the server did not answer".into())
            .source(error.without_url())
            .fix("Look whether VAULT_ADDR is right and the server is up and unsealed. Nothing passes without keys.")
    };
    let response = request.send().await.map_err(silent)?;
    match response.status() {
        StatusCode::OK => response.bytes().await.map(|bytes| Zeroizing::new(bytes.to_vec())).map_err(silent),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            Err(Error::new(Kind::Auth, "keys from vault: the token may not read them")
                .fix("Give the token's policy `read` on the secret, or `update` on the transit key's decrypt path."))
        }
        StatusCode::NOT_FOUND => {
            Err(Error::new(Kind::Config, "keys from vault: there is nothing at this mount and path")
                .fix("Correct `keys` in policy.yaml, or put the key file there."))
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(failed(format!("the server answered {status} (503: it is sealed)"))
                .fix("Unseal it, or wait until it is well. Nothing passes without keys."))
        }
        // A transit key that cannot decrypt the file, for one; the server's text could quote what was sent.
        status => Err(Error::new(Kind::Privacy, format!("keys from vault: the server refused with {status}"))
            .fix("Look whether the wrapped file was encrypted by this transit key.")),
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Secret {
    data: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}
