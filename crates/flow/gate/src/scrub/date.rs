//! D9: dates finer than a year. A year alone stays.

use super::token::{Gap, Kind, Text};
use super::word::Word;
use super::{Hits, Label};
use crate::calendar::Date;

/// Words behind which a month alone is a date.
const WHEN: [&str; 17] = [
    "in", "since", "last", "this", "until", "till", "early", "mid", "late", "by", "next", "during", "through",
    "before", "after", "from", "of",
];

/// Words behind which `3/14` is a date.
const ON: [&str; 22] = [
    "on",
    "since",
    "from",
    "until",
    "till",
    "dated",
    "date",
    "seen",
    "admitted",
    "discharged",
    "by",
    "before",
    "after",
    "thru",
    "through",
    "to",
    "due",
    "visit",
    "appointment",
    "scheduled",
    "dob",
    "of",
];

/// What `x/y` is often out of.
const SCORES: [u32; 9] = [2, 3, 4, 5, 6, 8, 10, 12, 15];

/// Dates that begin with a word: `March 14, 2019`, `Christmas`, `Monday the 14th`, `fall of 2019`.
pub(super) fn find_word(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let word = text.at(at).word;
    if word.is(Word::MONTH) {
        month(text, at, hits);
    }
    if word.is(Word::HOLIDAY) {
        holiday(text, at, hits);
    }
    if word.is(Word::WEEKDAY) {
        let mut next = at + 1;
        while text.is_mark(next, b',') || text.is_word(next, "the") {
            next += 1;
        }
        if ordinal(text, next)
            .is_some_and(|(_, has_ending)| has_ending || next > at + 1 && text.is_word(next - 1, "the"))
        {
            hits.tokens(at, next, Label::Date);
        }
    }
    let quarter = text.is_word(at, "quarter");
    if word.is(Word::SEASON) || quarter {
        let year = at + 1 + usize::from(text.is_word(at + 1, "of"));
        if year_at(text, year) {
            hits.tokens(at, year, Label::Date);
        }
    }
}

fn month(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let short_may_mean_else = text.is_any(at, &["may", "march", "mar", "dec", "sep", "oct"]);
    let capital = text.at(at).shape != super::token::Shape::Lower;
    let mut next = at + 1 + usize::from(text.is_mark(at + 1, b'.'));
    while text.is_mark(next, b'-') || text.is_mark(next, b'/') || text.is_word(next, "the") || text.is_mark(next, b',')
    {
        next += 1;
    }
    // The day before: 14 March, 14th of March, 14-Mar.
    let mut first = at;
    let mut back = at.wrapping_sub(1);
    while text.is_mark(back, b'-') || text.is_mark(back, b'/') || text.is_word(back, "of") {
        back = back.wrapping_sub(1);
    }
    let day_before = ordinal(text, back).is_some_and(|(_, has_ending)| has_ending || capital || !short_may_mean_else);
    if day_before && (capital || !short_may_mean_else || text.is_mark(at.wrapping_sub(1), b'-')) {
        first = back;
    }
    let mut last = at;
    if text.at(next).gap != Gap::Line || next == at + 1 {
        if year_at(text, next) {
            last = next;
        } else if ordinal(text, next).is_some() && !text.unit_follows(next) {
            last = range_end(text, next);
            let year = last
                + 1
                + usize::from(
                    text.is_mark(last + 1, b',') || text.is_mark(last + 1, b'-') || text.is_mark(last + 1, b'/'),
                );
            if year_at(text, year) || short_year(text, year) {
                last = year;
            }
        } else if text.is_mark(next, b'\'') && text.digits(next + 1) == 2 {
            last = next + 1;
        }
    }
    if first < at || last > at {
        if first < at && last == at && !capital && short_may_mean_else {
            return;
        }
        let weekday = first.wrapping_sub(1 + usize::from(text.is_mark(first.wrapping_sub(1), b',')));
        let first = if text.at(weekday).word.is(Word::WEEKDAY) { weekday } else { first };
        hits.tokens(first, last, Label::Date);
    } else if capital
        && text.at(at).gap != Gap::Line
        && text.is_any(at.wrapping_sub(1), &WHEN)
        && text.at(at).end - text.at(at).start > 2
    {
        hits.tokens(at, at, Label::Date);
    }
}

/// `14-20`, `14 to 20`.
fn range_end(text: &Text<'_>, day: usize) -> usize {
    let joins = text.is_mark(day + 1, b'-') || text.is_any(day + 1, &["to", "through", "thru", "and"]);
    match joins && ordinal(text, day + 2).is_some() && !text.unit_follows(day + 2) {
        true => day + 2,
        false => day,
    }
}

