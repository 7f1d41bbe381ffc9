//! RFC 4648's base 32 in lower case, without padding.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Appends five bits a character, most significant first; what is missing in the last character is zero.
pub(super) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    for bytes in bytes.chunks(5) {
        let mut bits = [0; 8];
        bits[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_be_bytes(bits);
        let characters: [u8; 8] = std::array::from_fn(|at| ALPHABET[((bits >> (59 - 5 * at)) & 31) as usize]);
        out.extend_from_slice(&characters[..(bytes.len() * 8).div_ceil(5)]);
    }
}

/// Characters of 128 bits.
pub(super) const CODE_CHARACTERS: usize = 26;

/// What [`push`] writes of 128 bits, several times as fast.
pub(super) fn code(bytes: [u8; 16]) -> [u8; CODE_CHARACTERS] {
    let bits = u128::from_be_bytes(bytes);
    std::array::from_fn(|at| {
        // The last character has the three bits that are left.
        let five = if at < CODE_CHARACTERS - 1 { bits >> (123 - 5 * at) } else { bits << 2 };
        ALPHABET[(five & 31) as usize]
    })
}

/// The inverse of [`push`]: the bytes of a code, into `bytes`; `None` for what [`push`] does not write.
pub(super) fn read(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut filled) = (0_u32, 0);
    bytes.clear();
    for &character in text {
        let five = match character {
            b'a'..=b'z' => character - b'a',
            b'2'..=b'7' => character - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(five);
        filled += 5;
        if filled >= 8 {
            filled -= 8;
            bytes.push((bits >> filled) as u8);
            bits &= (1 << filled) - 1;
        }
    }
    // No more characters than the bytes need, and nothing in the last one that is not theirs.
    (filled < 5 && bits == 0).then_some(())
}

/// What stands for a character that no code has.
const NO_CHARACTER: u8 = 0x80;

/// The five bits of each character.
static BITS: [u8; 256] = {
    let (mut bits, mut at) = ([NO_CHARACTER; 256], 0);
    while at < ALPHABET.len() {
        bits[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    bits
};

/// The inverse of [`code`], several times as fast as [`read`].
pub(super) fn read_code(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; CODE_CHARACTERS] = text.try_into().ok()?;
    let five = text.map(|character| BITS[usize::from(character)]);
    let wrong = five.iter().fold(0, |wrong, five| wrong | five) & NO_CHARACTER;
    let forty = |from: usize| (0..8).fold(0_u64, |bits, at| bits << 5 | u64::from(five[from + at]));
    // The last character has three bits.
    let last = u64::from(five[24]) << 3 | u64::from(five[25]) >> 2;
    let bits = u128::from(forty(0)) << 88 | u128::from(forty(8)) << 48 | u128::from(forty(16)) << 8 | u128::from(last);
    (wrong == 0 && five[25].trailing_zeros() >= 2).then(|| bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_rfc_4648_without_padding() {
        let code = |bytes: &[u8]| {
            let mut out = Vec::new();
            push(&mut out, bytes);
            let mut back = Vec::new();
            assert_eq!(read(&out, &mut back), Some(()));
            assert_eq!(back, bytes);
            String::from_utf8(out).unwrap()
        };
        // Section 10's test vectors.
        assert_eq!(
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| code(text.as_bytes())),
            ["", "my", "mzxq", "mzxw6", "mzxw6yq", "mzxw6ytb", "mzxw6ytboi"]
        );
        assert_eq!(code(&[255; 16]), "77777777777777777777777774");
        for bit in 0..128 {
            let bytes = (0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978_u128 ^ 1 << bit).to_be_bytes();
            assert_eq!(super::code(bytes), code(&bytes).as_bytes());
            assert_eq!(read_code(&super::code(bytes)), Some(bytes));
        }
        for wrong in ["m", "mz", "MY", "m1", "mzxw6y", "mzxw6yt"] {
            assert_eq!(read(wrong.as_bytes(), &mut Vec::new()), None, "{wrong}");
        }
        let right = super::code([0xa5; 16]);
        for (at, before) in right.into_iter().enumerate() {
            for wrong in 0..=u8::MAX {
                let mut text = right;
                text[at] = wrong;
                let mut slowly = Vec::new();
                let slowly = read(&text, &mut slowly).map(|()| slowly);
                assert_eq!(read_code(&text).map(Vec::from), slowly, "{before} became {wrong} at {at}");
            }
        }
        for wrong in [&right[..25], &[&right[..], b"a"].concat(), b""] {
            assert_eq!(read_code(wrong), None);
        }
    }
}
