//! What a sample of values looks like: reduced in memory to a class that tells no value.

use std::collections::BTreeSet;

use crate::scrub;

/// What a sample of a column's values looks like. Tells no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Nothing was sampled, or nothing stands out.
    Unknown,
    /// A handful of values, each many times.
    FewValues,
    /// The same, of which each is as long as a number of a person or a claim.
    FewLong,
    /// Numbers and codes as long as that of a person or a claim, some of them many times.
    Long,
    /// Whole numbers of three digits and more, too many different ones to be a code, or too few to tell.
    Numbers,
    /// Whole numbers as the ages of many people are spread.
    Ages,
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
    /// Dates in text, or as numbers of eight digits.
    Date,
    /// Card or account numbers with a check digit.
    Account,
    /// Names of people, or initials.
    Name,
    /// Street addresses.
    Street,
    /// Cities.
    Place,
    /// Five or nine digits as ZIP codes have.
    Zip,
    /// Degrees of a point on the map.
    Point,
    /// Vehicles.
    Vehicle,
}

/// The least number of values whose variety says anything.
const SAMPLE_MIN: usize = 5;

/// The share of a sample that must look alike, in percent: a column with a few stray values is still what most of them are.
const ALIKE_PERCENT: usize = 80;

/// The share of a sample that makes the rest of a column doubtful, in percent.
const SOME_PERCENT: usize = 20;

/// The share of the different values that lists of names and cities must know, in percent: no list is whole.
const KNOWN_PERCENT: usize = 40;

/// So many different single letters are initials rather than a code.
const INITIALS_MIN: usize = 9;

/// So many different ages there are among people, so far apart; nobody is older (years).
const AGES_MIN: usize = 15;
const AGES_SPREAD: u8 = 40;
const OLDEST: u8 = 120;

/// Whether one value is of a class.
type Test = fn(&str) -> bool;

impl Shape {
    /// The shape of a sample. The narrow classes come first, because a number with a check digit is also one of many values.
    pub fn of(sample: &[&str]) -> Shape {
        let values: Vec<&str> = sample.iter().map(|value| value.trim()).filter(|value| !value.is_empty()).collect();
        let share = |is: &dyn Fn(&str) -> bool, percent: usize| {
            values.iter().filter(|value| is(value)).count() * 100 >= values.len() * percent
        };
        let alike = |is: &dyn Fn(&str) -> bool| share(is, ALIKE_PERCENT);
        let some = |is: &dyn Fn(&str) -> bool| share(is, SOME_PERCENT);
        let classes: [(Shape, Test); 10] = [
            (Shape::Email, is_email),
            (Shape::Mbi, is_mbi),
            (Shape::Ssn, is_ssn),
            (Shape::Npi, is_npi),
            (Shape::Date, is_date),
            (Shape::Phone, is_phone),
            (Shape::Network, is_network),
            (Shape::Vehicle, is_vehicle),
            (Shape::Account, is_account),
            (Shape::Point, is_point),
        ];
        // Few values must all fit, and say nothing of how many there are.
        let found = classes.iter().find(|(_, is)| alike(is)).map(|(shape, _)| *shape);
        match found {
            _ if values.is_empty() => Shape::Unknown,
            Some(shape) => shape,
            None if alike(&is_street) => Shape::Street,
            None if alike(&is_prose) => Shape::Prose,
            None => named(&values).unwrap_or_else(|| match variety(&values) {
                _ if some(&is_street) => Shape::Street,
                _ if some(&is_prose) => Shape::Prose,
                Shape::FewValues if some(&is_long) || some(&is_zip) => Shape::FewLong,
                Shape::ManyValues if alike(&is_zip) => Shape::Zip,
                Shape::Unknown if values.len() < SAMPLE_MIN && alike(&is_zip) => Shape::Zip,
                Shape::Unknown if some(&is_long) || some(&is_zip) => Shape::Long,
                Shape::Unknown if some(&is_numbered) => Shape::Numbers,
                Shape::Unknown if alike(&is_phrase) => Shape::Prose,
                Shape::Unknown | Shape::FewValues if are_ages(&values) => Shape::Ages,
                variety => variety,
            }),
        }
    }
}

