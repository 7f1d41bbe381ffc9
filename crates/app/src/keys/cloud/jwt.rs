//! Tokens that whoever asks signs with a key of its own (RFC 7519), as Google and Microsoft take them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use change::{Error, Kind, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use zeroize::Zeroizing;

/// How RSA signs.
#[derive(Clone, Copy)]
pub(super) enum Signature {
    /// `RS256`
    Pkcs1,
    /// `PS256`
    Pss,
}

/// A signed token.
///
/// # Errors
/// `Config` when `pem` holds no RSA key.
pub(super) fn sign(
    who: &str,
    header: &Value,
    claims: &Value,
    pem: &str,
    signature: Signature,
) -> Result<Zeroizing<String>> {
    let wrong = || {
        Error::new(Kind::Config, format!("{who}: the private key is no RSA key in PEM")).fix("Make the key file anew.")
    };
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong())? {
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(wrong()),
    };
    let key = key.map_err(|_| wrong())?;
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let mut mark = vec![0; key.public_modulus_len()];
    let padding = match signature {
        Signature::Pkcs1 => &RSA_PKCS1_SHA256,
        Signature::Pss => &RSA_PSS_SHA256,
    };
    key.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut mark).map_err(|_| wrong())?;
    Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mark))))
}
