//! D13 names of persons and D15 relatives: by the words before and behind them, by lists, and by being capitalised and in no vocabulary.

use super::lexicon::Lexicon;
use super::token::{Gap, Kind, Shape, Text};
use super::word::Word;
use super::{Hits, Label};

/// So many pieces a name has at most.
const PIECES_MAX: usize = 5;

/// How sure it is that a name comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cue {
    /// Behind a title every capitalised word is one.
    Sure,
    /// Behind a role or a relative those that are in a list of names or in none.
    Likely,
}

pub(super) fn find(text: &Text<'_>, at: usize, lexicon: &Lexicon, hits: &mut Hits<'_>) {
    let word = text.at(at).word;
    if word.is(Word::TITLE) {
        behind_title(text, at, lexicon, hits);
    }
    if word.is(Word::ROLE) || word.is(Word::KIN) {
        behind_role(text, at, hits);
    }
    if word.is(Word::CREDENTIAL) {
        before_credential(text, at, hits);
    }
    if word.is(Word::GIVEN.and(Word::SURNAME).and(Word::STRANGE).and(Word::EPONYM)) {
        by_list(text, at, hits);
    }
}

/// `Augustus49`: a name with digits behind it.
pub(super) fn find_mixed(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let piece = text.str(at);
    let letters = piece.trim_end_matches(|character: char| character.is_ascii_digit());
    let capital =
        letters.chars().next().is_some_and(char::is_uppercase) && letters.chars().skip(1).all(char::is_lowercase);
    if text.at(at).kind == Kind::Mixed
        && capital
        && letters.chars().count() >= 3
        && letters.chars().all(char::is_alphabetic)
    {
        let lexicon = Lexicon::shared();
        let word = lexicon.look_up(letters);
        if !word.is(Word::SAFE.and(Word::UNIT)) && !lexicon.derives(letters) {
            hits.tokens(at, at, Label::Name);
        }
    }
}

/// `Dr. Ruiz`, `Mr./Ms. Upton`, `dr ruiz`.
fn behind_title(text: &Text<'_>, at: usize, lexicon: &Lexicon, hits: &mut Hits<'_>) {
    let mut next = at + 1;
    while next < at + 5
        && (matches!(text.at(next).mark, b'.' | b'/')
            || text.at(next).word.is(Word::TITLE) && text.at(next).gap != Gap::Line)
    {
        next += 1;
    }
    if text.at(next).gap == Gap::Line && next > at + 1 {
        return;
    }
    let last = extend(text, next, Cue::Sure);
    if last > next {
        hits.tokens(next, last - 1, Label::Name);
        return;
    }
    let small = text.at(next);
    let unknown = !small.word.is(Word::SAFE) && !lexicon.derives(text.str(next));
    let titled = text.is_any(at, &["dr", "mr", "mrs", "ms"])
        && (text.at(at).shape == Shape::Lower || text.is_mark(at + 1, b'.'));
    if small.kind == Kind::Word
        && small.shape == Shape::Lower
        && small.gap == Gap::Space
        && titled
        && unknown
        && text.str(next).len() > 2
    {
        hits.tokens(next, next, Label::Name);
    }
}

/// `Patient: Ann Lee`, `Dear Ann`, `wife Mary`, `son, Tom`, `daughter (Ann)`.
fn behind_role(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let mut next = at + 1;
    let mut marked = false;
    while next < at + 5 {
        let token = text.at(next);
        match token.mark {
            b':' | b'(' | b'-' => marked = true,
            b',' if text.at(at).word.is(Word::KIN) || text.is_any(at, &["sincerely", "regards"]) => {}
            _ if text.is_any(next, &["name", "named", "is", "by", "physician", "provider", "phone", "called"]) => {
                marked |= text.is_word(next, "named")
            }
            _ => break,
        }
        next += 1;
    }
    let token = text.at(next);
    let signed = text.is_any(at, &["sincerely", "regards"]);
    if token.gap == Gap::Line && !marked && !signed {
        return;
    }
    let last = extend(text, next, Cue::Likely);
    let surname_first = text.is_mark(last, b',') && last > next && is_name(text, last + 1, Cue::Likely);
    let last = if surname_first { extend(text, last + 1, Cue::Likely) } else { last };
    if last > next {
        hits.tokens(next, last - 1, Label::Name);
    }
}

