//! Identifiers that are well formed and belong to nobody we know of: one for each number, all different.

// A prime that divides no domain below, so that multiplying by it permutes the domain.
const SPREAD: u64 = 1_000_000_007;

const SSN_AREAS: u64 = 897;
const SSN_DOMAIN: u64 = SSN_AREAS * 99 * 9_999;
const NPI_DOMAIN: u64 = 100_000_000;
const MBI_LETTERS: &[u8] = b"ACDEFGHJKMNPQRTUVWXY";
const MBI_ANY: &[u8] = b"0123456789ACDEFGHJKMNPQRTUVWXY";

/// A Social Security number `AAA-GG-SSSS` that could have been issued: no area 000, 666 or 900 and above, no group 00, no serial 0000
/// (Social Security Administration, POMS RM 10201.030). Area 899 is left for canaries.
pub fn ssn(number: u64) -> String {
    let spread = number % SSN_DOMAIN * SPREAD % SSN_DOMAIN;
    let area = 1 + spread / (99 * 9_999);
    let area = if area >= 666 { area + 1 } else { area };
    format!("{area:03}-{:02}-{:04}", 1 + spread / 9_999 % 99, 1 + spread % 9_999)
}

/// Whether a text is a Social Security number that could have been issued, with dashes.
pub fn ssn_holds(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    let digits = |part: &str, width: usize| part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
    digits(area, 3)
        && digits(group, 2)
        && digits(serial, 4)
        && !matches!(area, "000" | "666")
        && area < "900"
        && group != "00"
        && serial != "0000"
}

/// A Medicare Beneficiary Identifier (CMS, "Understanding the MBI format": 11 places, each with its own alphabet, without S, L, O, I,
/// B, Z).
pub fn mbi(number: u64) -> String {
    let domain: u64 = MBI_ALPHABETS.iter().map(|alphabet| alphabet.len() as u64).product();
    let mut rest = ((u128::from(number) * u128::from(SPREAD) * u128::from(SPREAD)) % u128::from(domain)) as u64;
    let mut text = [0; 11];
    for (place, alphabet) in MBI_ALPHABETS.iter().enumerate().rev() {
        let size = alphabet.len() as u64;
        text[place] = alphabet[(rest % size) as usize];
        rest /= size;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

const MBI_ALPHABETS: [&[u8]; 11] = {
    let digit: &[u8] = b"0123456789";
    [b"123456789", MBI_LETTERS, MBI_ANY, digit, MBI_LETTERS, MBI_ANY, digit, MBI_LETTERS, MBI_LETTERS, digit, digit]
};

/// Whether a text is a well-formed Medicare Beneficiary Identifier, without dashes.
pub fn mbi_holds(text: &str) -> bool {
    text.len() == MBI_ALPHABETS.len()
        && text.bytes().zip(MBI_ALPHABETS).all(|(byte, alphabet)| alphabet.contains(&byte))
}

/// A National Provider Identifier: ten digits, the last of which makes the Luhn sum of `80840` and the number right (45 CFR 162.406).
pub fn npi(number: u64) -> String {
    let first_nine = 100_000_000 + number % NPI_DOMAIN * SPREAD % NPI_DOMAIN;
    let sum = luhn_sum(format!("80840{first_nine}0").bytes());
    format!("{first_nine}{}", (10 - sum % 10) % 10)
}

/// Whether a text is a National Provider Identifier with the right check digit.
pub fn npi_holds(text: &str) -> bool {
    text.len() == 10 && matches!(text.as_bytes()[0], b'1' | b'2') && luhn_holds(&format!("80840{text}"))
}

/// Whether a text is digits whose Luhn sum ends in 0.
pub fn luhn_holds(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && luhn_sum(text.bytes()).is_multiple_of(10)
}

fn luhn_sum(digits: impl DoubleEndedIterator<Item = u8>) -> u32 {
    digits
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0') << (place % 2);
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_are_valid_and_all_different() {
        for make in [ssn, mbi, npi] {
            let some: HashSet<String> = (0..50_000).map(make).collect();
            assert_eq!(some.len(), 50_000);
        }
        for number in (0..50_000).chain([SSN_DOMAIN - 1, NPI_DOMAIN - 1]) {
            assert!(ssn_holds(&ssn(number)), "{number}");
            assert!(mbi_holds(&mbi(number)), "{number}");
            assert!(npi_holds(&npi(number)), "{number}");
            assert!(!ssn(number).starts_with("899"));
        }
    }

    #[test]
    fn validity_agrees_with_published_examples() {
        // CMS, "Requirements for NPI and NPI check digit": 1234567893. CMS's specimen Medicare card: 1EG4-TE5-MK73.
        assert!(npi_holds("1234567893") && !npi_holds("1234567890"));
        assert!(mbi_holds("1EG4TE5MK73") && !mbi_holds("0EG4TE5MK73") && !mbi_holds("1SG4TE5MK73"));
        for wrong in ["666-12-3456", "000-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123456789"] {
            assert!(!ssn_holds(wrong), "{wrong}");
        }
        assert!(luhn_holds("79927398713") && !luhn_holds("79927398710"));
    }
}
