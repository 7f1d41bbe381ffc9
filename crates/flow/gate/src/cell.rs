//! The bytes of an encrypted cell.
//!
//! ```text
//! version 1 (1 byte) | key epoch (u32, big-endian) | nonce (12) | locator (16) | AES-256-GCM of the value, with its tag (16)
//! ```
//!
//! The value is encrypted with the data key of its person. The locator is that key's random name, masked by a key of the epoch and the
//! nonce: whoever has the key file and the store finds the key, and nobody else sees which cells are of one person. Associated data bind
//! the cell to tenant, domain, table, column and person, so that no cell can be moved. The value is padded to a multiple of 16 bytes, so
//! that its length tells little.

use aes::Aes256;
use aes::cipher::{Block, BlockCipherEncrypt};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use change::{Error, Kind, Result, TableName};
use zeroize::Zeroizing;

use crate::keys::{Purpose, push_field};
use crate::{CellKey, KeyRing};

const VERSION: u8 = 1;
/// Bytes of a nonce: NIST SP 800-38D section 8.2.2, random.
pub(crate) const NONCE: usize = 12;
const LOCATOR_AT: usize = 1 + 4 + NONCE;
const HEADER: usize = LOCATOR_AT + 16;
const TAG: usize = 16;
const BLOCK: usize = 16;

/// What stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text,
    Bytes,
}

/// Seals and opens the cells of one column.
pub(crate) struct CellSeal {
    keys: KeyRing,
    domain: String,
    /// Associated data that all cells of the column share.
    place: Vec<u8>,
}

impl CellSeal {
    pub(crate) fn new(keys: &KeyRing, domain: &str, table: &TableName, column: &str) -> Self {
        let mut place = Vec::new();
        for field in ["lockgate-cell 1", keys.tenant(), domain, &table.to_string(), column] {
            push_field(&mut place, field.as_bytes());
        }
        Self { keys: keys.copy(), domain: domain.to_owned(), place }
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    /// For one batch: keys of epochs are derived once.
    pub(crate) fn locators(&self) -> Locators<'_> {
        Locators { seal: self, known: None }
    }

    /// Appends the cell of a value.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key file has no key for the current epoch.
    pub(crate) fn seal(
        &self,
        locators: &mut Locators<'_>,
        key: &CellKey,
        nonce: [u8; NONCE],
        (content, value): (Content, &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let epoch = self.keys.current_epoch();
        let start = out.len();
        out.push(VERSION);
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&nonce);
        let locator = u128::from_be_bytes(*key.id()) ^ locators.mask(epoch, &nonce)?;
        out.extend_from_slice(&locator.to_be_bytes());
        let associated = self.associated(&out[start..], key);
        let sealed_at = out.len();
        out.push(content as u8);
        out.extend_from_slice(value);
        // ISO/IEC 7816-4: a mark, then zeros.
        out.push(0x80);
        let padded = (out.len() - sealed_at).next_multiple_of(BLOCK);
        out.resize(sealed_at + padded, 0);
        let tag = cipher(key)
            .encrypt_inout_detached(&Nonce::from(nonce), &associated, (&mut out[sealed_at..]).into())
            .map_err(|_| Error::new(Kind::Bug, "a value is too long for a cell"))?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// The name of the key that a cell was sealed with, if it is a cell of this domain.
    ///
    /// # Errors
    /// [`Kind::Privacy`] when the key of its epoch is not in the key file.
    pub(crate) fn key_id(&self, locators: &mut Locators<'_>, cell: &[u8]) -> Result<Option<[u8; 16]>> {
        if cell.len() < HEADER + BLOCK + TAG || cell[0] != VERSION {
            return Ok(None);
        }
        let (epoch, nonce) = (u32::from_be_bytes(array(&cell[1..5])), array(&cell[5..LOCATOR_AT]));
        let locator = u128::from_be_bytes(array(&cell[LOCATOR_AT..HEADER]));
        Ok(Some((locator ^ locators.mask(epoch, &nonce)?).to_be_bytes()))
    }

    /// The value of a cell; `None` when it was not sealed with this key, for this column and person.
    pub(crate) fn open(&self, key: &CellKey, cell: &[u8]) -> Option<(Content, Zeroizing<Vec<u8>>)> {
        let (header, sealed) = cell.split_at_checked(HEADER)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let nonce: [u8; NONCE] = array(&header[5..LOCATOR_AT]);
        let mut plain = Zeroizing::new(sealed.to_vec());
        cipher(key)
            .decrypt_inout_detached(
                &Nonce::from(nonce),
                &self.associated(header, key),
                plain.as_mut_slice().into(),
                &(*tag).into(),
            )
            .ok()?;
        let content = match plain.first()? {
            0 => Content::Text,
            1 => Content::Bytes,
            _ => return None,
        };
        let end = plain.iter().rposition(|byte| *byte == 0x80)?;
        Some((content, Zeroizing::new(plain.get(1..end)?.to_vec())))
    }

    fn associated(&self, header: &[u8], key: &CellKey) -> Vec<u8> {
        let mut associated = self.place.clone();
        push_field(&mut associated, header);
        push_field(&mut associated, key.index());
        associated
    }
}

/// The masks of locators.
pub(crate) struct Locators<'a> {
    seal: &'a CellSeal,
    known: Option<(u32, Aes256)>,
}

