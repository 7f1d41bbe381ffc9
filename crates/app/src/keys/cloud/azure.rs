//! Azure Key Vault and Managed HSM: `unwrapkey` and `wrapkey` with RSA-OAEP-256 (<https://learn.microsoft.com/rest/api/keyvault/keys/>).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use change::Result;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::azure_identity::Identity;
use super::{Ask, Refusal, strange};
use crate::keys::http::{Http, Reply, address, is_loopback};

pub(super) const WHO: &str = "keys from azure-kv";
const API: &str = "7.4";
/// Where vaults are: a token is shown to nobody else.
const CLOUDS: [&str; 6] = [
    "vault.azure.net",
    "managedhsm.azure.net",
    "vault.azure.cn",
    "managedhsm.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.usgovcloudapi.net",
];

/// A key of a vault and who asks for it.
pub(super) struct KeyVault {
    key: Url,
    identity: Identity,
    http: Http,
}

#[derive(Deserialize)]
struct Answer {
    value: String,
}

#[derive(Deserialize)]
struct Refused {
    error: Code,
}

#[derive(Deserialize)]
struct Code {
    code: String,
    innererror: Option<Box<Code>>,
}

/// `https://VAULT.vault.azure.net/keys/NAME/VERSION`; a loopback address stands for a vault behind a tunnel.
pub(super) fn is_key(key: &str) -> bool {
    let Ok(url) = address(WHO, "the key", key) else { return false };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let path: Vec<&str> = url.path().split('/').collect();
    let right = matches!(path[..], ["", "keys", name, version] if plain(name) && plain(version));
    right && cloud(&url).is_some() && url.query().is_none() && url.username().is_empty() && url.password().is_none()
}

/// What a token has to be for: the vault's own cloud.
fn cloud(url: &Url) -> Option<&'static str> {
    let host = url.host_str()?;
    let known = CLOUDS.iter().find(|cloud| host.strip_suffix(**cloud).is_some_and(|name| name.ends_with('.')));
    known.copied().or_else(|| is_loopback(url).then_some(CLOUDS[0]))
}

impl KeyVault {
    /// # Errors
    /// `Config` when what is set cannot be used.
    pub(super) fn from_environment(key: &str, project: &Path) -> Result<Self> {
        let key = address(WHO, "the key", key)?;
        let resource = format!("https://{}", cloud(&key).ok_or_else(|| strange(WHO))?);
        Ok(Self { key, identity: Identity::from_environment(&resource, project)?, http: Http::new(WHO, &[])? })
    }

    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let (action, right, bytes) = match ask {
            Ask::Unwrap(wrapped) => ("unwrapkey", "`unwrapKey` (role Key Vault Crypto User)", wrapped),
            Ask::Wrap(key) => ("wrapkey", "`wrapKey` and `unwrapKey` (role Key Vault Crypto User)", &key[..]),
        };
        let body = Zeroizing::new(json!({ "alg": "RSA-OAEP-256", "value": URL_SAFE_NO_PAD.encode(bytes) }).to_string());
        let mut url = self.key.clone();
        url.set_path(&format!("{}/{action}", self.key.path()));
        let request = self.http.client().post(url).query(&[("api-version", API)]);
        let request = request.header("Authorization", self.identity.token(&self.http).await?);
        let reply =
            self.http.send(request.header("Content-Type", "application/json").body(body.as_str().to_owned())).await?;
        if reply.status != StatusCode::OK {
            return Err(refusal(&reply).error(WHO, reply.status, right));
        }
        let Answer { value } = super::json(WHO, &reply)?;
        URL_SAFE_NO_PAD.decode(Zeroizing::new(value).as_bytes()).map(Zeroizing::new).map_err(|_| strange(WHO))
    }
}

/// <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>
fn refusal(reply: &Reply) -> Refusal {
    let Ok(Refused { error }) = serde_json::from_slice::<Refused>(&reply.body) else {
        return Refusal::of(reply.status);
    };
    let inner = error.innererror.as_ref().map_or("", |inner| inner.code.as_str());
    match (error.code.as_str(), inner) {
        (_, "KeyDisabled" | "KeyExpired" | "KeyNotYetValid" | "SecretDisabled") => Refusal::Disabled,
        ("BadParameter", _) if reply.status == StatusCode::BAD_REQUEST => Refusal::OtherKey,
        _ => Refusal::of(reply.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_of_a_vault_is_one() {
        assert!(is_key("https://claims.vault.azure.net/keys/lockgate/0123456789abcdef"));
        assert!(is_key("https://claims.managedhsm.azure.net/keys/lockgate/1"));
        for key in [
            "https://claims.vault.azure.net/keys/lockgate",
            "https://claims.vault.azure.net/keys/lockgate/",
            "https://claims.vault.azure.net/secrets/lockgate/1",
            "https://claims.vault.azure.net/keys/lockgate/1?x=y",
            "https://user@claims.vault.azure.net/keys/lockgate/1",
            "http://claims.vault.azure.net/keys/lockgate/1",
            "https://claims.vault.azure.net.evil.example/keys/lockgate/1",
            "https://evilvault.azure.net/keys/lockgate/1",
        ] {
            assert!(!is_key(key), "{key}");
        }
    }
}
