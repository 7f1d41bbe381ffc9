//! BERT's tokenizer: words at white space, punctuation and Chinese characters, then the longest pieces that the vocabulary has.

use std::collections::HashMap;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// How a model wants its texts cut.
#[derive(Clone, Debug)]
pub struct WordPiece {
    pub(crate) vocabulary: HashMap<String, u32>,
    /// What stands before a piece that does not begin a word.
    pub(crate) inner: String,
    /// The piece for a word that the vocabulary cannot spell.
    pub(crate) unknown: u32,
    /// The pieces at the two ends of what a model reads at once.
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) lowercase: bool,
    pub(crate) strip_accents: bool,
    pub(crate) split_chinese: bool,
    pub(crate) clean: bool,
    /// Longer words, in characters, are the unknown piece.
    pub(crate) word_max: usize,
}

/// A text in pieces. It is as personal as the text: nothing prints it.
#[derive(Default)]
pub struct Pieces {
    /// The numbers of the pieces in the vocabulary.
    pub ids: Vec<u32>,
    /// For each piece the word that it is of.
    pub word_of: Vec<u32>,
    /// The words, in bytes of the text as it came.
    pub words: Vec<Range<usize>>,
}

/// A word that is being read.
#[derive(Default)]
struct Word {
    /// As the vocabulary spells it.
    text: String,
    range: Range<usize>,
}

impl Word {
    fn extend(&mut self, spelt: Option<char>, range: &Range<usize>) {
        if self.range.is_empty() {
            self.range = range.clone();
        }
        self.range.end = range.end;
        self.text.extend(spelt);
    }
}

impl WordPiece {
    /// The largest number of a piece.
    pub(crate) fn largest(&self) -> u32 {
        self.vocabulary.values().copied().max().unwrap_or_default()
    }

    /// Cuts a text. Names of marks in it, such as `[SEP]`, are words like others.
    pub fn cut(&self, text: &str) -> Pieces {
        let mut pieces = Pieces::default();
        let (mut word, mut spelling) = (Word::default(), String::new());
        for (at, character) in text.char_indices() {
            let range = at..at + character.len_utf8();
            if self.clean && is_control(character) {
                continue;
            }
            if is_space(character) {
                self.finish(&mut word, &mut pieces);
                continue;
            }
            let chinese = self.split_chinese && is_chinese(character);
            self.spell(character, &mut spelling);
            if spelling.is_empty() {
                // A mark belongs to what it stands on.
                word.extend(None, &range);
            }
            // What is left of a character is judged, not what it was: of `≠` that is a sign of its own.
            for spelt in spelling.chars() {
                let alone = chinese || is_punctuation(spelt);
                if alone {
                    self.finish(&mut word, &mut pieces);
                }
                word.extend(Some(spelt), &range);
                if alone {
                    self.finish(&mut word, &mut pieces);
                }
            }
        }
        self.finish(&mut word, &mut pieces);
        pieces
    }

    /// A character as the vocabulary spells it.
    fn spell(&self, character: char, spelling: &mut String) {
        spelling.clear();
        let mut push = |character: char| match self.lowercase {
            true => spelling.extend(character.to_lowercase()),
            false => spelling.push(character),
        };
        if self.strip_accents && !character.is_ascii() {
            let plain = std::iter::once(character).nfd();
            plain.filter(|plain| plain.general_category() != GeneralCategory::NonspacingMark).for_each(&mut push);
        } else {
            push(character);
        }
    }

    /// Ends a word: the longest pieces from left to right, or the unknown one for the whole when something is in no piece.
    fn finish(&self, word: &mut Word, pieces: &mut Pieces) {
        let Word { text, range } = std::mem::take(word);
        // Marks that stand on nothing leave nothing.
        if text.is_empty() {
            return;
        }
        let (before, number) = (pieces.ids.len(), pieces.words.len() as u32);
        pieces.words.push(range);
        if text.chars().count() > self.word_max || !self.spelt(&text, &mut pieces.ids) {
            pieces.ids.truncate(before);
            pieces.ids.push(self.unknown);
        }
        pieces.word_of.resize(pieces.ids.len(), number);
    }

    /// Appends the pieces of a word; false when it has none.
    fn spelt(&self, word: &str, ids: &mut Vec<u32>) -> bool {
        let (mut at, mut candidate) = (0, String::new());
        while at < word.len() {
            let mut end = word.len();
            let found = loop {
                candidate.clear();
                candidate.push_str(if at > 0 { &self.inner } else { "" });
                candidate.push_str(&word[at..end]);
                if let Some(id) = self.vocabulary.get(&candidate) {
                    break *id;
                }
                match word[at..end].char_indices().next_back() {
                    Some((last, _)) if last > 0 => end = at + last,
                    _ => return false,
                }
            };
            ids.push(found);
            at = end;
        }
        // Of a word that was nothing but marks without a place of their own, nothing is left.
        !word.is_empty()
    }
}

