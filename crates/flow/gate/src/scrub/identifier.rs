//! Identifiers that their shape and check digits tell: D1 social security numbers, D2 MBI, D3 NPI, D4 DEA, D16 VIN, D18 cards, D20 long
//! unique strings. The rules of each are in `docs/privacy/free-text.md`.

use super::token::{Gap, Kind, Text};
use super::word::Word;
use super::{Hits, Label};

/// Longer runs of pieces are one identifier whatever they are.
const PIECES_MAX: usize = 9;

/// Pieces of letters and digits with single marks between them and no white space: `078-05-1120`.
pub(super) struct Chain {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Chain {
    /// The chain that begins with the token.
    pub(super) fn from(text: &Text<'_>, first: usize) -> Self {
        let mut last = first;
        while last < first + 2 * PIECES_MAX
            && text.touches(last + 1)
            && matches!(text.at(last + 1).mark, b'-' | b'.' | b'/' | b'_')
            && text.touches(last + 2)
            && matches!(text.at(last + 2).kind, Kind::Number | Kind::Mixed | Kind::Word)
        {
            last += 2;
        }
        Self { first, last }
    }

    /// Letters and digits without the marks; nothing when there are more than `room`.
    pub(super) fn squeeze<'b>(&self, text: &Text<'_>, room: &'b mut [u8]) -> &'b [u8] {
        let mut length = 0;
        for at in (self.first..=self.last).step_by(2) {
            let piece = text.bytes(at);
            let Some(target) = room.get_mut(length..length + piece.len()) else { return &[] };
            target.copy_from_slice(piece);
            target.make_ascii_uppercase();
            length += piece.len();
        }
        &room[..length]
    }

