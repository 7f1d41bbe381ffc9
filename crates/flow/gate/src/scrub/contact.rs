//! D6 phone and fax numbers, D7 e-mail and web addresses, D8 network addresses, D21 embedded pictures.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::identifier::continues;
use super::token::{Gap, Kind, Text};
use super::word::Word;
use super::{Hits, Label};

/// Top-level domains that a name without `www` or `http` must end with.
const DOMAINS: [&str; 34] = [
    "com", "org", "net", "edu", "gov", "mil", "info", "biz", "io", "us", "uk", "ca", "de", "fr", "au", "jp", "ch",
    "nl", "se", "no", "es", "it", "eu", "me", "co", "health", "care", "clinic", "hospital", "doctor", "app", "dev",
    "online", "site",
];

const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "gif", "tif", "tiff", "dcm", "heic"];

/// Addresses that begin with a word: `https://…`, `www.…`, `data:image/…`, `portal.example.org`, `scan.jpg`.
pub(super) fn find_word(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if at < hits.followed {
        return;
    }
    if text.is_word(at, "data")
        && text.is_mark(at + 1, b':')
        && text.touches(at + 1)
        && text.touches(at + 2)
        && text.is_mark(at + 3, b'/')
    {
        follow(text, at, at, Label::Picture, hits);
    } else if text.is_any(at, &["http", "https", "ftp", "www"])
        && text.touches(at + 1)
        && matches!(text.at(at + 1).mark, b':' | b'.')
    {
        follow(text, at, at, Label::Url, hits);
    }
}

/// From `first` to the end of what runs on behind `at` without white space.
fn follow(text: &Text<'_>, first: usize, at: usize, label: Label, hits: &mut Hits<'_>) {
    let last = unbroken_end(text, at);
    hits.followed = last;
    hits.tokens(first, last, label);
}

/// Everything up to white space, without a closing bracket or a full stop.
fn unbroken_end(text: &Text<'_>, at: usize) -> usize {
    let mut last = at;
    while text.touches(last + 1) && !matches!(text.at(last + 1).mark, b'"' | b'<' | b'>') {
        last += 1;
    }
    while last > at && matches!(text.at(last).mark, b'.' | b',' | b')' | b';' | b':' | b'\'' | b']') {
        last -= 1;
    }
    last
}

/// What begins with, or has in its middle, a mark.
pub(super) fn find_mark(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    match text.at(at).mark {
        b'@' => email(text, at, hits),
        b'.' => domain(text, at, hits),
        b'(' => brackets(text, at, hits),
        b'+' => international(text, at, hits),
        b':' => network(text, at, hits),
        _ => {}
    }
}

fn is_name(text: &Text<'_>, at: usize) -> bool {
    matches!(text.at(at).kind, Kind::Word | Kind::Number | Kind::Mixed)
}

/// `somebody@example.com`, and `@somebody`.
fn email(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let mut first = at;
    while first > 0
        && at - first < 16
        && text.touches(first)
        && (is_name(text, first - 1) || matches!(text.at(first - 1).mark, b'.' | b'_' | b'-' | b'+' | b'%'))
    {
        first -= 1;
    }
    let mut last = at;
    while last - at < 16
        && text.touches(last + 1)
        && (is_name(text, last + 1) || matches!(text.at(last + 1).mark, b'.' | b'-' | b'_'))
    {
        last += 1;
    }
    while last > at && !is_name(text, last) {
        last -= 1;
    }
    if first < at && last > at {
        hits.tokens(first, last, Label::Email);
    } else if first == at && last > at && text.str(at + 1).len() >= 3 && text.at(at + 1).kind != Kind::Number {
        hits.tokens(at, last, Label::Url);
    }
}

