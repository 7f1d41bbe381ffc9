//! A file of lines, read from its end: what a long file has last costs no more than what a short one has.

use std::io::{Read, Result, Seek, SeekFrom};

/// Bytes of the first piece that is read; each one behind it has twice as many, up to [`PIECE_MAX`].
const PIECE_MIN: usize = 4 << 10;
const PIECE_MAX: usize = 64 << 10;

/// The lines of a file's first `end` bytes, the last one first.
pub(crate) struct Backwards<R> {
    file: R,
    /// Bytes of the file that were not read yet.
    unread: u64,
    /// What was read and not handed out yet; it begins at `unread`.
    read: Vec<u8>,
    piece: usize,
}

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TailLine {
    /// Where it begins.
    pub(crate) start: u64,
    /// Its bytes, without the line break.
    pub(crate) text: Vec<u8>,
    /// Whether it has a line break: only the last one of the file can lack it.
    pub(crate) whole: bool,
}

impl<R: Read + Seek> Backwards<R> {
    pub(crate) fn new(file: R, end: u64) -> Self {
        Self { file, unread: end, read: Vec::new(), piece: PIECE_MIN }
    }

    /// The line before those that were handed out; `None` at the beginning of the file.
    pub(crate) fn line(&mut self) -> Result<Option<TailLine>> {
        if self.read.is_empty() && self.read_piece()? == 0 {
            return Ok(None);
        }
        let whole = self.read.last() == Some(&b'\n');
        let mut unsearched = self.read.len() - usize::from(whole);
        let start = loop {
            if let Some(end) = self.read[..unsearched].iter().rposition(|byte| *byte == b'\n') {
                break end + 1;
            }
            unsearched = self.read_piece()?;
            if unsearched == 0 {
                break 0;
            }
        };
        let mut text = self.read.split_off(start);
        if whole {
            text.pop();
        }
        Ok(Some(TailLine { start: self.unread + start as u64, text, whole }))
    }

    /// Puts the piece before what was read in front of it; returns its bytes, none at the beginning of the file.
    fn read_piece(&mut self) -> Result<usize> {
        let bytes = usize::try_from(self.unread).unwrap_or(usize::MAX).min(self.piece);
        let start = self.unread - bytes as u64;
        let mut piece = vec![0; bytes];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut piece)?;
        piece.append(&mut self.read);
        (self.read, self.unread, self.piece) = (piece, start, (self.piece * 2).min(PIECE_MAX));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file that counts what is read of it.
    struct Counted(Cursor<Vec<u8>>, usize);

    impl Read for Counted {
        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            let read = self.0.read(into)?;
            self.1 += read;
            Ok(read)
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn lines_come_from_the_end_whatever_their_length() {
        let long = "x".repeat(3 * PIECE_MAX + 1);
        let bound = "y".repeat(PIECE_MIN - 1);
        let texts = ["", "a", "\n", "\n\n", "a\nb", "a\nb\n", "a\n\nb\n", &format!("{long}\n{bound}\n{long}"), &long];
        for text in texts {
            let mut lines = Backwards::new(Cursor::new(text.as_bytes()), text.len() as u64);
            let mut rebuilt = Vec::new();
            while let Some(line) = lines.line().unwrap() {
                assert!(line.whole || rebuilt.is_empty(), "only the last line can lack its end");
                let end = if line.whole { "\n" } else { "" };
                let part = [&line.text, end.as_bytes()].concat();
                assert_eq!(&text.as_bytes()[line.start as usize..][..part.len()], part);
                rebuilt.splice(0..0, part);
            }
            assert!(rebuilt == text.as_bytes(), "{} bytes came back of {}", rebuilt.len(), text.len());
        }
        let mut lines = Backwards::new(Cursor::new("a\nb\nc\n"), 4);
        assert_eq!(lines.line().unwrap().unwrap().text, b"b");
    }

    #[test]
    fn the_last_line_of_a_long_file_is_read_alone() {
        let text = format!("{}\nlast\n", "a line of the past\n".repeat(100_000));
        let mut lines = Backwards::new(Counted(Cursor::new(text.clone().into_bytes()), 0), text.len() as u64);
        assert_eq!(lines.line().unwrap().unwrap().text, b"last");
        assert_eq!(lines.file.1, PIECE_MIN);
    }
}
