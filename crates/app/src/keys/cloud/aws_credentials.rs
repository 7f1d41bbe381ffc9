//! Who asks AWS, in the order of its own tools: variables, a web identity, a profile's file, a container's role, a machine's role
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use change::{Error, Kind, Result};
use object_store::aws::AwsCredential;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Refusal, json, strange};
use crate::keys::http::{Http, address, header, variable};
use crate::secrets;

/// Where credentials come from.
pub(super) enum Source {
    Given { key_id: String, secret: Zeroizing<String>, token: Option<Zeroizing<String>> },
    WebIdentity { token_file: String, role: String, session: String, endpoint: Url },
    Container { address: Url, token: Option<Place> },
    Machine { address: Url },
}

/// A secret, or the file that holds the newest one.
pub(super) enum Place {
    Text(Zeroizing<String>),
    File(String),
}

/// What is used of the profile that `AWS_PROFILE` names.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) region: Option<String>,
    keys: Option<(String, Zeroizing<String>, Option<Zeroizing<String>>)>,
    /// It says who asks in a way that is not known here.
    other: bool,
}

/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

impl Profile {
    /// Reads `~/.aws/credentials` and `~/.aws/config`, or the files that are named in their place.
    ///
    /// # Errors
    /// `Config` when `AWS_PROFILE` names a profile that neither has.
    pub(super) fn read() -> Result<Self> {
        let named = variable("AWS_PROFILE");
        let name = named.as_deref().unwrap_or("default");
        let place = |variable_name: &str, file: &str| {
            let home = variable("HOME").map(PathBuf::from);
            variable(variable_name).map(PathBuf::from).or_else(|| home.map(|home| home.join(".aws").join(file)))
        };
        // A file that is not there is as good as an empty one, as for the tools of AWS.
        let text = |place: Option<PathBuf>| place.and_then(|path| secrets::read(&path).ok()).unwrap_or_default();
        let config = text(place("AWS_CONFIG_FILE", "config"));
        let credentials = text(place("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        let profile = format!("profile {name}");
        let in_config = section(&config, |title| title == profile || title == name && name == "default");
        let in_credentials = section(&credentials, |title| title == name);
        // Of a setting that both have, the credentials file's counts.
        let found = match (in_config, in_credentials) {
            (Some(found), Some(more)) => Some(found.into_iter().chain(more).collect()),
            (found, more) => found.or(more),
        };
        let Some(found): Option<BTreeMap<&str, &str>> = found else {
            return match named {
                None => Ok(Self::default()),
                Some(_) => {
                    Err(Error::new(Kind::Config, "keys from aws-kms: there is no profile of AWS_PROFILE's name")
                        .fix("Write it into ~/.aws/credentials or ~/.aws/config, or set AWS_PROFILE anew."))
                }
            };
        };
        let get = |name: &str| found.get(name).map(|text| (*text).to_owned());
        let keys = get("aws_access_key_id").zip(get("aws_secret_access_key"));
        let others = ["role_arn", "credential_process", "sso_session", "sso_start_url", "login_session"];
        Ok(Self {
            region: get("region"),
            keys: keys.map(|(id, secret)| (id, Zeroizing::new(secret), get("aws_session_token").map(Zeroizing::new))),
            other: others.iter().any(|other| found.contains_key(other)),
        })
    }
}

/// The settings of the section whose title is `ours`; `None` when there is no such section.
fn section(text: &str, ours: impl Fn(&str) -> bool) -> Option<BTreeMap<&str, &str>> {
    let (mut settings, mut found, mut within) = (BTreeMap::new(), false, false);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            within = ours(title.trim());
            found |= within;
        } else if let (true, Some((key, value))) = (within, line.split_once('=')) {
            settings.insert(key.trim(), value.trim());
        }
    }
    found.then_some(settings)
}

