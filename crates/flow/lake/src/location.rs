//! Where a lake lies: a folder or a URL, and the object store behind it.

use std::collections::HashMap;
use std::path::Path as FsPath;
use std::sync::Arc;

use change::{Error, Kind, Result};
use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
    object_store_factories,
};
use deltalake::{DeltaResult, DeltaTableError};
use object_store::path::Path;
use url::Url;

/// Schemes of the object stores that have conditional puts, on which exactly-once commits rest.
const SCHEMES: [&str; 7] = ["s3", "s3a", "az", "azure", "abfs", "abfss", "gs"];

/// Whether a lake can lie there, as far as that can be told without looking.
///
/// # Errors
/// `Config` for a place that is not known, holds credentials or is not encrypted on its way.
pub fn check_place(lake: &str, options: Vec<(String, String)>) -> Result<()> {
    match lake.contains("://") {
        true => url_of(lake, &options.into_iter().collect()).map(drop),
        false => Ok(()),
    }
}

/// Turns what stands behind `lake:` into a URL that ends in `/`; makes a local folder.
pub(crate) fn parse(lake: &str, options: &HashMap<String, String>) -> Result<Url> {
    if !lake.contains("://") {
        return local(FsPath::new(lake));
    }
    let url = url_of(lake, options)?;
    register();
    Ok(url)
}

fn url_of(lake: &str, options: &HashMap<String, String>) -> Result<Url> {
    let wrong = |what: String| {
        Error::new(Kind::Config, what)
            .fix("Write a folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix.")
    };
    let mut url = Url::parse(lake).map_err(|error| wrong(format!("the lake's URL cannot be read: {error}")))?;
    if url.scheme() != "file" && !SCHEMES.contains(&url.scheme()) {
        return Err(wrong(format!("lakes on {}:// are not known", url.scheme())));
    }
    if !url.username().is_empty() && url.scheme() != "abfss" && url.scheme() != "abfs" || url.password().is_some() {
        return Err(Error::new(Kind::Config, "the lake's URL holds credentials")
            .fix("Put them into lake_options as ${env:NAME} or ${file:PATH}."));
    }
    let plain =
        options.iter().any(|(name, value)| name.to_lowercase().ends_with("endpoint") && value.starts_with("http://"));
    let allowed = options.iter().any(|(name, value)| name.to_lowercase().ends_with("allow_http") && value == "true");
    if plain && !allowed {
        return Err(Error::new(Kind::Config, "the lake's endpoint is not encrypted (http://)")
            .fix("Use https://, or set lake_options.allow_http: true for local development."));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn local(folder: &FsPath) -> Result<Url> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Auth, format!("cannot make the lake's folder {}", folder.display()))
            .source(error)
            .fix("Give the user that runs Lockgate the right to write there, or choose another folder.")
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = folder.canonicalize().map_err(failed)?;
    Url::from_directory_path(&folder)
        .map_err(|()| Error::new(Kind::Config, format!("{} cannot be a lake's folder", folder.display())))
}

struct Stores;

impl ObjectStoreFactory for Stores {
    fn parse_url_opts(&self, url: &Url, config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let (store, path) =
            object_store::parse_url_opts(url, &config.raw).map_err(|source| DeltaTableError::ObjectStore { source })?;
        Ok((Arc::new(store), path))
    }
}

impl LogStoreFactory for Stores {
    fn with_options(
        &self,
        prefixed: ObjectStoreRef,
        root: ObjectStoreRef,
        location: &Url,
        config: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed, root, location, config))
    }
}

/// Tells delta-rs of the stores that it does not know without its cloud crates.
fn register() {
    for scheme in SCHEMES {
        if let Ok(url) = Url::parse(&format!("{scheme}://")) {
            object_store_factories().insert(url.clone(), Arc::new(Stores));
            logstore_factories().insert(url, Arc::new(Stores));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lakes_are_refused_with_what_to_do() {
        let http = HashMap::from([("aws_endpoint".to_owned(), "http://127.0.0.1:1".to_owned())]);
        for (lake, options) in [
            ("ftp://x/y", HashMap::new()),
            ("s3://user:secret@bucket/x", HashMap::new()),
            ("s3://bucket/x", http.clone()),
        ] {
            let error = parse(lake, &options).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.how_to_fix().is_some() && !error.to_string().contains("secret"), "{error}");
            assert_eq!(check_place(lake, options.into_iter().collect()).unwrap_err().what(), error.what());
        }
        let mut allowed = http;
        allowed.insert("allow_http".into(), "true".into());
        assert_eq!(parse("s3://bucket/x", &allowed).unwrap().as_str(), "s3://bucket/x/");
    }
}
