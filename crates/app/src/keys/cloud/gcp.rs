//! Google Cloud KMS: `cryptoKeys.decrypt` and `encrypt` (<https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys>).
//! Who asks is found as application default credentials are: a token that is given, a service account's file, the metadata server.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use change::{Clock, Error, Kind, Result};
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::jwt::{self, Signature};
use super::{Ask, Refusal, strange};
use crate::clock::SystemClock;
use crate::keys::http::{Http, Reply, address, header, variable};
use crate::secrets;

const WHO: &str = "keys from gcp-kms";
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// Seconds that a token which we sign is good for; it is used at once.
const TOKEN_SECONDS: i64 = 300;

/// A key of Cloud KMS and who asks for it.
pub(super) struct CloudKms {
    key: Url,
    source: Source,
    http: Http,
}

enum Source {
    Token(HeaderValue),
    Account(Account),
    /// The address of the metadata server.
    Machine(Url),
}

/// <https://google.aip.dev/auth/4112>
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

/// What KMS answers; the checksum is a number of 64 bits, which it writes as text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(alias = "ciphertext")]
    plaintext: String,
    #[serde(alias = "ciphertextCrc32c")]
    plaintext_crc32c: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

/// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
pub(super) fn is_key(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    let [a, _, b, _, c, _, d, _] = parts[..] else { return false };
    [a, b, c, d] == ["projects", "locations", "keyRings", "cryptoKeys"]
        && parts.iter().all(|part| part.bytes().all(plain) && !part.trim_matches('.').is_empty())
}

impl CloudKms {
    /// # Errors
    /// `Config` when what is set cannot be used.
    pub(super) fn from_environment(key: &str, _project: &Path) -> Result<Self> {
        let name = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";
        let endpoint = variable(name).unwrap_or_else(|| "https://cloudkms.googleapis.com/".to_owned());
        let endpoint = address(WHO, name, &endpoint)?;
        let key = endpoint.join(&format!("/v1/{key}")).map_err(|_| strange(WHO))?;
        Ok(Self { key, source: Source::choose()?, http: Http::new(WHO, &[])? })
    }

    pub(super) async fn ask(&self, ask: Ask<'_>, tenant: &str) -> Result<Zeroizing<Vec<u8>>> {
        let (action, right, field, bytes) = match ask {
            Ask::Unwrap(wrapped) => {
                ("decrypt", "cloudkms.cryptoKeyVersions.useToDecrypt on the key", "ciphertext", wrapped)
            }
            Ask::Wrap(key) => (
                "encrypt",
                "cloudkms.cryptoKeyVersions.useToEncrypt and useToDecrypt on the key",
                "plaintext",
                &key[..],
            ),
        };
        let bound = format!("lockgate-tenant={tenant}");
        let body = json!({
            field: STANDARD.encode(bytes),
            format!("{field}Crc32c"): crc32c(bytes).to_string(),
            "additionalAuthenticatedData": STANDARD.encode(&bound),
            "additionalAuthenticatedDataCrc32c": crc32c(bound.as_bytes()).to_string(),
        });
        let mut url = self.key.clone();
        url.set_path(&format!("{}:{action}", self.key.path()));
        let token = self.source.token(&self.http).await?;
        let request = self.http.client().post(url).header("Authorization", token);
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        let reply = self.http.send(request).await?;
        if reply.status != StatusCode::OK {
            return Err(refusal(&reply).error(WHO, reply.status, right));
        }
        let Answer { plaintext, plaintext_crc32c } = super::json(WHO, &reply)?;
        let answer = STANDARD.decode(Zeroizing::new(plaintext).as_bytes()).map_err(|_| strange(WHO))?;
        let answer = Zeroizing::new(answer);
        if crc32c(&answer).to_string() != plaintext_crc32c {
            return Err(Error::new(Kind::Unavailable, format!("{WHO}: the answer was damaged on its way"))
                .fix("Try again. Nothing passes without keys."));
        }
        Ok(answer)
    }
}

