use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use change::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hex::{decode, encode};
use crate::{Hash, Hex};

/// What heads are signed with (Ed25519, RFC 8032), and entries. There is no way to print it.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    macs: MacKey,
}

/// What entries carry a MAC of (HMAC-SHA-256), derived from the signing key's seed (HKDF-SHA-256, RFC 5869). Whoever has it can add entries
/// that the next head signs.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

/// What proves a signature. An auditor keeps it apart from the log: with the log's own copy only damage is found, and no forger.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

const HEADER: &str = "lockgate-audit-key 1";
const MAC_PURPOSE: &[u8] = b"lockgate audit mac 1";

impl SigningKey {
    /// The text of a new key file. `random` must come from the operating system's generator.
    pub fn generate(random: &Zeroizing<[u8; 32]>) -> Zeroizing<String> {
        let seed = Zeroizing::new(encode(&**random));
        let parts = [
            "# Signs the audit log. Whoever has it can forge the log: keep it from those whom the log is about.\n",
            HEADER,
            "\nsecret ",
            seed.as_str(),
            "\n",
        ];
        // In one piece: a text that grows leaves copies behind.
        Zeroizing::new(parts.concat())
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// `Privacy` when it is none; never with a digit of it.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Privacy, "the key of the audit log cannot be read")
                .fix("Restore its file from the safe copy; a new key cannot prove what the old one signed.")
        };
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let [HEADER, secret] = lines.as_slice() else { return Err(wrong()) };
        let mut seed = Zeroizing::new([0; 32]);
        let digits = secret.strip_prefix("secret ").ok_or_else(wrong)?;
        if !decode(digits.as_bytes(), &mut *seed) {
            return Err(wrong());
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| wrong())?;
        let macs = MacKey::derive(&seed).ok_or_else(wrong)?;
        Ok(Self { pair, macs })
    }

    /// What proves the MACs of entries; as secret as the key itself.
    pub fn macs(&self) -> &MacKey {
        &self.macs
    }

    /// The half that anybody may have.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let failed = || Error::new(Kind::Bug, "a head of the audit log could not be signed");
        let signature = self.pair.try_sign(message).map_err(|_| failed())?;
        signature.as_ref().try_into().map_err(|_| failed())
    }
}

impl MacKey {
    fn derive(seed: &[u8; 32]) -> Option<Self> {
        // What no salt stands for in RFC 5869, said: AWS-LC's FIPS module approves of no empty one.
        let key = Salt::new(HKDF_SHA256, &[0; 32]).extract(seed);
        Some(Self(key.expand(&[MAC_PURPOSE], HMAC_SHA256).ok()?.into()))
    }

    /// The MAC of an entry, over its hash: so it is good at one place of one log.
    pub(crate) fn of(&self, hash: &Hash) -> Hash {
        let mut mac = Hash::default();
        mac.0.copy_from_slice(hmac::sign(&self.0, &hash.0).as_ref());
        mac
    }

    pub(crate) fn proves(&self, hash: &Hash, mac: &Hash) -> bool {
        hmac::verify(&self.0, &hash.0, &mac.0).is_ok()
    }
}

impl PublicKey {
    /// Reads 64 hexadecimal digits, as [`PublicKey`] prints them.
    ///
    /// # Errors
    /// `Config` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let mut key = [0; 32];
        decode(text.trim().as_bytes(), &mut key).then_some(Self(key)).ok_or_else(|| {
            Error::new(Kind::Config, "a public key of the audit log is 64 hexadecimal digits")
                .fix("Give the digits, or the file audit.pub that holds them.")
        })
    }

    /// A short name of the key.
    pub fn fingerprint(&self) -> Hex {
        Hex::of(&Hash::of(&[&self.0]).0[..8])
    }

    pub(crate) fn proves(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac` from RFC 5869 and RFC 2104.
    #[test]
    fn macs_are_those_of_the_rfcs() {
        let key = SigningKey::parse(&SigningKey::generate(&Zeroizing::new([1; 32]))).unwrap();
        let mac = key.macs().of(&Hash([2; 32]));
        assert_eq!(mac.to_string(), "9040e8c8932479297e25c1b8b84f6afe0dfdd498f6a4e59e36088b38e9432787");
        assert!(key.macs().proves(&Hash([2; 32]), &mac) && !key.macs().proves(&Hash([3; 32]), &mac));
    }
}
