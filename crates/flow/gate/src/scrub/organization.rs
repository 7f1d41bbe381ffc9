//! D14: facilities, employers, schools and religious houses, by the word that they end or begin with.

use super::token::{Gap, Kind, Shape, Text};
use super::word::Word;
use super::{Hits, Label};

/// So many words the name of a house has at most.
const WORDS_MAX: usize = 5;

/// Words that name no house by themselves: `Community Health Center`.
const GENERAL: [&str; 40] = [
    "the",
    "our",
    "this",
    "general",
    "community",
    "emergency",
    "urgent",
    "primary",
    "care",
    "health",
    "medical",
    "surgical",
    "outpatient",
    "inpatient",
    "local",
    "university",
    "children's",
    "childrens",
    "women's",
    "veterans",
    "family",
    "dental",
    "eye",
    "cancer",
    "heart",
    "mental",
    "public",
    "home",
    "hospital",
    "center",
    "clinic",
    "rehabilitation",
    "nursing",
    "skilled",
    "pain",
    "sleep",
    "wound",
    "dialysis",
    "telephone",
    "specialty",
];

/// Words that end the name of a house, and headings and other things as well: only behind a word that is in no vocabulary.
const WEAK: [&str; 20] = [
    "medical",
    "health",
    "healthcare",
    "nursing",
    "memorial",
    "group",
    "system",
    "systems",
    "partners",
    "institute",
    "foundation",
    "center",
    "associates",
    "bank",
    "residence",
    "facility",
    "physicians",
    "rehabilitation",
    "rehab",
    "laboratory",
];

pub(super) fn find(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let word = text.at(at).word;
    if word.is(Word::OTHER) && text.is_any(at, &["works", "worked", "employed", "employer", "attends"]) {
        behind_cue(text, at, hits);
    }
    if !word.is(Word::HOUSE) || text.at(at).shape == Shape::Lower {
        return;
    }
    // University of Kansas, Church of the Nativity
    let mut last = at;
    if text.is_any(at, &["university", "college", "church", "bank", "academy", "hospital"])
        && text.is_word(at + 1, "of")
    {
        let name = at + 2 + usize::from(text.is_word(at + 2, "the"));
        if text.at(name).kind == Kind::Word
            && text.at(name).shape == Shape::Title
            && !text.at(name).word.is(Word::MONTH)
        {
            last = name;
        }
    }
    while last < at + 4
        && text.at(last + 1).gap == Gap::Space
        && text.at(last + 1).word.is(Word::HOUSE)
        && text.at(last + 1).shape != Shape::Lower
    {
        last += 1;
    }
    if last == at && text.is_word(at, "nursing") && text.is_word(at + 1, "home") && text.at(at + 1).gap == Gap::Space {
        last += 1;
    }
    let mut first = at;
    while first > 0 && at - first < WORDS_MAX && text.at(first).gap != Gap::Line {
        let token = text.at(first - 1);
        let capital = token.kind == Kind::Word
            && token.shape != Shape::Lower
            && !token.word.is(Word::TITLE)
            && !token.word.is(Word::WEEKDAY);
        let joint = first < at
            && (token.mark == b'\''
                || token.mark == b'&'
                || token.mark == b'-'
                || text.is_any(first - 1, &["of", "and", "for"]))
            || token.mark == b'.' && text.is_any(first.wrapping_sub(2), &["st", "mt", "ft"])
            || token.mark == b',' && text.is_any(at, &["inc", "llc", "ltd", "corp"]);
        if !capital && !joint {
            break;
        }
        first -= 1;
    }
    while first < at && (text.at(first).kind == Kind::Mark || text.is_any(first, &["of", "and", "for", "the", "at"])) {
        first += 1;
    }
    let general = |at: usize| {
        text.at(at).kind != Kind::Word
            || text.is_any(at, &GENERAL)
            || text.is_any(at, &["of", "and", "for"])
            || text.at(at).word.is(Word::HOUSE)
            || text.at(at).word.is(Word::ROLE)
    };
    let weak = text.at(at).shape == Shape::Upper || text.is_any(at, &WEAK);
    let named = (first..at).any(|word| !(general(word) || weak && text.at(word).word.is(Word::SAFE)));
    if last > at && text.is_word(at + 1, "of") || named {
        hits.tokens(first, last, Label::Organization);
    }
}

/// `works at Acme Tooling`, `employer: Acme`.
fn behind_cue(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let mut first = at + 1;
    let joint = text.is_any(first, &["at", "for", "by", "with"]) || text.is_mark(first, b':');
    if text.is_word(at, "attends") {
        first -= 1;
    } else if !joint {
        return;
    }
    first += 1;
    let mut next = first;
    while next < first + WORDS_MAX
        && text.at(next).kind == Kind::Word
        && text.at(next).shape != Shape::Lower
        && text.at(next).gap == Gap::Space
    {
        next += 1;
    }
    let all_known = (first..next).all(|word| text.at(word).word.is(Word::SAFE));
    if next > first && !(all_known && text.is_mark(at + 1, b':')) {
        hits.tokens(first, next - 1, Label::Organization);
    }
}
