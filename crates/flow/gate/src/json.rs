//! JSON (RFC 8259) read from the front, so that a document is walked once and only what is asked for is looked at.

/// Deeper nesting is refused: nothing that people make needs it, and reading it would need as much stack.
const DEPTH_MAX: usize = 64;

/// Reads one document. Every method gives `None` when the text is not JSON from there on.
pub(crate) struct JsonReader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// What stands next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Object,
    List,
    Text,
    /// A number, `true` or `false`.
    Bare,
    Null,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    pub(crate) fn next(&mut self) -> Option<Next> {
        Some(match self.peek()? {
            b'{' => Next::Object,
            b'[' => Next::List,
            b'"' => Next::Text,
            b'n' => Next::Null,
            b't' | b'f' | b'-' | b'0'..=b'9' => Next::Bare,
            _ => return None,
        })
    }

    /// Walks an object: `each` gets every key, unescaped, and must read or skip the value.
    pub(crate) fn object(&mut self, mut each: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        let mut key = String::new();
        self.members(b'{', b'}', |reader| {
            key.clear();
            reader.peek().filter(|byte| *byte == b'"')?;
            reader.text(&mut key)?;
            reader.take(b':')?;
            each(reader, &key)
        })
    }

    /// Walks a list: `each` must read or skip every item.
    pub(crate) fn list(&mut self, each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.members(b'[', b']', each)
    }

    /// Appends the text that stands next, unescaped.
    pub(crate) fn text(&mut self, out: &mut String) -> Option<()> {
        self.take(b'"')?;
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Some(()),
                b'\\' => out.push(self.escaped()?),
                _ => return None,
            }
        }
    }

    /// The number, `true` or `false` that stands next, as it is written.
    pub(crate) fn bare(&mut self) -> Option<&'a str> {
        self.peek()?;
        let rest = &self.text[self.at..];
        let length = ["true", "false"]
            .into_iter()
            .find(|word| rest.starts_with(word))
            .map(str::len)
            .or_else(|| number_length(rest.as_bytes()))?;
        self.at += length;
        Some(&rest[..length])
    }

    pub(crate) fn null(&mut self) -> Option<()> {
        self.peek()?;
        self.at += self.text[self.at..].starts_with("null").then_some(4)?;
        Some(())
    }

    /// Reads a value of any kind and forgets it.
    pub(crate) fn skip(&mut self) -> Option<()> {
        match self.next()? {
            Next::Object => self.object(|reader, _| reader.skip()),
            Next::List => self.list(Self::skip),
            Next::Text => self.text(&mut String::new()),
            Next::Bare => self.bare().map(drop),
            Next::Null => self.null(),
        }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    fn members(&mut self, open: u8, close: u8, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let mut first = true;
        loop {
            match self.peek()? {
                byte if byte == close && first => break,
                _ if first => {}
                b',' => self.at += 1,
                byte if byte == close => break,
                _ => return None,
            }
            first = false;
            each(self)?;
        }
        self.depth -= 1;
        self.take(close)
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.peek().filter(|next| *next == byte)?;
        self.at += 1;
        Some(())
    }

    fn escaped(&mut self) -> Option<char> {
        let byte = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.at += self.text[self.at..].starts_with("\\u").then_some(2)?;
                let second = self.hex()?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

/// How many bytes the number takes that the text begins with: RFC 8259 section 6.
fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    at += match text.get(at)? {
        b'0' => 1,
        _ => Some(digits(at)).filter(|count| *count > 0)?,
    };
    if text.get(at) == Some(&b'.') {
        at += 1 + Some(digits(at + 1)).filter(|count| *count > 0)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at += Some(digits(at)).filter(|count| *count > 0)?;
    }
    Some(at)
}

/// Appends a text with its quotes.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            ..0x20 => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                out.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let mut reader = JsonReader::new(text);
        reader.skip().and_then(|()| reader.end()).is_some()
    }

    /// A second reader is the oracle, over seeded changes of a right document.
    #[test]
    fn what_is_json_here_is_json_elsewhere() {
        let good = r#"{"a": [1, -0.5e+3, true, null, "x\u00e9\ud83d\ude00\n"], "b": {"c": {}, "d": []}, "e\"": 10}"#;
        assert!(accepts(good));
        let pieces =
            ["{", "}", "[", "]", ",", ":", "\"", "\\", "0", ".", "e", "-", " ", "u", "\t", "nul", "é", "\\ud83d"];
        let mut state = 1_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..20_000 {
            let mut text = good.to_owned();
            for _ in 0..1 + below(2) {
                let at = (0..=below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                match (below(4), text[at..].chars().next()) {
                    (0, Some(_)) => drop(text.remove(at)),
                    _ => text.insert_str(at, pieces[below(pieces.len())]),
                }
            }
            let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // The oracle refuses numbers beyond a float's range; there are none here.
            assert_eq!(accepts(&text), expected, "{text}");
            *(if expected { &mut right } else { &mut wrong }) += 1;
        }
        assert!(right > 1000 && wrong > 1000, "{right} right, {wrong} wrong");
    }

    #[test]
    fn texts_come_out_as_they_went_in() {
        for value in ["", "a\"b\\c\n\u{1}", "é😀", "/"] {
            let mut written = Vec::new();
            push_text(&mut written, value);
            let written = String::from_utf8(written).unwrap();
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), value);
            let mut read = String::new();
            JsonReader::new(&written).text(&mut read).unwrap();
            assert_eq!(read, value);
        }
        assert!(!accepts(&"[".repeat(100_000)) && !accepts(&format!("{}1{}", "[".repeat(65), "]".repeat(65))));
        assert!(accepts(&format!("{}1{}", "[".repeat(64), "]".repeat(64))));
        assert!(!accepts("1 2") && !accepts("") && !accepts("\"\\ud83d\"") && !accepts("{1:2}"));
    }
}
