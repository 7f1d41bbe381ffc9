//! Identifiers whose shape survives encryption: which values there are, and the number of each.

use std::fmt;

/// The shape of an identifier that format-preserving encryption keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// So many digits.
    Digits(u8),
    /// So many digits and capital letters.
    Alphanumeric(u8),
    /// A social security number that can have been issued.
    Ssn,
    /// A national provider identifier: the check digit is right before and after.
    Npi,
    /// A Medicare beneficiary identifier.
    Mbi,
}

/// What a value of the format may hold between its characters. They stay where they are.
pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b' ')
}

/// The characters of an MBI by place: C is 1 to 9, A a letter without S L O I B Z, N a digit, X either (CMS, "Understanding the MBI").
const MBI: &[u8; 11] = b"CAXNAXNAANN";

const LETTERS: &[u8; 20] = b"ACDEFGHJKMNPQRTUVWXY";

/// How many social security numbers are counted: the invalid ones among them are walked over.
const SSN_DIGITS: u32 = 9;

impl Format {
    /// Reads the format as a policy spells it: `digits,9`, `alphanumeric,8`, `ssn`, `npi`, `mbi`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let length = |text: &str, least: u8, most: u8, of: &str| match text.parse() {
            Ok(length) if (least..=most).contains(&length) => Ok(length),
            Ok(length) if length < least => {
                Err(format!("{length} {of} are fewer than a million values, which can be searched"))
            }
            _ => Err(format!("the length is {least} to {most} {of}")),
        };
        match words {
            ["digits", text] => Ok(Format::Digits(length(text, 6, 32, "digits")?)),
            ["alphanumeric", text] => Ok(Format::Alphanumeric(length(text, 4, 24, "characters")?)),
            ["ssn"] => Ok(Format::Ssn),
            ["npi"] => Ok(Format::Npi),
            ["mbi"] => Ok(Format::Mbi),
            _ => Err("the format is digits,LENGTH or alphanumeric,LENGTH or ssn, npi, mbi".into()),
        }
    }

    /// How many characters a value has, without separators.
    pub(crate) fn characters(self) -> usize {
        match self {
            Format::Digits(length) | Format::Alphanumeric(length) => usize::from(length),
            Format::Ssn => 9,
            Format::Npi => 10,
            Format::Mbi => MBI.len(),
        }
    }

    /// Whether all values are digits, so that a column of integers can hold them.
    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Format::Digits(_) | Format::Ssn | Format::Npi)
    }

    /// The radix and length of the strings that the values are numbered by; the smallest such set for those with a rule of their own.
    pub(crate) fn numerals(self) -> (u32, u32) {
        match self {
            Format::Digits(length) => (10, u32::from(length)),
            Format::Alphanumeric(length) => (36, u32::from(length)),
            Format::Ssn => (10, SSN_DIGITS),
            Format::Npi => (2, 28),
            Format::Mbi => (2, 44),
        }
    }

    /// Whether a number of [`Format::numerals`] is that of a value.
    pub(crate) fn has(self, number: u128) -> bool {
        match self {
            Format::Digits(_) | Format::Alphanumeric(_) => true,
            Format::Ssn => {
                let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
                !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
            }
            Format::Npi => number < 2 * NPI_MIDDLES,
            Format::Mbi => number < MBI.iter().map(|place| choices(*place)).product(),
        }
    }

    /// The number of the value with these characters; `None` when there is no such value.
    pub(crate) fn number(self, characters: &[u8]) -> Option<u128> {
        if characters.len() != self.characters() {
            return None;
        }
        let over = |radix: u32, characters: &[u8]| {
            characters.iter().try_fold(0, |number, byte| {
                let legal = byte.is_ascii_digit() || byte.is_ascii_uppercase();
                let digit = char::from(*byte).to_digit(radix).filter(|_| legal)?;
                Some(number * u128::from(radix) + u128::from(digit))
            })
        };
        let number = match self {
            Format::Digits(_) | Format::Ssn => over(10, characters),
            Format::Alphanumeric(_) => over(36, characters),
            Format::Npi => {
                let number = over(10, characters)?;
                let first = (number / 1_000_000_000).checked_sub(1).filter(|first| *first < 2)?;
                let rank = first * NPI_MIDDLES + number / 10 % NPI_MIDDLES;
                (npi_check_digit(rank) == number % 10).then_some(rank)
            }
            Format::Mbi => characters.iter().zip(MBI).try_fold(0, |number, (byte, place)| {
                Some(
                    number * choices(*place)
                        + (0..choices(*place)).find(|choice| character(*place, *choice) == *byte)?,
                )
            }),
        }?;
        self.has(number).then_some(number)
    }

    /// Writes the characters of the value with this number; the inverse of [`Format::number`].
    pub(crate) fn characters_of(self, number: u128, out: &mut [u8]) {
        let mut rest = number;
        match self {
            Format::Npi => {
                Format::Digits(10).characters_of(self.integer(number), out);
                return;
            }
            Format::Mbi => {
                for (byte, place) in out.iter_mut().zip(MBI).rev() {
                    *byte = character(*place, rest % choices(*place));
                    rest /= choices(*place);
                }
                return;
            }
            Format::Digits(_) | Format::Alphanumeric(_) | Format::Ssn => {}
        }
        let radix = u128::from(self.numerals().0);
        for byte in out.iter_mut().rev() {
            *byte = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(rest % radix) as usize];
            rest /= radix;
        }
    }

    /// The value with this number as an integer; of numeric formats.
    pub(crate) fn integer(self, number: u128) -> u128 {
        match self {
            Format::Npi => {
                let (first, middle) = (number / NPI_MIDDLES + 1, number % NPI_MIDDLES);
                (first * NPI_MIDDLES + middle) * 10 + npi_check_digit(number)
            }
            _ => number,
        }
    }
}