/// Names of people and of cities, by the lists of the scrubber.
fn named(values: &[&str]) -> Option<Shape> {
    let different: BTreeSet<&str> = values.iter().copied().collect();
    let is_initial = |value: &&str| value.chars().count() == 1 && value.chars().all(char::is_uppercase);
    // Of few people, most initials are different too; a code is a handful of letters, each many times.
    let is_various = different.len() >= INITIALS_MIN || (different.len() > 2 && different.len() * 2 > values.len());
    if is_various && different.iter().all(is_initial) {
        return Some(Shape::Name);
    }
    let count = |is: fn(&str) -> bool| different.iter().filter(|value| is(value)).count();
    // Words that no list has are taken for names of people.
    let is_strange = |value: &str| scrub::is_person(value) || scrub::is_strange(value);
    let (people, places) = (count(is_strange), count(scrub::is_city));
    let is_most = |found: usize| found > 0 && found * 100 >= different.len() * KNOWN_PERCENT;
    if is_most(places) && places >= people { Some(Shape::Place) } else { is_most(people).then_some(Shape::Name) }
}

/// Whether whole numbers are spread as the ages of people are: many different ones, from the young to the old.
fn are_ages(values: &[&str]) -> bool {
    let ages: Option<BTreeSet<u8>> = values.iter().map(|value| value.parse().ok()).collect();
    ages.is_some_and(|ages| {
        let (youngest, oldest) = (ages.first().copied().unwrap_or_default(), ages.last().copied().unwrap_or_default());
        ages.len() >= AGES_MIN && oldest <= OLDEST && oldest - youngest >= AGES_SPREAD
    })
}

fn variety(values: &[&str]) -> Shape {
    let distinct = values.iter().collect::<BTreeSet<_>>().len();
    if values.len() < SAMPLE_MIN {
        Shape::Unknown
    } else if values.len() >= 4 * distinct {
        Shape::FewValues
    } else if distinct * 10 >= values.len() * 9 {
        Shape::ManyValues
    } else {
        Shape::Unknown
    }
}

/// The digits without the separators; `None` when there is anything else.
fn digits(value: &str, separators: &[char]) -> Option<Vec<u8>> {
    let rest = value.chars().filter(|c| !separators.contains(c));
    rest.map(|c| c.is_ascii_digit().then_some(c as u8)).collect()
}

/// Social security numbers: never area 666 or 000, group 00 or serial 0000; without dashes, no area of 900 and above either.
fn is_ssn(value: &str) -> bool {
    let dashed = value.len() == 11 && value.match_indices('-').map(|(at, _)| at).eq([3, 6]);
    let digits: Vec<u8> = value.bytes().filter(|byte| *byte != b'-').collect();
    (dashed || value.len() == 9) && scrub::is_ssn(&digits) && (dashed || digits[0] != b'9')
}

/// Medicare beneficiary identifiers, and those of made-up beneficiaries, which have a letter in second place that real ones never have:
/// <https://www.cms.gov/medicare/new-medicare-card/understanding-the-mbi-with-format.pdf>
fn is_mbi(value: &str) -> bool {
    let mut compact: Vec<u8> = value.bytes().filter(|byte| *byte != b'-').collect();
    if let Some(second) = compact.get_mut(1).filter(|second| second.is_ascii_uppercase()) {
        *second = b'A';
    }
    scrub::is_mbi(&compact)
}

fn is_npi(value: &str) -> bool {
    scrub::is_npi(value.as_bytes())
}

fn is_vehicle(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_uppercase()) && scrub::is_vin(value.as_bytes())
}

fn is_account(value: &str) -> bool {
    digits(value, &['-', ' '])
        .is_some_and(|d| (12..=19).contains(&d.len()) && !value.starts_with('-') && scrub::luhn(&d))
}

fn is_phone(value: &str) -> bool {
    let dressed = value.contains(['(', '+', '-', '.', ' ']);
    let begins = value.starts_with(['(', '+']) || value.starts_with(|first: char| first.is_ascii_digit());
    digits(value, &['(', ')', '+', '-', '.', ' '])
        .is_some_and(|d| (10..=15).contains(&d.len()) && begins && (dressed || d.len() == 10))
}

fn is_email(value: &str) -> bool {
    value
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains(['@', ' ']))
}

