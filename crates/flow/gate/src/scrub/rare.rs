//! D22: what makes somebody known in a place. The placeholder stays in the text as a flag for a reviewer.

use super::token::Text;
use super::word::Word;
use super::{Hits, Label};

pub(super) fn find(text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
    if !text.at(at).word.is(Word::RARE) {
        return;
    }
    let next = |words: &[&str]| text.is_any(at + 1, words);
    let last = if text.is_any(at, &["nfl", "nba", "mlb", "nhl", "olympic"]) {
        next(&["player", "coach", "athlete", "star", "champion", "medalist", "quarterback"]).then_some(at + 1)
    } else if text.is_word(at, "only") {
        let subject =
            next(&["patient", "person", "case", "survivor", "physician", "resident", "family", "woman", "man"]);
        (subject && text.is_any(at + 2, &["with", "who", "in", "to", "of"])).then_some(at + 2)
    } else if text.is_word(at, "well") {
        (text.is_mark(at + 1, b'-') && text.is_word(at + 2, "known")).then_some(at + 2)
    } else if text.is_word(at, "news") {
        (text.is_word(at.wrapping_sub(1), "the") && text.is_word(at.wrapping_sub(2), "in")
            || text.is_word(at.wrapping_sub(1), "local")
            || next(&["anchor", "story", "coverage"]))
        .then_some(at)
    } else if text.is_word(at, "president") {
        (next(&["of"]) && text.at(at).shape == super::token::Shape::Lower && text.is_word(at + 2, "the")).then_some(at)
    } else if text.is_word(at, "anchor") {
        text.is_word(at.wrapping_sub(1), "news").then_some(at)
    } else if text.is_word(at, "lottery") {
        next(&["winner"]).then_some(at + 1)
    } else {
        Some(at)
    };
    if let Some(last) = last {
        hits.tokens(at, last, Label::Rare);
    }
}
