//! D0: what the row itself says of the person is searched in its text first, in the spellings that people use.

use super::lexicon::{Lexicon, folded};
use super::normal::Normal;
use super::token::{Kind, Shape, Text};
use super::word::Word;
use super::{Hits, Label};
use crate::calendar::Date;
use crate::class::{Class, classify};

/// Words of so many letters are found with one mistake in them.
const TYPO_LETTERS_MIN: usize = 6;

/// Words of so many letters are found within a longer one that no vocabulary has.
const GLUED_MIN: usize = 5;

/// Shorter codes would be found everywhere.
const CODE_MIN: usize = 4;

/// Longer values are searched by their first so many characters.
const VALUE_MAX: usize = 256;

/// Given names and their short forms; every name of a line stands for the others.
const NICKNAMES: &str = include_str!("../../data/scrub/nicknames.txt");

/// What a column with known values holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownKind {
    label: Label,
    /// The last four characters point at the person too.
    last_four: bool,
    class: Option<Class>,
}

/// What is known of one row's person.
#[derive(Default)]
pub struct KnownValues {
    words: Vec<KnownWord>,
    /// Letters and digits in lower case; separators in the text do not count.
    codes: Vec<(Vec<u8>, Label)>,
    days: Vec<(u32, u32)>,
    /// Of `words`, in bytes.
    shortest: usize,
    longest: usize,
    /// The first bytes of `codes`.
    firsts: [u64; 4],
}

struct KnownWord {
    folded: Vec<u8>,
    label: Label,
    /// A word with another meaning: only capitalised it is the name.
    capital_only: bool,
    typos: bool,
}

impl KnownKind {
    /// By the column's name.
    pub(crate) fn of(column: &str) -> Self {
        let class = classify(column);
        let label = match class {
            Some(Class::Name) => Label::Name,
            Some(Class::Street) => Label::Address,
            Some(Class::Place) => Label::Place,
            Some(Class::Zip) => Label::Zip,
            Some(Class::Birth | Class::Death | Class::Date) => Label::Date,
            Some(Class::Phone) => Label::Phone,
            Some(Class::Email) => Label::Email,
            Some(Class::Ssn) => Label::Ssn,
            Some(Class::MedicalRecord) => Label::Mrn,
            Some(Class::HealthPlan) => Label::HealthPlan,
            Some(Class::Account) => Label::Account,
            Some(Class::Licence) => Label::Licence,
            Some(Class::Vehicle) => Label::Vehicle,
            Some(Class::Device) => Label::Device,
            Some(Class::Network) => Label::Network,
            _ => Label::Id,
        };
        let last_four = matches!(label, Label::Ssn | Label::Mrn | Label::HealthPlan | Label::Account | Label::Licence);
        Self { label, last_four, class }
    }
}

