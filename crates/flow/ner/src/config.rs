use change::{Error, Kind, Result};
use serde_json::Value;

use crate::Files;
use crate::files::CONFIG;
use crate::tag::Tag;

/// Longer windows gain little and cost much: what attention takes grows with their square.
const PIECES_MAX: usize = 512;
/// Shorter ones have no room for a word beside the two marks at the ends.
pub(crate) const PIECES_MIN: usize = 8;

/// What `config.json` says of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What each column of the logits stands for.
    pub tags: Vec<Tag>,
    /// The most word pieces that the model reads at once, with the marks at both ends.
    pub pieces_max: usize,
}

impl Config {
    /// Reads `config.json`: the labels of `id2label` and `max_position_embeddings`.
    ///
    /// # Errors
    /// `Config` when it is not that of a model that labels tokens.
    pub fn of(files: &Files) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(Kind::Config, format!("{CONFIG} of the model {what}"))
                .fix("Use a model for token classification, with the config.json that was exported with it.")
        };
        let config = files.json(CONFIG)?.unwrap_or_default();
        let labels = config.get("id2label").and_then(Value::as_object);
        let labels = labels.ok_or_else(|| wrong("has no `id2label`".into()))?;
        let label = |at: usize| labels.get(&at.to_string()).and_then(Value::as_str).map(Tag::parse);
        let tags: Option<Vec<Tag>> = (0..labels.len()).map(label).collect();
        let tags = tags.ok_or_else(|| wrong("does not number the labels of `id2label` from 0".into()))?;
        if !tags.contains(&Tag::Outside) || tags.iter().all(|tag| *tag == Tag::Outside) {
            return Err(wrong(
                "has no label `O` beside others: it does not say which words are none of an entity".into(),
            ));
        }
        let positions = config.get("max_position_embeddings").and_then(Value::as_u64);
        let positions = positions.ok_or_else(|| wrong("does not say `max_position_embeddings`".into()))?;
        let pieces_max = usize::try_from(positions).unwrap_or(PIECES_MAX).min(PIECES_MAX);
        if pieces_max < PIECES_MIN {
            return Err(wrong(format!(
                "says that the model reads {pieces_max} word pieces; {PIECES_MIN} are the least"
            )));
        }
        Ok(Self { tags, pieces_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str) -> Result<Config> {
        let files = Files::read(|name| Ok(Some(if name == CONFIG { config.into() } else { Vec::new() })));
        Config::of(&files?)
    }

    #[test]
    fn labels_come_in_their_order_and_windows_are_bounded() {
        let config = read(r#"{"id2label":{"1":"B-PER","0":"O","2":"I-PER"},"max_position_embeddings":514}"#).unwrap();
        assert_eq!(config.tags, ["O", "B-PER", "I-PER"].map(Tag::parse));
        assert_eq!(config.pieces_max, 512);
    }

    #[test]
    fn a_config_of_no_token_classification_is_refused() {
        let cases = [
            ("[1", "is not JSON"),
            ("[]", "has no `id2label`"),
            (r#"{"id2label":{"0":"O","2":"B-PER"}}"#, "does not number"),
            (r#"{"id2label":{"0":"LABEL_0","1":"LABEL_1"}}"#, "has no label `O`"),
            (r#"{"id2label":{"0":"O"}}"#, "has no label `O` beside others"),
            (r#"{"id2label":{"0":"O","1":"PER"}}"#, "max_position_embeddings"),
            (r#"{"id2label":{"0":"O","1":"PER"},"max_position_embeddings":4}"#, "reads 4 word pieces"),
        ];
        for (config, what) in cases {
            let error = read(config).unwrap_err();
            assert!(error.what().contains(what) && error.how_to_fix().is_some(), "{config}: {error}");
        }
    }
}