impl Source {
    /// The first that is set.
    ///
    /// # Errors
    /// `Config` for half a pair of keys, an address without TLS, a profile that cannot be used.
    pub(super) fn choose(who: &str, profile: Profile, region: &str) -> Result<Self> {
        let wrong = |what: &str, fix: &str| Err(Error::new(Kind::Config, format!("{who}: {what}")).fix(fix));
        match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY").map(Zeroizing::new)) {
            (Some(key_id), Some(secret)) => {
                let token = variable("AWS_SESSION_TOKEN").map(Zeroizing::new);
                return Ok(Self::Given { key_id, secret, token });
            }
            (None, None) => {}
            _ => {
                return wrong("only half of the access key is set", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.");
            }
        }
        if let (Some(token_file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
            let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "lockgate".to_owned());
            let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let endpoint = variable("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| format!("https://sts.{region}.{end}/"));
            let endpoint = address(who, "AWS_ENDPOINT_URL_STS", &endpoint)?;
            return Ok(Self::WebIdentity { token_file, role, session, endpoint });
        }
        if let Some((key_id, secret, token)) = profile.keys {
            return Ok(Self::Given { key_id, secret, token });
        }
        if profile.other {
            return wrong(
                "the profile has no access key, and roles, SSO and processes of a profile are not followed",
                "Export them: eval \"$(aws configure export-credentials --format env)\"; or run with a role.",
            );
        }
        if let Some(address) = container(who)? {
            let place = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(Place::File);
            let text = || variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| Place::Text(Zeroizing::new(text)));
            return Ok(Self::Container { address, token: place.or_else(text) });
        }
        if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return wrong(
                "nothing says who asks",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role.",
            );
        }
        let machine = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let machine = machine.as_deref().unwrap_or("http://169.254.169.254");
        match Url::parse(machine) {
            Ok(address) => Ok(Self::Machine { address }),
            Err(_) => wrong("AWS_EC2_METADATA_SERVICE_ENDPOINT is not a URL", "Write it like http://169.254.169.254."),
        }
    }

    /// Credentials as they are now.
    ///
    /// # Errors
    /// `Auth` when whoever gives them refuses, `Unavailable` when nobody answers.
    pub(super) async fn credential(&self, http: &Http) -> Result<AwsCredential> {
        let who = http.who();
        match self {
            Self::Given { key_id, secret, token } => {
                credential(who, key_id.clone(), secret, token.as_ref().map(|token| token.as_str()))
            }
            Self::WebIdentity { token_file, role, session, endpoint } => {
                let token = read(who, token_file)?;
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", token.trim()),
                ];
                let body = given(http, http.client().post(endpoint.clone()).form(&form)).await?;
                let text = std::str::from_utf8(&body).map_err(|_| strange(who))?;
                let field = |name| tag(text, name).ok_or_else(|| strange(who));
                let (id, secret, token) = (field("AccessKeyId")?, field("SecretAccessKey")?, field("SessionToken")?);
                credential(who, id.to_owned(), secret, Some(token))
            }
            Self::Container { address, token } => {
                let token = token.as_ref().map(|place| match place {
                    Place::Text(text) => header(who, "the container's token", text),
                    Place::File(path) => header(who, "the container's token", &read(who, path)?),
                });
                let mut request = http.client().get(address.clone());
                if let Some(token) = token.transpose()? {
                    request = request.header("Authorization", token);
                }
                role(http, request).await
            }
            Self::Machine { address } => {
                let at = |path: &str| address.join(path).map_err(|_| strange(who));
                let asked = http.client().put(at("/latest/api/token")?);
                let token = given(http, asked.header("X-aws-ec2-metadata-token-ttl-seconds", "60")).await;
                let token = token.map_err(|error| nobody(who, error))?;
                let token = header(who, "the machine's token", std::str::from_utf8(&token).map_err(|_| strange(who))?)?;
                let names = "/latest/meta-data/iam/security-credentials/";
                let asked = http.client().get(at(names)?).header("X-aws-ec2-metadata-token", token.clone());
                let name = given(http, asked).await?;
                let name = std::str::from_utf8(&name).ok().and_then(|names| names.lines().next());
                let path = format!("{names}{}", name.ok_or_else(|| strange(who))?);
                role(http, http.client().get(at(&path)?).header("X-aws-ec2-metadata-token", token)).await
            }
        }
    }
}

fn credential(who: &str, key_id: String, secret: &str, token: Option<&str>) -> Result<AwsCredential> {
    // The signer takes it for granted that they fit into headers.
    header(who, "the access key's id", &key_id)?;
    token.map(|token| header(who, "the session's token", token)).transpose()?;
    Ok(AwsCredential { key_id, secret_key: secret.to_owned(), token: token.map(str::to_owned) })
}

/// Where a container's role is: only over TLS, or where nobody else listens.
fn container(who: &str) -> Result<Option<Url>> {
    let refused = || {
        Error::new(Kind::Config, format!("{who}: the container's address is neither https nor of this machine"))
            .fix("AWS_CONTAINER_CREDENTIALS_FULL_URI has to be https, on loopback, or one that ECS and EKS use.")
    };
    if let Some(path) = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Url::parse(&format!("http://169.254.170.2{path}")).map(Some).map_err(|_| refused());
    }
    let Some(text) = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") else { return Ok(None) };
    let url = Url::parse(&text).map_err(|_| refused())?;
    let host = url.host_str().unwrap_or_default();
    let near = ["localhost", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"].contains(&host)
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() == "https" || near { Ok(Some(url)) } else { Err(refused()) }
}

fn read(who: &str, path: &str) -> Result<Zeroizing<String>> {
    secrets::read(Path::new(path)).map_err(|error| {
        Error::new(Kind::Auth, format!("{who}: cannot read the token file {path}"))
            .source(error)
            .fix("Let the platform write it where this user can read it.")
    })
}

async fn role(http: &Http, request: RequestBuilder) -> Result<AwsCredential> {
    let who = http.who();
    let body = given(http, request).await.map_err(|error| nobody(who, error))?;
    let Role { access_key_id, secret_access_key, token } =
        json(who, &crate::keys::http::Reply { status: StatusCode::OK, body })?;
    credential(who, access_key_id, &secret_access_key, Some(&token))
}

async fn given(http: &Http, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>> {
    let reply = http.send(request).await?;
    match reply.status {
        StatusCode::OK => Ok(reply.body),
        status => {
            let refusal = match Refusal::of(status) {
                // Nothing here is about the key yet.
                Refusal::Busy => Refusal::Busy,
                Refusal::Redirect => Refusal::Redirect,
                _ => Refusal::Denied,
            };
            Err(refusal.error(http.who(), status, "a role, and its trust"))
        }
    }
}

fn nobody(who: &str, error: Error) -> Error {
    if error.kind() != Kind::Unavailable {
        return error;
    }
    Error::new(
        Kind::Unavailable,
        format!("{who}: nothing says who asks: no variables, no profile, and no role answers"),
    )
    .source(error)
    .fix("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a role. Nothing passes without keys.")
}

/// The text within the first `<name>`: what STS answers holds no other markup there.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(inner, _)| inner.trim())
}
