//! The forms in which a planted value is searched, and how sure a find is.

use md5::Md5;
use sha2::{Digest, Sha256};
use twox_hash::XxHash64;

use super::canary::{Planted, day_text, decimal_text, hex, moment, moment_text};
use super::sha1::sha1;

/// One form of a value.
pub(crate) struct Needle {
    pub(crate) form: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether upper and lower case are the same.
    pub(crate) folded: bool,
}

/// The bits of chance in a needle that make a find sure by itself. A shorter one (four digits, the 32 bits of a day or a CRC) lies in some
/// file by chance, so it counts only beside the same form of another person's value: a leak leaks a column, chance does not.
pub(crate) const SURE_BITS: u32 = 40;

/// How much a needle tells: 2^-bits are the odds of its turning up at one place of random data of its own alphabet.
pub(crate) fn bits(needle: &Needle) -> u32 {
    let letter = if needle.folded { 47 } else { 57 };
    let tenths = |byte: &u8| match byte {
        b'0'..=b'9' => 33,
        b'a'..=b'z' | b'A'..=b'Z' => letter,
        // Separators, and the zero and sign bytes of small numbers, tell little.
        0 | 0xff | b' '..=b'~' => 5,
        _ => 80,
    };
    let is_text = needle.bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    if is_text {
        return needle.bytes.iter().map(tenths).sum::<u32>() / 10;
    }
    needle.bytes.iter().filter(|byte| ![0, 0xff].contains(*byte)).count() as u32 * 8
}

/// All forms of a value.
pub(crate) fn needles(planted: &Planted) -> Vec<Needle> {
    let mut found = Found::default();
    match planted {
        Planted::Text(value) => found.text(value),
        Planted::Digits(value) => {
            found.text(value);
            found.parts_of_digits(value);
        }
        Planted::Number { unscaled, scale } => found.number(*unscaled, *scale),
        Planted::Float(value) => found.float(*value),
        Planted::Day(days) => found.day(*days),
        Planted::Moment(micros) => found.moment(*micros),
        Planted::Bytes(value) => found.bytes(value),
    }
    found.0.retain(|needle| needle.bytes.len() >= 4);
    found.0
}

#[derive(Default)]
struct Found(Vec<Needle>);

impl Found {
    fn add(&mut self, form: &'static str, bytes: impl Into<Vec<u8>>) {
        self.0.push(Needle { form, bytes: bytes.into(), folded: false });
    }

    /// Text in any case.
    fn fold(&mut self, form: &'static str, text: impl Into<String>) {
        self.0.push(Needle { form, bytes: text.into().into_bytes(), folded: true });
    }

    /// A word as text, and however else text is spelled. All its parts of eight characters stand for its prefixes too.
    fn text(&mut self, value: &str) {
        let bare: String = value.chars().filter(|letter| letter.is_alphanumeric()).collect();
        for whole in [value, &bare] {
            self.windows("text", whole.as_bytes(), 8);
            self.fold("text reversed", whole.chars().rev().collect::<String>());
            self.spelled(whole);
            self.digests(whole.as_bytes());
        }
        self.digests(value.to_lowercase().as_bytes());
        self.digests(value.to_uppercase().as_bytes());
        self.escaped(value);
    }

    /// Text that stands for a value, as a whole only: its parts are too common.
    fn whole(&mut self, form: &'static str, value: &str) {
        self.fold(form, value);
        self.spelled(value);
        self.digests(value.as_bytes());
        self.escaped(value);
    }

    fn windows(&mut self, form: &'static str, bytes: &[u8], length: usize) {
        self.0.push(Needle { form, bytes: bytes.to_vec(), folded: true });
        for window in bytes.windows(length).filter(|window| window.len() < bytes.len()) {
            self.0.push(Needle { form, bytes: window.to_vec(), folded: true });
        }
    }

