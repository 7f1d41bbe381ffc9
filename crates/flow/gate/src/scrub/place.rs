//! D11 street addresses, cities and counties, D12 ZIP codes. States stay.

use super::identifier::continues;
use super::lexicon::{Lexicon, folded};
use super::token::{Gap, Kind, Shape, Text};
use super::word::Word;
use super::{Hits, Label};

/// So many words a street's name has at most.
const STREET_WORDS_MAX: usize = 4;

const DIRECTIONS: [&str; 16] = [
    "n",
    "s",
    "e",
    "w",
    "ne",
    "nw",
    "se",
    "sw",
    "north",
    "south",
    "east",
    "west",
    "northeast",
    "northwest",
    "southeast",
    "southwest",
];

const UNITS: [&str; 11] = ["apt", "apartment", "suite", "ste", "unit", "floor", "fl", "rm", "room", "bldg", "lot"];

/// Words behind which a place comes.
const NEAR: [&str; 16] = [
    "in", "from", "near", "of", "to", "at", "around", "outside", "via", "leaving", "visiting", "lives", "lived",
    "living", "moved", "city",
];

pub(super) fn find_word(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let word = text.at(at).word;
    if word.is(Word::OTHER) && text.is_any(at, &["po", "p"]) {
        post_box(text, at, hits);
    }
    if word.is(Word::STREET)
        && text.is_any(at, &["highway", "hwy", "route"])
        && text.at(at).shape == Shape::Title
        && text.number(at + 1, 4).is_some()
    {
        hits.tokens(at, at + 1, Label::Address);
    }
    if word.is(Word::OTHER)
        && text.is_any(at, &["apt", "apartment"])
        && let Some(last) = unit(text, at)
    {
        hits.tokens(at, last, Label::Address);
    }
    if word.is(Word::OTHER) && text.is_word(at, "county") && text.at(at).shape == Shape::Title {
        before(text, at, hits);
    }
    if word.is(Word::STATE) {
        state(text, at, hits);
    }
    if word.is(Word::CITY)
        || word.is(Word::OTHER)
        || word.is(Word::STRANGE)
        || word.is(Word::PARTICLE)
        || word.is(Word::STATE)
    {
        city(text, at, hits);
    }
}

/// `PO Box 12`, `P.O. Box 12`.
fn post_box(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let mut next = at + 1;
    while next < at + 4 && (text.is_mark(next, b'.') || text.is_word(next, "o")) {
        next += 1;
    }
    if text.is_word(next, "box") && matches!(text.at(next + 1).kind, Kind::Number | Kind::Mixed) {
        hits.tokens(at, next + 1, Label::Address);
    }
}

/// Numbers before streets, and ZIP codes.
pub(super) fn find_number(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if continues(text, at) {
        return;
    }
    zip(text, at, hits);
    let length = text.str(at).len();
    let house = text.at(at).kind == Kind::Number && length <= 6
        || text.at(at).kind == Kind::Mixed && length <= 7 && text.bytes(at)[0].is_ascii_digit();
    if !house || text.unit_follows(at) {
        return;
    }
    // 12-34 Main Street, 12 1/2 Main Street
    let mut next = at + 1;
    if matches!(text.at(next).mark, b'-' | b'/') && text.touches(next) && text.digits(next + 1) > 0 {
        next += 2;
    }
    if text.digits(next) == 1 && text.is_mark(next + 1, b'/') && text.digits(next + 2) == 1 {
        next += 3;
    }
    let start = next;
    while next < start + STREET_WORDS_MAX + 1 && text.at(next).gap != Gap::Line {
        let token = text.at(next);
        let named = next > start || text.is_any(next, &DIRECTIONS) && text.at(next + 1).shape == Shape::Title;
        if token.word.is(Word::STREET)
            && next > start
            && (token.shape != Shape::Lower || text.at(next - 1).shape == Shape::Title)
            && !text.is_mark(next.wrapping_sub(1), b'.')
        {
            // The last suffix counts: 12 Grove Street.
            let more = text.at(next + 1).gap == Gap::Space
                && text.at(next + 1).word.is(Word::STREET)
                && text.at(next + 1).shape == Shape::Title;
            if !more {
                hits.tokens(at, address_end(text, next), Label::Address);
                return;
            }
        }
        let ordinal = token.kind == Kind::Mixed
            && ["st", "nd", "rd", "th"].iter().any(|ending| text.str(next).to_ascii_lowercase().ends_with(ending));
        let capital = token.kind == Kind::Word && token.shape != Shape::Lower;
        let dot = token.mark == b'.' && named && text.at(next - 1).end - text.at(next - 1).start <= 2;
        let small = text.is_any(next, &["de", "la", "del", "of", "the"]) && named;
        if !(capital || ordinal || dot || small) {
            return;
        }
        next += 1;
    }
}

/// The end of an address behind its street's suffix: direction, apartment.
fn address_end(text: &Text<'_>, suffix: usize) -> usize {
    let mut last = suffix
        + usize::from(
            text.is_mark(suffix + 1, b'.')
                && text.at(suffix + 2).gap == Gap::Space
                && text.at(suffix).end - text.at(suffix).start <= 4,
        );
    if text.is_any(last + 1, &DIRECTIONS)
        && text.at(last + 1).gap == Gap::Space
        && text.at(last + 1).shape != Shape::Lower
    {
        last += 1;
    }
    let next = last + 1 + usize::from(text.is_mark(last + 1, b','));
    if (text.is_any(next, &UNITS) || text.is_mark(next, b'#'))
        && let Some(end) = unit(text, next)
    {
        return end;
    }
    last
}

