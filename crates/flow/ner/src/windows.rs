//! Long texts go through in windows that overlap, so that each piece is judged with what stands around it.

use std::ops::Range;

/// So many pieces of a text are read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The pieces that are read.
    pub(crate) read: Range<usize>,
    /// Those of them whose tags count: in no other window do they stand farther from an end.
    pub(crate) counts: Range<usize>,
}

/// The windows of so many pieces, at most `size` each; every piece counts in exactly one.
pub(crate) fn windows(pieces: usize, size: usize) -> Vec<Window> {
    let step = size - size / 4;
    let mut reads: Vec<Range<usize>> = Vec::from([Range { start: 0, end: pieces.min(size) }]);
    while let Some(end) = reads.last().map(|read| read.end).filter(|end| *end < pieces) {
        // The last one is moved back, so that it is a full one too.
        let start = (end - size + step).min(pieces - size);
        reads.push(start..start + size);
    }
    let mut counted = 0;
    let ends = reads.iter().skip(1).zip(&reads).map(|(next, read)| next.start.midpoint(read.end));
    let ends: Vec<usize> = ends.chain([pieces]).collect();
    let windows = reads.into_iter().zip(ends).map(|(read, end)| {
        let counts = counted..end;
        counted = end;
        Window { read, counts }
    });
    windows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_counts_once_and_away_from_the_ends() {
        for size in [6, 7, 16, 510] {
            for pieces in (0..200).chain([1000, 4096]) {
                let windows = windows(pieces, size);
                let mut at = 0;
                for (number, window) in windows.iter().enumerate() {
                    assert_eq!(window.counts.start, at);
                    at = window.counts.end;
                    assert!(window.read.len() <= size && window.read.end <= pieces);
                    assert!(window.counts.start >= window.read.start && window.counts.end <= window.read.end);
                    let margin = size / 8;
                    assert!(
                        number == 0 || window.counts.start - window.read.start >= margin,
                        "{size} {pieces} {window:?}"
                    );
                    let last = number + 1 == windows.len();
                    assert!(last || window.read.end - window.counts.end >= margin, "{size} {pieces} {window:?}");
                }
                assert_eq!(at, pieces);
            }
        }
        assert_eq!(windows(5, 16), [Window { read: 0..5, counts: 0..5 }]);
    }
}