    fn spelled(&mut self, value: &str) {
        self.add("UTF-16 LE", value.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
        self.add("UTF-16 BE", value.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
        self.fold("hexadecimal", hex(value.as_bytes()));
        self.base64(value.as_bytes());
    }

    /// As JSON, URLs and HTML spell what they escape.
    fn escaped(&mut self, value: &str) {
        let each = |spell: &dyn Fn(u8) -> String| {
            let spelled =
                |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { spell(byte) };
            value.bytes().map(spelled).collect::<String>()
        };
        self.fold("JSON escapes", value.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>());
        self.fold("JSON escapes", each(&|byte| format!("\\u{byte:04x}")));
        self.fold("URL escapes", each(&|byte| format!("%{byte:02x}")));
        self.fold("URL escapes", each(&|byte| if byte == b' ' { "+".into() } else { format!("%{byte:02x}") }));
        self.fold("HTML escapes", each(&|byte| format!("&#{byte};")));
        self.fold("HTML escapes", each(&|byte| format!("&#x{byte:x};")));
    }

    /// What the value is in base 64 wherever it begins in a group of three, in both alphabets.
    fn base64(&mut self, value: &[u8]) {
        for shift in 0..3 {
            let mut shifted = vec![0; shift];
            shifted.extend(value);
            let inner = shifted.len() * 8 / 6;
            let text = base64(&shifted);
            // The first characters hold bits of what stands before, the last one of what follows.
            let from = [0, 2, 3][shift];
            let sure = &text[from..inner];
            self.add("base 64", sure.as_bytes());
            self.add("base 64", sure.replace('+', "-").replace('/', "_").into_bytes());
        }
    }

    /// Digests without a key, which anybody could make of a guess.
    fn digests(&mut self, value: &[u8]) {
        let xx = XxHash64::oneshot(0, value);
        let digests: [(&'static str, Vec<u8>); 7] = [
            ("MD5", Md5::digest(value).to_vec()),
            ("SHA-1", sha1(value).to_vec()),
            ("SHA-256", Sha256::digest(value).to_vec()),
            ("xxh64", xx.to_be_bytes().to_vec()),
            ("xxh3", xxhash_rust::xxh3::xxh3_64(value).to_be_bytes().to_vec()),
            ("BLAKE3", blake3::hash(value).as_bytes().to_vec()),
            ("CRC-32", crc32fast::hash(value).to_be_bytes().to_vec()),
        ];
        for (form, digest) in digests {
            self.fold(form, hex(&digest));
            if digest.len() > 8 {
                self.add(form, base64(&digest).trim_end_matches('='));
            } else {
                self.add(form, digest.iter().rev().copied().collect::<Vec<_>>());
            }
            self.add(form, digest);
        }
    }

    /// The last four digits, the ZIP code of five and the like, where they stand alone between quotes, commas or blanks.
    fn parts_of_digits(&mut self, value: &str) {
        for part in value.split(|letter: char| !letter.is_ascii_digit()).filter(|part| part.len() >= 4) {
            for (open, close) in [("\"", "\""), (",", ","), (",", "\n"), ("\n", ","), (" ", " |")] {
                self.add("part that stands alone", format!("{open}{part}{close}"));
            }
        }
    }

    fn number(&mut self, unscaled: i64, scale: u32) {
        let text = decimal_text(unscaled, scale);
        self.whole("number as text", &text);
        self.whole("number as text", &unscaled.to_string());
        let digits = unscaled.to_string();
        let grouped: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
        self.fold("number as text", grouped.join(","));
        if let Ok(small) = i32::try_from(unscaled) {
            self.add("int32", small.to_le_bytes());
            self.add("int32", small.to_be_bytes());
        }
        self.add("int64", unscaled.to_le_bytes());
        self.add("int64", unscaled.to_be_bytes());
        self.add("decimal of 16 bytes", i128::from(unscaled).to_le_bytes());
        let big_endian = unscaled.to_be_bytes();
        let first = big_endian.iter().position(|byte| *byte != 0).unwrap_or(0);
        self.add("decimal of fixed bytes", &big_endian[first..]);
        self.add("packed decimal", packed(&digits));
        self.add("varint", varint(unscaled as u64));
        self.add("zigzag varint", varint((unscaled as u64) << 1));
        let value = unscaled as f64 / 10_f64.powi(scale as i32);
        self.floats(value);
        self.digests(&unscaled.to_le_bytes());
    }

    fn float(&mut self, value: f64) {
        self.whole("number as text", &value.to_string());
        self.floats(value);
    }

    fn floats(&mut self, value: f64) {
        for bytes in [value.to_le_bytes(), value.to_be_bytes()] {
            self.add("float64", bytes);
        }
        for bytes in [(value as f32).to_le_bytes(), (value as f32).to_be_bytes()] {
            self.add("float32", bytes);
        }
    }

    fn day(&mut self, days: i32) {
        let at = moment(i64::from(days) * 86_400_000_000);
        for format in ["%Y%m%d", "%m/%d/%Y", "%-m/%-d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%m-%d-%Y"] {
            self.fold("date as text", at.format(format).to_string());
        }
        self.whole("date as text", &day_text(days));
        self.fold("text reversed", day_text(days).chars().rev().collect::<String>());
        let since_2000 = days - 10_957;
        for bytes in [days.to_le_bytes(), days.to_be_bytes(), since_2000.to_le_bytes(), since_2000.to_be_bytes()] {
            self.add("days", bytes);
        }
        self.instants(i64::from(days) * 86_400_000_000);
    }

    fn moment(&mut self, micros: i64) {
        let text = moment_text(micros);
        self.whole("time as text", &text);
        self.fold("time as text", text.replace(' ', "T"));
        self.fold("time as text", text[..19].to_owned());
        self.fold("time as text", text[..19].replace(' ', "T"));
        self.instants(micros);
    }

    fn instants(&mut self, micros: i64) {
        for number in [micros, micros - 946_684_800_000_000, micros / 1000, micros / 1_000_000] {
            self.fold("instant as text", number.to_string());
            self.add("instant", number.to_le_bytes());
            self.add("instant", number.to_be_bytes());
        }
    }

    fn bytes(&mut self, value: &[u8]) {
        for window in value.windows(8) {
            self.add("bytes", window);
        }
        self.add("bytes reversed", value.iter().rev().copied().collect::<Vec<_>>());
        self.windows("hexadecimal", hex(value).as_bytes(), 16);
        self.base64(value);
        self.digests(value);
    }
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// Two digits a byte and the sign behind them, as COBOL's COMP-3 has it.
fn packed(digits: &str) -> Vec<u8> {
    let mut nibbles: Vec<u8> = digits.bytes().map(|digit| digit - b'0').collect();
    nibbles.push(0xc);
    if nibbles.len() % 2 == 1 {
        nibbles.insert(0, 0);
    }
    nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn forms_are_spelled_as_others_spell_them() {
    assert_eq!(base64(b"Zebra"), "WmVicmE");
    assert_eq!(packed("517938264"), [0x51, 0x79, 0x38, 0x26, 0x4c]);
    assert_eq!(packed("1234"), [0x01, 0x23, 0x4c]);
    assert_eq!(varint(300), [0xac, 0x02]);
    assert_eq!(hex(&sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    let long = vec![b'a'; 1000];
    assert_eq!(hex(&sha1(&long)), "291e9a6c66994949b57ba5e650361e98fc36b1ba");
}