    fn lengths_are(&self, text: &Text<'_>, lengths: &[usize]) -> bool {
        self.last - self.first == 2 * (lengths.len() - 1)
            && (self.first..=self.last).step_by(2).zip(lengths).all(|(at, length)| text.str(at).len() == *length)
    }
}

/// Whether the token is in the middle of a chain.
pub(super) fn continues(text: &Text<'_>, at: usize) -> bool {
    text.touches(at)
        && matches!(text.before(at).mark, b'-' | b'.' | b'/' | b'_')
        && text.touches(at - 1)
        && matches!(text.at(at.wrapping_sub(2)).kind, Kind::Number | Kind::Mixed)
}

/// Identifiers that begin with letters: `xxx-xx-1234`, `AB-12345678`.
pub(super) fn find_word(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let length = text.str(at).len();
    if length == 3 && text.is_word(at, "xxx") && text.is_word(at + 2, "xx") && text.digits(at + 4) == 4 {
        hits.tokens(at, at + 4, Label::Ssn);
    }
    // A long random string without a digit.
    if length >= 24 && is_random(text.bytes(at)) {
        hits.tokens(at, at, Label::Id);
    }
}

pub(super) fn find_number(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if continues(text, at) {
        return;
    }
    let chain = Chain::from(text, at);
    let mut room = [0; 80];
    let squeezed = chain.squeeze(text, &mut room);
    if squeezed.is_empty() {
        // Longer than any code of a public system.
        hits.tokens(chain.first, chain.last, Label::Id);
        return;
    }
    if let Some(label) = whole(text, &chain, squeezed) {
        hits.tokens(chain.first, chain.last, label);
    } else if let Some((last, label)) = spaced(text, at) {
        hits.tokens(at, last, label);
    }
}

/// What a chain of no white space is.
fn whole(text: &Text<'_>, chain: &Chain, squeezed: &[u8]) -> Option<Label> {
    let (at, pieces) = (chain.first, (chain.last - chain.first) / 2 + 1);
    let all_digits = squeezed.iter().all(u8::is_ascii_digit);
    let coded = text.word_before(at, 5, Word::CODE);
    if chain.lengths_are(text, &[3, 2, 4]) && all_digits && !coded {
        return Some(Label::Ssn);
    }
    if pieces == 3 && is_hicn(squeezed) && chain.lengths_are(text, &[3, 2, squeezed.len() - 5])
        || pieces == 1 && squeezed.len() > 9 && is_hicn(squeezed)
    {
        return Some(Label::Ssn);
    }
    if is_mbi(squeezed) && (pieces == 1 || chain.lengths_are(text, &[4, 3, 4])) {
        return Some(Label::HealthPlan);
    }
    if chain.lengths_are(text, &[8, 4, 4, 4, 12]) && squeezed.iter().all(u8::is_ascii_hexdigit) {
        return Some(Label::Id);
    }
    if all_digits && (13..=19).contains(&squeezed.len()) && luhn(squeezed) && !coded {
        return Some(Label::Account);
    }
    if chain.lengths_are(text, &[2, 7]) && all_digits && text.is_mark(at + 1, b'-') && !coded {
        return Some(Label::Ssn);
    }
    if pieces == 1 {
        return if all_digits { digits(text, at, squeezed, coded) } else { mixed(text, at, squeezed, coded) };
    }
    let dashed = (at + 1..chain.last).step_by(2).all(|mark| text.is_mark(mark, b'-') || text.is_mark(mark, b'_'));
    let count = squeezed.iter().filter(|byte| byte.is_ascii_digit()).count();
    let lettered = squeezed.iter().any(u8::is_ascii_alphabetic);
    (dashed && !coded && (count >= 12 || lettered && count >= 6 && squeezed.len() >= 9)).then_some(Label::Id)
}

/// A run of digits.
fn digits(text: &Text<'_>, at: usize, digits: &[u8], coded: bool) -> Option<Label> {
    if coded || text.unit_follows(at) || text.is_mark(at.wrapping_sub(1), b'$') {
        return None;
    }
    if text.is_mark(at.wrapping_sub(1), b'#') && digits.len() >= 5 {
        return Some(Label::Id);
    }
    match digits.len() {
        9 if is_ssn(digits) => Some(Label::Ssn),
        10 if is_npi(digits) => Some(Label::Npi),
        10 if is_phone(digits) => Some(Label::Phone),
        11 if digits[0] == b'1' && is_phone(&digits[1..]) => Some(Label::Phone),
        // No count, dose or code without its system's name has as many digits.
        8.. => Some(Label::Id),
        _ => None,
    }
}

/// A run of letters and digits.
fn mixed(text: &Text<'_>, at: usize, piece: &[u8], coded: bool) -> Option<Label> {
    let numbers = piece.iter().filter(|byte| byte.is_ascii_digit()).count();
    if is_vin(piece) {
        return Some(Label::Vehicle);
    }
    if is_dea(piece) {
        return Some(Label::Licence);
    }
    if is_iban(piece) {
        return Some(Label::Account);
    }
    if piece.len() >= 20 || (piece.len() >= 16 && piece.iter().all(u8::is_ascii_hexdigit)) {
        return Some(Label::Id);
    }
    let dosed = text.unit_follows(at)
        || piece
            .iter()
            .rposition(u8::is_ascii_digit)
            .is_some_and(|last| piece[..=last].iter().all(u8::is_ascii_digit) && piece.len() - last <= 6);
    (piece.len() >= 8 && numbers >= 5 && !coded && !dosed).then_some(Label::Id)
}

/// Groups of digits with single spaces between them.
fn spaced(text: &Text<'_>, at: usize) -> Option<(usize, Label)> {
    let group = |offset: usize| {
        if offset == 0 || text.at(at + offset).gap == Gap::Space { text.str(at + offset).len() } else { 0 }
    };
    let mut room = [0; 20];
    let mut join = |count: usize| -> Option<Vec<u8>> {
        let mut length = 0;
        for offset in 0..count {
            let piece = text.bytes(at + offset);
            room.get_mut(length..length + piece.len())?.copy_from_slice(piece);
            length += piece.len();
        }
        room[..length].make_ascii_uppercase();
        Some(room[..length].to_vec())
    };
    let is_digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    match [group(0), group(1), group(2), group(3)] {
        [3, 2, 4, _] => join(3).filter(|all| is_ssn(all)).map(|_| (at + 2, Label::Ssn)),
        [3, 3, 4, _] => join(3).filter(|all| is_phone(all)).map(|_| (at + 2, Label::Phone)),
        [4, 3, 4, _] => join(3).filter(|all| is_mbi(all)).map(|_| (at + 2, Label::HealthPlan)),
        [4, 4, 4, 4] => join(4).filter(|all| is_digits(all) && luhn(all)).map(|_| (at + 3, Label::Account)),
        [4, 6, 5, _] => join(3).filter(|all| is_digits(all) && luhn(all)).map(|_| (at + 2, Label::Account)),
        _ => None,
    }
}

/// Nine digits that can have been issued, or an ITIN: SSA's rules since 25 June 2011.
pub(crate) fn is_ssn(digits: &[u8]) -> bool {
    digits.len() == 9
        && digits.iter().all(u8::is_ascii_digit)
        && !matches!(&digits[..3], b"000" | b"666")
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
}

/// The old Medicare number: a social security number and one or two characters of which the first is a letter.
fn is_hicn(bytes: &[u8]) -> bool {
    (10..=11).contains(&bytes.len())
        && is_ssn(&bytes[..9])
        && bytes[9].is_ascii_alphabetic()
        && bytes[9..].iter().all(u8::is_ascii_alphanumeric)
}

/// CMS: 11 places C A AN N A AN N A A N N, letters without S L O I B Z, the first digit 1 to 9.
pub(crate) fn is_mbi(bytes: &[u8]) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase() && !b"SLOIBZ".contains(&byte);
    bytes.len() == 11
        && bytes.iter().zip(b"CAXNAXNAANN").all(|(byte, place)| match place {
            b'C' => (b'1'..=b'9').contains(byte),
            b'A' => letter(*byte),
            b'N' => byte.is_ascii_digit(),
            _ => byte.is_ascii_digit() || letter(*byte),
        })
}