/// An NPI is a 1 or 2, eight digits and a check digit.
const NPI_MIDDLES: u128 = 100_000_000;

/// Luhn's check digit over 80840 and the nine digits: 24 stands for the prefix (CMS, "Requirements for NPI and NPI check digit").
fn npi_check_digit(rank: u128) -> u128 {
    let mut digits = (rank / NPI_MIDDLES + 1) * NPI_MIDDLES + rank % NPI_MIDDLES;
    let (mut sum, mut doubles) = (24, true);
    while digits > 0 {
        let digit = digits % 10 * if doubles { 2 } else { 1 };
        sum += digit / 10 + digit % 10;
        (digits, doubles) = (digits / 10, !doubles);
    }
    (10 - sum % 10) % 10
}

fn choices(place: u8) -> u128 {
    match place {
        b'C' => 9,
        b'A' => 20,
        b'N' => 10,
        _ => 30,
    }
}

/// The character of a choice that is below [`choices`].
fn character(place: u8, choice: u128) -> u8 {
    let choice = choice as u8;
    match place {
        b'C' => b'1' + choice,
        b'N' => b'0' + choice,
        b'X' if choice < 10 => b'0' + choice,
        b'X' => LETTERS[usize::from(choice - 10)],
        _ => LETTERS[usize::from(choice)],
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Digits(length) => write!(f, "digits,{length}"),
            Format::Alphanumeric(length) => write!(f, "alphanumeric,{length}"),
            Format::Ssn => f.write_str("ssn"),
            Format::Npi => f.write_str("npi"),
            Format::Mbi => f.write_str("mbi"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, value: &str) {
        let number = format.number(value.as_bytes()).unwrap_or_else(|| panic!("{format}: {value} is not read"));
        let (radix, length) = format.numerals();
        assert!(number < u128::from(radix).pow(length));
        let mut out = vec![0; format.characters()];
        format.characters_of(number, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), value);
    }

    #[test]
    fn every_value_has_a_number_and_comes_back() {
        for (format, values) in [
            (Format::Digits(6), &["000000", "999999", "012345"][..]),
            (Format::Digits(32), &["99999999999999999999999999999999"]),
            (Format::Alphanumeric(24), &["ZZZZZZZZZZZZZZZZZZZZZZZZ", "000000000000000000000000"]),
            (Format::Ssn, &["078051120", "001010001", "899999999"]),
            (Format::Npi, &["1234567893", "1000000004", "2999999990"]),
            (Format::Mbi, &["1EG4TE5MK73", "1A00A00AA00", "9YY9YY9YY99"]),
        ] {
            for value in values {
                check(format, value);
            }
        }
        // 9 choices, then 20, 30, 10, 20, 30, 10, 20, 20, 10, 10.
        assert!(Format::Mbi.has(12_959_999_999_999) && !Format::Mbi.has(12_960_000_000_000));
    }

    #[test]
    fn what_is_not_a_value_has_no_number() {
        for (format, value) in [
            (Format::Digits(6), "12345"),
            (Format::Digits(6), "12345A"),
            (Format::Alphanumeric(4), "ab12"),
            (Format::Alphanumeric(4), "AB1é"),
            (Format::Ssn, "666121234"),
            (Format::Ssn, "000121234"),
            (Format::Ssn, "900121234"),
            (Format::Ssn, "123001234"),
            (Format::Ssn, "123120000"),
            (Format::Npi, "1234567890"),
            (Format::Npi, "3234567893"),
            (Format::Npi, "0234567893"),
            (Format::Mbi, "0EG4TE5MK73"),
            (Format::Mbi, "1SG4TE5MK73"),
            (Format::Mbi, "1eg4te5mk73"),
        ] {
            assert_eq!(format.number(value.as_bytes()), None, "{format}: {value}");
        }
    }

    #[test]
    fn a_domain_that_can_be_searched_is_refused() {
        for words in [["digits", "5"], ["alphanumeric", "3"]] {
            assert!(Format::parse(&words).unwrap_err().contains("fewer than a million"));
        }
        for words in [&["digits", "33"][..], &["digits"], &["ssn", "9"], &["letters", "9"], &[], &["digits", "x"]] {
            assert!(Format::parse(words).is_err());
        }
    }
}
