//! The small model that `make.py` beside this file writes: a real one, of BERT's graph, that leans to labels for some word pieces.

use std::path::PathBuf;

use ner::Files;

mod cutting;
#[cfg(feature = "onnx")]
mod finding;
#[cfg(feature = "onnx")]
mod refusing;

/// One of the files, by name.
fn file(name: &str) -> Option<Vec<u8>> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/model").join(name)).ok()
}

fn files() -> Files {
    Files::read(|name| Ok(file(name))).unwrap()
}

/// What the tokenizer of Hugging Face and onnxruntime make of some sentences: `(text, ids, logits)`.
fn expected() -> Vec<(String, Vec<u32>, Vec<f32>)> {
    let expected: serde_json::Value = serde_json::from_slice(&file("expected.json").unwrap()).unwrap();
    let sentence = |sentence: &serde_json::Value| {
        let ids = sentence["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let rows = sentence["logits"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        let logits = rows.map(|logit| logit.as_f64().unwrap() as f32).collect();
        (sentence["text"].as_str().unwrap().to_owned(), ids, logits)
    };
    expected.as_array().unwrap().iter().map(sentence).collect()
}
