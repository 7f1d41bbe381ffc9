use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use change::{Kind, Result};
use gate::{EntityFinder, Label, NotSearched};

use crate::config::PIECES_MIN;
use crate::tag::Tag;
use crate::windows::windows;
use crate::{Config, Pieces, WordPiece};

/// A text that needs more windows is not searched: what one text may cost is bounded.
const WINDOWS_MAX: usize = 32;

/// Runs a model on what it reads at once.
pub trait Logits: Send + Sync {
    /// For each piece in turn a number for each label. At most as many pieces are given as the configuration allows.
    ///
    /// # Errors
    /// [`NotSearched`] when the model cannot be run on them.
    fn logits(&self, ids: &[u32]) -> Result<Vec<f32>, NotSearched>;
}

thread_local! {
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a model is being asked on this thread. One that panics is taken for one that does not answer: there is nothing to be said of it.
pub fn is_asking() -> bool {
    ASKING.get()
}

/// A model that is ready to be asked. The same text has the same answer.
pub struct Finder {
    sha256: String,
    config: Config,
    cutter: WordPiece,
    model: Box<dyn Logits>,
}

impl Finder {
    /// `sha256` is that of the model's files; tries the model on an empty text, and on the last piece of its vocabulary.
    ///
    /// # Errors
    /// `Config` when the model does not give what its configuration says.
    pub fn new(sha256: String, config: Config, cutter: WordPiece, model: Box<dyn Logits>) -> Result<Self> {
        if config.pieces_max < PIECES_MIN {
            let what = format!("the model reads {} word pieces at once; {PIECES_MIN} are the least", config.pieces_max);
            return Err(
                change::Error::new(Kind::Config, what).fix("Export it with a longer or a free sequence length.")
            );
        }
        let finder = Self { sha256, config, cutter, model };
        finder.tags(&[]).map_err(|NotSearched| {
            change::Error::new(
                Kind::Config,
                "the model gives no number for each word piece and label of its config.json",
            )
            .fix("Export the model for token classification again, and use all files of one export.")
        })?;
        let largest = finder.cutter.largest();
        finder.tags(&[largest]).map_err(|NotSearched| {
            let what = format!("the tokenizer has a word piece of number {largest}, and the model none");
            change::Error::new(Kind::Config, what)
                .fix("Resize the model's embeddings to its tokenizer, and use all files of one export.")
        })?;
        Ok(finder)
    }

    /// Reads and prepares a model. It takes some seconds for a large one.
    ///
    /// # Errors
    /// `Config` when a file is not what it must be.
    #[cfg(feature = "onnx")]
    pub fn load(files: &crate::Files) -> Result<Self> {
        let (mut config, cutter) = (Config::of(files)?, crate::tokenizer(files)?);
        let model = crate::onnx::Onnx::load(files, config.tags.len())?;
        config.pieces_max = config.pieces_max.min(model.pieces_max());
        Self::new(files.sha256(), config, cutter, Box::new(model))
    }

    /// The places of the tags in [`Config::tags`] of pieces that stand in one window.
    fn tags(&self, pieces: &[u32]) -> Result<Vec<usize>, NotSearched> {
        let ids: Vec<u32> = [self.cutter.first].iter().chain(pieces).chain([&self.cutter.last]).copied().collect();
        // A model that breaks down on a text must not take the pipeline with it.
        ASKING.set(true);
        let run = catch_unwind(AssertUnwindSafe(|| self.model.logits(&ids)));
        ASKING.set(false);
        let logits = run.map_err(|_| NotSearched)??;
        let labels = self.config.tags.len();
        if logits.len() != ids.len() * labels {
            return Err(NotSearched);
        }
        logits.chunks_exact(labels).skip(1).take(pieces.len()).map(best).collect()
    }
}

/// The place of the largest; of equal ones the first.
fn best(logits: &[f32]) -> Result<usize, NotSearched> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return Err(NotSearched);
    }
    let larger = |best, at| if logits[at] > logits[best] { at } else { best };
    Ok((0..logits.len()).fold(0, larger))
}

impl EntityFinder for Finder {
    fn model(&self) -> &str {
        &self.sha256
    }

    fn find(&self, text: &str) -> Result<Vec<(Range<usize>, Label)>, NotSearched> {
        let pieces = self.cutter.cut(text);
        if pieces.ids.is_empty() {
            return Ok(Vec::new());
        }
        let windows = windows(pieces.ids.len(), self.config.pieces_max - 2);
        if windows.len() > WINDOWS_MAX {
            return Err(NotSearched);
        }
        let mut tags = Vec::with_capacity(pieces.ids.len());
        for window in windows {
            let start = window.read.start;
            let read = self.tags(&pieces.ids[window.read])?;
            tags.extend_from_slice(&read[window.counts.start - start..window.counts.end - start]);
        }
        let tags: Vec<&Tag> = tags.into_iter().map(|tag| &self.config.tags[tag]).collect();
        Ok(entities(&pieces, &tags))
    }
}

/// Whole words: one is of an entity as soon as one of its pieces is, and is what the first such piece says.
fn entities(pieces: &Pieces, tags: &[&Tag]) -> Vec<(Range<usize>, Label)> {
    let mut found: Vec<(Range<usize>, &Tag)> = Vec::new();
    let mut goes_on = false;
    let mut at = 0;
    for (number, word) in pieces.words.iter().enumerate() {
        let own = pieces.word_of[at..].iter().take_while(|of| **of as usize == number).count();
        let tag = tags[at..at + own].iter().find(|tag| tag.entity().is_some());
        at += own;
        match (tag, found.last_mut()) {
            (None, _) => goes_on = false,
            (Some(tag @ Tag::Continues(_)), Some((range, before))) if goes_on && tag.entity() == before.entity() => {
                range.end = word.end;
            }
            (Some(tag), _) => {
                found.push((word.clone(), tag));
                goes_on = true;
            }
        }
    }
    found.into_iter().filter_map(|(range, tag)| Some((range, tag.entity()?.label))).collect()
}

#[cfg(test)]
mod tests;
