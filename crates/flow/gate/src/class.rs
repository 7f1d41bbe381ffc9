//! What a column's name says about the person: the 18 classes of 45 CFR 164.514(b)(2)(i), and what is near them.

/// What a column seems to hold, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A: names, and what people log in with.
    Name,
    /// B: a street address or a point on the map.
    Street,
    /// B: a city, county or another part of a state.
    Place,
    /// B: a ZIP code.
    Zip,
    /// B: a state, which may stay.
    State,
    /// C: the date of birth.
    Birth,
    /// C: the date of death.
    Death,
    /// C: an age.
    Age,
    /// C: any other date.
    Date,
    /// D, E: phone and fax numbers.
    Phone,
    /// F: e-mail addresses.
    Email,
    /// G: social security and tax numbers.
    Ssn,
    /// H: medical record numbers.
    MedicalRecord,
    /// I: health plan beneficiary numbers.
    HealthPlan,
    /// J: account numbers.
    Account,
    /// K: certificates and licences.
    Licence,
    /// L: vehicles.
    Vehicle,
    /// M: devices.
    Device,
    /// N, O: web and network addresses.
    Network,
    /// P, Q: biometrics and pictures.
    Biometric,
    /// R: any other unique number or code.
    Unique,
    /// Text that may hold any of them.
    FreeText,
    /// A code of a public coding system, a kind or a status.
    Code,
    /// An amount of money or a quantity.
    Amount,
}

/// What a rule says that its column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// One of the 18 classes, by its letter.
    Identifies(char),
    /// Nothing that identifies a person.
    NotIdentifying,
}

/// The 18 classes of 45 CFR 164.514(b)(2)(i) in its order.
pub(crate) const LETTERS: [(char, &str); 18] = [
    ('A', "names"),
    ('B', "geography below state"),
    ('C', "dates and ages"),
    ('D', "phone numbers"),
    ('E', "fax numbers"),
    ('F', "e-mail addresses"),
    ('G', "social security numbers"),
    ('H', "medical record numbers"),
    ('I', "health plan beneficiary numbers"),
    ('J', "account numbers"),
    ('K', "certificates and licences"),
    ('L', "vehicles"),
    ('M', "devices"),
    ('N', "web addresses"),
    ('O', "network addresses"),
    ('P', "biometrics"),
    ('Q', "pictures of faces"),
    ('R', "other unique numbers and codes"),
];

impl Declared {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "not_identifying" {
            return Some(Declared::NotIdentifying);
        }
        LETTERS
            .into_iter()
            .map(|(letter, _)| letter)
            .find(|letter| text == letter.to_string())
            .map(Declared::Identifies)
    }
}

impl Class {
    /// The letter of its class in [`LETTERS`]; `None` for what is none of them, and for free text, which may hold all.
    pub fn letter(self, column: &str) -> Option<char> {
        let has = |these: &[&str]| words(column).iter().any(|word| these.contains(&word.as_str()));
        Some(match self {
            Class::Name => 'A',
            Class::Street | Class::Place | Class::Zip => 'B',
            Class::Birth | Class::Death | Class::Age | Class::Date => 'C',
            Class::Phone if has(&["fax"]) => 'E',
            Class::Phone => 'D',
            Class::Email => 'F',
            Class::Ssn => 'G',
            Class::MedicalRecord => 'H',
            Class::HealthPlan => 'I',
            Class::Account => 'J',
            Class::Licence => 'K',
            Class::Vehicle => 'L',
            Class::Device => 'M',
            Class::Network if has(&["ip", "ipv4", "ipv6", "mac", "hostname"]) => 'O',
            Class::Network => 'N',
            Class::Biometric if has(&["photo", "picture", "image", "avatar", "portrait", "face"]) => 'Q',
            Class::Biometric => 'P',
            Class::Unique => 'R',
            Class::State | Class::FreeText | Class::Code | Class::Amount => return None,
        })
    }
}

