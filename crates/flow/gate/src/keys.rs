use std::collections::BTreeMap;

use change::{Error, Kind, Result};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

mod ledger;

pub use self::ledger::KeyEpoch;
use self::ledger::Ledger;

/// The secret keys of one tenant: one 256-bit master key per epoch, zeroed when dropped. There is no way to print it.
///
/// The file is text, so that it fits into any secret store; `app` reads it and hands the text over:
///
/// ```text
/// # comment
/// lockgate-keys 1
/// tenant <name: letters, digits, - and _>
/// epoch 1 <64 hexadecimal digits> <8 hexadecimal digits that detect a damaged key>
/// epoch 2 ...
/// wraps 2 1
/// current 2
/// ```
///
/// `wraps 2 1`: the tokens of epoch 2 are made of those of epoch 1, so that tokens in the lake become new ones without the values behind them.
/// An epoch that wraps none makes its tokens of the values themselves. The lines of the ledger stand in [`KeyEpoch`].
#[derive(Clone)]
pub struct KeyRing {
    tenant: String,
    current: u32,
    epochs: BTreeMap<u32, Master>,
    ledger: Ledger,
}

type Master = Zeroizing<[u8; 32]>;

/// What a derived key is for; no two purposes share a key.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Token,
    Wrap,
    VaultIndex,
    VaultNumber,
    Siv,
    Fpe,
    Shift,
    Surrogate,
    Fingerprint,
    Seal,
    Suppress,
    HeldKey,
    CellIndex,
    CellLocator,
    CellDigest,
}

const HEADER: &str = "lockgate-keys 1";

impl KeyRing {
    /// Reads a key file's text.
    ///
    /// # Errors
    /// [`Kind::Privacy`] with the line and what is wrong there; never a digit of a key.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut header, mut tenant, mut current) = (false, None, None);
        let (mut epochs, mut ledger) = (BTreeMap::new(), Ledger::default());
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["lockgate-keys", "1"] => header = true,
                ["lockgate-keys", ..] => return Err(wrong(number, "this version of the format is not known")),
                ["tenant", name] if is_tenant(name) && tenant.is_none() => tenant = Some((*name).to_owned()),
                ["current", epoch] if current.is_none() => {
                    current = Some(epoch.parse::<u32>().map_err(|_| wrong(number, "the epoch is not a number"))?);
                }
                ["epoch", epoch, key, check] => {
                    let epoch = epoch.parse::<u32>().map_err(|_| wrong(number, "the epoch is not a number"))?;
                    if epochs.insert(epoch, master(epoch, key, check, number)?).is_some() {
                        return Err(wrong(number, "this epoch stands in the file twice"));
                    }
                }
                words => ledger.read(words).map_err(|what| wrong(number, what))?,
            }
        }
        if !header {
            return Err(wrong(1, &format!("the line `{HEADER}` is missing")));
        }
        let tenant = tenant.ok_or_else(|| wrong(1, "the `tenant` line is missing"))?;
        let current = current.ok_or_else(|| wrong(1, "the `current` line is missing"))?;
        if !epochs.contains_key(&current) {
            return Err(wrong(1, "the current epoch has no key"));
        }
        ledger.check(current, &epochs).map_err(|what| wrong(1, &what))?;
        Ok(Self { tenant, current, epochs, ledger })
    }

    /// The text of a new key file with one epoch. `random` must come from the operating system's generator.
    ///
    /// # Errors
    /// [`Kind::Config`] when the tenant's name is not letters, digits, `-` and `_`.
    pub fn generate(tenant: &str, random: Zeroizing<[u8; 32]>) -> Result<Zeroizing<String>> {
        if !is_tenant(tenant) {
            return Err(Error::new(Kind::Config, "a tenant's name is 1 to 64 letters, digits, - and _"));
        }
        let key: Zeroizing<String> = Zeroizing::new(hex(&*random));
        let check = check_digits(1, &random);
        Ok(Zeroizing::new(format!(
            "# Lockgate keys. Who has this file can link tokens to people, and without it new rows no longer join old ones:\n\
             # keep it secret, keep it out of version control, and keep a copy in a safe place.\n\
             {HEADER}\ntenant {tenant}\nepoch 1 {} {check}\ncurrent 1\n",
            &*key
        )))
    }

    /// The epoch that new tokens carry.
    pub fn current_epoch(&self) -> u32 {
        self.current
    }

    /// Names the current key without telling it: another key under the same epoch has another fingerprint.
    ///
    /// # Errors
    /// As [`KeyRing::parse`].
    pub fn fingerprint(&self) -> Result<String> {
        self.fingerprint_of(self.current)
    }

    /// The same keys once more, for work that owns them.
    pub(crate) fn copy(&self) -> Self {
        self.clone()
    }

    /// Whose keys these are.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The epoch of what never rotates: the vault's index, or every known value would get a second code, and the hashes by which erased persons
    /// and held rows are known.
    pub fn oldest_epoch(&self) -> u32 {
        self.epochs.keys().next().copied().unwrap_or(self.current)
    }

    /// The key for one purpose, domain and epoch: HKDF-SHA-256 (RFC 5869) of the epoch's master key.
    pub(crate) fn derive(&self, purpose: Purpose, domain: &str, epoch: u32) -> Result<Master> {
        self.derive_bytes(purpose, domain, epoch)
    }

    /// As [`KeyRing::derive`], for keys of another length.
    pub(crate) fn derive_bytes<const LENGTH: usize>(
        &self,
        purpose: Purpose,
        domain: &str,
        epoch: u32,
    ) -> Result<Zeroizing<[u8; LENGTH]>> {
        let master = self.epochs.get(&epoch).ok_or_else(|| {
            Error::new(Kind::Privacy, format!("the key file has no key for epoch {epoch}"))
                .fix("Put the epoch's line back into the key file, from its safe copy.")
        })?;
        let purpose = match purpose {
            Purpose::Token => "token",
            Purpose::Wrap => "token-wrap",
            Purpose::VaultIndex => "vault-index",
            Purpose::VaultNumber => "vault-number",
            Purpose::Siv => "siv",
            Purpose::Fpe => "fpe-ff1",
            Purpose::Shift => "date-shift",
            Purpose::Surrogate => "surrogate",
            Purpose::Fingerprint => "fingerprint",
            Purpose::Seal => "seal",
            Purpose::Suppress => "suppress",
            Purpose::HeldKey => "held-key",
            Purpose::CellIndex => "cell-index",
            Purpose::CellLocator => "cell-locator",
            Purpose::CellDigest => "cell-digest",
        };
        let mut key = Zeroizing::new([0; LENGTH]);
        let epoch = epoch.to_string();
        let mut info = Vec::new();
        for field in [purpose, domain, &epoch] {
            push_field(&mut info, field.as_bytes());
        }
        Hkdf::<Sha256>::new(Some(b"lockgate-keys 1"), &**master)
            .expand(&info, &mut *key)
            .map_err(|_| Error::new(Kind::Bug, "a key could not be derived"))?;
        Ok(key)
    }
}