fn is_network(value: &str) -> bool {
    value.starts_with("http://")
        || value.starts_with("https://")
        || value.split_once('/').map_or(value, |(address, _)| address).parse::<core::net::IpAddr>().is_ok()
}

/// Dates with separators, year first or last, the month as a number or by its first letters, with or without a time behind; and eight digits
/// of a year from 1900 to 2099, a month and a day.
fn is_date(value: &str) -> bool {
    let date = value.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    match lengths[..] {
        [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4 | 2] => parts.iter().all(is_number),
        [1..=2, 3, 4] => is_number(&parts[0]) && is_number(&parts[2]) && scrub::is_month(parts[1]),
        [8] if is_number(&date) => {
            let (year, month, day) = (&date[..2], &date[4..6], &date[6..]);
            matches!(year, "19" | "20") && ("01"..="12").contains(&month) && ("01"..="31").contains(&day)
        }
        _ => false,
    }
}

/// A house number and words behind it, of which one is a street's.
fn is_street(value: &str) -> bool {
    let mut words = value.split_whitespace();
    let is_box = value.len() > 6 && value.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("po box"));
    let is_numbered = words.next().is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit()));
    is_box || is_unit(value) || (is_numbered && words.any(|word| scrub::is_street(word) || is_ordinal(word)))
}