/// Words and runs of words that give a class away, apart by commas; the first class with one that is found wins.
const WORDS: [(Class, &str); 25] = [
    (Class::Ssn, "ssn, social security, tin, itin, tax id, ein"),
    (
        Class::HealthPlan,
        "mbi, hicn, hic, medicare, medicaid, member id, member number, member no, member key, subscriber, \
         beneficiary, bene id, policy id, policy number, policy no, insured id, insured number",
    ),
    (
        Class::MedicalRecord,
        "mrn, medical record, chart, patient id, patient number, patient no, patient key, accession",
    ),
    (Class::Birth, "dob, birth, brth, birthday, birthdate, born"),
    (Class::Death, "death, dod, deceased, died"),
    (Class::Email, "email, e mail, mail"),
    (Class::Phone, "phone, telephone, tel, mobile, cell, pager, fax"),
    (Class::Network, "url, uri, website, homepage, ip, ipv4, ipv6, mac, hostname, cookie, user agent"),
    // A plate is a vehicle's, whatever else is on it.
    (Class::Vehicle, "license plate, licence plate, licenseplate, licenceplate, plate number, plate no, license tag"),
    (Class::Licence, "license, licence, dea, certificate, passport, driver, permit"),
    (Class::Vehicle, "vin, plate, vehicle"),
    (Class::Device, "device, serial, udi, imei, implant"),
    (
        Class::Biometric,
        "fingerprint, biometric, retina, iris, voice, dna, genome, photo, picture, image, avatar, portrait, face",
    ),
    (Class::Account, "account, acct, iban, routing, card, bank, control number, control no, invoice"),
    (
        Class::FreeText,
        "note, notes, comment, comments, remark, remarks, description, memo, narrative, text, message, body, \
         details, history, report, summary, document, payload, raw, json, xml",
    ),
    (Class::Zip, "zip, zipcode, zip4, postal, postcode"),
    (
        Class::Street,
        "address, addr, adr, street, apt, apartment, suite, latitude, longitude, lat, lon, lng, geo, geocode, location",
    ),
    (Class::Place, "city, town, county, cnty, fips, birthplace, district, precinct, tract, neighborhood"),
    (
        Class::Name,
        "name, names, surname, lastname, firstname, fullname, middlename, fname, lname, mname, forename, \
         initials, nickname, alias, maiden, username, login, password, secret, employer, guarantor, contact, \
         spouse, mother, father, relative",
    ),
    (Class::Age, "age"),
    (Class::Date, "date, dt, day, at, time, timestamp, ts, datetime"),
    (Class::State, "state, province"),
    (
        Class::Unique,
        "id, ids, uid, uids, sk, uuid, guid, key, number, num, no, nbr, npi, identifier, ref, reference, hash, token, seq",
    ),
    (
        Class::Amount,
        "amount, amt, paid, charge, charged, allowed, cost, price, copay, coinsurance, deductible, units, qty, \
         quantity, count, rate, percent, total, balance, billed, fee, discount",
    ),
    (
        Class::Code,
        "code, cd, type, status, indicator, flag, category, currency, kind, icd, icd9, icd10, diagnosis, dx, cpt, \
         hcpcs, drg, ndc, loinc, snomed, modifier, revenue, taxonomy, specialty, plan, product, gender, sex, is, \
         has, active, version, pos",
    ),
];

/// The class that a column's name gives away.
pub fn classify(column: &str) -> Option<Class> {
    let words = words(column);
    if let [only] = &words[..]
        && ["first", "last", "middle", "given", "family"].contains(&only.as_str())
    {
        return Some(Class::Name);
    }
    let spaced = spaced(&words);
    WORDS.iter().find(|(_, runs)| has_one(&spaced, runs)).map(|(class, _)| *class)
}

/// Words with spaces around, as they are and without digits at their ends: `dt7` is one of several `dt`, while `zip4` and `icd10` are words
/// themselves.
fn spaced(words: &[String]) -> [String; 2] {
    let numberless: Vec<&str> = words.iter().map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
    [format!(" {} ", words.join(" ")), format!(" {} ", numberless.join(" "))]
}

