//! One spelling for what looks alike, with the way back to the text as it was.

use std::borrow::Cow;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A text in the form NFKC with plain dashes, quotes and digits, without invisible characters and without hyphens at line ends.
pub(super) struct Normal<'a> {
    text: Cow<'a, str>,
    /// For each byte of `text` the bytes of the original that it comes from; empty when the two are the same.
    from: Vec<(u32, u32)>,
}

impl<'a> Normal<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        if text.is_ascii() && !breaks_words(text) {
            return Self { text: Cow::Borrowed(text), from: Vec::new() };
        }
        let mut normal = Self { text: Cow::Owned(String::with_capacity(text.len())), from: Vec::new() };
        let mut at = 0;
        while at < text.len() {
            at = normal.push(text, at);
        }
        normal
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where bytes of the normalised text come from.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        if self.from.is_empty() {
            return range;
        }
        let start = self.from.get(range.start).map_or(0, |from| from.0 as usize);
        let end = range.end.checked_sub(1).and_then(|last| self.from.get(last)).map_or(start, |from| from.1 as usize);
        start..end
    }

    /// Appends the normalised form of one character and its marks; returns where the next begins.
    fn push(&mut self, text: &str, at: usize) -> usize {
        if let Some(end) = hyphen_break(text, at) {
            return end;
        }
        let rest = &text[at..];
        let mut characters = rest.char_indices();
        let Some((_, first)) = characters.next() else { return text.len() };
        let length = match characters.next() {
            Some((next, character)) if is_combining_mark(character) => {
                characters.find(|(_, character)| !is_combining_mark(*character)).map_or(rest.len(), |(end, _)| {
                    debug_assert!(end > next);
                    end
                })
            }
            Some((next, _)) => next,
            None => rest.len(),
        };
        let end = at + length;
        let from = (at as u32, end as u32);
        if rest.as_bytes()[0].is_ascii() && length == 1 {
            self.put(first, from);
            return end;
        }
        for character in rest[..length].nfkc() {
            if let Some(plain) = plain(character) {
                self.put(plain, from);
            }
        }
        end
    }

    fn put(&mut self, character: char, from: (u32, u32)) {
        self.text.to_mut().push(character);
        self.from.extend(std::iter::repeat_n(from, character.len_utf8()));
    }
}

/// Whether a word may be broken by a hyphen at a line's end.
fn breaks_words(text: &str) -> bool {
    text.contains("-\n") || text.contains("-\r\n")
}

/// The end of a hyphen and line break between two small letters of one word.
fn hyphen_break(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&b'-') || !at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_lowercase()) {
        return None;
    }
    let rest = &bytes[at + 1..];
    let line = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
    let indent = rest[line..].iter().take_while(|byte| **byte == b' ').take(16).count();
    let next = rest.get(line + indent)?;
    (line > 0 && next.is_ascii_lowercase()).then_some(at + 1 + line + indent)
}

/// The plain character that looks like this one; none for what cannot be seen.
fn plain(character: char) -> Option<char> {
    Some(match character {
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => {
            return None;
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' | '\u{2bc}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2033}' => '"',
        '\u{2044}' | '\u{2215}' => '/',
        // The decimal digits of Arabic, Persian, Devanagari, Bengali and Thai.
        '\u{660}'..='\u{669}' => digit(character, 0x660),
        '\u{6f0}'..='\u{6f9}' => digit(character, 0x6f0),
        '\u{966}'..='\u{96f}' => digit(character, 0x966),
        '\u{9e6}'..='\u{9ef}' => digit(character, 0x9e6),
        '\u{e50}'..='\u{e59}' => digit(character, 0xe50),
        other => other,
    })
}

fn digit(character: char, zero: u32) -> char {
    char::from_digit(u32::from(character) - zero, 10).unwrap_or(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_spelt_alike_and_leads_back() {
        let text = "Zo\u{308}e\u{301} \u{ff11}\u{ff12}\u{2013}\u{663} a\u{200b}b ﬁn 078\u{2010}05";
        let normal = Normal::of(text);
        assert_eq!(normal.text(), "Zöé 12-3 ab fin 078-05");
        let at = normal.text().find("12-3").unwrap();
        assert_eq!(&text[normal.original(at..at + 4)], "\u{ff11}\u{ff12}\u{2013}\u{663}");
        let at = normal.text().find("ab").unwrap();
        assert_eq!(&text[normal.original(at..at + 2)], "a\u{200b}b");
    }

    #[test]
    fn words_broken_at_a_line_end_are_whole_again() {
        let text = "seen by Whit-\n  aker at 5-\n6 and Anne-\nMarie";
        let normal = Normal::of(text);
        assert_eq!(normal.text(), "seen by Whitaker at 5-\n6 and Anne-\nMarie");
        let at = normal.text().find("Whitaker").unwrap();
        assert_eq!(&text[normal.original(at..at + 8)], "Whit-\n  aker");
    }
}