/// Appends a field with its length (u32, big-endian) before it, so that no two lists of fields make the same bytes.
pub(crate) fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u32).to_be_bytes());
    out.extend_from_slice(field);
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

fn master(epoch: u32, key: &str, check: &str, line: usize) -> Result<Master> {
    let mut bytes = Zeroizing::new([0; 32]);
    if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(line, "the key is not 64 hexadecimal digits"));
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&key[2 * index..2 * index + 2], 16)
            .map_err(|_| wrong(line, "the key is not 64 hexadecimal digits"))?;
    }
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(wrong(line, "the key is one byte repeated, and so no secret"));
    }
    if check != check_digits(epoch, &bytes) {
        return Err(wrong(line, "the key is damaged: its check digits do not fit"));
    }
    Ok(bytes)
}

fn check_digits(epoch: u32, key: &[u8; 32]) -> String {
    let digest =
        Sha256::new().chain_update("lockgate key check").chain_update(epoch.to_be_bytes()).chain_update(key).finalize();
    hex(&digest[..4])
}

fn is_tenant(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn wrong(line: usize, what: &str) -> Error {
    Error::new(Kind::Privacy, format!("the key file cannot be used: line {line}: {what}"))
        .fix("Restore the key file from its safe copy. A new key would give every person new tokens.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Zeroizing<String> {
        KeyRing::generate("acme", Zeroizing::new(std::array::from_fn(|index| index as u8))).unwrap()
    }

    #[test]
    fn a_generated_file_reads_back_and_derives_apart() {
        let ring = KeyRing::parse(&text()).unwrap();
        assert_eq!((ring.tenant(), ring.current_epoch()), ("acme", 1));
        let member = ring.derive(Purpose::Token, "member", 1).unwrap();
        assert_eq!(member, KeyRing::parse(&text()).unwrap().derive(Purpose::Token, "member", 1).unwrap());
        assert_ne!(member, ring.derive(Purpose::Token, "provider", 1).unwrap());
        assert_ne!(member, ring.derive(Purpose::VaultIndex, "member", 1).unwrap());
        assert_eq!(ring.derive(Purpose::Token, "member", 2).unwrap_err().kind(), Kind::Privacy);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_without_its_digits() {
        let good = text();
        let key_line = good.lines().find(|line| line.starts_with("epoch")).unwrap();
        let broken = [
            (good.replace("000102", "000112"), "line 5: the key is damaged"),
            (good.replace("current 1", "current 2"), "the current epoch has no key"),
            (good.replace("lockgate-keys 1", "lockgate-keys 2"), "line 3: this version"),
            (good.replace("lockgate-keys 1", ""), "`lockgate-keys 1` is missing"),
            (good.replace("tenant acme", ""), "`tenant` line is missing"),
            (good.replace("tenant acme", "tenant"), "line 4: the line is not understood"),
            (format!("{}{key_line}\n", &*good), "line 7: this epoch stands in the file twice"),
            (good.replace("epoch 1 00", "epoch 1 "), "64 hexadecimal digits"),
            (good.replace("epoch 1 00", "epoch one 00"), "not a number"),
        ];
        for (text, expected) in broken {
            let Err(error) = KeyRing::parse(&text) else { panic!("accepted, but expected: {expected}") };
            assert!(error.what().contains(expected), "{error} lacks {expected}");
            assert!(!error.to_string().contains("0405"), "{error}");
        }
        assert!(
            KeyRing::parse(&format!("lockgate-keys 1\ntenant a\nepoch 1 {} 00000000\ncurrent 1", "0".repeat(64)))
                .is_err()
        );
    }
}
