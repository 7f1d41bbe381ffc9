//! Free text: finds what identifies a person and puts typed placeholders in its place. The order of work and the numbers D0 to D24 of the
//! detectors are those of `docs/privacy/free-text.md`.
//!
//! Every detector looks at tokens and a bounded number of neighbours, so that the time is linear in the text, whatever it holds.

mod age;
mod allowlist;
mod contact;
mod cued;
mod date;
mod entity;
mod identifier;
mod known;
mod label;
mod lexicon;
mod name;
mod normal;
mod organization;
mod place;
mod rare;
mod span;
mod token;
mod word;

use std::ops::Range;
use std::sync::Arc;

pub use self::entity::{EntityFinder, NotSearched};
pub(crate) use self::identifier::{is_mbi, is_npi, is_ssn, is_vin, luhn};
pub(crate) use self::known::KnownKind;
pub use self::known::KnownValues;
pub use self::label::Label;
pub(crate) use self::lexicon::{is_city, is_month, is_person, is_strange, is_street};

use self::lexicon::Lexicon;
use self::normal::Normal;
use self::span::Span;
use self::token::{Text, Token};
use crate::calendar::Date;

/// How much of a text passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Nothing.
    Drop,
    /// Words of the vocabulary, numbers that are small or have a unit, and codes of public systems, as far as no detector objects.
    Allowlist,
    /// All in which no detector finds anything.
    Detect,
    /// The same, and a model finds nothing either.
    DetectNer,
}

impl Tier {
    pub(crate) const ALL: [Tier; 4] = [Tier::Drop, Tier::Allowlist, Tier::Detect, Tier::DetectNer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tier::Drop => "drop",
            Tier::Allowlist => "allowlist",
            Tier::Detect => "detect",
            Tier::DetectNer => "detect+ner",
        }
    }
}

/// What takes the place of a text that cannot be scrubbed.
pub const REFUSED: &str = "[REDACTED:error]";

/// Longer texts are replaced as a whole, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// What replacing brings to light is replaced in turn, so many times; a text that still holds something then is replaced as a whole.
const ROUNDS_MAX: usize = 4;

/// Scrubs texts of one column.
pub struct Scrubber {
    tier: Tier,
    today: Date,
    lexicon: &'static Lexicon,
    entities: Option<Arc<dyn EntityFinder>>,
}

/// The memory of one scan, kept from text to text.
#[derive(Default)]
pub struct Scratch {
    tokens: Vec<Token>,
    spans: Vec<Span>,
}

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// There is nothing to replace in it.
    Unchanged,
    /// The text with its placeholders.
    Replaced(String),
    /// It is too long, placeholders did not clear it, or a model could not look at it: [`REFUSED`] takes its place.
    Refused,
}

impl Scrubber {
    /// `epoch_days` is the day of processing, in days since 1970-01-01 UTC, on which ages depend.
    pub fn new(tier: Tier, epoch_days: i32) -> Self {
        Self { tier, today: Date::from_days(epoch_days), lexicon: Lexicon::shared(), entities: None }
    }

    /// The same with one more finder. The tier [`Tier::DetectNer`] refuses every text without one.
    pub fn with_entities(self, finder: Arc<dyn EntityFinder>) -> Self {
        Self { entities: Some(finder), ..self }
    }