impl KnownValues {
    /// Adds the value of a column of this name, as `canonical` text spells it.
    pub fn add(&mut self, column: &str, value: &str) {
        self.add_kind(KnownKind::of(column), value);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// In the one spelling that texts are brought to.
    pub(crate) fn add_kind(&mut self, kind: KnownKind, value: &str) {
        let value = value.get(..value.floor_char_boundary(VALUE_MAX)).unwrap_or_default();
        let normal = Normal::of(value);
        let value = normal.text();
        if let Some(date) = Date::parse(value) {
            self.add_date(date);
            return;
        }
        self.add_words(kind, value);
        let one_word = value.trim().chars().all(char::is_alphabetic);
        if one_word && matches!(kind.label, Label::Name | Label::Address | Label::Place) {
            return;
        }
        let code = squeezed(value);
        match kind.label {
            Label::Phone => {
                let digits: Vec<u8> = code.into_iter().filter(u8::is_ascii_digit).collect();
                let local = digits.strip_prefix(b"1").filter(|rest| rest.len() == 10).unwrap_or(&digits).to_vec();
                if let Some(line) = local.len().checked_sub(7).filter(|start| *start > 0) {
                    self.add_code(local[line..].to_vec(), kind.label);
                }
                self.add_code(local, kind.label);
            }
            _ => {
                if kind.label == Label::Email {
                    self.add_code(squeezed(value.split('@').next().unwrap_or_default()), kind.label);
                }
                if let Some(start) = code.len().checked_sub(4).filter(|start| *start > 0 && kind.last_four) {
                    self.add_code(code[start..].to_vec(), kind.label);
                }
                self.add_code(code, kind.label);
            }
        }
        if kind.label == Label::Address {
            let mut pieces = value.split_whitespace();
            if let (Some(number), Some(street)) = (pieces.next(), pieces.next()) {
                self.add_code(squeezed(&format!("{number}{street}")), kind.label);
            }
        }
    }

    fn add_words(&mut self, kind: KnownKind, value: &str) {
        let is_name = kind.label == Label::Name;
        if !matches!(kind.label, Label::Name | Label::Address | Label::Place | Label::Id)
            || kind.class == Some(Class::Unique)
        {
            return;
        }
        for word in value
            .split(|character: char| !character.is_alphabetic() && character != '\'')
            .filter(|word| word.chars().count() >= 2)
        {
            let meaning = Lexicon::shared().look_up(word);
            let common = meaning.is(Word::SAFE
                .and(Word::STREET)
                .and(Word::STATE)
                .and(Word::HOUSE)
                .and(Word::UNIT)
                .and(Word::PARTICLE))
                || word.chars().count() == 2;
            if is_name || !common && word.chars().count() >= 4 {
                self.add_word(&folded(word), kind.label, common);
            }
            if is_name && meaning.is(Word::GIVEN) {
                let short = folded(word);
                let line = NICKNAMES
                    .lines()
                    .filter(|line| !line.starts_with('#') && line.split(' ').any(|name| name == short));
                for other in line.flat_map(|line| line.split(' ')).filter(|other| *other != short) {
                    self.add_word(other, kind.label, Lexicon::shared().look_up(other).is(Word::SAFE));
                }
            }
        }
    }

    fn add_word(&mut self, word: &str, label: Label, capital_only: bool) {
        let folded: Vec<u8> = word.bytes().filter(|byte| *byte != b'\'').collect();
        self.shortest = if self.words.is_empty() { folded.len() } else { self.shortest.min(folded.len()) };
        self.longest = self.longest.max(folded.len());
        let typos = folded.len() >= TYPO_LETTERS_MIN;
        if !self.words.iter().any(|known| known.folded == folded) {
            self.words.push(KnownWord { folded, label, capital_only, typos });
        }
    }

    fn add_code(&mut self, code: Vec<u8>, label: Label) {
        if code.len() < CODE_MIN || self.codes.iter().any(|(known, _)| *known == code) {
            return;
        }
        self.firsts[usize::from(code[0] >> 6)] |= 1 << (code[0] & 63);
        self.codes.push((code, label));
    }

    /// The spellings that the detector of dates does not know by itself.
    fn add_date(&mut self, date: Date) {
        let (year, month, day) = (date.year, date.month, date.day);
        let short = year.rem_euclid(100);
        for spelling in [
            format!("{month:02}{day:02}{year:04}"),
            format!("{day:02}{month:02}{year:04}"),
            format!("{year:04}{month:02}{day:02}"),
            format!("{month:02}{day:02}{short:02}"),
            format!("{day:02}{month:02}{short:02}"),
            format!("{short:02}{month:02}{day:02}"),
            format!("{month}{day}{year:04}"),
        ] {
            self.add_code(spelling.into_bytes(), Label::Date);
        }
        self.days.push((month, day));
    }

    pub(super) fn find(&self, text: &Text<'_>, hits: &mut Hits<'_>) {
        if self.words.is_empty() && self.codes.is_empty() && self.days.is_empty() {
            return;
        }
        for at in 0..text.len() {
            match text.at(at).kind {
                Kind::Word | Kind::Mixed => self.word(text, at, hits),
                Kind::Number => self.day(text, at, hits),
                _ => continue,
            }
            self.code(text, at, hits);
        }
    }

    fn word(&self, text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
        let (piece, token) = (text.str(at), text.at(at));
        if self.words.is_empty()
            || piece.len() + 1 < self.shortest
            || token.word.is(Word::SAFE) && piece.len() > 2 * self.longest + 4
        {
            return;
        }
        // A common word in small letters can only be the value itself.
        let first = piece.as_bytes()[0].to_ascii_lowercase();
        let common = token.word.is(Word::SAFE) && token.shape == Shape::Lower;
        let alike =
            |known: &KnownWord| known.folded.first() == Some(&first) && known.folded.len().abs_diff(piece.len()) <= 2;
        if common && !self.words.iter().any(alike) {
            return;
        }
        let mut room = [0; 32];
        let long;
        let folded = match fold_plain(piece, &mut room) {
            Some(length) => &room[..length],
            None => {
                long = folded(piece).into_bytes();
                &long
            }
        };
        let bare = folded.strip_suffix(b"s").filter(|_| piece.contains("'")).unwrap_or(folded);
        let plain = || {
            token.word.is(Word::SAFE) && token.shape == Shape::Lower
                || token.word == Word::NONE && Lexicon::shared().derives(piece)
        };
        for known in &self.words {
            let same = known.folded == folded || known.folded == bare;
            let near = || known.typos && (one_edit(&known.folded, folded) || one_edit(&known.folded, bare));
            let within = || {
                known.folded.len() >= GLUED_MIN
                    && folded.windows(known.folded.len()).any(|window| window == known.folded)
            };
            if same && !(known.capital_only && token.shape == Shape::Lower) || !same && (near() || within()) && !plain()
            {
                hits.tokens(at, at, known.label);
                return;
            }
        }
    }

    /// Month and day of a known date: `4/10`.
    fn day(&self, text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
        if !matches!(text.at(at + 1).mark, b'/' | b'-') || self.days.is_empty() {
            return;
        }
        if let (Some(month), Some(day)) = (text.number(at, 2), text.number(at + 2, 2))
            && self.days.contains(&(month, day))
        {
            hits.tokens(at, at + 2, Label::Date);
        }
    }

    fn code(&self, text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
        let piece = text.bytes(at);
        let first = piece[0].to_ascii_lowercase();
        if self.firsts[usize::from(first >> 6)] & (1 << (first & 63)) != 0 {
            for (code, label) in self.codes.iter().filter(|(code, _)| code[0] == first) {
                if let Some(last) = spelt(text, at, code) {
                    hits.tokens(at, last, *label);
                }
            }
        }
        // Grown together with something else: MRN12345678.
        let glued = |code: &[u8]| {
            code.len() >= 6
                && piece.len() > code.len()
                && piece.windows(code.len()).any(|window| window.eq_ignore_ascii_case(code))
        };
        if (text.at(at).kind != Kind::Word || piece.len() >= 12)
            && let Some((_, label)) = self.codes.iter().find(|(code, _)| glued(code))
        {
            hits.tokens(at, at, *label);
        }
    }
}

/// The last token of the code that begins here, whatever marks and spaces stand within it.
fn spelt(text: &Text<'_>, first: usize, code: &[u8]) -> Option<usize> {
    let (mut at, mut rest) = (first, code);
    loop {
        let mut marks = 0;
        while text.at(at).kind == Kind::Mark && at > first && marks < 3 {
            (at, marks) = (at + 1, marks + 1);
        }
        let matched = match text.at(at).kind {
            // Something has grown to its end: 078-05-1120212.
            _ if code.len() >= 8 && at > first && begins_with(text.bytes(at), rest) => return Some(at),
            Kind::Word | Kind::Number | Kind::Mixed => starts_with(rest, text.str(at))?,
            _ => return None,
        };
        rest = &rest[matched..];
        if rest.is_empty() {
            return Some(at);
        }
        at += 1;
    }
}

fn begins_with(piece: &[u8], rest: &[u8]) -> bool {
    piece.get(..rest.len()).is_some_and(|head| head.eq_ignore_ascii_case(rest))
}

/// The length of the piece's letters and digits, when the code begins with them.
fn starts_with(code: &[u8], piece: &str) -> Option<usize> {
    if piece.is_ascii() && !piece.contains('\'') {
        let head = code.get(..piece.len())?;
        return head.eq_ignore_ascii_case(piece.as_bytes()).then_some(piece.len());
    }
    let squeezed = squeezed(piece);
    code.starts_with(&squeezed).then_some(squeezed.len())
}

/// Letters and digits in lower case.
fn squeezed(value: &str) -> Vec<u8> {
    value.split(|character: char| !character.is_alphanumeric()).flat_map(|piece| folded(piece).into_bytes()).collect()
}

/// Lower case without accents and apostrophes, for pieces of ASCII that fit.
fn fold_plain(piece: &str, room: &mut [u8; 32]) -> Option<usize> {
    if !piece.is_ascii() || piece.len() > room.len() {
        return None;
    }
    let mut length = 0;
    for byte in piece.bytes().filter(|byte| *byte != b'\'') {
        room[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    Some(length)
}

/// Whether one letter is missing, too many, another, or two neighbours have changed places.
fn one_edit(left: &[u8], right: &[u8]) -> bool {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(left, right)| left == right).count();
    let (short, long) = (&short[same..], &long[same..]);
    match long.len() - short.len() {
        1 => short == &long[1..],
        _ => {
            short.len() <= 1
                || short[1..] == long[1..]
                || (short[0] == long[1] && short[1] == long[0] && short[2..] == long[2..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_and_no_second_is_forgiven() {
        for (left, right) in [
            ("whitaker", "whitakr"),
            ("whitaker", "whittaker"),
            ("whitaker", "whitaler"),
            ("whitaker", "whiatker"),
            ("whitaker", "hwitaker"),
            ("whitaker", "whitakre"),
        ] {
            assert!(
                one_edit(left.as_bytes(), right.as_bytes()) && one_edit(right.as_bytes(), left.as_bytes()),
                "{left} {right}"
            );
        }
        for (left, right) in [("whitaker", "whitmer"), ("whitaker", "whtkaer"), ("whitaker", "witakerr")] {
            assert!(!one_edit(left.as_bytes(), right.as_bytes()), "{left} {right}");
        }
    }
}