fn holiday(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let next = text.str(at + 1);
    let day = next.eq_ignore_ascii_case("day");
    let last = if text.is_any(
        at,
        &["memorial", "labor", "independence", "veterans", "presidents", "columbus", "valentine's", "valentines"],
    ) {
        if !day {
            return;
        }
        at + 1
    } else if text.is_word(at, "fourth") {
        if !(text.is_word(at + 1, "of") && text.is_word(at + 2, "july")) {
            return;
        }
        at + 2
    } else if text.is_word(at, "eve") {
        return;
    } else if day || next.eq_ignore_ascii_case("eve") {
        at + 1
    } else {
        at
    };
    let last = if year_at(text, last + 1) { last + 1 } else { last };
    hits.tokens(at, last, Label::Date);
}

/// Dates that begin with a number: `3/14/2019`, `2019-03-14T10:00`, `20190314`, `14MAR2019`, `on the 14th`.
pub(super) fn find_number(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if text.at(at).kind == Kind::Mixed {
        mixed(text, at, hits);
        return;
    }
    if compact(text.str(at)) && !text.word_before(at, 4, Word::CODE) && !touches_number(text, at) {
        hits.tokens(at, at, Label::Date);
    }
    if touches_number(text, at) && !starts_after_range(text, at) {
        return;
    }
    let separator = text.at(at + 1).mark;
    if !matches!(separator, b'/' | b'-' | b'.') || !text.touches(at + 1) || !text.touches(at + 2) {
        return;
    }
    let whole = text.at(at + 3).mark == separator && text.touches(at + 3) && text.touches(at + 4);
    let last = match whole.then(|| triple(text, at, separator)).flatten() {
        Some(last) => last,
        None if whole => return,
        None => match partial(text, at, separator) {
            Some(last) => last,
            None => return,
        },
    };
    hits.tokens(at, time_end(text, last), Label::Date);
}

/// Three numbers with the same separator that are a day of the calendar.
fn triple(text: &Text<'_>, at: usize, separator: u8) -> Option<usize> {
    let lengths = [text.digits(at), text.digits(at + 2), leading_digits(text, at + 4)];
    let values = [text.number(at, 4)?, text.number(at + 2, 2)?, leading_number(text, at + 4)?];
    if text.at(at + 5).mark == separator && text.touches(at + 5) && text.touches(at + 6) && separator != b'.' {
        return None;
    }
    let date = match lengths {
        [4, 1..=2, 1..=2] => exists(values[0], values[1], values[2]),
        [1..=2, 1..=2, 4] => exists(values[2], values[0], values[1]) || exists(values[2], values[1], values[0]),
        [1..=2, 1..=2, 2] => {
            let year = 2000 + values[2];
            let two_each = lengths[0] == 2 && lengths[1] == 2;
            (separator == b'/' || (separator == b'-' && !text.word_before(at, 3, Word::CODE)) || two_each)
                && (exists(year, values[0], values[1])
                    || exists(year, values[1], values[0])
                    || (two_each && exists(2000 + values[0], values[1], values[2])))
        }
        _ => false,
    };
    date.then_some(at + 4)
}

/// `3/14` and `03/2019`, not `5/10` of a score and not `120/80`.
fn partial(text: &Text<'_>, at: usize, separator: u8) -> Option<usize> {
    let (first, second) = (text.number(at, 2)?, text.number(at + 2, 4)?);
    let ends = text.at(at + 3).kind == Kind::End
        || !(text.touches(at + 3) && matches!(text.at(at + 3).mark, b'/') && text.digits(at + 4) > 0);
    if !ends || !(1..=12).contains(&first) && separator != b'-' {
        return None;
    }
    match text.digits(at + 2) {
        4 if matches!(separator, b'/' | b'-') => {
            ((1..=12).contains(&first) && (1900..=2100).contains(&second)).then_some(at + 2)
        }
        1..=2 if separator == b'/' => {
            if !exists(2000, first, second)
                || text.unit_follows(at + 2)
                || text.at(at + 3).kind == Kind::Mixed && text.touches(at + 3)
            {
                return None;
            }
            let cued = text.is_any(at.wrapping_sub(1), &ON) && text.at(at).gap != Gap::Line
                || (text.is_mark(at.wrapping_sub(1), b'-')
                    && text.at(at.wrapping_sub(2)).kind == Kind::Number
                    && text.is_mark(at.wrapping_sub(3), b'/'));
            let score = SCORES.contains(&second)
                || text.is_any(
                    at.wrapping_sub(1),
                    &["strength", "pain", "score", "grade", "scale", "reflexes", "vision", "murmur"],
                );
            (cued || !score).then_some(at + 2)
        }
        _ => None,
    }
}