fn has_one(spaced: &[String; 2], runs: &str) -> bool {
    runs.split(", ").any(|run| spaced.iter().any(|words| words.contains(&format!(" {run} "))))
}

/// Words beside those of [`WORDS`] that say a place and a date.
const PLACES: &str = "region, area, country";
const DATES: &str = "year, years, yr, month, start, starts, started, begin, begins, began, end, ends, ended, from, to, thru, \
    through, until, since, on, effective, eff, expires, expired, expiry, expiration, term, termination, issued, issue, opened, closed, \
    created, creation, updated, changed, modified, received, sent, signed, verified, enrolled, enrollment, admitted, admission, \
    discharged, discharge, onset";

/// Whether some word of the name says that it holds what is of class B or C, whatever else is in it: `account_opened_date` is a date.
pub(crate) fn mentions(column: &str, letter: char) -> bool {
    let (classes, more) = match letter {
        'B' => ([Class::Zip, Class::Street, Class::Place, Class::State], PLACES),
        'C' => ([Class::Birth, Class::Death, Class::Age, Class::Date], DATES),
        _ => return false,
    };
    let spaced = spaced(&words(column));
    let of_class = |(class, runs): &(Class, &str)| classes.contains(class) && has_one(&spaced, runs);
    has_one(&spaced, more) || WORDS.iter().any(of_class)
}

/// Whether the name says that the column holds one of the direct identifiers that a limited data set must not hold (45 CFR 164.514(e)(2)),
/// or free text, which may hold all of them. `note_type` is about a note and does not hold one.
pub(crate) fn names_direct_identifier(column: &str) -> bool {
    use Class as C;
    const ABOUT: [&str; 10] =
        ["type", "kind", "status", "category", "indicator", "flag", "count", "counts", "cnt", "language"];
    let about = words(column).last().is_some_and(|last| ABOUT.contains(&last.as_str()));
    let direct = [
        C::Name,
        C::Street,
        C::Phone,
        C::Email,
        C::Ssn,
        C::MedicalRecord,
        C::HealthPlan,
        C::Account,
        C::Licence,
        C::Vehicle,
        C::Device,
        C::Network,
        C::Biometric,
        C::FreeText,
    ];
    !about && classify(column).is_some_and(|class| direct.contains(&class))
}

