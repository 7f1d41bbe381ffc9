use std::fmt;

use change::{Error, Kind, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// 256 bits, in text 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of parts, one behind the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }

    /// Its first 16 digits: enough to tell logs apart.
    pub fn short(&self) -> String {
        encode(&self.0[..8])
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        decode(text.as_bytes(), &mut bytes).then_some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    // Room for all: a secret's text that grows leaves copies behind.
    let mut text = String::with_capacity(bytes.len() * 2);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.map(|digit| char::from(DIGITS[usize::from(digit)])));
    text
}

/// Fills `bytes` from twice as many lower-case hexadecimal digits; tells whether it could. One spelling only: a digit in upper case would be
/// a change of the file that no hash sees.
pub(crate) fn decode(text: &[u8], bytes: &mut [u8]) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != bytes.len() * 2 {
        return false;
    }
    for (pair, byte) in text.chunks_exact(2).zip(bytes) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return false };
        *byte = high << 4 | low;
    }
    true
}

/// Hexadecimal digits of any number: a fingerprint, an identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(String);

impl Hex {
    /// Takes up to 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Bug` for anything else: an entry has no room for free text.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let fits = text.len() <= 64 && text.bytes().all(|byte| DIGITS.contains(&byte));
        fits.then_some(Self(text)).ok_or_else(|| Error::new(Kind::Bug, "the audit log was given text for a number"))
    }

    /// The digits of up to 32 bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(encode(&bytes[..bytes.len().min(32)]))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        Self::new(text).map_err(|_| "hexadecimal digits were expected")
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        hex.0
    }
}

/// The name of a table or column, as the configuration or the source's catalog has it; never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Three levels of what databases allow, in UTF-8.
const NAME_BYTES_MAX: usize = 1024;

impl Name {
    /// Takes a name; one that is longer than any name can be is cut.
    pub fn new(name: impl fmt::Display) -> Self {
        let mut name: String = name.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut end = name.len().min(NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let name = Self::new(&text);
        if name.0 == text { Ok(name) } else { Err("a name was expected") }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
