//! Who asks the server: a token that is given, or one that an AppRole or a service account of Kubernetes gets at login
//! (<https://openbao.org/api-docs/auth/approle/>, <https://openbao.org/api-docs/auth/kubernetes/>).

use std::path::{Path, PathBuf};

use change::{Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{VaultServer, WHO, away, is_away, variable, wrong};
use crate::keys::http::header;
use crate::secrets;

/// Where a pod finds its service account's token.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Who asks.
pub(super) enum Login {
    /// `VAULT_TOKEN`, `VAULT_TOKEN_FILE`.
    Token(HeaderValue),
    /// `VAULT_ROLE_ID`, `VAULT_SECRET_ID`, each also with `_FILE`. With `VAULT_SECRET_ID_WRAPPED=true` the secret id is the token of a
    /// wrapped answer, which is good for one use.
    Role { mount: String, role: Zeroizing<String>, secret: Zeroizing<String>, wrapped: bool },
    /// `VAULT_KUBERNETES_ROLE`, and `VAULT_KUBERNETES_TOKEN_FILE` where it is not at its usual place.
    Kubernetes { mount: String, role: String, file: PathBuf },
}

/// What was got on the way, for the next try: a secret id may be good for one login, and a wrapped one can be unwrapped once.
#[derive(Default)]
pub(super) struct Session {
    secret: Option<Zeroizing<String>>,
    token: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Opened {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
}

#[derive(Deserialize)]
struct Unwrapped {
    data: SecretId,
}

#[derive(Deserialize)]
struct SecretId {
    secret_id: String,
}

impl Login {
    /// The first that is set. `VAULT_AUTH_MOUNT` says where the method is mounted when not at its usual place.
    ///
    /// # Errors
    /// `Config` when nothing is set, a part is missing or a file cannot be read.
    pub(super) fn from_environment(project: &Path) -> Result<Self> {
        if let Some(token) = secret("TOKEN", project)? {
            return header(WHO, "the token", &token).map(Self::Token);
        }
        let mount = |usual: &str| variable("AUTH_MOUNT").unwrap_or_else(|| usual.to_owned());
        match (secret("ROLE_ID", project)?, secret("SECRET_ID", project)?) {
            (Some(role), Some(secret)) => {
                let wrapped = variable("SECRET_ID_WRAPPED").as_deref() == Some("true");
                return Ok(Self::Role { mount: mount("approle"), role, secret, wrapped });
            }
            (None, None) => {}
            _ => return Err(wrong("only half of the AppRole is set", "Set VAULT_ROLE_ID and VAULT_SECRET_ID.")),
        }
        if let Some(role) = variable("KUBERNETES_ROLE") {
            let file = variable("KUBERNETES_TOKEN_FILE").map_or_else(|| POD_TOKEN.into(), |path| project.join(path));
            return Ok(Self::Kubernetes { mount: mount("kubernetes"), role, file });
        }
        Err(wrong(
            "neither VAULT_TOKEN nor VAULT_TOKEN_FILE is set",
            "Set one of them, or VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_KUBERNETES_ROLE.",
        ))
    }

    /// A token, by a login where that is needed.
    ///
    /// # Errors
    /// `Auth` when the server does not believe it, `Unavailable` when it does not answer.
    pub(super) async fn token(&self, server: &VaultServer, session: &mut Session) -> Result<HeaderValue> {
        if let Some(token) = &session.token {
            return Ok(token.clone());
        }
        let (mount, body) = match self {
            Self::Token(token) => return Ok(token.clone()),
            Self::Role { mount, role, secret, wrapped } => {
                if *wrapped && session.secret.is_none() {
                    session.secret = Some(unwrap(server, secret).await?);
                }
                let secret = session.secret.as_ref().unwrap_or(secret);
                (mount, json!({ "role_id": **role, "secret_id": **secret }))
            }
            Self::Kubernetes { mount, role, file } => {
                let token = text(file)?;
                (mount, json!({ "role": role, "jwt": *token }))
            }
        };
        let body = Zeroizing::new(body.to_string());
        let request = server.request(Method::POST, &format!("v1/auth/{mount}/login"))?;
        let reply = server.http.send(request.body(body.as_str().to_owned())).await?;
        match reply.status {
            StatusCode::OK => {
                let opened: Opened = serde_json::from_slice(&reply.body).map_err(|_| strange())?;
                let token = header(WHO, "the token", &Zeroizing::new(opened.auth.client_token))?;
                Ok(session.token.insert(token).clone())
            }
            StatusCode::NOT_FOUND => Err(wrong("there is no such login", "Look at VAULT_AUTH_MOUNT and VAULT_NAMESPACE.")),
            status if is_away(status) => Err(away(status)),
            // 400 is the answer to a role or a secret that is wrong, used up or ended.
            status => Err(Error::new(Kind::Auth, format!("{WHO}: the login was refused with {status}"))
                .fix("Look whether the role's id and secret are right, not used up and not ended, and from where it may come.")),
        }
    }

    /// Ends a token that a login made: nothing is asked for after the keys. A server that does not do so lets it end by itself.
    pub(super) async fn close(&self, server: &VaultServer, token: HeaderValue) {
        if let Self::Token(_) = self {
            return;
        }
        let closed = match server.request(Method::POST, "v1/auth/token/revoke-self") {
            Ok(request) => server.http.send(request.header("X-Vault-Token", token)).await.map(|reply| reply.status),
            Err(error) => Err(error),
        };
        match closed {
            Ok(status) if status.is_success() => {}
            Ok(status) => {
                tracing::warn!(%status, "the token of the login was not ended and stays until its lease ends")
            }
            Err(error) => tracing::warn!(error = error.what(), "the token of the login was not ended"),
        }
    }
}

/// The secret id out of a wrapped answer (<https://openbao.org/api-docs/system/wrapping-unwrap/>).
async fn unwrap(server: &VaultServer, token: &str) -> Result<Zeroizing<String>> {
    let request = server.request(Method::POST, "v1/sys/wrapping/unwrap")?;
    let request = request.header("X-Vault-Token", header(WHO, "the wrapped secret id", token)?);
    let reply = server.http.send(request).await?;
    match reply.status {
        StatusCode::OK => {
            let unwrapped: Unwrapped = serde_json::from_slice(&reply.body).map_err(|_| strange())?;
            Ok(Zeroizing::new(unwrapped.data.secret_id))
        }
        status if is_away(status) => Err(away(status)),
        status => Err(Error::new(Kind::Auth, format!("{WHO}: the wrapped secret id was refused with {status}")).fix(
            "It was used or has ended. If nobody of yours used it, treat it as stolen: destroy it, and make a new one.",
        )),
    }
}

fn strange() -> Error {
    wrong("the answer to the login is not one of this server", "Look whether VAULT_ADDR is right.")
}

/// `NAME`, or what the file of `NAME_FILE` holds.
fn secret(name: &str, project: &Path) -> Result<Option<Zeroizing<String>>> {
    if let Some(given) = variable(name) {
        return Ok(Some(Zeroizing::new(given)));
    }
    variable(&format!("{name}_FILE")).map(|path| text(&project.join(path))).transpose()
}

fn text(path: &Path) -> Result<Zeroizing<String>> {
    secrets::read_trimmed(path).map_err(|error| {
        wrong(
            &format!("cannot read the token file {}", path.display()),
            "Let the agent write it where this user can read it.",
        )
        .source(error)
    })
}
