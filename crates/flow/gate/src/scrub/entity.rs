//! D24: places that another finder adds, such as a model.

use std::ops::Range;

use super::token::Kind;
use super::{Hits, Label};

/// Recognises names by other means than the lists here, for example by a model. It can add places and never takes one away. None is built in.
pub trait EntityFinder: Send + Sync {
    /// SHA-256 of what it finds by, 64 hexadecimal digits: what the policy names.
    fn model(&self) -> &str;

    /// The places of entities in `text`, in bytes on character boundaries; others are widened to them.
    ///
    /// # Errors
    /// [`NotSearched`] when it could not look at the whole text, which is then replaced as a whole.
    fn find(&self, text: &str) -> Result<Vec<(Range<usize>, Label)>, NotSearched>;
}

/// A finder could not look at a whole text. It has no field, so that nothing of the text can be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSearched;

/// Adds what a finder has said of the text, without the placeholders in it and the white space around it.
pub(super) fn add(entities: &[(Range<usize>, Label)], hits: &mut Hits<'_>) {
    if entities.is_empty() {
        return;
    }
    let (view, text) = (hits.text, hits.text.whole());
    let tokens = (0..view.len()).map(|at| view.at(at)).filter(|token| token.kind == Kind::Placeholder);
    let placeholders: Vec<Range<usize>> = tokens.map(|token| token.start as usize..token.end as usize).collect();
    for (range, label) in entities {
        let mut from = text.floor_char_boundary(range.start);
        let end = text.ceil_char_boundary(range.end);
        let first = placeholders.partition_point(|placeholder| placeholder.end <= from);
        for placeholder in placeholders[first..].iter().take_while(|placeholder| placeholder.start < end) {
            part(text, from..placeholder.start, *label, hits);
            from = placeholder.end;
        }
        part(text, from..end, *label, hits);
    }
}

fn part(text: &str, range: Range<usize>, label: Label, hits: &mut Hits<'_>) {
    let Some(inside) = text.get(range.clone()) else { return };
    let start = range.start + inside.len() - inside.trim_start().len();
    hits.bytes(start, start + inside.trim().len(), label);
}
