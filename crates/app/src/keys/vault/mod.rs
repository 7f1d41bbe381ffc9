//! Keys from HashiCorp Vault or OpenBao, which speak the same HTTP: <https://openbao.org/api-docs/secret/kv/kv-v2/>,
//! <https://openbao.org/api-docs/secret/transit/>. Address, token and authority come from the variables that their own programs read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use change::{Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use self::login::{Login, Session};
use super::http::{self, Http, Reply, header};

mod login;

const WHO: &str = "keys from vault";

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
    login: Login,
    namespace: Option<HeaderValue>,
    http: Http,
}

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
    /// `VAULT_ADDR`, `VAULT_NAMESPACE`, `VAULT_CACERT`, and what [`Login`] reads; with `BAO_` before the rest for OpenBao.
    ///
    /// # Errors
    /// `Config` when one is missing or cannot be used.
    pub(super) fn from_environment(project: &Path) -> Result<Self> {
        let address = variable("ADDR")
            .ok_or_else(|| wrong("VAULT_ADDR is not set", "Set it: export VAULT_ADDR=https://vault.internal:8200"))?;
        let authority = variable("CACERT").map(|path| {
            let failed = || wrong(&format!("VAULT_CACERT: {path} holds no certificate"), "Name a PEM file.");
            let pem = std::fs::read(project.join(&path)).map_err(|error| failed().source(error))?;
            Certificate::from_pem(&pem).map_err(|_| failed())
        });
        Ok(Self {
            address: http::address(WHO, "VAULT_ADDR", &address)?,
            login: Login::from_environment(project)?,
            namespace: variable("NAMESPACE").map(|name| header(WHO, "VAULT_NAMESPACE", &name)).transpose()?,
            http: Http::new(WHO, authority.transpose()?.as_slice())?,
        })
    }

    /// The text of the key file.
    ///
    /// # Errors
    /// `Auth` when the token may not, `Config` when there is no such secret or key, `Unavailable` when the server does not answer.
    pub(super) fn fetch(self, engine: &Engine, project: &Path) -> Result<Zeroizing<String>> {
        let (method, path, body) = match engine {
            Engine::Secret { mount, path, .. } => (Method::GET, format!("v1/{mount}/data/{path}"), None),
            Engine::Transit { mount, key, file } => {
                let body = serde_json::json!({ "ciphertext": wrapped(&project.join(file))? });
                (Method::POST, format!("v1/{mount}/decrypt/{key}"), Some(body.to_string()))
            }
        };
        let body = http::aside(async || {
            let mut session = Session::default();
            http::patiently(async || self.answer(&mut session, method.clone(), &path, body.as_deref()).await).await
        })?;
        let unreadable = || unreadable_answer(engine);
        match engine {
            Engine::Secret { field, .. } => {
                let Answer { data: Secret { mut data } } = serde_json::from_slice(&body).map_err(|_| unreadable())?;
                let found = data.remove(field).map(Zeroizing::new);
                data.values_mut().for_each(Zeroize::zeroize);
                found.ok_or_else(|| {
                    Error::new(Kind::Config, format!("{WHO}: the secret has no field `{field}`"))
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

    /// One try.
    async fn answer(
        &self,
        session: &mut Session,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let token = self.login.token(self, session).await?;
        let mut request = self.request(method, path)?.header("X-Vault-Token", token.clone());
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let answer = answer(self.http.send(request).await?);
        if answer.is_ok() {
            self.login.close(self, token).await;
        }
        answer
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self
            .address
            .join(path)
            .map_err(|_| wrong("mount and path make no URL", "Correct `keys` in policy.yaml."))?;
        let request = self.http.client().request(method, url);
        Ok(match &self.namespace {
            Some(namespace) => request.header("X-Vault-Namespace", namespace.clone()),
            None => request,
        })
    }
}

/// `VAULT_NAME`, or `BAO_NAME` for OpenBao.
fn variable(name: &str) -> Option<String> {
    http::variable(&format!("VAULT_{name}")).or_else(|| http::variable(&format!("BAO_{name}")))
}

fn wrong(what: &str, fix: &str) -> Error {
    Error::new(Kind::Config, format!("{WHO}: {what}")).fix(fix)
}

fn unreadable_answer(engine: &Engine) -> Error {
    let place = match engine {
        Engine::Secret { .. } => "is no KV version 2 secret of text fields",
        Engine::Transit { .. } => "is not the text of a key file",
    };
    Error::new(Kind::Privacy, format!("{WHO}: what the server gave {place}"))
        .fix("Look at the mount and the path in `keys` of policy.yaml.")
}

fn answer(reply: Reply) -> Result<Zeroizing<Vec<u8>>> {
    match reply.status {
        StatusCode::OK => Ok(reply.body),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            Err(Error::new(Kind::Auth, format!("{WHO}: the token may not read them"))
                .fix("Give the token's policy `read` on the secret, or `update` on the transit key's decrypt path."))
        }
        StatusCode::NOT_FOUND => Err(wrong(
            "there is nothing at this mount and path",
            "Correct `keys` in policy.yaml, or put the key file there.",
        )),
        status if is_away(status) => Err(away(status)),
        status if status.is_redirection() => Err(wrong(
            &format!("the server answered {status}, and redirects are not followed"),
            "Set VAULT_ADDR to the active server's own address.",
        )),
        // A transit key that cannot decrypt the file, for one; the server's text could quote what was sent.
        status => Err(Error::new(Kind::Privacy, format!("{WHO}: the server refused with {status}"))
            .fix("Look whether the wrapped file was encrypted by this transit key.")),
    }
}

fn is_away(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn away(status: StatusCode) -> Error {
    Error::new(Kind::Unavailable, format!("{WHO}: the server answered {status} (503: it is sealed)"))
        .fix("Unseal it, or wait until it is well. Nothing passes without keys.")
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
