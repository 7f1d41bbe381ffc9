//! A text as words, numbers and marks.

use super::Label;
use super::lexicon::Lexicon;
use super::word::Word;

/// A piece of a text without white space in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    /// What stands before it.
    pub(super) gap: Gap,
    /// The character, when it is a mark of ASCII.
    pub(super) mark: u8,
    pub(super) word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, with apostrophes between them.
    Word,
    /// Digits.
    Number,
    /// Letters and digits.
    Mixed,
    /// Any other character.
    Mark,
    /// A placeholder of an earlier round.
    Placeholder,
    /// Before the first and behind the last.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Lower,
    /// The first letter is a capital, a later one is not.
    Title,
    /// Capitals, at least two.
    Upper,
    /// One capital.
    Initial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    Space,
    Line,
}

const END: Token =
    Token { start: 0, end: 0, kind: Kind::End, shape: Shape::Lower, gap: Gap::Line, mark: 0, word: Word::NONE };

/// A tokenized text. Tokens outside of it are [`Kind::End`].
pub(super) struct Text<'a> {
    text: &'a str,
    tokens: &'a [Token],
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str, tokens: &'a [Token]) -> Self {
        Self { text, tokens }
    }

    pub(super) fn at(&self, index: usize) -> &Token {
        self.tokens.get(index).unwrap_or(&END)
    }

    pub(super) fn before(&self, index: usize) -> &Token {
        self.at(index.wrapping_sub(1))
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn whole(&self) -> &'a str {
        self.text
    }

    pub(super) fn str(&self, index: usize) -> &'a str {
        let token = self.at(index);
        &self.text[token.start as usize..token.end as usize]
    }

    pub(super) fn bytes(&self, index: usize) -> &'a [u8] {
        self.str(index).as_bytes()
    }

    pub(super) fn is_mark(&self, index: usize, mark: u8) -> bool {
        self.at(index).mark == mark
    }

    /// Whether the token is this word in lower case.
    pub(super) fn is_word(&self, index: usize, word: &str) -> bool {
        self.str(index).eq_ignore_ascii_case(word)
    }

    pub(super) fn is_any(&self, index: usize, words: &[&str]) -> bool {
        let text = self.str(index);
        words.iter().any(|word| text.eq_ignore_ascii_case(word))
    }

    /// Whether the token stands directly behind the one before.
    pub(super) fn touches(&self, index: usize) -> bool {
        self.at(index).gap == Gap::None && self.at(index).kind != Kind::End && self.before(index).kind != Kind::End
    }

    /// The number, when the token has at most so many digits and nothing else.
    pub(super) fn number(&self, index: usize, digits_max: usize) -> Option<u32> {
        let token = self.at(index);
        let short = token.kind == Kind::Number && (token.end - token.start) as usize <= digits_max.min(9);
        short.then(|| self.str(index).parse().ok()).flatten()
    }

    /// The length of a token of digits; 0 for others.
    pub(super) fn digits(&self, index: usize) -> usize {
        let token = self.at(index);
        if token.kind == Kind::Number { (token.end - token.start) as usize } else { 0 }
    }

    /// Whether one of the tokens before, up to so many and in the same line, is such a word.
    pub(super) fn word_before(&self, index: usize, window: usize, word: Word) -> bool {
        self.find_before(index, window, |at| self.at(at).word.is(word)).is_some()
    }

    pub(super) fn find_before(&self, index: usize, window: usize, is: impl Fn(usize) -> bool) -> Option<usize> {
        let mut at = index;
        for _ in 0..window {
            if self.at(at).gap == Gap::Line {
                return None;
            }
            at = at.wrapping_sub(1);
            if self.at(at).kind == Kind::End {
                return None;
            }
            if is(at) {
                return Some(at);
            }
        }
        None
    }

    /// Whether a unit of measure follows: `5 mg`, `40%`, `mg/dL`.
    pub(super) fn unit_follows(&self, last: usize) -> bool {
        let next = self.at(last + 1);
        next.gap != Gap::Line
            && (next.word.is(Word::UNIT)
                || next.mark == b'%'
                || (next.mark == b'-' && self.at(last + 2).word.is(Word::UNIT)))
    }
}

/// Fills `tokens` with those of the text.
pub(super) fn tokenize(text: &str, lexicon: &Lexicon, tokens: &mut Vec<Token>) {
    tokens.clear();
    let bytes = text.as_bytes();
    let (mut at, mut gap) = (0, Gap::Line);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            gap = if byte == b'\n' || byte == b'\r' || gap == Gap::Line { Gap::Line } else { Gap::Space };
            at += 1;
            continue;
        }
        let mut token = Token { start: at as u32, end: 0, gap, kind: Kind::Mark, mark: 0, ..END };
        at = if starts_run(text, at) {
            run(text, at, lexicon, &mut token)
        } else if let Some(length) = (byte == b'[').then(|| Label::placeholder_at(&text[at..])).flatten() {
            token.kind = Kind::Placeholder;
            at + length
        } else {
            token.mark = if byte.is_ascii() { byte } else { 0 };
            at + text[at..].chars().next().map_or(1, char::len_utf8)
        };
        token.end = at as u32;
        // White space beyond ASCII parts as a space does.
        if token.mark == 0 && token.kind == Kind::Mark && text[token.start as usize..at].trim().is_empty() {
            gap = if gap == Gap::Line { Gap::Line } else { Gap::Space };
            continue;
        }
        tokens.push(token);
        gap = Gap::None;
    }
}

fn starts_run(text: &str, at: usize) -> bool {
    match text.as_bytes()[at] {
        byte if byte.is_ascii() => byte.is_ascii_alphanumeric(),
        _ => text[at..].chars().next().is_some_and(char::is_alphanumeric),
    }
}

/// Reads letters and digits; returns where they end.
fn run(text: &str, start: usize, lexicon: &Lexicon, token: &mut Token) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut letters, mut digits, mut small, mut capitals) = (start, 0, 0, 0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte.is_ascii_lowercase() {
            (letters, small) = (letters + 1, small + 1);
        } else if byte.is_ascii_uppercase() {
            (letters, capitals) = (letters + 1, capitals + 1);
        } else if byte.is_ascii_digit() {
            digits += 1;
        } else if byte == b'\'' && letters > 0 && digits == 0 && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
        {
            // O'Brien, patient's
        } else if byte.is_ascii() {
            break;
        } else {
            let Some(character) = text[at..].chars().next().filter(|character| character.is_alphanumeric()) else {
                break;
            };
            letters += 1;
            capitals += usize::from(character.is_uppercase());
            small += usize::from(!character.is_uppercase());
            at += character.len_utf8();
            continue;
        }
        at += 1;
    }
    let piece = &text[start..at];
    let starts_capital = piece.chars().next().is_some_and(char::is_uppercase);
    token.shape = match (starts_capital, capitals, small) {
        (true, 1, 0) => Shape::Initial,
        (_, 2.., 0) => Shape::Upper,
        (true, ..) => Shape::Title,
        _ => Shape::Lower,
    };
    token.kind = match (letters, digits) {
        (0, _) => Kind::Number,
        (_, 0) => Kind::Word,
        _ => Kind::Mixed,
    };
    if token.kind == Kind::Word {
        token.word = lexicon.look_up(piece);
        if token.word == Word::NONE && token.shape != Shape::Lower {
            token.word = if lexicon.derives(piece) { Word::SAFE } else { Word::STRANGE };
        } else if token.shape != Shape::Lower && !token.word.is(Word::SAFE) {
            token.word.add(Word::OTHER);
        }
    }
    at
}
