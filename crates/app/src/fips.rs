//! Which cryptography this build has for TLS and signatures, and the proof at start that it is the one that was asked for.

use std::sync::LazyLock;

use change::{Error, Kind, Result};
use rustls::crypto::CryptoProvider;

/// The version, the features of this build and the library behind TLS and signatures: what `--version` prints.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = [("fips", cfg!(feature = "fips")), ("ner", cfg!(feature = "ner"))];
    let built: Vec<&str> = features.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    let named = if built.is_empty() { "none".to_owned() } else { built.join(", ") };
    let library = if aws_lc_rs::try_fips_mode().is_ok() { "AWS-LC FIPS" } else { "AWS-LC" };
    let (version, library_version) = (env!("CARGO_PKG_VERSION"), aws_lc_rs::awslc_version());
    format!("{version}\nfeatures: {named}\ncryptography: {library} {library_version}")
});

/// The number of the FIPS module's line of releases, in a build with the feature `fips`.
pub(crate) fn module() -> Option<u32> {
    if cfg!(feature = "fips") { aws_lc_rs::fips_version() } else { None }
}

/// Makes AWS-LC every library's TLS in this process, unless another was there before. Has to come before the first connection, because libraries
/// that find none set their own. In a build with the feature `fips`, looks whether it is the FIPS module.
///
/// # Errors
/// `Privacy` when it is to be and is not.
pub(crate) fn ready() -> Result<()> {
    // Refused when there is one; which one is looked at next.
    let _was_first = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if !cfg!(feature = "fips") {
        return Ok(());
    }
    let has_tls = CryptoProvider::get_default().is_some_and(|provider| provider.fips());
    proven(aws_lc_rs::try_fips_mode().is_ok(), has_tls)
}

fn proven(is_module: bool, has_tls: bool) -> Result<()> {
    let what = match (is_module, has_tls) {
        (true, true) => return Ok(()),
        (false, _) => "AWS-LC is not in FIPS mode, and this program was built to start in no other",
        (true, false) => "TLS is not that of the FIPS module, and this program was built for no other",
    };
    Err(Error::new(Kind::Privacy, what).fix(
        "Build it anew with `make build ARGS=\"--features fips\"`, without variables that name another AWS-LC \
         (AWS_LC_FIPS_SYS_..., OPENSSL_...); `lockgate --version` says what it has.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_what_it_says() {
        let has = cfg!(feature = "fips");
        assert_eq!(aws_lc_rs::try_fips_mode().is_ok(), has);
        assert_eq!(module().is_some(), has);
        assert_eq!(VERSION.contains("features: fips"), has, "{}", *VERSION);
        assert_eq!(VERSION.contains("cryptography: AWS-LC FIPS "), has, "{}", *VERSION);
        ready().unwrap();
        let provider = CryptoProvider::get_default();
        assert_eq!(provider.is_some_and(|provider| provider.fips()), has);
    }

    #[test]
    fn what_is_not_the_module_does_not_start() {
        assert!(proven(true, true).is_ok());
        for (is_module, has_tls) in [(false, false), (false, true), (true, false)] {
            let error = proven(is_module, has_tls).unwrap_err();
            assert_eq!(error.kind(), Kind::Privacy);
            assert!(error.what().contains("FIPS") && error.how_to_fix().is_some(), "{error}");
        }
        // The usual library is one that is not.
        let usual = rustls::crypto::aws_lc_rs::default_provider();
        assert_eq!(proven(aws_lc_rs::try_fips_mode().is_ok(), usual.fips()).is_ok(), cfg!(feature = "fips"));
    }
}
