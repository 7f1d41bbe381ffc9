use super::Label;
use super::normal::Normal;

/// Bytes of a text that are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) label: Label,
}

/// Makes one of those that overlap; it has the label of the longest, and of two as long the one that ranks first.
pub(super) fn merge(spans: &mut Vec<Span>) {
    if spans.len() < 2 {
        return;
    }
    spans.sort_unstable_by_key(|span| (span.start, std::cmp::Reverse(span.end), span.label.rank()));
    let mut kept = 0;
    // The length of the span that gave the kept one its label.
    let mut longest = spans[0].end - spans[0].start;
    for next in 1..spans.len() {
        let (span, length) = (spans[next], spans[next].end - spans[next].start);
        let last = &mut spans[kept];
        if span.start < last.end {
            last.end = last.end.max(span.end);
            if length > longest || (length == longest && span.label.rank() < last.label.rank()) {
                (last.label, longest) = (span.label, length);
            }
        } else {
            kept += 1;
            spans[kept] = span;
            longest = length;
        }
    }
    spans.truncate(kept + 1);
}

/// The original text with placeholders for the spans, which are bytes of the normalised text in order. Where normalising has made one
/// character of several, all of them go.
pub(super) fn replace(original: &str, normal: &Normal<'_>, spans: &[Span]) -> String {
    let mut out = String::with_capacity(original.len());
    let mut from = 0;
    for span in spans {
        let range = normal.original(span.start..span.end);
        out.push_str(original.get(from..range.start.max(from)).unwrap_or_default());
        out.push_str(span.label.placeholder());
        from = range.end.max(from);
    }
    out.push_str(original.get(from..).unwrap_or_default());
    out
}
