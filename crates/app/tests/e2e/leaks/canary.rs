//! Planted values: for each row one of every kind, valid for its class, and random enough that no file holds one by chance.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a planted value is, which decides in which forms it is searched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Planted {
    /// Text, searched in parts too.
    Text(String),
    /// An identifier of digits, with what separates them.
    Digits(String),
    /// A whole number; with a scale, the unscaled digits of a decimal.
    Number { unscaled: i64, scale: u32 },
    /// A binary fraction.
    Float(f64),
    /// Days since 1970.
    Day(i32),
    /// Microseconds since 1970.
    Moment(i64),
    /// Any bytes.
    Bytes(Vec<u8>),
}

/// A planted value and the column that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub(crate) column: &'static str,
    pub(crate) planted: Planted,
}

/// The values of one person, of whom nobody else has any.
pub(crate) struct Person {
    pub(crate) mrn: String,
    pub(crate) number: i32,
    pub(crate) ssn: String,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) phone: String,
    pub(crate) born: i32,
    pub(crate) zip: String,
    pub(crate) seen: i64,
    pub(crate) account: i64,
    pub(crate) salary: i64,
    pub(crate) ratio: f64,
    pub(crate) scan: Vec<u8>,
    pub(crate) guid: [u8; 16],
    pub(crate) leaf: String,
    pub(crate) item: String,
    pub(crate) street: String,
    pub(crate) word: String,
}

impl Person {
    /// The person of a number; the same number, the same person.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let random = &mut StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        Self {
            mrn: format!("{}-{}", word(random, 4).to_uppercase(), digits(random, 7)),
            // At least nine digits, so that its four bytes are all used.
            number: random.random_range(0x2100_0000..0x7000_0000),
            ssn: format!("{}-{:02}-{}", random.random_range(101..660), random.random_range(11..99), last_four(random)),
            name: name(random),
            email: format!("{}.{}@{}.org", word(random, 5), word(random, 5), word(random, 6)),
            phone: format!(
                "({}) {}-{}",
                random.random_range(201..990),
                random.random_range(201..990),
                digits(random, 4)
            ),
            // 1925 to 1968: the four bytes of a day near 1970 are those of any small number, and two people with such days are found everywhere.
            born: random.random_range(-16_436..-512),
            zip: format!("{}-{}", random.random_range(10_010..99_950), last_four(random)),
            seen: random.random_range(1_300_000_000_000_000..1_600_000_000_000_000),
            account: random.random_range(810_000_000_000..990_000_000_000),
            salary: random.random_range(4_000_000_000_000..9_000_000_000_000),
            ratio: random.random_range(1.0e3..1.0e6),
            scan: (0..24).map(|_| random.random()).collect(),
            guid: random.random(),
            leaf: name(random),
            item: name(random),
            street: format!("{} {}", random.random_range(100..999), name(random)),
            word: name(random),
        }
    }

    /// Everything of the person that must not be found.
    pub(crate) fn canaries(&self) -> Vec<Canary> {
        let text = |value: &str| Planted::Text(value.to_owned());
        let planted = [
            ("mrn", text(&self.mrn)),
            ("number", Planted::Number { unscaled: self.number.into(), scale: 0 }),
            ("ssn", Planted::Digits(self.ssn.clone())),
            ("name", text(&self.name)),
            ("email", text(&self.email)),
            ("phone", Planted::Digits(self.phone.clone())),
            ("born", Planted::Day(self.born)),
            ("zip", Planted::Digits(self.zip.clone())),
            ("seen", Planted::Moment(self.seen)),
            ("account", Planted::Number { unscaled: self.account, scale: 0 }),
            ("salary", Planted::Number { unscaled: self.salary, scale: 2 }),
            ("ratio", Planted::Float(self.ratio)),
            ("scan", Planted::Bytes(self.scan.clone())),
            ("guid", Planted::Bytes(self.guid.to_vec())),
            ("guid", Planted::Text(self.guid_text())),
            ("doc", text(&self.leaf)),
            ("names", text(&self.item)),
            ("home", text(&self.street)),
            ("note", text(&self.word)),
        ];
        planted.into_iter().map(|(column, planted)| Canary { column, planted }).collect()
    }

    pub(crate) fn guid_text(&self) -> String {
        uuid::Uuid::from_bytes(self.guid).to_string()
    }

    /// The values as SQL literals, in the order of the table's columns; the note is `filler` characters long beside them.
    pub(crate) fn values(&self, filler: usize) -> String {
        // Random text, so that a long note is stored out of line whatever compresses it.
        let mut random = StdRng::seed_from_u64(self.account as u64);
        let filler: String = (0..filler).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
        let (day, moment) = (day_text(self.born), moment_text(self.seen));
        format!(
            "'{mrn}', {number}, '{ssn}', '{name}', '{email}', '{phone}', '{day}', '{zip}', '{moment}+00', {account}, {salary}, {ratio}, \
             '\\x{scan}', '{guid}', '{{\"plan\": \"gold\", \"patient\": {{\"name\": \"{leaf}\", \"kin\": [\"{leaf} II\"]}}, \"{leaf}\": 1}}', \
             ARRAY['{item}', 'x'], ROW('{street}', 7), 'Seen: {word}, SSN {ssn}, MRN {mrn}. {filler}', 'gold'",
            mrn = self.mrn,
            number = self.number,
            ssn = self.ssn,
            name = self.name,
            email = self.email,
            phone = self.phone,
            zip = self.zip,
            account = self.account,
            salary = decimal_text(self.salary, 2),
            ratio = self.ratio,
            scan = hex(&self.scan),
            guid = self.guid_text(),
            leaf = self.leaf,
            item = self.item,
            street = self.street,
            word = self.word,
        )
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn day_text(days: i32) -> String {
    moment(i64::from(days) * 86_400_000_000).format("%Y-%m-%d").to_string()
}

pub(crate) fn moment_text(micros: i64) -> String {
    moment(micros).format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

pub(crate) fn moment(micros: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(micros).unwrap()
}

pub(crate) fn decimal_text(unscaled: i64, scale: u32) -> String {
    let unit = 10_i64.pow(scale);
    match scale {
        0 => unscaled.to_string(),
        scale => format!("{}.{:0width$}", unscaled / unit, unscaled % unit, width = scale as usize),
    }
}

fn word(random: &mut StdRng, letters: usize) -> String {
    (0..letters).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// Eleven letters with an odd one and capitals at odd places.
fn name(random: &mut StdRng) -> String {
    let mut name = word(random, 11);
    name.make_ascii_lowercase();
    let capital = name[..1].to_uppercase();
    let inner = name[5..6].to_uppercase();
    format!("{capital}{}{inner}{}", &name[1..5], &name[6..])
}

fn digits(random: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(random.random_range(b'0'..=b'9'))).collect()
}

/// Four digits that begin with 0: not a number of anything, and tokens (base 32) have none.
fn last_four(random: &mut StdRng) -> String {
    format!("0{}", random.random_range(181..999))
}
