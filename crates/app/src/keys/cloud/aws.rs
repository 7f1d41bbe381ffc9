//! AWS KMS: `Decrypt` and `Encrypt` (<https://docs.aws.amazon.com/kms/latest/APIReference/>), signed by the object store's signer.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use change::{Error, Kind, Result};
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequest;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::aws_credentials::{Profile, Source};
use super::{Ask, Refusal, strange};
use crate::keys::http::{Http, Reply, address, variable};

const WHO: &str = "keys from aws-kms";

/// A key of KMS and who asks for it.
pub(super) struct AwsKms {
    key: String,
    region: String,
    endpoint: Url,
    source: Source,
    http: Http,
}

/// An ARN, an id, `alias/NAME`.
pub(super) fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
    (1..=2048).contains(&key.len()) && key.bytes().all(plain)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(alias = "CiphertextBlob")]
    plaintext: String,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(rename = "__type")]
    what: String,
}

impl AwsKms {
    /// Region, endpoint and credentials from where the tools of AWS read them.
    ///
    /// # Errors
    /// `Config` when there is no region, or what is set cannot be used.
    pub(super) fn from_environment(key: &str, project: &Path) -> Result<Self> {
        let profile = Profile::read()?;
        let region = region_of(key)
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .or_else(|| profile.region.clone())
            .filter(|region| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        let region = region.ok_or_else(|| {
            Error::new(Kind::Config, format!("{WHO}: the region is not known"))
                .fix("Write the key's ARN, or set AWS_REGION.")
        })?;
        let host = || {
            let fips = if variable("AWS_USE_FIPS_ENDPOINT").as_deref() == Some("true") { "-fips" } else { "" };
            let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://kms{fips}.{region}.{end}/")
        };
        let endpoint = variable("AWS_ENDPOINT_URL_KMS").or_else(|| variable("AWS_ENDPOINT_URL")).unwrap_or_else(host);
        let authorities = match variable("AWS_CA_BUNDLE") {
            None => Vec::new(),
            Some(path) => {
                let failed = || {
                    Error::new(Kind::Config, format!("{WHO}: AWS_CA_BUNDLE: {path} holds no certificates"))
                        .fix("Name a PEM file.")
                };
                let pem = std::fs::read(project.join(&path)).map_err(|error| failed().source(error))?;
                Certificate::from_pem_bundle(&pem).map_err(|_| failed())?
            }
        };
        Ok(Self {
            key: key.to_owned(),
            source: Source::choose(WHO, profile, &region)?,
            endpoint: address(WHO, "AWS_ENDPOINT_URL_KMS", &endpoint)?,
            http: Http::new(WHO, &authorities)?,
            region,
        })
    }

    pub(super) async fn ask(&self, ask: Ask<'_>, tenant: &str) -> Result<Zeroizing<Vec<u8>>> {
        let context = json!({ "lockgate-tenant": tenant });
        let (action, right, body) = match ask {
            Ask::Unwrap(wrapped) => {
                let blob = STANDARD.encode(wrapped);
                let body = json!({ "CiphertextBlob": blob, "EncryptionContext": context, "KeyId": self.key });
                ("Decrypt", "kms:Decrypt on the key", Zeroizing::new(body.to_string()))
            }
            Ask::Wrap(key) => {
                let text = Zeroizing::new(STANDARD.encode(**key));
                let context = context.to_string();
                let body =
                    format!(r#"{{"Plaintext":"{}","EncryptionContext":{context},"KeyId":"{}"}}"#, *text, self.key);
                ("Encrypt", "kms:Encrypt and kms:Decrypt on the key", Zeroizing::new(body))
            }
        };
        let reply = self.http.send(self.signed(action, &body).await?).await?;
        if reply.status != StatusCode::OK {
            return Err(refusal(&reply).error(WHO, reply.status, right));
        }
        let Answer { plaintext } = super::json(WHO, &reply)?;
        STANDARD.decode(Zeroizing::new(plaintext).as_bytes()).map(Zeroizing::new).map_err(|_| strange(WHO))
    }

    async fn signed(&self, action: &str, body: &str) -> Result<reqwest::RequestBuilder> {
        let credential = self.source.credential(&self.http).await?;
        let mut request = HttpRequest::new(body.as_bytes().to_vec().into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.as_str().parse().map_err(|_| strange(WHO))?;
        let target = format!("TrentService.{action}");
        let target = HeaderValue::from_str(&target).map_err(|_| strange(WHO))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        request.headers_mut().insert("x-amz-target", target);
        AwsAuthorizer::new(&credential, "kms", &self.region).authorize(&mut request, None);
        let headers = std::mem::take(request.headers_mut());
        Ok(self.http.client().post(self.endpoint.clone()).headers(headers).body(body.to_owned()))
    }
}

/// The region that a key's ARN names.
fn region_of(key: &str) -> Option<String> {
    let mut parts = key.split(':');
    (parts.next() == Some("arn")).then(|| parts.nth(2).map(str::to_owned)).flatten().filter(|region| !region.is_empty())
}

/// <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors>
fn refusal(reply: &Reply) -> Refusal {
    let Ok(Refused { what }) = serde_json::from_slice::<Refused>(&reply.body) else {
        return Refusal::of(reply.status);
    };
    match what.rsplit('#').next().unwrap_or_default() {
        "NotFoundException" => Refusal::Absent,
        "DisabledException" | "KMSInvalidStateException" => Refusal::Disabled,
        "InvalidCiphertextException" | "IncorrectKeyException" => Refusal::OtherKey,
        "ThrottlingException" | "Throttling" | "LimitExceededException" | "RequestLimitExceeded" => Refusal::Busy,
        "AccessDeniedException"
        | "AccessDenied"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Refusal::Denied,
        _ => Refusal::of(reply.status),
    }
}