impl Locators<'_> {
    fn mask(&mut self, epoch: u32, nonce: &[u8; NONCE]) -> Result<u128> {
        let mut block = [0; 16];
        block[..NONCE].copy_from_slice(nonce);
        let cipher = match self.known.take().filter(|(of, _)| *of == epoch) {
            Some((_, cipher)) => cipher,
            None => {
                let key = self.seal.keys.derive(Purpose::CellLocator, &self.seal.domain, epoch)?;
                Aes256::new(&(*key).into())
            }
        };
        let mut mask = Block::<Aes256>::from(block);
        cipher.encrypt_block(&mut mask);
        self.known = Some((epoch, cipher));
        Ok(u128::from_be_bytes(mask.into()))
    }
}

fn cipher(key: &CellKey) -> Aes256Gcm {
    Aes256Gcm::new(&(*key.key()).into())
}

/// The bytes of a slice that has been cut to this length.
fn array<const LENGTH: usize>(bytes: &[u8]) -> [u8; LENGTH] {
    std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::keys;

    fn key(seed: u8) -> CellKey {
        CellKey::new([seed; 16], [seed.wrapping_add(1); 32], Zeroizing::new([seed.wrapping_add(2); 32]))
    }

    fn seal_of(first_byte: u8, domain: &str, table: &str, column: &str) -> CellSeal {
        CellSeal::new(&keys(first_byte).unwrap(), domain, &TableName::new("db", "public", table), column)
    }

    fn sealed(seal: &CellSeal, key: &CellKey, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal.seal(&mut seal.locators(), key, [7; NONCE], (Content::Text, value), &mut out).unwrap();
        out
    }

    /// Computed by another implementation (Python's cryptography) from the definition above: if this fails, cells in somebody's lake no
    /// longer open.
    #[test]
    fn cells_never_change() {
        let seal = seal_of(0, "person", "members", "ssn");
        let golden = "01000000010707070707070707070707072ca83ae842dffe4ca94eba7b810f5dab3fcfc89d78a4101cc87b4290aaa6d8f891066d739e3d6035aa3a82975c3c0212fac8b2eda105b7796ed917ce575d1713";
        assert_eq!(crate::keys::hex(&sealed(&seal, &key(40), "078-05-1120 Zo\u{eb}".as_bytes())), golden);
    }

    #[test]
    fn a_cell_opens_in_its_own_place_with_its_own_key_and_tells_its_length_in_sixteens() {
        let (seal, own) = (seal_of(0, "person", "members", "ssn"), key(40));
        for length in [0, 1, 13, 14, 15, 16, 30, 500] {
            let value = vec![0x80; length];
            let cell = sealed(&seal, &own, &value);
            assert_eq!(cell.len(), HEADER + (length + 2).next_multiple_of(16) + TAG);
            assert_eq!(seal.key_id(&mut seal.locators(), &cell).unwrap(), Some(*own.id()));
            assert_eq!(&**seal.open(&own, &cell).unwrap().1, value.as_slice());
        }
        let cell = sealed(&seal, &own, b"078-05-1120");
        let others = [
            seal_of(1, "person", "members", "ssn").open(&key(41), &cell),
            seal_of(0, "other", "members", "ssn").open(&own, &cell),
            seal_of(0, "person", "claims", "ssn").open(&own, &cell),
            seal_of(0, "person", "members", "name").open(&own, &cell),
            seal.open(&CellKey::new([40; 16], [9; 32], Zeroizing::new([42; 32])), &cell),
            seal.open(&own, &cell[..cell.len() - 1]),
            seal.open(&own, &cell[..20]),
            seal.open(&own, b""),
        ];
        assert!(others.into_iter().all(|opened| opened.is_none()));
        for at in 0..cell.len() {
            let mut flipped = cell.clone();
            flipped[at] ^= 1;
            assert!(seal.open(&own, &flipped).is_none(), "byte {at}");
        }
        assert_eq!(seal.key_id(&mut seal.locators(), b"x").unwrap(), None);
        let mut later = cell.clone();
        later[4] = 9;
        assert_eq!(seal.key_id(&mut seal.locators(), &later).unwrap_err().kind(), Kind::Privacy);
    }

    #[test]
    fn nobody_sees_which_cells_are_of_one_person() {
        let (seal, own) = (seal_of(0, "person", "members", "ssn"), key(40));
        let cell = |nonce: u8| {
            let mut out = Vec::new();
            seal.seal(&mut seal.locators(), &own, [nonce; NONCE], (Content::Text, b"42"), &mut out).unwrap();
            out
        };
        let (first, second) = (cell(1), cell(2));
        assert_ne!(first[LOCATOR_AT..HEADER], second[LOCATOR_AT..HEADER]);
        assert!(!first.windows(16).any(|window| window == own.id()));
    }
}