/// A name that ends with a top-level domain; a picture's file name.
fn domain(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if !(text.touches(at) && text.touches(at + 1) && is_name(text, at.wrapping_sub(1)))
        || text.touches(at + 2) && is_name(text, at + 2)
    {
        return;
    }
    let picture = text.is_any(at + 1, &PICTURES);
    if !picture && !text.is_any(at + 1, &DOMAINS) || text.touches(at + 2) && text.is_mark(at + 2, b'@') {
        return;
    }
    // "mg.no" is a full stop without its space; a domain's last part is in small letters.
    if !picture
        && (text.at(at - 1).word.is(Word::SAFE)
            && text.is_any(at + 1, &["no", "it", "me", "us", "de", "es", "se", "co", "care"])
            || text.at(at - 1).kind == Kind::Number)
    {
        return;
    }
    let mut first = at - 1;
    while first > 0
        && at - first < 12
        && text.touches(first)
        && (is_name(text, first - 1) || matches!(text.at(first - 1).mark, b'.' | b'-' | b'_'))
    {
        first -= 1;
    }
    let label = if picture { Label::Picture } else { Label::Url };
    if text.is_mark(at + 2, b'/') && text.touches(at + 2) {
        if at >= hits.followed {
            follow(text, first, at + 1, label, hits);
        }
    } else {
        hits.tokens(first, at + 1, label);
    }
}

/// `(212) 555-0100`, and the application identifiers of a UDI, `(01)00643169007222(21)AB12`.
fn brackets(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if !text.is_mark(at + 2, b')') {
        return;
    }
    let number = at + 3;
    match text.digits(at + 1) {
        3 if text.digits(number) == 3 && text.at(number).gap != Gap::Line => {
            let separated = matches!(text.at(number + 1).mark, b'-' | b'.' | b'/');
            let line = if separated { number + 2 } else { number + 1 };
            if text.digits(line) == 4 && (separated || text.at(line).gap == Gap::Space) {
                hits.tokens(at, extension(text, line), Label::Phone);
            }
        }
        2 if text.is_word(at + 1, "01") && text.digits(number) == 14 => {
            let mut last = number;
            while last - at < 24
                && text.is_mark(last + 1, b'(')
                && text.digits(last + 2) == 2
                && text.is_mark(last + 3, b')')
                && is_name(text, last + 4)
            {
                last = super::identifier::Chain::from(text, last + 4).last;
            }
            hits.tokens(at, last, Label::Device);
        }
        _ => {}
    }
}

/// `+44 20 7946 0000`.
fn international(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let (mut last, mut count, mut next) = (at, 0, at + 1);
    if !text.touches(next) || text.touches(at) && is_name(text, at.wrapping_sub(1)) {
        return;
    }
    while next - at < 16 && text.at(next).gap != Gap::Line {
        match text.digits(next) {
            0 if matches!(text.at(next).mark, b'-' | b'.' | b'(' | b')') => {}
            0 => break,
            digits => (count, last) = (count + digits, next),
        }
        next += 1;
    }
    if (8..=15).contains(&count) {
        hits.tokens(at, last, Label::Phone);
    }
}

/// IPv6 and MAC addresses, around a colon.
fn network(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let before = text.at(at.wrapping_sub(2)).mark;
    if text.touches(at) && before == b':' && text.touches(at - 1) && at >= 3 && text.touches(at - 2) {
        return;
    }
    let is_part =
        |at: usize| is_name(text, at) && text.str(at).len() <= 4 && text.bytes(at).iter().all(u8::is_ascii_hexdigit);
    let mut first = at;
    if text.touches(at) && is_part(at.wrapping_sub(1)) {
        first -= 1;
    }
    let mut last = at;
    while last - at < 24
        && text.touches(last + 1)
        && (is_part(last + 1) || matches!(text.at(last + 1).mark, b':' | b'.'))
    {
        last += 1;
    }
    while last > at && text.is_mark(last, b'.') {
        last -= 1;
    }
    let piece = &text.whole()[text.at(first).start as usize..text.at(last).end as usize];
    if piece.len() >= 3 && piece.parse::<Ipv6Addr>().is_ok() || is_mac(piece, ':') {
        hits.tokens(first, last, Label::Network);
    }
}

