//! What a sample of values looks like: reduced in memory to a class that tells no value.

use std::collections::HashSet;

/// What a sample of a column's values looks like. Tells no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueShape {
    /// Nothing was sampled, or nothing stands out.
    Unknown,
    /// A handful of values, each many times.
    FewValues,
    /// Nearly every value is another.
    ManyValues,
    /// Long text with spaces.
    Prose,
    /// Nine digits as social security numbers are made.
    Ssn,
    /// Eleven characters as Medicare beneficiary identifiers are made.
    Mbi,
    /// Ten digits with the check digit of a provider identifier.
    Npi,
    /// Phone numbers.
    Phone,
    /// E-mail addresses.
    Email,
    /// Web or network addresses.
    Network,
    /// Dates in text.
    Date,
    /// Card or account numbers with a check digit.
    Account,
}

/// The least number of values that say anything.
const SAMPLE_MIN: usize = 5;

/// The share of a sample that must look alike, in percent: a column with a few stray values is still what most of them are.
const ALIKE_PERCENT: usize = 80;

/// Whether a value belongs to a class.
type Class = fn(&str) -> bool;

/// The shape of a sample. The narrow classes come first, because a number with a check digit is also one of many values.
pub(crate) fn shape_of(sample: &[&str]) -> ValueShape {
    let values: Vec<&str> = sample.iter().map(|value| value.trim()).filter(|value| !value.is_empty()).collect();
    if values.len() < SAMPLE_MIN {
        return ValueShape::Unknown;
    }
    let alike = |is: Class| values.iter().filter(|value| is(value)).count() * 100 >= values.len() * ALIKE_PERCENT;
    let classes: [(ValueShape, Class); 8] = [
        (ValueShape::Email, is_email),
        (ValueShape::Mbi, is_mbi),
        (ValueShape::Ssn, is_ssn),
        (ValueShape::Npi, is_npi),
        (ValueShape::Phone, is_phone),
        (ValueShape::Date, is_date),
        (ValueShape::Network, is_network),
        (ValueShape::Account, is_account),
    ];
    if let Some((shape, _)) = classes.iter().find(|(_, is)| alike(*is)) {
        return *shape;
    }
    if alike(is_prose) {
        return ValueShape::Prose;
    }
    let distinct = values.iter().collect::<HashSet<_>>().len();
    if values.len() >= 4 * distinct {
        ValueShape::FewValues
    } else if distinct * 10 >= values.len() * 9 {
        ValueShape::ManyValues
    } else {
        ValueShape::Unknown
    }
}

fn digits(value: &str, separators: &[char]) -> Option<Vec<u32>> {
    value.chars().filter(|c| !separators.contains(c)).map(|c| c.to_digit(10)).collect()
}

/// Social security numbers: never area 000, 666 or 900 and above, group 00 or serial 0000.
fn is_ssn(value: &str) -> bool {
    if !(value.len() == 9 || (value.len() == 11 && value.matches('-').count() == 2)) {
        return false;
    }
    digits(value, &['-']).is_some_and(|d| {
        let area = d.iter().take(3).fold(0, |number, digit| number * 10 + digit);
        d.len() == 9 && area != 0 && area != 666 && area < 900 && d[3..5] != [0, 0] && d[5..] != [0, 0, 0, 0]
    })
}

/// Medicare beneficiary identifiers: <https://www.cms.gov/medicare/new-medicare-card/understanding-the-mbi-with-format.pdf>.
fn is_mbi(value: &str) -> bool {
    let compact: Vec<char> = value.chars().filter(|c| *c != '-').collect();
    let alpha = |c: char| c.is_ascii_uppercase() && !"SLOIBZ".contains(c);
    let number = |c: char| c.is_ascii_digit();
    let either = |c: char| alpha(c) || number(c);
    let first = |c: char| ('1'..='9').contains(&c);
    compact.len() == 11
        && first(compact[0])
        && [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1), (6, 2), (7, 0), (8, 0), (9, 2), (10, 2)].iter().all(|(at, sort)| {
            match sort {
                0 => alpha(compact[*at]),
                1 => either(compact[*at]),
                _ => number(compact[*at]),
            }
        })
}

/// National provider identifiers: ten digits whose Luhn sum counts the prefix 80840.
fn is_npi(value: &str) -> bool {
    let Some(own) = digits(value, &[]) else { return false };
    let mut all = vec![8, 0, 8, 4, 0];
    all.extend(&own);
    own.len() == 10 && matches!(own[0], 1 | 2) && luhn(&all)
}

fn is_account(value: &str) -> bool {
    digits(value, &['-', ' ']).is_some_and(|d| (12..=19).contains(&d.len()) && luhn(&d))
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    sum.is_multiple_of(10)
}

fn is_phone(value: &str) -> bool {
    let dressed = value.contains(['(', '+', '-', '.', ' ']);
    digits(value, &['(', ')', '+', '-', '.', ' '])
        .is_some_and(|d| (10..=15).contains(&d.len()) && (dressed || d.len() == 10))
        && !is_date(value)
}

fn is_email(value: &str) -> bool {
    value
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains(['@', ' ']))
}

fn is_network(value: &str) -> bool {
    value.starts_with("http://")
        || value.starts_with("https://")
        || value.split_once('/').map_or(value, |(address, _)| address).parse::<std::net::IpAddr>().is_ok()
}

/// Dates with separators, year first or last, with or without a time behind.
fn is_date(value: &str) -> bool {
    let date = value.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let numbers = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    numbers && matches!(lengths[..], [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4 | 2])
}

fn is_prose(value: &str) -> bool {
    value.len() >= 40 && value.split_whitespace().count() >= 6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[&str]) -> ValueShape {
        let many: Vec<&str> = values.iter().copied().cycle().take(values.len().max(10)).collect();
        shape_of(&many)
    }

    #[test]
    fn made_up_values_of_each_class_are_told_apart() {
        for (values, expected) in [
            (&["123-45-6789", "219099999"][..], ValueShape::Ssn),
            (&["1EG4-TE5-MK73", "2A00A00AA00"], ValueShape::Mbi),
            (&["1234567893", "1245319599"], ValueShape::Npi),
            (&["(555) 010-1234", "+1 555 010 9999"], ValueShape::Phone),
            (&["a@example.org", "b.c@mail.example.com"], ValueShape::Email),
            (&["10.0.0.1", "https://example.org/x"], ValueShape::Network),
            (&["1970-01-31", "01/31/1970", "1970-01-31 10:00:00"], ValueShape::Date),
            (&["4111 1111 1111 1111", "5500005555555559"], ValueShape::Account),
            (&["A", "B"], ValueShape::FewValues),
        ] {
            assert_eq!(shape(values), expected, "{values:?}");
        }
    }

    #[test]
    fn variety_and_length_decide_the_rest() {
        let many: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
        assert_eq!(shape_of(&many.iter().map(String::as_str).collect::<Vec<_>>()), ValueShape::ManyValues);
        let note = "the patient said that nothing of this had happened before";
        assert_eq!(shape(&[note]), ValueShape::Prose);
        assert_eq!(shape_of(&["A", "", " "]), ValueShape::Unknown);
        assert_eq!(shape_of(&[]), ValueShape::Unknown);
    }

    #[test]
    fn near_misses_are_not_taken_for_identifiers() {
        assert!(!is_ssn("000-12-3456") && !is_ssn("666123456") && !is_ssn("987654321"));
        assert!(!is_npi("1234567890") && !is_mbi("1SG4TE5MK73"));
        assert!(!is_date("12-345-6789") && !is_phone("1970-01-31 1"));
    }
}