fn is_space(character: char) -> bool {
    character.is_whitespace()
}

/// What no reader sees; line ends and tabs are space.
fn is_control(character: char) -> bool {
    if matches!(character, '\t' | '\n' | '\r') {
        return false;
    }
    matches!(character, '\0' | '\u{fffd}')
        || !character.is_ascii() && character.general_category_group() == GeneralCategoryGroup::Other
        || character.is_ascii_control()
}

fn is_punctuation(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_punctuation(),
        false => character.general_category_group() == GeneralCategoryGroup::Punctuation,
    }
}

/// The blocks that BERT takes for Chinese.
fn is_chinese(character: char) -> bool {
    matches!(character,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b820}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 22] = [
        "[UNK]", "[CLS]", "[SEP]", "smith", "##son", "##s", "dr", ".", ",", "zoe", "muller", "病", "院", "'", "o",
        "brien", "Zoë", "Smith", "[", "]", "sep", "ı",
    ];

    fn cutter(lowercase: bool) -> WordPiece {
        WordPiece {
            vocabulary: WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id as u32)).collect(),
            inner: "##".into(),
            unknown: 0,
            first: 1,
            last: 2,
            lowercase,
            strip_accents: lowercase,
            split_chinese: true,
            clean: true,
            word_max: 20,
        }
    }

    /// Each piece with the part of the text that its word is.
    fn cut(cutter: &WordPiece, text: &str) -> Vec<(String, String)> {
        let pieces = cutter.cut(text);
        assert_eq!(pieces.ids.len(), pieces.word_of.len());
        let piece = |(id, word): (&u32, &u32)| {
            (WORDS[*id as usize].to_owned(), text[pieces.words[*word as usize].clone()].to_owned())
        };
        pieces.ids.iter().zip(&pieces.word_of).map(piece).collect()
    }

    fn check(cutter: &WordPiece, text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(piece, word)| ((*piece).to_owned(), (*word).to_owned())).collect();
        assert_eq!(cut(cutter, text), expected, "{text}");
    }

    #[test]
    fn words_become_their_longest_pieces() {
        let plain = cutter(true);
        check(
            &plain,
            "Dr. Smithson's",
            &[("dr", "Dr"), (".", "."), ("smith", "Smithson"), ("##son", "Smithson"), ("'", "'"), ("[UNK]", "s")],
        );
        check(&plain, " O'Brien,", &[("o", "O"), ("'", "'"), ("brien", "Brien"), (",", ",")]);
        check(&plain, "smithx", &[("[UNK]", "smithx")]);
        check(&plain, "[SEP]", &[("[", "["), ("sep", "SEP"), ("]", "]")]);
        check(&plain, "", &[]);
    }

    #[test]
    fn accents_and_wide_characters_lead_back_to_their_bytes() {
        let plain = cutter(true);
        check(&plain, "Zoë, Müller", &[("zoe", "Zoë"), (",", ","), ("muller", "Müller")]);
        check(&plain, "Zoe\u{308} smith", &[("zoe", "Zoe\u{308}"), ("smith", "smith")]);
        check(&plain, "病院smith", &[("病", "病"), ("院", "院"), ("smith", "smith")]);
        check(&plain, "\u{1f642}smith\u{200b}s…", &[("[UNK]", "\u{1f642}smith\u{200b}s"), ("[UNK]", "…")]);
        check(&plain, "smi\u{200b}ths", &[("smith", "smi\u{200b}ths"), ("##s", "smi\u{200b}ths")]);
        // A mark alone spells nothing and is a word all the same.
        check(&plain, "\u{301}", &[]);
        check(
            &cutter(false),
            "Zoë Smith smith Zoe",
            &[("Zoë", "Zoë"), ("Smith", "Smith"), ("smith", "smith"), ("[UNK]", "Zoe")],
        );
    }

    #[test]
    fn long_words_are_unknown_and_any_text_is_cut_within_itself() {
        check(&cutter(true), "smithsssssssssssssssss", &[("[UNK]", "smithsssssssssssssssss")]);
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..3000 {
            let length = next(30);
            let text: String = (0..length)
                .filter_map(|_| match next(3) {
                    0 => char::from_u32(next(0x11_0000) as u32),
                    1 => char::from_u32(next(0x500) as u32),
                    _ => char::from_u32(32 + next(95) as u32),
                })
                .collect();
            let pieces = cutter(true).cut(&text);
            let mut from = 0;
            for word in &pieces.words {
                assert!(word.start >= from && word.start < word.end && text.get(word.clone()).is_some());
                from = word.end;
            }
            assert!(
                pieces.word_of.is_sorted()
                    && pieces.word_of.last().map_or(0, |last| last + 1) as usize == pieces.words.len()
            );
        }
    }
}