/// The second line of an address: a designator and what it numbers (Postal Addressing Standards, Publication 28, section 213).
fn is_unit(value: &str) -> bool {
    const DESIGNATORS: [&str; 24] = [
        "APT",
        "APARTMENT",
        "BLDG",
        "BUILDING",
        "DEPT",
        "FL",
        "FLOOR",
        "HNGR",
        "LOT",
        "OFC",
        "PH",
        "PIER",
        "RM",
        "ROOM",
        "SLIP",
        "SPC",
        "SPACE",
        "STE",
        "STOP",
        "SUITE",
        "TRLR",
        "TRAILER",
        "UNIT",
        "#",
    ];
    let rest = |first: &str| {
        let (begin, rest) = (value.get(..first.len())?, value.get(first.len()..)?);
        begin.eq_ignore_ascii_case(first).then_some(rest)
    };
    let numbers = |rest: &str| {
        let number = rest.trim_start_matches(['.', ' ', '#']);
        let apart = rest.len() > number.len() || rest.starts_with(|c: char| c.is_ascii_digit());
        apart
            && (1..=5).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    DESIGNATORS.iter().filter_map(|first| rest(first)).any(numbers)
}

fn is_ordinal(word: &str) -> bool {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ending = word[digits.len()..].to_ascii_lowercase();
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(ending.as_str(), "st" | "nd" | "rd" | "th")
}

fn is_zip(value: &str) -> bool {
    let is_dashed = value.len() == 10 && value.as_bytes()[5] == b'-';
    (value.len() == 5 || value.len() == 9 || is_dashed)
        && digits(value, &['-']).is_some_and(|digits| matches!(digits.len(), 5 | 9))
}

/// Degrees with four decimals or more: a hundred metres or less.
fn is_point(value: &str) -> bool {
    value.split_once('.').is_some_and(|(_, decimals)| decimals.len() >= 4)
        && value.parse::<f64>().is_ok_and(|degrees| degrees.abs() <= 180.0 && degrees.abs() >= 10.0)
}

/// Six digits and more, or letters and digits as long as a key. No amount is meant: they have a point.
fn is_long(value: &str) -> bool {
    let is_code = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_:/|#().".contains(c));
    let numerals = value.bytes().filter(u8::is_ascii_digit).count();
    let is_amount = value.parse::<f64>().is_ok() && value.contains('.');
    is_code && !is_amount && (numerals >= 6 || (value.len() >= 8 && numerals >= 2))
}

/// Three digits and more, and nothing else.
fn is_numbered(value: &str) -> bool {
    value.len() >= 3 && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Several words: no code, and room for a name or a note.
fn is_phrase(value: &str) -> bool {
    let is_word = |word: &str| word.len() >= 3 && word.chars().all(char::is_alphabetic);
    value.split_whitespace().filter(|word| is_word(word)).count() >= 2
}

fn is_prose(value: &str) -> bool {
    value.len() >= 25 && value.split_whitespace().count() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[&str]) -> Shape {
        let many: Vec<&str> = values.iter().copied().cycle().take(values.len().max(10)).collect();
        Shape::of(&many)
    }

    #[test]
    fn made_up_values_of_each_class_are_told_apart() {
        for (values, expected) in [
            (&["123-45-6789", "219099999"][..], Shape::Ssn),
            (&["1EG4-TE5-MK73", "2A00A00AA00"], Shape::Mbi),
            (&["1234567893", "1245319599"], Shape::Npi),
            (&["(555) 010-1234", "+1 555 010 9999"], Shape::Phone),
            (&["a@example.org", "b.c@mail.example.com"], Shape::Email),
            (&["10.0.0.1", "https://example.org/x"], Shape::Network),
            (&["1970-01-31", "01/31/1970", "1970-01-31 10:00:00"], Shape::Date),
            (&["4111 1111 1111 1111", "5500005555555559"], Shape::Account),
            (&["31-JAN-1970", "1-Feb-1971"], Shape::Date),
            (&["19700131", "20110228"], Shape::Date),
            (&["02134", "60629"], Shape::FewLong),
            (&["12 Main Street", "9 Oak Ave Apt 2", "PO Box 12"], Shape::Street),
            (&["Boston", "New York", "Chicago"], Shape::Place),
            (&["Maria12", "James3", "Linda"], Shape::Name),
            (&["A", "B", "C", "D", "E", "F", "G", "H", "J"], Shape::Name),
            (&["42.36011", "-71.05891"], Shape::Point),
            (&["1M8GDM9AXKP042788"], Shape::Vehicle),
            (&["-10000010254618", "-10000010254619"], Shape::FewLong),
            (&["A", "B"], Shape::FewValues),
            (&["Apt 215", "STE 4", "# 12", "Unit B", "#7"], Shape::Street),
        ] {
            assert_eq!(shape(values), expected, "{values:?}");
        }
    }

    #[test]
    fn variety_and_length_decide_the_rest() {
        let many: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
        assert_eq!(Shape::of(&many.iter().map(String::as_str).collect::<Vec<_>>()), Shape::ManyValues);
        let note = "the patient said that nothing of this had happened before";
        assert_eq!(shape(&[note]), Shape::Prose);
        assert_eq!(Shape::of(&["A", "", " "]), Shape::Unknown);
        assert_eq!(Shape::of(&[]), Shape::Unknown);
        assert_eq!(Shape::of(&["02134", "60629-1234"]), Shape::Zip);
    }

    #[test]
    fn ages_initials_and_short_numbers_are_seen_and_codes_are_not_taken_for_them() {
        let ages: Vec<String> = (0..200).map(|i| (i * 37 % 91).to_string()).collect();
        let units: Vec<String> = (0..200).map(|i| (i * 37 % 31).to_string()).collect();
        for (values, expected) in [
            (ages.iter().map(String::as_str).collect::<Vec<_>>(), Shape::Ages),
            // Days of a month are no ages: nobody among them is old.
            (units.iter().map(String::as_str).collect(), Shape::FewValues),
            (vec!["W", "O", "E", "E"], Shape::Name),
            (vec!["A", "B", "A", "B", "A", "A"], Shape::Unknown),
            (vec!["680", "200", "680", "200", "680"], Shape::Numbers),
            (vec!["013", "001", "019", "013"], Shape::Numbers),
            (vec!["12.50", "99.10", "3.00"], Shape::Unknown),
            (vec!["cardiac emergency"], Shape::Prose),
            (vec!["HMO", "PPO"], Shape::Unknown),
        ] {
            assert_eq!(Shape::of(&values), expected, "{values:?}");
        }
        assert!(!is_unit("FLU") && !is_unit("UNITED") && !is_unit("STOPPED 12345678") && !is_unit("APT"));
    }

    #[test]
    fn near_misses_are_not_taken_for_identifiers() {
        assert!(!is_ssn("000-12-3456") && !is_ssn("666123456") && !is_ssn("987654321"));
        assert!(!is_npi("1234567890") && !is_mbi("0EG4TE5MK73"));
        assert!(!is_date("12-345-6789") && !is_phone("1970-01-31 1"));
    }
}
