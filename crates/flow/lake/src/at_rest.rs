//! Whether an object store says that it encrypts what it keeps.
//!
//! Azure Blob and Google Cloud Storage encrypt everything and cannot be told otherwise. S3 says so in its answer to each put, in
//! `x-amz-server-side-encryption` (the API reference of `PutObject`); so do stores that speak its protocol, when they do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use change::{Error, Kind, Result};
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path;
use url::Url;

use crate::failure::Explain;
use crate::lake::probe_in;

const ANSWER: &str = "x-amz-server-side-encryption";
/// The option that lets a lake lie in a store that does not say so.
const EXCEPTION: &str = "allow_unencrypted";

/// Puts an object into the lake, looks at the answer, and removes it.
///
/// # Errors
/// `Config` when the store does not say that it encrypts, and no option allows that; those of the store.
pub(crate) async fn check(lake: &Url, options: &HashMap<String, String>) -> Result<()> {
    let allowed = options.iter().any(|(name, value)| name.eq_ignore_ascii_case(EXCEPTION) && value == "true");
    if allowed || !matches!(lake.scheme(), "s3" | "s3a") {
        return Ok(());
    }
    let doing = || format!("the lake {lake} cannot be asked whether it encrypts");
    let known = options.iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)));
    let said = Said::default();
    let builder = AmazonS3Builder::new().with_url(lake.as_str()).with_http_connector(said.clone());
    let store = known.fold(builder, |builder, (key, value)| builder.with_config(key, value)).build().explain(doing)?;
    let folder = Path::from_url_path(lake.path()).explain(doing)?;
    probe_in(&store, &folder, lake).await?;
    if said.0.load(Ordering::Relaxed) {
        return Ok(());
    }
    let what = format!("the store of the lake {lake} does not say that it encrypts what it keeps");
    Err(Error::new(Kind::Config, what).fix(format!(
        "Give the bucket a default encryption, or set lake_options.aws_server_side_encryption: AES256. For local development, or where the disks below are encrypted: lake_options.{EXCEPTION}: true."
    )))
}

/// Listens to a store's answers.
#[derive(Clone, Debug, Default)]
struct Said(Arc<AtomicBool>);

impl HttpConnector for Said {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Listening { client, said: self.clone() }))
    }
}

#[derive(Debug)]
struct Listening {
    client: HttpClient,
    said: Said,
}

#[async_trait]
impl HttpService for Listening {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let puts = request.method().as_str() == "PUT";
        let answer = self.client.execute(request).await?;
        if puts && answer.status().is_success() && answer.headers().contains_key(ANSWER) {
            self.said.0.store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }
}