impl Source {
    fn choose() -> Result<Self> {
        if let Some(token) = variable("CLOUDSDK_AUTH_ACCESS_TOKEN") {
            return Ok(Self::Token(header(WHO, "CLOUDSDK_AUTH_ACCESS_TOKEN", &format!("Bearer {}", token.trim()))?));
        }
        let named = variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
        let known = || {
            let folder = variable("CLOUDSDK_CONFIG").map(PathBuf::from);
            let folder = folder.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config/gcloud")))?;
            Some(folder.join("application_default_credentials.json")).filter(|path| path.exists())
        };
        if let Some(path) = named.or_else(known) {
            return Account::read(&path).map(Self::Account);
        }
        let host = variable("GCE_METADATA_HOST").unwrap_or_else(|| "metadata.google.internal".to_owned());
        let url = Url::parse(&format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token"));
        url.map(Self::Machine).map_err(|_| {
            Error::new(Kind::Config, format!("{WHO}: GCE_METADATA_HOST is no host"))
                .fix("Write it as HOST or HOST:PORT.")
        })
    }

    async fn token(&self, http: &Http) -> Result<HeaderValue> {
        let token = match self {
            Self::Token(token) => return Ok(token.clone()),
            Self::Account(account) => account.token()?,
            Self::Machine(url) => {
                let asked =
                    http.client().get(url.clone()).query(&[("scopes", SCOPE)]).header("Metadata-Flavor", "Google");
                let reply = http.send(asked).await.map_err(nobody)?;
                if reply.status != StatusCode::OK {
                    let refusal = match Refusal::of(reply.status) {
                        Refusal::Busy => Refusal::Busy,
                        _ => Refusal::Denied,
                    };
                    return Err(refusal.error(WHO, reply.status, "a service account with the scope cloudkms"));
                }
                Zeroizing::new(super::json::<Token>(WHO, &reply)?.access_token)
            }
        };
        header(WHO, "the token", &Zeroizing::new(format!("Bearer {}", *token)))
    }
}

fn nobody(error: Error) -> Error {
    Error::new(
        Kind::Unavailable,
        format!("{WHO}: nothing says who asks: no credentials file, and no metadata server answers"),
    )
    .source(error)
    .fix("Set GOOGLE_APPLICATION_CREDENTIALS, or run with a service account. Nothing passes without keys.")
}

impl Account {
    fn read(path: &Path) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("{WHO}: {} {what}", path.display())).fix(
                "Set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file, or run with a service account.",
            )
        };
        let text = secrets::read(path);
        let text = text.map_err(|error| wrong("cannot be read").source(error))?;
        let account: Self = serde_json::from_str(&text).map_err(|_| wrong("is no credentials file"))?;
        if account.kind != "service_account" {
            return Err(wrong("is of a kind that is not followed: only `service_account` is"));
        }
        // Seen at once by `check`, and not at the first start.
        account.token().map_err(|_| wrong("has no private key that can be used"))?;
        Ok(account)
    }

    /// A token that this account signs itself: <https://google.aip.dev/auth/4111>.
    fn token(&self) -> Result<Zeroizing<String>> {
        let now = SystemClock::new().now() / 1_000_000;
        let claims = json!({
            "iss": self.client_email, "sub": self.client_email, "scope": SCOPE, "iat": now, "exp": now + TOKEN_SECONDS,
        });
        jwt::sign(
            WHO,
            &json!({ "alg": "RS256", "typ": "JWT", "kid": self.private_key_id }),
            &claims,
            &self.private_key,
            Signature::Pkcs1,
        )
    }
}

/// <https://cloud.google.com/apis/design/errors>, and what KMS makes of it.
fn refusal(reply: &Reply) -> Refusal {
    let Ok(Refused { error: Status { status } }) = serde_json::from_slice::<Refused>(&reply.body) else {
        return Refusal::of(reply.status);
    };
    match status.as_str() {
        "PERMISSION_DENIED" | "UNAUTHENTICATED" => Refusal::Denied,
        "NOT_FOUND" => Refusal::Absent,
        "FAILED_PRECONDITION" => Refusal::Disabled,
        "INVALID_ARGUMENT" => Refusal::OtherKey,
        "RESOURCE_EXHAUSTED" | "UNAVAILABLE" | "INTERNAL" | "DEADLINE_EXCEEDED" | "ABORTED" => Refusal::Busy,
        _ => Refusal::of(reply.status),
    }
}

/// CRC-32C (RFC 3720), by which KMS and its caller notice what a wire did to them.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        assert_eq!(
            (crc32c(&[0; 32]), crc32c(&[0xff; 32]), crc32c(b"123456789")),
            (0x8A91_36AA, 0x62A8_AB43, 0xE306_9283)
        );
    }

    #[test]
    fn only_a_whole_name_is_a_key() {
        assert!(is_key("projects/p/locations/global/keyRings/r/cryptoKeys/k"));
        for key in [
            "projects/p/locations/global/keyRings/r/cryptoKeys/",
            "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
            "projects/../locations/global/keyRings/r/cryptoKeys/k",
            "projects/p/locations/global/keyRings/r/cryptoKeys/k?x",
            "k",
        ] {
            assert!(!is_key(key), "{key}");
        }
    }
}
