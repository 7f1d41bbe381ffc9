//! AES-256-SIV (RFC 5297) for many values under one key and one associated string: what does not hang on the value is computed once, which
//! makes a usual value three AES operations.

use aes::Aes256;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// Seals values; the same value is always sealed alike.
pub(crate) struct Siv {
    mac: Aes256,
    stream: Aes256,
    /// CMAC's keys for a last block that is full, and for one that is padded.
    subkeys: [u128; 2],
    /// S2V's state behind the associated string.
    state: u128,
}

impl Siv {
    pub(crate) fn new(key: &[u8; 64], associated: &[u8]) -> Self {
        let [mac, stream] = [&key[..32], &key[32..]].map(|half| {
            let mut key = aes::cipher::Key::<Aes256>::default();
            key.copy_from_slice(half);
            Aes256::new(&key)
        });
        let full = doubled(encrypted(&mac, 0));
        let mut siv = Self { mac, stream, subkeys: [full, doubled(full)], state: 0 };
        siv.state = doubled(siv.cmac(&[0; 16])) ^ siv.cmac(associated);
        siv
    }

    /// Appends the synthetic vector and the ciphertext: 16 bytes more than the value has.
    pub(crate) fn seal(&self, value: &[u8], out: &mut Vec<u8>) {
        let vector = self.vector(value);
        out.extend_from_slice(&vector.to_be_bytes());
        self.streamed(vector, value, out);
    }

    /// What was sealed; `None` when it was not sealed with this key and associated string.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (vector, sealed) = sealed.split_first_chunk::<16>()?;
        let vector = u128::from_be_bytes(*vector);
        let mut value = Zeroizing::new(Vec::with_capacity(sealed.len()));
        self.streamed(vector, sealed, &mut value);
        (self.vector(&value) ^ vector == 0).then_some(value)
    }

    /// Section 2.4: the synthetic vector of a value.
    fn vector(&self, value: &[u8]) -> u128 {
        match value.split_last_chunk::<16>() {
            Some((start, last)) => {
                let last = u128::from_be_bytes(*last) ^ self.state;
                self.cmac(&[start, &last.to_be_bytes()].concat())
            }
            None => encrypted(&self.mac, doubled(self.state) ^ padded(value) ^ self.subkeys[0]),
        }
    }

    /// Encrypts and decrypts.
    fn streamed(&self, vector: u128, bytes: &[u8], out: &mut Vec<u8>) {
        // Section 2.6: two bits are cleared, so that counters of 32 and 64 bits work too.
        let mut counter = vector & !(1 << 63 | 1 << 31);
        for block in bytes.chunks(16) {
            let key = encrypted(&self.stream, counter).to_be_bytes();
            out.extend(block.iter().zip(key).map(|(byte, key)| byte ^ key));
            counter = counter.wrapping_add(1);
        }
    }

    /// CMAC (RFC 4493).
    fn cmac(&self, message: &[u8]) -> u128 {
        let (blocks, last) = message.split_at(message.len().saturating_sub(1) / 16 * 16);
        let (blocks, _) = blocks.as_chunks::<16>();
        let chain = blocks.iter().fold(0, |chain, block| encrypted(&self.mac, chain ^ u128::from_be_bytes(*block)));
        let last = match <[u8; 16]>::try_from(last) {
            Ok(full) => u128::from_be_bytes(full) ^ self.subkeys[0],
            Err(_) => padded(last) ^ self.subkeys[1],
        };
        encrypted(&self.mac, chain ^ last)
    }
}

fn encrypted(cipher: &Aes256, block: u128) -> u128 {
    let mut block = Block::<Aes256>::from(block.to_be_bytes());
    cipher.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Multiplication by x in the field of 2^128.
fn doubled(block: u128) -> u128 {
    block << 1 ^ (if block >> 127 == 1 { 0x87 } else { 0 })
}

/// Fewer than 16 bytes, a one bit and zeros.
fn padded(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..bytes.len()].copy_from_slice(bytes);
    block[bytes.len()] = 0x80;
    u128::from_be_bytes(block)
}

#[cfg(test)]
mod tests {
    use aes_siv::siv::Aes256Siv;

    use super::*;

    /// Another implementation is the oracle.
    #[test]
    fn every_length_is_sealed_as_elsewhere_and_opens_there() {
        let key: [u8; 64] = std::array::from_fn(|index| (index * 5 % 251) as u8);
        let data: Vec<u8> = (0..200).map(|index| (index * 31 % 251) as u8).collect();
        for associated in [0, 1, 15, 16, 17, 34, 64] {
            let siv = Siv::new(&key, &data[..associated]);
            let mut other = Aes256Siv::new(&key.into());
            for length in 0..100 {
                let value = &data[50..50 + length];
                let mut sealed = Vec::new();
                siv.seal(value, &mut sealed);
                assert_eq!(sealed, other.encrypt([&data[..associated]], value).unwrap(), "{associated} {length}");
                assert_eq!(other.decrypt([&data[..associated]], &sealed).unwrap(), value);
                assert_eq!(&**siv.open(&sealed).unwrap(), value);
                sealed[length] ^= 1;
                assert!(siv.open(&sealed).is_none());
            }
        }
    }
}
