use std::sync::OnceLock;

use change::{Error, Kind, Result};
use zeroize::Zeroizing;

use crate::keys::{KeyRing, Purpose, push_field};
use crate::siv::Siv;

/// Seals what Lockgate keeps on local disk or beside the tables and nobody may read there: AES-256-SIV (RFC 5297) with a random nonce.
///
/// A sealed record is `version (1 byte) | epoch (u32, big-endian) | nonce (16 bytes) | ciphertext with its tag (16 bytes more than the
/// plain text)`. The context (a file's name, a record's number) is authenticated and not stored: a record that was moved does not open.
///
/// A sealer derives a key once: keep it while there are many records.
pub struct Sealer<'a> {
    keys: &'a KeyRing,
    what: &'static str,
    /// The key of the epoch that was asked for first: nearly always the only one.
    derived: OnceLock<(u32, Zeroizing<[u8; 64]>)>,
}

/// The epoch under which a record is sealed; `None` for what is no sealed record.
pub fn sealed_epoch(record: &[u8]) -> Option<u32> {
    match record.first_chunk::<5>()? {
        [VERSION, epoch @ ..] => Some(u32::from_be_bytes(*epoch)),
        _ => None,
    }
}

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 16;

impl KeyRing {
    /// A sealer for one kind of record; each kind has its own keys.
    pub fn sealer(&self, what: &'static str) -> Sealer<'_> {
        Sealer { keys: self, what, derived: OnceLock::new() }
    }
}

impl Sealer<'_> {
    /// Seals under the current epoch. `nonce` must be fresh from the operating system's generator.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key file has no key for the current epoch.
    pub fn seal(&self, nonce: [u8; 16], context: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let epoch = self.keys.current_epoch();
        let mut record = Vec::with_capacity(HEADER + 16 + plain.len());
        record.push(VERSION);
        record.extend_from_slice(&epoch.to_be_bytes());
        record.extend_from_slice(&nonce);
        self.cipher(epoch, context, &nonce)?.seal(plain, &mut record);
        Ok(record)
    }

    /// Opens a record that was sealed with the same context, under any epoch whose key is still there.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the record is damaged, was moved, was sealed with another key, or its epoch's key is gone.
    pub fn open(&self, context: &[u8], record: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let damaged = || {
            Error::new(Kind::Privacy, format!("a sealed record of {} does not open", self.what)).fix(
                "It is damaged, was moved, or was sealed with another key file: restore both from the same backup.",
            )
        };
        let (header, sealed) = record.split_at_checked(HEADER).ok_or_else(damaged)?;
        let (first, nonce) = header.split_at(5);
        let [VERSION, epoch @ ..] = first else { return Err(damaged()) };
        let epoch = u32::from_be_bytes(epoch.try_into().map_err(|_| damaged())?);
        self.cipher(epoch, context, nonce)?.open(sealed).ok_or_else(damaged)
    }

    /// The same under the current epoch; `None` when it is so already.
    ///
    /// # Errors
    /// As [`Sealer::open`] and [`Sealer::seal`].
    pub fn seal_anew(&self, nonce: [u8; 16], context: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>> {
        if sealed_epoch(record) == Some(self.keys.current_epoch()) {
            return Ok(None);
        }
        self.seal(nonce, context, &self.open(context, record)?).map(Some)
    }

    fn cipher(&self, epoch: u32, context: &[u8], nonce: &[u8]) -> Result<Siv> {
        let mut associated = Vec::new();
        push_field(&mut associated, context);
        push_field(&mut associated, nonce);
        if let Some((_, key)) = self.derived.get().filter(|(of, _)| *of == epoch) {
            return Ok(Siv::new(key, &associated));
        }
        let key = self.keys.derive_bytes::<64>(Purpose::Seal, self.what, epoch)?;
        let cipher = Siv::new(&key, &associated);
        // Another thread, or another epoch, may have been first.
        drop(self.derived.set((epoch, key)));
        Ok(cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seed: u8) -> KeyRing {
        let bytes = Zeroizing::new(std::array::from_fn(|index| (index as u8).wrapping_mul(7).wrapping_add(seed)));
        KeyRing::parse(&KeyRing::generate("acme", bytes).unwrap()).unwrap()
    }

    #[test]
    fn a_record_moves_to_the_current_epoch_once() {
        use crate::policy::tests::rotated;
        let (before, now) = (rotated(1), rotated(2));
        let old = before.sealer("spool").seal([9; 16], b"row 7", b"plain words").unwrap();
        assert_eq!(sealed_epoch(&old), Some(1));
        let new = now.sealer("spool").seal_anew([8; 16], b"row 7", &old).unwrap().unwrap();
        assert_eq!((sealed_epoch(&new), sealed_epoch(b"plain")), (Some(2), None));
        assert_eq!(&**now.sealer("spool").open(b"row 7", &new).unwrap(), b"plain words");
        assert_eq!(now.sealer("spool").seal_anew([8; 16], b"row 7", &new).unwrap(), None);
        assert!(now.sealer("spool").seal_anew([8; 16], b"row 8", &old).is_err());
        let error = before.sealer("spool").open(b"row 7", &new).err().unwrap();
        assert!(error.what().contains("no key for epoch 2"), "{error}");
    }

    #[test]
    fn a_record_opens_where_it_was_sealed_and_nowhere_else() {
        let keys = ring(1);
        let sealed = keys.sealer("held rows").seal([9; 16], b"row 7", b"plain words").unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
        assert_eq!(&**keys.sealer("held rows").open(b"row 7", &sealed).unwrap(), b"plain words");
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let refused = [
            keys.sealer("held rows").open(b"row 8", &sealed),
            keys.sealer("spool").open(b"row 7", &sealed),
            ring(2).sealer("held rows").open(b"row 7", &sealed),
            keys.sealer("held rows").open(b"row 7", &flipped),
            keys.sealer("held rows").open(b"row 7", &sealed[..20]),
            keys.sealer("held rows").open(b"row 7", b""),
        ];
        for outcome in refused {
            let Err(error) = outcome else { panic!("it opened") };
            assert_eq!(error.kind(), Kind::Privacy);
            assert!(!error.to_string().contains("plain"));
        }
    }
}
