//! Recall and precision of `scrub_text` per class, tier and data set. `cargo nextest run --workspace --exclude xtask --no-capture -E
//! 'package(gate) and test(free_text)'` prints the tables of `docs/privacy/measured.md`.

mod corpus;
pub(crate) mod shared;

use std::collections::BTreeMap;
use std::ops::Range;

use gate::{KnownValues, Label, Scrubber, Tier};

/// 2026-11-21.
pub(crate) const TODAY: i32 = 20_778;

/// A text with the places that identify somebody.
pub(crate) struct Note {
    pub(crate) text: String,
    pub(crate) spans: Vec<(Range<usize>, String)>,
    /// Columns of the row that the scrubber is told.
    pub(crate) known: Vec<(String, String)>,
    /// Places that must stay.
    pub(crate) keep: Vec<Range<usize>>,
}

/// What was found of how much.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    found: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, found: bool) {
        self.found += usize::from(found);
        self.all += 1;
    }

    pub(crate) fn percent(self) -> f64 {
        100.0 * self.found as f64 / self.all.max(1) as f64
    }
}

/// One data set through one tier.
#[derive(Default)]
pub(crate) struct Measured {
    /// By class of what was planted. A value is found when none of its letters and digits is left.
    pub(crate) recall: BTreeMap<String, Share>,
    /// By placeholder. A place is right when it touches a planted value.
    pub(crate) precision: BTreeMap<Label, Share>,
    pub(crate) kept: Share,
}

impl Measured {
    pub(crate) fn of(notes: &[Note], tier: Tier) -> Self {
        let scrubber = Scrubber::new(tier, TODAY);
        let mut measured = Self::default();
        for note in notes {
            let mut known = KnownValues::default();
            note.known.iter().for_each(|(column, value)| known.add(column, value));
            let places = scrubber.find(&note.text, &known).unwrap();
            let covered = |at: usize| places.iter().any(|(place, _)| place.contains(&at));
            for (span, class) in &note.spans {
                let whole = note.text[span.clone()].char_indices().filter(|(_, letter)| letter.is_alphanumeric());
                let gone = whole.map(|(at, _)| span.start + at).all(covered);
                measured.recall.entry(class.clone()).or_default().add(gone);
            }
            for (place, label) in &places {
                let right = note.spans.iter().any(|(span, _)| span.start < place.end && place.start < span.end);
                measured.precision.entry(*label).or_default().add(right);
            }
            for keep in &note.keep {
                measured.kept.add(!places.iter().any(|(place, _)| keep.start < place.end && place.start < keep.end));
            }
        }
        measured
    }

    pub(crate) fn precision_of(&self, labels: impl Fn(Label) -> bool) -> f64 {
        let shares = self.precision.iter().filter(|(label, _)| labels(**label)).map(|(_, share)| share);
        let sum = shares
            .fold(Share::default(), |sum, share| Share { found: sum.found + share.found, all: sum.all + share.all });
        sum.percent()
    }

    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}");
        for (class, share) in &self.recall {
            println!("  recall    {class:<16} {:6.2} % of {}", share.percent(), share.all);
        }
        for (label, share) in &self.precision {
            println!("  precision {:<16} {:6.2} % of {}", label.placeholder(), share.percent(), share.all);
        }
        println!("  precision of all {:6.2} %", self.precision_of(|_| true));
        if self.kept.all > 0 {
            println!("  clinical codes kept {:6.2} % of {}", self.kept.percent(), self.kept.all);
        }
    }
}
