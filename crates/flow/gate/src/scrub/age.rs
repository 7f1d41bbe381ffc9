//! D10: ages above 89 in digits and words, and years of birth that show one.

use super::token::{Gap, Kind, Text};
use super::word::Word;
use super::{Hits, Label};
use crate::calendar::Date;

const AGE_MAX: u32 = 89;

pub(super) fn find_word(text: &Text<'_>, at: usize, today: Date, hits: &mut Hits<'_>) {
    if !text.at(at).word.is(Word::NUMBER) {
        return;
    }
    if text.is_any(at, &["nonagenarian", "centenarian", "nineties"]) {
        hits.tokens(at, at, Label::Age);
    } else if text.is_any(at, &["ninety", "hundred"]) {
        let mut last = at;
        while last < at + 4
            && (text.is_mark(last + 1, b'-')
                || text
                    .is_any(last + 1, &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "and"]))
        {
            last += 1;
        }
        let next = last + 1 + usize::from(text.is_mark(last + 1, b'-'));
        if text.is_any(next, &["year", "years", "yr", "yrs", "yo"])
            && text.is_any(next + 1 + usize::from(text.is_mark(next + 1, b'-')), &["old", "of"])
            || text.is_any(at.wrapping_sub(1), &["age", "aged", "turned"])
            || text.is_word(next, "yo")
        {
            hits.tokens(at, last, Label::Age);
        }
    } else {
        behind_cue(text, at, today, hits);
    }
}

/// `age: 93`, `turned 91`, `born in 1930`, `year of birth 1931`.
fn behind_cue(text: &Text<'_>, at: usize, today: Date, hits: &mut Hits<'_>) {
    let mut next = at + 1;
    while next < at + 5
        && (matches!(text.at(next).mark, b':' | b'(' | b'=' | b',')
            || text.is_any(next, &["of", "is", "in", "was", "year", "around", "about"]))
    {
        next += 1;
    }
    let Some(number) = text.number(next, 4) else { return };
    let is_year = text.digits(next) == 4;
    let about_birth = text.is_any(at, &["born", "yob", "dob", "birth", "birthday"]);
    let oldest_shown = today.year - AGE_MAX as i32;
    let years = text.is_any(next + 1, &["year", "years", "yr", "yrs"]);
    let shows = match about_birth {
        true => is_year && number > 1850 && (number as i32) < oldest_shown,
        false => (AGE_MAX + 1..=130).contains(&number) && (years || !text.at(next + 1).word.is(Word::UNIT)),
    };
    if shows {
        hits.tokens(next, next, Label::Age);
    }
}

pub(super) fn find_number(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let digits = text.bytes(at).iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(number) = text.str(at).get(..digits).and_then(|digits| digits.parse::<u32>().ok()) else { return };
    if !(AGE_MAX + 1..=130).contains(&number) || digits > 3 {
        return;
    }
    if text.at(at).kind == Kind::Mixed {
        let ending = &text.str(at)[digits..];
        let old =
            ["yo", "y", "yr", "yrs", "yof", "yom", "f", "m"].iter().any(|known| ending.eq_ignore_ascii_case(known));
        let decade = ending.eq_ignore_ascii_case("s")
            && text.is_any(at.wrapping_sub(1), &["his", "her", "their", "mid", "late", "early"]);
        if old && !(ending.eq_ignore_ascii_case("m") && text.unit_follows(at)) || decade {
            hits.tokens(at, at, Label::Age);
        }
        return;
    }
    let next = at + 1 + usize::from(text.is_mark(at + 1, b'-'));
    let years = text.is_any(next, &["year", "years", "yr", "yrs", "yo", "y"]);
    // Blood pressure and the like are no ages, nor is a duration: that has no `old` and no person.
    let old = years
        && (text.is_any(next, &["yo"])
            || (next..next + 6).any(|near| text.is_any(near, &["old", "o", "age"]))
            || text.is_word(next, "y"));
    let person = text.at(at).gap != Gap::Line
        && text.is_any(at.wrapping_sub(1), &["is", "was", "now", "be", "turns"])
        && text.is_any(at.wrapping_sub(2), &["he", "she", "patient", "who", "mother", "father", "and"]);
    let sex = text.is_any(at + 1, &["f", "m", "female", "male", "woman", "man", "lady", "gentleman"])
        && text.at(at + 1).gap != Gap::Line;
    if old || person && !text.at(at + 1).word.is(Word::UNIT) && !text.is_mark(at + 1, b'%') || sex {
        hits.tokens(at, at, Label::Age);
    }
}