fn is_mac(piece: &str, separator: char) -> bool {
    piece.len() == 17
        && piece.split(separator).count() == 6
        && piece.split(separator).all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Numbers with marks between them: `212-555-0100`, `1.212.555.0100`, `555-0100` behind a cue, `192.0.2.1`, `00-1A-2B-3C-4D-5E`.
pub(super) fn find_number(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if continues(text, at) {
        return;
    }
    let joined = |at: usize| text.touches(at) && matches!(text.at(at).mark, b'-' | b'.' | b'/') && text.touches(at + 1);
    if is_mac_of_pieces(text, at) {
        hits.tokens(at, at + 10, Label::Network);
        return;
    }
    // A leading 1 before the area code.
    let area = match (text.str(at) == "1" && (joined(at + 1) || text.at(at + 1).gap == Gap::Space), joined(at + 1)) {
        (true, true) => at + 2,
        (true, false) if text.is_mark(at + 1, b'(') => return,
        (true, false) => at + 1,
        _ => at,
    };
    if text.digits(area) == 3
        && joined(area + 1)
        && text.digits(area + 2) == 3
        && (joined(area + 3) && text.digits(area + 4) == 4)
    {
        if !text.word_before(at, 4, Word::CODE) {
            hits.tokens(at, extension(text, area + 4), Label::Phone);
        }
        return;
    }
    if text.digits(at) == 3
        && text.digits(at + 1) == 3
        && text.at(at + 1).gap == Gap::Space
        && joined(at + 2)
        && text.digits(at + 3) == 4
    {
        hits.tokens(at, extension(text, at + 3), Label::Phone);
        return;
    }
    if text.digits(at) == 3
        && joined(at + 1)
        && text.digits(at + 2) == 4
        && !joined(at + 3)
        && text.number(at, 3).is_some_and(|exchange| exchange >= 200)
    {
        let cued = text.word_before(at, 8, Word::CALL) || text.is_word(at, "555");
        if cued && !text.unit_follows(at + 2) {
            hits.tokens(at, extension(text, at + 2), Label::Phone);
        }
        return;
    }
    let is_dotted = (1..=3).all(|part| {
        text.is_mark(at + 2 * part - 1, b'.') && joined(at + 2 * part - 1) && text.digits(at + 2 * part) > 0
    });
    if is_dotted && !joined(at + 7) {
        let piece = &text.whole()[text.at(at).start as usize..text.at(at + 6).end as usize];
        if piece.parse::<Ipv4Addr>().is_ok() {
            hits.tokens(at, at + 6, Label::Network);
        }
    }
}

fn is_mac_of_pieces(text: &Text<'_>, at: usize) -> bool {
    text.str(at).len() == 2
        && text.is_mark(at + 1, b'-')
        && text.touches(at + 10)
        && is_mac(&text.whole()[text.at(at).start as usize..text.at(at + 10).end as usize], '-')
}

/// The end of a phone number, with its extension: `x12`, `ext. 12`.
fn extension(text: &Text<'_>, last: usize) -> usize {
    let next = last + 1 + usize::from(text.is_mark(last + 1, b','));
    if text.at(next).gap == Gap::Line {
        return last;
    }
    let piece = text.bytes(next);
    if text.at(next).kind == Kind::Mixed
        && matches!(piece.first(), Some(b'x' | b'X'))
        && piece[1..].iter().all(u8::is_ascii_digit)
        && piece.len() <= 7
    {
        return next;
    }
    if text.is_any(next, &["x", "ext", "extension"]) {
        let number = next + 1 + usize::from(matches!(text.at(next + 1).mark, b'.' | b':'));
        if (1..=6).contains(&text.digits(number)) {
            return number;
        }
    }
    last
}