/// CMS: ten digits from 1 or 2, Luhn over 80840 and them.
pub(crate) fn is_npi(digits: &[u8]) -> bool {
    let mut whole = *b"808400000000000";
    let right = digits.len() == 10 && matches!(digits[0], b'1' | b'2') && digits.iter().all(u8::is_ascii_digit);
    if right {
        whole[5..].copy_from_slice(digits);
    }
    right && luhn(&whole)
}

/// The North American plan: area and exchange begin with 2 to 9.
pub(super) fn is_phone(digits: &[u8]) -> bool {
    digits.len() == 10 && digits.iter().all(u8::is_ascii_digit) && digits[0] >= b'2' && digits[3] >= b'2'
}

pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (u32::from(digit - b'0'), place % 2) {
            (digit, 0) => digit,
            (digit, _) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// DEA: two letters (the second may be 9) and seven digits, of which the last checks the others.
pub(super) fn is_dea(bytes: &[u8]) -> bool {
    let (Some(digits), 9) = (bytes.get(2..), bytes.len()) else { return false };
    let letters = bytes[0].is_ascii_alphabetic() && (bytes[1].is_ascii_alphabetic() || bytes[1] == b'9');
    if !letters || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let of = |at: usize| u32::from(digits[at] - b'0');
    (of(0) + of(2) + of(4) + 2 * (of(1) + of(3) + of(5))) % 10 == of(6)
}

/// 49 CFR 565: 17 characters without I, O and Q; the ninth checks the others.
pub(crate) fn is_vin(bytes: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    const LETTERS: &[u8; 26] = b"12345678\x0012345\x007\x00923456789";
    if bytes.len() != 17 {
        return false;
    }
    let mut sum = 0;
    for (byte, weight) in bytes.iter().zip(WEIGHTS) {
        let value = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'I' | b'O' | b'Q' => return false,
            b'A'..=b'Z' => u32::from(LETTERS[usize::from(byte - b'A')] - b'0'),
            _ => return false,
        };
        sum += value * weight;
    }
    bytes[8] == [b'0', b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'X'][(sum % 11) as usize]
}

/// ISO 13616: the rest of a division by 97 is 1.
fn is_iban(bytes: &[u8]) -> bool {
    if !(15..=34).contains(&bytes.len())
        || !bytes[..2].iter().all(u8::is_ascii_uppercase)
        || !bytes[2..4].iter().all(u8::is_ascii_digit)
    {
        return false;
    }
    let rest = bytes[4..].iter().chain(&bytes[..4]).try_fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => Some((rest * 10 + u32::from(byte - b'0')) % 97),
        b'A'..=b'Z' => Some((rest * 100 + u32::from(byte - b'A') + 10) % 97),
        _ => None,
    });
    rest == Some(1)
}

/// ABA: nine digits with weights 3, 7 and 1.
pub(super) fn is_routing(digits: &[u8]) -> bool {
    digits.len() == 9
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .zip([3, 7, 1].iter().cycle())
            .map(|(digit, weight)| u32::from(digit - b'0') * weight)
            .sum::<u32>()
            .is_multiple_of(10)
}

/// Whether letters change case as those of a word do not.
fn is_random(bytes: &[u8]) -> bool {
    let changes = bytes.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
    changes >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_tell_valid_from_near() {
        assert!(is_npi(b"1234567893") && !is_npi(b"1234567890") && !is_npi(b"3234567893"));
        assert!(is_dea(b"AB1234563") && !is_dea(b"AB1234564") && !is_dea(b"1B1234563"));
        assert!(is_mbi(b"1EG4TE5MK73") && !is_mbi(b"0EG4TE5MK73") && !is_mbi(b"1SG4TE5MK73"));
        assert!(is_vin(b"1M8GDM9AXKP042788") && !is_vin(b"1M8GDM9A1KP042788") && !is_vin(b"1M8GDM9AXKP04278O"));
        assert!(is_vin(b"11111111111111111"));
        assert!(luhn(b"4111111111111111") && !luhn(b"4111111111111112"));
        assert!(is_iban(b"GB82WEST12345698765432") && !is_iban(b"GB82WEST12345698765433"));
        assert!(is_routing(b"011000015") && !is_routing(b"011000016"));
        assert!(
            is_ssn(b"078051120")
                && is_ssn(b"912701234")
                && !is_ssn(b"666051120")
                && !is_ssn(b"078001120")
                && !is_ssn(b"078050000")
        );
        assert!(is_phone(b"2125550100") && !is_phone(b"1125550100"));
    }
}
