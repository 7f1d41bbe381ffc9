use ner::Finder;

use super::*;

/// The model with some bytes of one of its files replaced, or another file in its place.
fn with(name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Files {
    let files = Files::read(|wanted| {
        let bytes = file(wanted);
        Ok(if wanted == name { bytes.map(&change) } else { bytes })
    });
    files.unwrap()
}

/// Puts one text for another of the same length wherever it stands.
fn replaced(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, part)| *part == from.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{from}");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn wrong_files_are_refused_and_say_what_to_do() {
    type Change = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let swap = |from: &'static str, to: &'static str| -> Change { Box::new(move |bytes| replaced(bytes, from, to)) };
    let cases: [(&str, Change, &str); 7] = [
        ("model.onnx", Box::new(|_| b"no model at all".to_vec()), "model.onnx cannot be read"),
        ("model.onnx", Box::new(|bytes| bytes[..bytes.len() / 2].to_vec()), "model.onnx"),
        ("model.onnx", swap("token_type_ids", "token_type_idz"), "wants `token_type_idz`"),
        ("model.onnx", swap("logits", "scores"), "has no output `logits`"),
        ("model.onnx", swap("Softmax", "Softmux"), "model.onnx cannot be"),
        ("config.json", swap("id2label", "id2tasks"), "has no `id2label`"),
        ("tokenizer.json", swap("WordPiece", "Unigrams1"), "as its model"),
    ];
    for (name, change, what) in cases {
        let error = Finder::load(&with(name, change)).err().unwrap();
        assert_eq!(error.kind(), change::Kind::Config);
        assert!(error.what().contains(what) && error.how_to_fix().is_some(), "{what}: {error}");
    }
}

#[test]
fn a_tokenizer_with_more_pieces_than_the_model_is_refused() {
    let more = with("tokenizer.json", |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let end = text.rfind("\n  }").unwrap();
        format!("{},\n   \"one-more\": 5000{}", &text[..end], &text[end..]).into_bytes()
    });
    let error = Finder::load(&more).err().unwrap();
    assert!(error.what().contains("a word piece of number 5000, and the model none"), "{error}");
}

#[test]
fn labels_that_are_not_as_many_as_the_model_has_are_refused() {
    let fewer = with("config.json", |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(",\n  \"10\": \"I-PROFESSION\"", "").into_bytes()
    });
    let error = Finder::load(&fewer).err().unwrap();
    assert!(error.what().contains("no number for each word piece and label"), "{error}");
}

#[test]
fn the_digest_is_over_every_file() {
    let usual = files().sha256();
    assert_eq!((usual.len(), files().sha256()), (64, usual.clone()));
    for name in ["config.json", "model.onnx", "tokenizer.json"] {
        let other = with(name, |mut bytes| {
            bytes.push(b' ');
            bytes
        });
        assert_ne!(other.sha256(), usual, "{name}");
    }
}
