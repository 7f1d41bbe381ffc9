//! Who asks Azure, in the order of its own libraries: a service principal with a secret, a certificate or a federated token; then the
//! identity that App Service or the machine gives (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>).

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use change::{Clock, Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::azure::WHO;
use super::jwt::{self, Signature};
use super::{Refusal, json, strange};
use crate::clock::SystemClock;
use crate::keys::http::{Http, address, header, variable};
use crate::secrets;

/// Seconds that a statement which we sign is good for; it is used at once.
const STATEMENT_SECONDS: i64 = 300;
const STATEMENT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who asks, and what the token is for.
pub(super) struct Identity {
    resource: String,
    means: Means,
}

enum Means {
    Principal {
        address: Url,
        client: String,
        proof: Proof,
    },
    /// App Service and what is built like it.
    Service {
        address: Url,
        secret: HeaderValue,
        client: Option<String>,
    },
    Machine {
        address: Url,
        client: Option<String>,
    },
}

enum Proof {
    Secret(Zeroizing<String>),
    Certificate { key: Zeroizing<String>, thumbprint: String },
    Federated { file: String },
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Identity {
    /// # Errors
    /// `Config` when what is set is not whole, or a file cannot be used.
    pub(super) fn from_environment(resource: &str, project: &Path) -> Result<Self> {
        let (client, tenant) = (variable("AZURE_CLIENT_ID"), variable("AZURE_TENANT_ID"));
        let means = match (Proof::from_environment(project)?, client, tenant) {
            (Some(proof), Some(client), Some(tenant)) => {
                let name = "AZURE_AUTHORITY_HOST";
                let host = variable(name).unwrap_or_else(|| "https://login.microsoftonline.com/".to_owned());
                // Written without a scheme by some of Azure's own tools.
                let host = if host.contains("://") { host } else { format!("https://{host}") };
                let path = format!("/{tenant}/oauth2/v2.0/token");
                let address = address(WHO, name, &host)?.join(&path).map_err(|_| strange(WHO))?;
                Means::Principal { address, client, proof }
            }
            (Some(_), ..) => {
                return Err(wrong(
                    "AZURE_CLIENT_ID or AZURE_TENANT_ID is not set",
                    "Set both beside the secret or file.",
                ));
            }
            (None, client, _) => machine(client)?,
        };
        Ok(Self { resource: resource.to_owned(), means })
    }

    /// A token as the vault wants it in a header.
    ///
    /// # Errors
    /// `Auth` when whoever gives them refuses, `Unavailable` when nobody answers.
    pub(super) async fn token(&self, http: &Http) -> Result<HeaderValue> {
        let resource = ("resource", self.resource.as_str());
        let named = |client: &Option<String>| client.clone().map(|client| ("client_id", client));
        let (request, nobody) = match &self.means {
            Means::Principal { address, client, proof } => (self.statement(http, address, client, proof)?, None),
            Means::Service { address, secret, client } => {
                let asked = http.client().get(address.clone()).header("X-IDENTITY-HEADER", secret.clone());
                (asked.query(&[("api-version", "2019-08-01"), resource]).query(named(client).as_slice()), None)
            }
            Means::Machine { address, client } => {
                let asked = http.client().get(address.clone()).header("Metadata", "true");
                let asked = asked.query(&[("api-version", "2018-02-01"), resource]).query(named(client).as_slice());
                (asked, Some("nothing says who asks: no client is set, and no metadata server answers"))
            }
        };
        let reply = http.send(request).await.map_err(|error| match nobody {
            Some(what) if error.kind() == Kind::Unavailable => {
                Error::new(Kind::Unavailable, format!("{WHO}: {what}"))
                    .source(error)
                    .fix("Set AZURE_CLIENT_ID, AZURE_TENANT_ID and a secret, or run with a managed identity. Nothing passes without keys.")
            }
            _ => error,
        })?;
        if reply.status != StatusCode::OK {
            let refusal = match Refusal::of(reply.status) {
                Refusal::Busy => Refusal::Busy,
                Refusal::Redirect => Refusal::Redirect,
                // Entra answers 400 and 401 to what it does not believe; nothing here is about the key yet.
                _ => Refusal::Denied,
            };
            return Err(refusal.error(WHO, reply.status, "an identity that Entra ID believes"));
        }
        let token = Zeroizing::new(json::<Token>(WHO, &reply)?.access_token);
        header(WHO, "the token", &Zeroizing::new(format!("Bearer {}", *token)))
    }

    fn statement(&self, http: &Http, address: &Url, client: &str, proof: &Proof) -> Result<RequestBuilder> {
        let scope = format!("{}/.default", self.resource);
        let mut form = vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", &scope)];
        let statement = match proof {
            Proof::Secret(secret) => {
                form.push(("client_secret", secret));
                return Ok(http.client().post(address.clone()).form(&form));
            }
            Proof::Federated { file } => secrets::read_trimmed(Path::new(file))
                .map_err(|error| unreadable("AZURE_FEDERATED_TOKEN_FILE", error))?,
            Proof::Certificate { key, thumbprint } => {
                let now = SystemClock::new().now() / 1_000_000;
                // https://learn.microsoft.com/entra/identity-platform/certificate-credentials
                let head = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
                let claims = json!({
                    "aud": address.as_str(), "iss": client, "sub": client, "jti": Uuid::new_v4(),
                    "nbf": now, "iat": now, "exp": now + STATEMENT_SECONDS,
                });
                jwt::sign(WHO, &head, &claims, key, Signature::Pss)?
            }
        };
        form.extend([("client_assertion_type", STATEMENT), ("client_assertion", &statement)]);
        Ok(http.client().post(address.clone()).form(&form))
    }
}

impl Proof {
    fn from_environment(project: &Path) -> Result<Option<Self>> {
        if let Some(secret) = variable("AZURE_CLIENT_SECRET") {
            return Ok(Some(Self::Secret(Zeroizing::new(secret))));
        }
        if let Some(path) = variable("AZURE_CLIENT_CERTIFICATE_PATH") {
            let text = secrets::read(&project.join(path));
            let key = text.map_err(|error| unreadable("AZURE_CLIENT_CERTIFICATE_PATH", error))?;
            let failed = || {
                wrong(
                    "AZURE_CLIENT_CERTIFICATE_PATH holds no certificate with its RSA key",
                    "Name a PEM file with both.",
                )
            };
            let certificate = CertificateDer::from_pem_slice(key.as_bytes()).map_err(|_| failed())?;
            let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate));
            // Seen at once by `check`, and not at the first start.
            jwt::sign(WHO, &json!({}), &json!({}), &key, Signature::Pss).map_err(|_| failed())?;
            return Ok(Some(Self::Certificate { key, thumbprint }));
        }
        Ok(variable("AZURE_FEDERATED_TOKEN_FILE").map(|file| Self::Federated { file }))
    }
}

fn machine(client: Option<String>) -> Result<Means> {
    let url =
        |name: &str, text: &str| Url::parse(text).map_err(|_| wrong(&format!("{name} is not a URL"), "Correct it."));
    if let (Some(text), Some(secret)) = (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
        let secret = header(WHO, "IDENTITY_HEADER", &secret)?;
        return Ok(Means::Service { address: url("IDENTITY_ENDPOINT", &text)?, secret, client });
    }
    let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = variable(name).unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let address = url(name, &host)?.join("/metadata/identity/oauth2/token").map_err(|_| strange(WHO))?;
    Ok(Means::Machine { address, client })
}

fn wrong(what: &str, fix: &str) -> Error {
    Error::new(Kind::Config, format!("{WHO}: {what}")).fix(fix)
}

fn unreadable(name: &str, error: std::io::Error) -> Error {
    wrong(&format!("the file of {name} cannot be read"), "Let the platform write it where this user can read it.")
        .source(error)
}