/// `Ann Lee, MD`, `A. Lee RN`.
fn before_credential(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if text.at(at).shape == Shape::Lower && !text.is_any(at, &["jr"]) || text.at(at).gap == Gap::Line {
        return;
    }
    let comma = text.is_mark(at.wrapping_sub(1), b',');
    let Some(end) = at.checked_sub(usize::from(comma)).filter(|end| *end > 0) else { return };
    let (last, mut first) = (end - 1, end);
    for _ in 0..2 * PIECES_MAX {
        let Some(before) = first.checked_sub(1) else { break };
        let token = text.at(before);
        let initial = token.mark == b'.' && text.at(before.wrapping_sub(1)).shape == Shape::Initial;
        let name =
            token.kind == Kind::Word && token.shape != Shape::Lower && !token.word.is(Word::ROLE.and(Word::TITLE));
        let joint = (token.mark == b'-' || token.word.is(Word::PARTICLE)) && first <= last;
        if !(initial || name || joint) {
            break;
        }
        first = before;
        if token.gap == Gap::Line {
            break;
        }
    }
    let named = (first..=last).any(|at| is_name(text, at, Cue::Likely));
    if first <= last && named && (comma || last > first) {
        hits.tokens(first, last, Label::Name);
    }
}

/// Words of the lists, and capitalised words of no list.
fn by_list(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let token = text.at(at);
    if token.shape == Shape::Lower {
        small_letters(text, at, hits);
        return;
    }
    if !starts_name(text, at) {
        return;
    }
    let end = extend(text, at, Cue::Likely);
    let mut last = end.max(at + 1) - 1;
    // Lee, Ann
    if text.is_mark(last + 1, b',')
        && last == at
        && text.at(last + 2).gap != Gap::Line
        && text.at(last + 2).word.is(Word::GIVEN)
        && text.at(last + 2).shape != Shape::Lower
    {
        last = extend(text, last + 2, Cue::Likely) - 1;
    }
    let mut first = at;
    // J. Ruiz; and a word that can be a name as well as another: Will Ruiz.
    if text.is_mark(first.wrapping_sub(1), b'.')
        && text.at(first.wrapping_sub(2)).shape == Shape::Initial
        && text.at(first).gap == Gap::Space
    {
        first -= 2;
    }
    let before = text.at(first.wrapping_sub(1));
    if before.kind == Kind::Word
        && before.shape == Shape::Title
        && text.at(first).gap == Gap::Space
        && before.word.is(Word::GIVEN.and(Word::SURNAME))
    {
        first -= 1;
    }
    hits.tokens(first, last, Label::Name);
}

/// Whether the capitalised word is a name by itself.
fn starts_name(text: &Text<'_>, at: usize) -> bool {
    let token = text.at(at);
    if token.word.is(Word::EPONYM) && is_eponym(text, at) {
        return false;
    }
    let listed = token.word.is(Word::GIVEN.and(Word::SURNAME));
    if token.word.is(Word::SAFE) {
        // A word that is a name too: in the middle of a sentence it has its capital for being one.
        let before = text.before(at);
        let inside = token.gap == Gap::Space
            && before.kind == Kind::Word
            && before.shape == Shape::Lower
            && !before.word.is(Word::STREET)
            && token.shape == Shape::Title;
        let with_name = text.at(at + 1).gap == Gap::Space
            && text.at(at + 1).shape == Shape::Title
            && is_name(text, at + 1, Cue::Likely)
            && !text.at(at + 1).word.is(Word::SAFE);
        let middle = text.at(at + 1).shape == Shape::Initial && text.is_mark(at + 2, b'.');
        return listed && !token.word.is(Word::MONTH.and(Word::SEASON)) && (inside || with_name || middle);
    }
    if listed {
        return token.shape == Shape::Title || token.shape == Shape::Upper && token.end - token.start >= 3;
    }
    let length = token.end - token.start;
    match token.shape {
        Shape::Title => length >= 2 && !text.is_mark(at + 1, b'@'),
        // Capitals are mostly abbreviations: only with a listed name beside them.
        Shape::Upper => {
            let beside = |near: usize| {
                text.at(near).word.is(Word::GIVEN.and(Word::SURNAME))
                    && text.at(near).shape == Shape::Upper
                    && !text.at(near).word.is(Word::SAFE)
            };
            let comma = usize::from(text.is_mark(at + 1, b','));
            length >= 4
                && (beside(at + 1 + comma)
                    || beside(at.wrapping_sub(1))
                    || text.is_mark(at.wrapping_sub(1), b',') && beside(at.wrapping_sub(2)))
        }
        _ => false,
    }
}