/// A name's words in lower case: `memberId`, `MEMBER_ID` and `memberid` are all `member id`.
pub(crate) fn words(name: &str) -> Vec<String> {
    const STEMS: [&str; 11] = [
        "member",
        "patient",
        "claim",
        "provider",
        "subscriber",
        "account",
        "policy",
        "encounter",
        "person",
        "insurance",
        "appointment",
    ];
    const TAILS: [&str; 3] = ["note", "notes", "date"];
    const WHOLE: [&str; 4] = ["update", "mandate", "candidate", "birthdate"];
    let mut words: Vec<String> = Vec::new();
    let mut previous = '_';
    for character in name.chars() {
        if character.is_alphanumeric() {
            let starts = !previous.is_alphanumeric() || (previous.is_lowercase() && character.is_uppercase());
            if starts {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(character.to_lowercase());
            }
        }
        previous = character;
    }
    words
        .into_iter()
        .flat_map(|word| {
            let stem = |word: &str| STEMS.iter().any(|stem| word.ends_with(stem));
            let parts = match word.strip_suffix("id").filter(|rest| stem(rest)) {
                Some(rest) => {
                    let at = STEMS.iter().find(|stem| rest.ends_with(**stem)).map_or(0, |stem| rest.len() - stem.len());
                    vec![rest[..at].to_owned(), rest[at..].to_owned(), "id".to_owned()]
                }
                None => {
                    let tail = |tail: &&&str| word.ends_with(**tail) && word.len() >= tail.len() + 4;
                    match TAILS.iter().find(tail).filter(|_| !WHOLE.contains(&word.as_str())) {
                        Some(tail) => vec![word[..word.len() - tail.len()].to_owned(), (*tail).to_owned()],
                        None => vec![word],
                    }
                }
            };
            parts.into_iter().filter(|part| !part.is_empty())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_their_class_away() {
        let cases = [
            ("member_id", Some(Class::HealthPlan)),
            ("memberId", Some(Class::HealthPlan)),
            ("MEMBERID", Some(Class::HealthPlan)),
            ("patient_ssn", Some(Class::Ssn)),
            ("mbi", Some(Class::HealthPlan)),
            ("MRN", Some(Class::MedicalRecord)),
            ("birthDate", Some(Class::Birth)),
            ("SERVICEDATE", Some(Class::Date)),
            ("LINENOTE", Some(Class::FreeText)),
            ("PRIMARYINSURANCEID", Some(Class::Unique)),
            ("procedure_dt7", Some(Class::Date)),
            ("fips_cnty_cd", Some(Class::Place)),
            ("first", Some(Class::Name)),
            ("first_visit", None),
            ("instance_uid", Some(Class::Unique)),
            ("dob", Some(Class::Birth)),
            ("last_name", Some(Class::Name)),
            ("employer_name", Some(Class::Name)),
            ("home_phone", Some(Class::Phone)),
            ("e_mail", Some(Class::Email)),
            ("email_address", Some(Class::Email)),
            ("ip_address", Some(Class::Network)),
            ("addr_line1", Some(Class::Street)),
            ("county_code", Some(Class::Place)),
            ("zip_code", Some(Class::Zip)),
            ("state", Some(Class::State)),
            ("date_of_death", Some(Class::Death)),
            ("service_from_date", Some(Class::Date)),
            ("updated_at", Some(Class::Date)),
            ("age", Some(Class::Age)),
            ("patient_account_no", Some(Class::Account)),
            ("drivers_license_no", Some(Class::Licence)),
            ("vin", Some(Class::Vehicle)),
            ("license_plate", Some(Class::Vehicle)),
            ("LicencePlateNo", Some(Class::Vehicle)),
            ("plate_number", Some(Class::Vehicle)),
            ("license_number", Some(Class::Licence)),
            ("implant_serial", Some(Class::Device)),
            ("photo", Some(Class::Biometric)),
            ("note_text", Some(Class::FreeText)),
            ("claim_id", Some(Class::Unique)),
            ("paid_amount", Some(Class::Amount)),
            ("procedure_code", Some(Class::Code)),
            ("thing", None),
            ("coverage", None),
        ];
        for (name, class) in cases {
            assert_eq!(classify(name), class, "{name}");
        }
    }

    #[test]
    fn a_date_or_place_of_something_is_told_by_its_words() {
        let dates =
            ["account_opened_date", "note_dt", "licenseExpires", "card_valid_from", "subscriber_age", "login_at"];
        for date in dates {
            assert!(names_direct_identifier(date) && mentions(date, 'C') && !mentions(date, 'B'), "{date}");
        }
        for place in ["account_zip", "license_state", "subscriber_county", "guarantor_region"] {
            assert!(names_direct_identifier(place) && mentions(place, 'B') && !mentions(place, 'C'), "{place}");
        }
        for neither in ["ssn", "account_no", "phone", "mrn", "note"] {
            assert!(!mentions(neither, 'B') && !mentions(neither, 'C'), "{neither}");
        }
    }

    #[test]
    fn a_column_about_an_identifier_is_not_one() {
        for direct in ["note", "phone", "home_address", "member_id", "ssn", "device_serial", "lat"] {
            assert!(names_direct_identifier(direct), "{direct}");
        }
        for other in ["note_type", "phone_status", "login_cnt", "city", "claim_id", "paid_amount", "thing"] {
            assert!(!names_direct_identifier(other), "{other}");
        }
    }
}
