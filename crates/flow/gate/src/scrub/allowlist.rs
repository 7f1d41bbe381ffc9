//! D23: in the tier `allowlist`, what no list and no rule knows is replaced.

use super::Label;
use super::lexicon::Lexicon;
use super::span::Span;
use super::token::{Kind, Shape, Text};
use super::word::Word;

/// Adds a span for every token that is not covered and does not pass; those that follow each other in a line become one.
pub(super) fn add(text: &Text<'_>, lexicon: &Lexicon, spans: &mut Vec<Span>) {
    let found = spans.len();
    let (mut covered, mut open): (usize, Option<usize>) = (0, None);
    for at in 0..text.len() {
        let token = text.at(at);
        let (start, end) = (token.start as usize, token.end as usize);
        while covered < found && spans[covered].end <= start {
            covered += 1;
        }
        let inside = covered < found && spans[covered].start < end;
        if inside || passes(text, at, lexicon) {
            // Marks between two unknown words stay with them.
            if inside || token.kind != Kind::Mark {
                open = None;
            }
            continue;
        }
        match open.filter(|_| token.gap != super::token::Gap::Line) {
            Some(last) => spans[last].end = end,
            None => {
                open = Some(spans.len());
                spans.push(Span { start, end, label: Label::Unknown });
            }
        }
    }
    spans.sort_unstable_by_key(|span| span.start);
}

fn passes(text: &Text<'_>, at: usize, lexicon: &Lexicon) -> bool {
    let token = text.at(at);
    match token.kind {
        Kind::Mark => token.mark != 0 || is_sign(text.str(at)),
        Kind::Placeholder | Kind::End => true,
        Kind::Word => is_known(text, at, lexicon),
        Kind::Number => is_safe_number(text, at),
        Kind::Mixed => is_safe_code(text, at),
    }
}

/// Signs of measurement beyond ASCII, of which none is a letter.
fn is_sign(mark: &str) -> bool {
    mark.chars().all(|character| !character.is_alphanumeric())
}

fn is_known(text: &Text<'_>, at: usize, lexicon: &Lexicon) -> bool {
    let token = text.at(at);
    if token.shape == Shape::Initial || token.end - token.start == 1 {
        // A., as in an initial.
        return !(token.shape == Shape::Initial && text.is_mark(at + 1, b'.'));
    }
    let lists = Word::SAFE.and(Word::EPONYM).and(Word::STATE).and(Word::HOUSE).and(Word::UNIT);
    token.word.is(lists)
        || (token.shape == Shape::Lower
            && (token.word.is(Word::STREET) || token.word == Word::NONE && lexicon.derives(text.str(at))))
}

/// Small numbers, years, decimals, and any number with a unit or behind the name of a coding system.
fn is_safe_number(text: &Text<'_>, at: usize) -> bool {
    let length = text.digits(at);
    let year = length == 4 && text.number(at, 4).is_some_and(|year| (1900..=2100).contains(&year));
    length <= 3 || year || text.unit_follows(at) || text.word_before(at, 6, Word::CODE) || is_fraction(text, at)
}

/// `0.0005`, and `1,234`.
fn is_fraction(text: &Text<'_>, at: usize) -> bool {
    let behind_point = text.touches(at)
        && text.is_mark(at.wrapping_sub(1), b'.')
        && text.touches(at - 1)
        && text.digits(at.wrapping_sub(2)) > 0
        && text.digits(at.wrapping_sub(2)) <= 3;
    behind_point && text.digits(at) <= 4
}

/// Codes of public systems by their shape, doses, and short codes such as `A1c`, `T2`, `x3`, `1st`.
fn is_safe_code(text: &Text<'_>, at: usize) -> bool {
    let piece = text.bytes(at);
    let letters = piece.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let digits = piece.iter().filter(|byte| byte.is_ascii_digit()).count();
    if letters + digits != piece.len() {
        return false;
    }
    let short = digits <= 3 && letters <= 4;
    let dose = piece.iter().take_while(|byte| byte.is_ascii_digit()).count() == digits && letters <= 5;
    // ICD-10-CM with or without its point, HCPCS and CPT's categories II and III.
    let icd = piece[0].is_ascii_uppercase() && digits >= 2 && piece.len() <= 7 && piece[1].is_ascii_digit();
    short || dose && digits <= 7 || icd || text.word_before(at, 6, Word::CODE)
}