    /// The places in `text` that are replaced in the first round, in bytes and in order, without overlap.
    ///
    /// # Errors
    /// [`NotSearched`] when the finder could not look at the text.
    pub fn find(&self, text: &str, known: &KnownValues) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        let normal = Normal::of(text);
        let mut scratch = Scratch::default();
        self.scan(&normal, known, &self.entities(&normal)?, &mut scratch);
        let mut from = 0;
        let places = scratch.spans.iter().map(|span| {
            let range = normal.original(span.start..span.end);
            // One character of the original can stand for several, and so for two places.
            let range = range.start.max(from)..range.end.max(from);
            from = range.end;
            (range, span.label)
        });
        Ok(places.filter(|(range, _)| !range.is_empty()).collect())
    }

    /// Replaces until nothing is found any more. In the tier `drop` every text is refused.
    pub fn scrub(&self, text: &str, known: &KnownValues, scratch: &mut Scratch) -> Scrubbed {
        if self.tier == Tier::Drop || text.len() > TEXT_BYTES_MAX {
            return Scrubbed::Refused;
        }
        let mut written: Option<String> = None;
        for round in 0..ROUNDS_MAX {
            let current = written.as_deref().unwrap_or(text);
            let normal = Normal::of(current);
            // A model has learnt from texts without placeholders: it is asked about the text as it came, and only the detectors afterwards.
            let entities = if round == 0 { self.entities(&normal) } else { Ok(Vec::new()) };
            let Ok(entities) = entities else { return Scrubbed::Refused };
            self.scan(&normal, known, &entities, scratch);
            if scratch.spans.is_empty() {
                return written.map_or(Scrubbed::Unchanged, Scrubbed::Replaced);
            }
            written = Some(span::replace(current, &normal, &scratch.spans));
        }
        Scrubbed::Refused
    }

    /// What the finder says of a normalised text.
    fn entities(&self, normal: &Normal<'_>) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        match &self.entities {
            Some(finder) => finder.find(normal.text()),
            None if self.tier == Tier::DetectNer => Err(NotSearched),
            None => Ok(Vec::new()),
        }
    }

    /// Leaves in `scratch` what is found, in bytes of the normalised text.
    fn scan(
        &self,
        normal: &Normal<'_>,
        known: &KnownValues,
        entities: &[(Range<usize>, Label)],
        scratch: &mut Scratch,
    ) {
        let text = normal.text();
        token::tokenize(text, self.lexicon, &mut scratch.tokens);
        scratch.spans.clear();
        let view = Text::new(text, &scratch.tokens);
        let mut hits = Hits { text: &view, spans: &mut scratch.spans, followed: 0 };
        known.find(&view, &mut hits);
        for at in 0..scratch.tokens.len() {
            self.detect(&view, at, &mut hits);
        }
        entity::add(entities, &mut hits);
        span::merge(&mut scratch.spans);
        if self.tier == Tier::Allowlist {
            allowlist::add(&Text::new(text, &scratch.tokens), self.lexicon, &mut scratch.spans);
        }
    }

    /// Asks every detector that can begin with the token.
    fn detect(&self, text: &Text<'_>, at: usize, hits: &mut Hits<'_>) {
        use token::Kind;
        match text.at(at).kind {
            Kind::Word => {
                if text.at(at).word.is_plain() {
                    return;
                }
                date::find_word(text, at, hits);
                age::find_word(text, at, self.today, hits);
                cued::find(text, at, hits);
                place::find_word(text, at, hits);
                organization::find(text, at, hits);
                name::find(text, at, self.lexicon, hits);
                contact::find_word(text, at, hits);
                rare::find(text, at, hits);
                identifier::find_word(text, at, hits);
            }
            Kind::Number | Kind::Mixed => {
                date::find_number(text, at, hits);
                age::find_number(text, at, hits);
                contact::find_number(text, at, hits);
                identifier::find_number(text, at, hits);
                place::find_number(text, at, hits);
                name::find_mixed(text, at, hits);
            }
            Kind::Mark => contact::find_mark(text, at, hits),
            Kind::Placeholder | Kind::End => {}
        }
    }
}

/// Where detectors write what they find.
struct Hits<'a> {
    text: &'a Text<'a>,
    spans: &'a mut Vec<Span>,
    /// The last token of an address that runs to white space: what begins within it is not followed again.
    followed: usize,
}

impl Hits<'_> {
    /// The tokens from `first` to `last`, both included.
    fn tokens(&mut self, first: usize, last: usize, label: Label) {
        let (start, end) = (self.text.at(first).start, self.text.at(last).end);
        self.bytes(start as usize, end as usize, label);
    }

    fn bytes(&mut self, start: usize, end: usize, label: Label) {
        if start < end {
            self.spans.push(Span { start, end, label });
        }
    }
}

#[cfg(test)]
mod tests;
