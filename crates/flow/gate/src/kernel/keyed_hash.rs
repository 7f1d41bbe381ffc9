use std::slice;

use change::Result;
use sha2::block_api::compress256;
use zeroize::Zeroizing;

use crate::KeyRing;
use crate::canonical::Form;
use crate::keys::{Purpose, push_field};

const BLOCK: usize = 64;

/// Where a message's length stands in its last block.
const LENGTH_AT: usize = BLOCK - 8;

/// Values that are hashed together: blocks that do not wait for each other keep the processor busy.
const TOGETHER: usize = 16;

/// SHA-256's initial state: FIPS 180-4 section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// HMAC-SHA-256 (RFC 2104) of length-prefixed fields: tenant, domain, canonical form, value. The states behind the key and the first three
/// fields are computed once, so that a value of usual length costs two compressions: twice as fast as cloning a general HMAC.
pub(crate) struct KeyedHash {
    inner: Zeroizing<[u32; 8]>,
    outer: Zeroizing<[u32; 8]>,
    /// Starts with the bytes of the first fields that do not fill a block.
    block: [u8; BLOCK],
    /// How many those are.
    filled: usize,
    /// How many bytes lie before the value, the key's block included.
    before: usize,
}

impl KeyedHash {
    pub(crate) fn new(keys: &KeyRing, purpose: Purpose, domain: &str, epoch: u32, form: Form) -> Result<Self> {
        let key = keys.derive(purpose, domain, epoch)?;
        Ok(Self::with_fields(&key, [keys.tenant(), domain, form.versioned()]))
    }

    /// The step from the tokens of epoch `before` to those of `epoch`, which wraps it.
    pub(crate) fn wrap(keys: &KeyRing, domain: &str, before: u32, epoch: u32) -> Result<Self> {
        let key = keys.derive(Purpose::Wrap, domain, epoch)?;
        Ok(Self::with_fields(&key, [keys.tenant(), domain, &format!("epoch {before}")]))
    }

    fn with_fields(key: &[u8; 32], fields: [&str; 3]) -> Self {
        let mut encoded = Vec::new();
        fields.iter().for_each(|field| push_field(&mut encoded, field.as_bytes()));
        Self::with_key(key, &encoded)
    }

    fn with_key(key: &[u8; 32], fields: &[u8]) -> Self {
        let keyed = |pad: u8| {
            let mut block = Zeroizing::new([[pad; BLOCK]]);
            block[0].iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = Zeroizing::new(INITIAL);
            compress256(&mut state, &*block);
            state
        };
        let mut inner = keyed(0x36);
        let (full, rest) = fields.as_chunks::<BLOCK>();
        compress256(&mut inner, full);
        let mut block = [0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        Self { inner, outer: keyed(0x5c), block, filled: rest.len(), before: BLOCK + fields.len() }
    }

    /// The hash with `value` as the last field.
    pub(crate) fn of(&self, value: &[u8]) -> [u8; 32] {
        let (mut state, block) = self.before_last_block(value);
        compress256(&mut state, &[block]);
        let block = outer_block(&state);
        let mut state = *self.outer;
        compress256(&mut state, &[block]);
        bytes(&state)
    }

    /// As [`Self::of`] for many values, in half the time; `each` gets the hashes in the order of the values.
    pub(crate) fn together<F: FnMut([u8; 32])>(&self, each: F) -> Together<'_, F> {
        Together { hash: self, each, states: [[0; 8]; TOGETHER], blocks: [[0; BLOCK]; TOGETHER], waiting: 0 }
    }

    /// The inner hash but for its last block, which is padded: FIPS 180-4 section 5.1.1.
    fn before_last_block(&self, value: &[u8]) -> ([u32; 8], [u8; BLOCK]) {
        let (mut state, mut block, mut filled) = (*self.inner, self.block, self.filled);
        for mut part in [&(value.len() as u32).to_be_bytes(), value] {
            while !part.is_empty() {
                let (now, later) = part.split_at(part.len().min(BLOCK - filled));
                block[filled..filled + now.len()].copy_from_slice(now);
                (part, filled) = (later, filled + now.len());
                if filled == BLOCK {
                    compress256(&mut state, &[block]);
                    (block, filled) = ([0; BLOCK], 0);
                }
            }
        }
        block[filled] = 0x80;
        if filled >= LENGTH_AT {
            compress256(&mut state, &[block]);
            block = [0; BLOCK];
        }
        block[LENGTH_AT..].copy_from_slice(&bits(self.before + 4 + value.len()));
        (state, block)
    }
}

/// Values of one [`KeyedHash`] that wait to be hashed.
#[must_use]
pub(crate) struct Together<'a, F> {
    hash: &'a KeyedHash,
    each: F,
    states: [[u32; 8]; TOGETHER],
    blocks: [[u8; BLOCK]; TOGETHER],
    waiting: usize,
}

impl<F: FnMut([u8; 32])> Together<'_, F> {
    pub(crate) fn push(&mut self, value: &[u8]) {
        (self.states[self.waiting], self.blocks[self.waiting]) = self.hash.before_last_block(value);
        self.waiting += 1;
        if self.waiting == TOGETHER {
            self.hash_all();
        }
    }

    /// Hashes what still waits.
    pub(crate) fn finish(mut self) {
        self.hash_all();
    }

    fn hash_all(&mut self) {
        let (states, blocks) = (&mut self.states[..self.waiting], &mut self.blocks[..self.waiting]);
        states.iter_mut().zip(&*blocks).for_each(|(state, block)| compress256(state, slice::from_ref(block)));
        for (state, block) in states.iter_mut().zip(&mut *blocks) {
            *block = outer_block(state);
            *state = *self.hash.outer;
        }
        states.iter_mut().zip(&*blocks).for_each(|(state, block)| compress256(state, slice::from_ref(block)));
        states.iter().for_each(|state| (self.each)(bytes(state)));
        self.waiting = 0;
    }
}

/// The one block of the outer hash behind its key: the inner hash, padded.
fn outer_block(inner: &[u32; 8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..32].copy_from_slice(&bytes(inner));
    block[32] = 0x80;
    block[LENGTH_AT..].copy_from_slice(&bits(BLOCK + 32));
    block
}

/// A message's length in bits, as its last block has it.
fn bits(bytes: usize) -> [u8; 8] {
    (bytes as u64 * 8).to_be_bytes()
}

fn bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.as_chunks_mut::<4>().0.iter_mut().zip(state).for_each(|(out, word)| *out = word.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;

    #[test]
    fn every_length_agrees_with_a_general_hmac() {
        let key: [u8; 32] = std::array::from_fn(|index| index as u8 * 7 + 1);
        let data: Vec<u8> = (0..300).map(|index| (index * 31 % 251) as u8).collect();
        for fields in [0, 1, 40, 51, 52, 59, 60, 61, 63, 64, 65, 130] {
            let hash = KeyedHash::with_key(&key, &data[..fields]);
            let mut together = Vec::new();
            let mut hashing = hash.together(|hash| together.push(hash));
            (0..200).for_each(|length| hashing.push(&data[100..100 + length]));
            hashing.finish();
            assert_eq!(together.len(), 200);
            for (length, together) in together.into_iter().enumerate() {
                let value = &data[100..100 + length];
                let mut general = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
                general.update(&data[..fields]);
                general.update(&(length as u32).to_be_bytes());
                general.update(value);
                let expected = <[u8; 32]>::from(general.finalize().into_bytes());
                assert_eq!([hash.of(value), together], [expected; 2], "{fields} + {length}");
            }
        }
    }
}
