//! The model that free text is searched with.

use super::{NerModel, Node, Reader, find};
use crate::transform::Tier;
use crate::{Transform, yaml};

const OPTIONS: [&str; 2] = ["model", "sha256"];
const DIGITS: usize = 64;
const HOW: &str =
    "In the model's folder run `sha256sum config.json model.onnx tokenizer.json | sha256sum` and write the 64 digits.";

impl Reader {
    pub(super) fn ner(&mut self, node: &Node) -> Option<NerModel> {
        let entries: &[yaml::Entry] = self.map(node, "`ner`");
        self.known(entries, &OPTIONS, "`ner`");
        let mut text = |key: &str, fix: &str| match find(entries, key) {
            Some(node) => self.text(node, &format!("`{key}`")).map(|text| (node.line, text)),
            None => {
                self.report.error(node.line, format!("`ner` does not say `{key}`"), fix);
                None
            }
        };
        let folder = text("model", "Name the folder of the model: `model: ./models/deid`.");
        let sha256 = text("sha256", HOW);
        let (line, sha256) = sha256?;
        let sha256 = sha256.to_ascii_lowercase();
        if sha256.len() != DIGITS || !sha256.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            self.report.error(line, "`sha256` is not 64 hexadecimal digits", HOW);
            return None;
        }
        Some(NerModel { folder: folder?.1, sha256, line: node.line })
    }

    /// The transform with the policy's model, where its tier asks one.
    pub(super) fn with_model(&self, transform: Transform) -> Transform {
        match transform {
            Transform::ScrubText { tier: Tier::DetectNer, known, .. } => {
                Transform::ScrubText { tier: Tier::DetectNer, known, model: self.model.clone() }
            }
            other => other,
        }
    }
}