/// `john smith`: two names of the lists in small letters.
fn small_letters(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    let (first, second) = (text.at(at).word, text.at(at + 1));
    let pair = first.is(Word::GIVEN)
        && !first.is(Word::SAFE)
        && second.gap == Gap::Space
        && second.word.is(Word::SURNAME)
        && !second.word.is(Word::SAFE.and(Word::PARTICLE));
    if pair && second.kind == Kind::Word {
        hits.tokens(at, at + 1, Label::Name);
    }
}

/// `Parkinson's disease`, `Foley`, `Wilson disease`, `Stevens-Johnson syndrome`.
fn is_eponym(text: &Text<'_>, at: usize) -> bool {
    let mut next = at + 1;
    while next < at + 5
        && (text.is_mark(next, b'-')
            || text.at(next).word.is(Word::EPONYM)
            || text.is_mark(next, b'\'')
            || text.at(next).kind == Kind::Word && text.str(next) == "s")
    {
        next += 1;
    }
    let thing = (next..next + 2).any(|near| text.at(near).word.is(Word::THING) && text.at(near).gap != Gap::Line);
    let also_name = text.at(at).word.is(Word::GIVEN.and(Word::SURNAME));
    let inside_pair = text.at(at.wrapping_sub(2)).word.is(Word::EPONYM) && text.is_mark(at.wrapping_sub(1), b'-');
    let by_name =
        text.at(at).gap == Gap::Space && text.before(at).word.is(Word::GIVEN) && !text.before(at).word.is(Word::SAFE);
    !by_name && (thing || inside_pair || !also_name)
}

/// The end of the name that begins here: words, initials, particles, hyphens; `first` when there is none.
fn extend(text: &Text<'_>, first: usize, cue: Cue) -> usize {
    let (mut end, mut next) = (first, first);
    while next < first + 2 * PIECES_MAX {
        let token = text.at(next);
        if next > first && token.gap == Gap::Line {
            break;
        }
        let cue = if next == first { cue } else { Cue::Likely };
        if token.kind == Kind::Word
            && token.shape == Shape::Initial
            && (text.is_mark(next + 1, b'.') || is_name(text, next + 1, Cue::Likely))
        {
            next += 1 + usize::from(text.is_mark(next + 1, b'.'));
            // Initials alone are a name behind a title only.
            if cue == Cue::Sure {
                end = next;
            }
            continue;
        }
        if is_name(text, next, cue) || (next > first && follows_name(text, next)) {
            next += 1;
            end = next;
            continue;
        }
        let joins =
            token.word.is(Word::PARTICLE) && (next == first || end > first) && text.at(next + 1).gap == Gap::Space
                || token.mark == b'-' && text.touches(next) && text.touches(next + 1) && end > first;
        if !joins {
            break;
        }
        next += 1;
    }
    end
}

/// A capitalised word that is a name when it stands behind one: `Ann May`, `Ann Young`.
fn follows_name(text: &Text<'_>, at: usize) -> bool {
    let token = text.at(at);
    let suffix = text.is_any(at, &["jr", "sr", "ii", "iii", "iv"]) && token.shape != Shape::Lower;
    suffix
        || token.kind == Kind::Word
            && token.shape == Shape::Title
            && token.word.is(Word::GIVEN.and(Word::SURNAME))
            && !token.word.is(Word::MONTH)
}

fn is_name(text: &Text<'_>, at: usize, cue: Cue) -> bool {
    let token = text.at(at);
    if token.kind != Kind::Word || matches!(token.shape, Shape::Lower | Shape::Initial) {
        return false;
    }
    let listed = token.word.is(Word::GIVEN.and(Word::SURNAME));
    let other = token.word.is(Word::MONTH.and(Word::WEEKDAY).and(Word::HOUSE).and(Word::CREDENTIAL).and(Word::TITLE))
        && !listed;
    match cue {
        Cue::Sure => !other || listed,
        Cue::Likely if token.word.is(Word::SAFE) => {
            listed && token.shape == Shape::Title && !token.word.is(Word::MONTH.and(Word::ROLE).and(Word::STREET))
        }
        Cue::Likely if token.word.is(Word::EPONYM) => listed || !is_eponym(text, at),
        Cue::Likely => !token.word.is(Word::HOUSE.and(Word::STATE).and(Word::STREET)) || listed,
    }
}