/// A date with letters in it: `14MAR2019`, `14th`, `20190314T101500Z`, `Q12019`.
fn mixed(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let piece = text.str(at);
    let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &piece[digits..];
    if matches!(digits, 8) && compact(&piece[..8]) && rest.starts_with(['T', 't']) {
        hits.tokens(at, time_end(text, at), Label::Date);
    } else if (1..=2).contains(&digits) && rest.len() >= 3 && rest.is_ascii() {
        let (name, year) = rest.split_at(3);
        let is_month = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
            .iter()
            .any(|month| name.eq_ignore_ascii_case(month));
        if is_month
            && (year.is_empty() || matches!(year.len(), 2 | 4) && year.bytes().all(|byte| byte.is_ascii_digit()))
        {
            hits.tokens(at, at, Label::Date);
        }
    }
    if ordinal(text, at).is_some()
        && text.is_word(at.wrapping_sub(1), "the")
        && text.is_any(at.wrapping_sub(2), &["on", "by", "until", "since", "before", "after", "from"])
    {
        hits.tokens(at, at, Label::Date);
    }
    let is_quarter = piece.len() == 2 && piece.starts_with(['Q', 'q']) && (b'1'..=b'4').contains(&piece.as_bytes()[1]);
    if is_quarter && year_at(text, at + 1) {
        hits.tokens(at, at + 1, Label::Date);
    }
}

/// Whether the number continues one before it: the `14` of `3/14`.
fn touches_number(text: &Text<'_>, at: usize) -> bool {
    text.touches(at)
        && matches!(text.before(at).mark, b'/' | b'-' | b'.')
        && text.touches(at - 1)
        && matches!(text.at(at.wrapping_sub(2)).kind, Kind::Number | Kind::Mixed)
}

/// `3/14-3/20`: the second date stands behind a dash, and both have slashes.
fn starts_after_range(text: &Text<'_>, at: usize) -> bool {
    text.is_mark(at.wrapping_sub(1), b'-') && text.is_mark(at + 1, b'/') && text.is_mark(at.wrapping_sub(3), b'/')
}

/// A time of day that belongs to a date: `T10:00:00.000Z`.
fn time_end(text: &Text<'_>, last: usize) -> usize {
    if text.at(last).kind != Kind::Mixed {
        return last;
    }
    let mut end = last;
    while end < last + 10
        && text.touches(end + 1)
        && (matches!(text.at(end + 1).mark, b':' | b'+')
            || matches!(text.at(end + 1).kind, Kind::Number | Kind::Mixed)
            || (text.is_mark(end + 1, b'.') && text.touches(end + 2)))
    {
        end += 1;
    }
    if text.is_mark(end, b':') { end - 1 } else { end }
}

/// The digits of `29` and of `29T10`.
fn leading_digits(text: &Text<'_>, at: usize) -> usize {
    match text.at(at).kind {
        Kind::Number => text.digits(at),
        Kind::Mixed => {
            let digits = text.bytes(at).iter().take_while(|byte| byte.is_ascii_digit()).count();
            if matches!(text.bytes(at).get(digits), Some(b'T' | b't')) { digits } else { 0 }
        }
        _ => 0,
    }
}

fn leading_number(text: &Text<'_>, at: usize) -> Option<u32> {
    text.str(at).get(..leading_digits(text, at).min(4))?.parse().ok()
}

/// A day of a month: `14`, `14th`; and whether it has its ending.
fn ordinal(text: &Text<'_>, at: usize) -> Option<(u32, bool)> {
    let piece = text.str(at);
    let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
    let ending = &piece[digits..];
    let has_ending = ["st", "nd", "rd", "th"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    let day = piece[..digits].parse().ok().filter(|day| (1..=31).contains(day) && digits <= 2)?;
    (ending.is_empty() || has_ending).then_some((day, has_ending))
}

fn year_at(text: &Text<'_>, at: usize) -> bool {
    text.digits(at) == 4 && text.number(at, 4).is_some_and(|year| (1800..=2199).contains(&year))
}

fn short_year(text: &Text<'_>, at: usize) -> bool {
    text.digits(at) == 2 && (text.touches(at) || text.is_mark(at.wrapping_sub(1), b',')) && !text.unit_follows(at)
}

/// `20190314`, `201903141015`, `20190314101500`.
pub(super) fn compact(digits: &str) -> bool {
    let number = |range| digits.get(range).and_then(|part: &str| part.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(4..6), number(6..8)) else { return false };
    let time = match digits.len() {
        8 => true,
        12 | 14 => number(8..10).is_some_and(|hour| hour < 24) && number(10..12).is_some_and(|minute| minute < 60),
        _ => false,
    };
    time && (1900..=2100).contains(&year)
        && exists(year, month, day)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn exists(year: u32, month: u32, day: u32) -> bool {
    let date = Date { year: year as i32, month, day };
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (1800..=2199).contains(&year)
        && Date::from_days(date.to_days()) == date
}