/// `Apt. 4B`, `# 12`.
fn unit(text: &Text<'_>, at: usize) -> Option<usize> {
    let mut next = at + 1;
    while matches!(text.at(next).mark, b'.' | b'#' | b':') {
        next += 1;
    }
    let token = text.at(next);
    let named = matches!(token.kind, Kind::Number | Kind::Mixed) || token.shape == Shape::Initial;
    (named && token.gap != Gap::Line && token.end - token.start <= 6).then_some(next)
}

/// A state, with the city before it and the ZIP code behind it.
fn state(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let short = text.at(at).end - text.at(at).start == 2;
    let comma = text.is_mark(at.wrapping_sub(1), b',');
    if text.at(at).shape == Shape::Lower || short && text.at(at).shape != Shape::Upper {
        return;
    }
    let zip = at + 1 + usize::from(matches!(text.at(at + 1).mark, b',' | b'.'));
    let has_zip = text.digits(zip) == 5 && text.at(zip).gap == Gap::Space;
    if has_zip {
        hits.tokens(
            zip,
            if text.is_mark(zip + 1, b'-') && text.digits(zip + 2) == 4 { zip + 2 } else { zip },
            Label::Zip,
        );
    }
    // MD and the like are degrees behind a name: only behind a comma with a ZIP, or a state that is no degree.
    let degree = text.at(at).word.is(Word::CREDENTIAL)
        || text.is_any(at, &["or", "in", "me", "hi", "ok", "oh", "de", "la", "ms", "pa", "co", "id", "al", "va"]);
    if has_zip || comma && (!degree || text.at(at.wrapping_sub(2)).word.is(Word::CITY)) {
        before(text, at - usize::from(comma), hits);
    }
}

/// The capitalised words before `at` are a place.
fn before(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let mut first = at;
    while first > 0 && at - first < 4 && (text.at(first).gap == Gap::Space || text.is_mark(first, b',')) {
        let token = text.at(first - 1);
        let named = token.kind == Kind::Word && token.shape != Shape::Lower && token.shape != Shape::Initial;
        // Behind a street comes the city: Main Street Springfield.
        let street = token.word.is(Word::STREET) && !token.word.is(Word::SAFE) && first < at;
        if !(named || token.mark == b'.' && text.is_any(first.wrapping_sub(2), &["st", "ft", "mt"])) || street {
            break;
        }
        first -= 1;
        if text.at(first).gap == Gap::Line {
            break;
        }
    }
    if first < at {
        hits.tokens(first, at - 1, Label::Place);
    }
}

fn city(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let token = text.at(at);
    if token.shape == Shape::Lower || token.shape == Shape::Initial {
        return;
    }
    if (text.at(at + 1).gap == Gap::Space || text.is_mark(at + 1, b'.'))
        && let Some(last) = long_city(text, at)
    {
        hits.tokens(at, last, Label::Place);
        return;
    }
    let cued = token.gap == Gap::Space
        && (text.is_any(at.wrapping_sub(1), &NEAR[..3])
            || text.is_any(at.wrapping_sub(1), &NEAR) && text.word_before(at, 4, Word::OTHER))
        || text.is_mark(at.wrapping_sub(1), b':') && text.is_any(at.wrapping_sub(2), &["city", "residence", "town"]);
    let ambiguous = token.word.is(Word::SAFE) || token.word.is(Word::GIVEN) || token.word.is(Word::SURNAME);
    let known = token.word.is(Word::CITY) && token.shape == Shape::Title && !ambiguous;
    let unknown = token.word.is(Word::STRANGE) && token.shape == Shape::Title && cued;
    if known || cued && (token.word.is(Word::CITY) && token.shape == Shape::Title) || unknown {
        hits.tokens(at, at, Label::Place);
    }
}

/// A city of two or three words in the list.
fn long_city(text: &Text<'_>, at: usize) -> Option<usize> {
    let mut joined = folded(text.str(at));
    let mut last = at;
    for _ in 0..2 {
        let next = last + 1 + usize::from(text.is_mark(last + 1, b'.'));
        if text.at(next).kind != Kind::Word || text.at(next).shape == Shape::Lower || text.at(next).gap == Gap::Line {
            break;
        }
        joined.push('_');
        joined.push_str(&folded(text.str(next)));
        last = next;
        if Lexicon::shared().is_city(&joined) {
            return Some(last);
        }
    }
    None
}

/// A ZIP code: behind a state or its word, or with its four more digits.
fn zip(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if text.digits(at) != 5 {
        return;
    }
    let plus_four = text.is_mark(at + 1, b'-')
        && text.touches(at + 1)
        && text.digits(at + 2) == 4
        && text.touches(at + 2)
        && !(text.is_mark(at + 3, b'-') && text.touches(at + 3));
    let cued = text.find_before(at, 4, |near| text.is_any(near, &["zip", "zipcode", "postal", "postcode"])).is_some();
    let coded = text.word_before(at, 5, Word::CODE) && !cued;
    if !coded && (plus_four && !text.unit_follows(at + 2) || cued) {
        hits.tokens(at, if plus_four { at + 2 } else { at }, Label::Zip);
    }
}
