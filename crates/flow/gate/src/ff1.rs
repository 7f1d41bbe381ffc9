//! FF1 of NIST SP 800-38G: encrypts a string of numerals into another of the same length and radix. FF3 and FF3-1 are not here: NIST has
//! withdrawn them.
//!
//! Names follow the standard's algorithm 7. Strings are numbers with a fixed count of numerals; each half of one fits 96 bits, so that a
//! round is one AES operation.

use aes::Aes256;
use aes::cipher::{Block, BlockCipherEncrypt, BlockSizeUser, consts::U16};

/// Smaller domains can be searched: SP 800-38G revision 1, section 5.1.
pub(crate) const DOMAIN_MIN: u128 = 1_000_000;

const ROUNDS: u8 = 10;

/// FF1 for strings of one length over one radix, under one key and tweak.
pub(crate) struct Ff1<C = Aes256> {
    cipher: C,
    /// The cipher-block chain behind everything that is the same in every round of every string.
    chain: [u8; 16],
    /// The last block before the round's number and the half's bytes are set.
    last: [u8; 16],
    /// How many bytes a half takes: b.
    half_bytes: usize,
    /// How many bytes of the pseudorandom output are used: d.
    used_bytes: usize,
    /// radix^u and radix^v.
    moduli: [u128; 2],
}

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>> Ff1<C> {
    /// `None` when there are fewer than a million strings, or a half does not fit 96 bits.
    pub(crate) fn new(cipher: C, radix: u32, length: u32, tweak: &[u8]) -> Option<Self> {
        let (u, v) = (length / 2, length - length / 2);
        let moduli = [u128::from(radix).checked_pow(u)?, u128::from(radix).checked_pow(v)?];
        let strings = moduli[0].saturating_mul(moduli[1]);
        if !(2..=1 << 16).contains(&radix) || strings < DOMAIN_MIN || moduli[1] > 1 << 96 {
            return None;
        }
        let half_bytes = (128 - (moduli[1] - 1).leading_zeros()).div_ceil(8) as usize;
        let used_bytes = 4 * half_bytes.div_ceil(4) + 4;

        let mut first = [0; 16];
        first[..3].copy_from_slice(&[1, 2, 1]);
        first[3..6].copy_from_slice(&radix.to_be_bytes()[1..]);
        first[6..8].copy_from_slice(&[ROUNDS, u as u8]);
        first[8..12].copy_from_slice(&length.to_be_bytes());
        first[12..].copy_from_slice(&u32::try_from(tweak.len()).ok()?.to_be_bytes());

        let mut fixed = tweak.to_vec();
        while !(fixed.len() + 1 + half_bytes).is_multiple_of(16) {
            fixed.push(0);
        }
        let (blocks, rest) = fixed.as_chunks::<16>();
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let mut ff1 = Self { cipher, chain: [0; 16], last, half_bytes, used_bytes, moduli };
        ff1.chain = ff1.block(first);
        for block in blocks {
            ff1.chain = ff1.chained(*block);
        }
        Some(ff1)
    }

    /// How many strings there are: radix^length.
    #[cfg(test)]
    fn strings(&self) -> u128 {
        self.moduli[0] * self.moduli[1]
    }

    /// Encrypts the string whose numerals spell `number`, which must be below radix^length.
    pub(crate) fn encrypt(&self, number: u128) -> u128 {
        let (mut a, mut b) = (number / self.moduli[1], number % self.moduli[1]);
        for round in 0..ROUNDS {
            let c = self.add(a, self.scrambled(round, b), self.moduli[usize::from(round % 2)]);
            (a, b) = (b, c);
        }
        a * self.moduli[1] + b
    }

    /// The inverse of [`Ff1::encrypt`].
    pub(crate) fn decrypt(&self, number: u128) -> u128 {
        let (mut a, mut b) = (number / self.moduli[1], number % self.moduli[1]);
        for round in (0..ROUNDS).rev() {
            let modulus = self.moduli[usize::from(round % 2)];
            let c = (b + modulus - self.scrambled(round, a) % modulus) % modulus;
            (a, b) = (c, a);
        }
        a * self.moduli[1] + b
    }

    /// (NUM(A) + y) mod radix^m.
    fn add(&self, a: u128, y: u128, modulus: u128) -> u128 {
        // A 64-bit division is several times faster, and the halves of usual identifiers fit.
        let y = match (u64::try_from(y), u64::try_from(modulus)) {
            (Ok(y), Ok(modulus)) => u128::from(y % modulus),
            _ => y % modulus,
        };
        let sum = a + y;
        if sum >= modulus { sum - modulus } else { sum }
    }

    /// y of a round: the first d bytes of R as a number.
    fn scrambled(&self, round: u8, half: u128) -> u128 {
        let mut block = self.last;
        block[15 - self.half_bytes] = round;
        block[16 - self.half_bytes..].copy_from_slice(&half.to_be_bytes()[16 - self.half_bytes..]);
        u128::from_be_bytes(self.chained(block)) >> (8 * (16 - self.used_bytes))
    }

    fn chained(&self, mut block: [u8; 16]) -> [u8; 16] {
        block.iter_mut().zip(self.chain).for_each(|(byte, chain)| *byte ^= chain);
        self.block(block)
    }

    fn block(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = Block::<C>::from(block);
        self.cipher.encrypt_block(&mut block);
        block.into()
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::KeyInit;
    use aes::{Aes128, Aes192};

    use super::*;

    const KEY: &str = "2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F7F036D6F04FC6A94";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn check<C: KeyInit + BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
        radix: u32,
        tweak: &str,
        plain: &str,
        expected: &str,
    ) {
        let cipher = C::new_from_slice(&bytes(KEY)[..C::key_size()]).unwrap();
        let ff1 = Ff1::new(cipher, radix, plain.len() as u32, &bytes(tweak)).unwrap();
        let number = u128::from_str_radix(plain, radix).unwrap();
        let encrypted = ff1.encrypt(number);
        assert_eq!(encrypted, u128::from_str_radix(expected, radix).unwrap(), "{plain} over {radix}");
        assert_eq!(ff1.decrypt(encrypted), number);
    }

    /// Samples 1 to 9 of NIST's "Block Cipher Modes of Operation: FF1 Method for Format-Preserving Encryption" (FF1samples.pdf). The keys of
    /// 128 and 192 bits are the beginnings of the one of 256.
    #[test]
    fn the_samples_of_the_standard_come_out() {
        let (digits, tens, words) = ("0123456789", "39383736353433323130", "3737373770717273373737");
        let text = "0123456789abcdefghi";
        check::<Aes128>(10, "", digits, "2433477484");
        check::<Aes128>(10, tens, digits, "6124200773");
        check::<Aes128>(36, words, text, "a9tv40mll9kdu509eum");
        let key_192 = "2B7E151628AED2A6ABF7158809CF4F3CEF4359D8D580AA4F";
        assert!(KEY.starts_with(key_192));
        check::<Aes192>(10, "", digits, "2830668132");
        check::<Aes192>(10, tens, digits, "2496655549");
        check::<Aes192>(36, words, text, "xbj3kv35jrawxv32ysr");
        check::<Aes256>(10, "", digits, "6657667009");
        check::<Aes256>(10, tens, digits, "1001623463");
        check::<Aes256>(36, words, text, "xs8a0azh2avyalyzuwd");
    }

    #[test]
    fn a_domain_below_a_million_and_a_half_above_96_bits_are_refused() {
        let make = |radix, length| Ff1::new(Aes256::new(&[7; 32].into()), radix, length, b"t").map(|ff1| ff1.strings());
        assert_eq!(make(10, 5), None);
        assert_eq!(make(10, 6), Some(1_000_000));
        assert_eq!(make(36, 3), None);
        assert_eq!(make(2, 19), None);
        assert_eq!(make(2, 20), Some(1 << 20));
        assert!(make(10, 38).is_some() && make(10, 60).is_none() && make(1, 100).is_none());
    }

    #[test]
    fn every_length_is_a_permutation_that_comes_back() {
        for (radix, length) in [(10, 6), (10, 7), (10, 19), (10, 38), (36, 5), (36, 24), (2, 28), (2, 44)] {
            let ff1 =
                Ff1::new(Aes256::new(&[3; 32].into()), radix, length, b"a tweak of more than sixteen bytes").unwrap();
            let strings = ff1.strings();
            for step in 0..200 {
                let number = (strings / 201) * step + step;
                let encrypted = ff1.encrypt(number);
                assert!(encrypted < strings);
                assert_eq!(ff1.decrypt(encrypted), number, "{radix}^{length}");
            }
        }
    }
}
