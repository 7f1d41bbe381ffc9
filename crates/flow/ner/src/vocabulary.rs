//! Reads how a model wants its texts cut, from `tokenizer.json` or from `vocab.txt` and `tokenizer_config.json`.

use std::collections::HashMap;

use change::{Error, Kind, Result};
use serde_json::Value;

use crate::files::{TOKENIZER, TOKENIZER_CONFIG, VOCABULARY};
use crate::{Files, WordPiece};

/// Longer words than this are unknown where the files do not say it, as in BERT.
const WORD_MAX: usize = 100;

/// The tokenizer of a model.
///
/// # Errors
/// `Config` when it is none of BERT's kind, or a piece that it needs is missing.
pub fn tokenizer(files: &Files) -> Result<WordPiece> {
    match files.json(TOKENIZER)? {
        Some(tokenizer) => from_tokenizer(&tokenizer),
        None => from_words(files),
    }
}

fn wrong(file: &str, what: &str) -> Error {
    Error::new(Kind::Config, format!("{file} of the model {what}"))
        .fix("Use a model of BERT's family (BERT, DistilBERT, ELECTRA, MiniLM) with its own tokenizer's files.")
}

fn from_tokenizer(tokenizer: &Value) -> Result<WordPiece> {
    let kind = |place: &str| tokenizer.get(place).and_then(|part| part.get("type")).and_then(Value::as_str);
    for (place, kinds) in
        [("model", &["WordPiece"][..]), ("normalizer", &["BertNormalizer"]), ("pre_tokenizer", &["BertPreTokenizer"])]
    {
        let found = kind(place).unwrap_or("nothing");
        if !kinds.contains(&found) {
            return Err(wrong(TOKENIZER, &format!("has {found} as its {place}, and {} is read", kinds.join(" or "))));
        }
    }
    let (model, normalizer) = (&tokenizer["model"], &tokenizer["normalizer"]);
    let mut vocabulary: HashMap<String, u32> = HashMap::new();
    let listed = model.get("vocab").and_then(Value::as_object).into_iter().flatten();
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let added = added.filter_map(|token| Some((token.get("content")?.as_str()?, token.get("id")?)));
    for (word, id) in listed.map(|(word, id)| (word.as_str(), id)).chain(added) {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        vocabulary.insert(word.to_owned(), id.ok_or_else(|| wrong(TOKENIZER, "has a piece without a number"))?);
    }
    let text = |key: &str, usual: &str| model.get(key).and_then(Value::as_str).unwrap_or(usual).to_owned();
    let flag = |key: &str, usual: bool| normalizer.get(key).and_then(Value::as_bool).unwrap_or(usual);
    let lowercase = flag("lowercase", true);
    let word_max = model.get("max_input_chars_per_word").and_then(Value::as_u64);
    Ok(WordPiece {
        inner: text("continuing_subword_prefix", "##"),
        unknown: special(&vocabulary, &text("unk_token", "[UNK]"), TOKENIZER)?,
        first: special(&vocabulary, "[CLS]", TOKENIZER)?,
        last: special(&vocabulary, "[SEP]", TOKENIZER)?,
        lowercase,
        strip_accents: flag("strip_accents", lowercase),
        split_chinese: flag("handle_chinese_chars", true),
        clean: flag("clean_text", true),
        word_max: word_max.and_then(|most| usize::try_from(most).ok()).unwrap_or(WORD_MAX),
        vocabulary,
    })
}

fn from_words(files: &Files) -> Result<WordPiece> {
    let words = std::str::from_utf8(files.get(VOCABULARY).unwrap_or_default());
    let words = words.map_err(|_| wrong(VOCABULARY, "is not text"))?;
    let config = files.json(TOKENIZER_CONFIG)?.unwrap_or_default();
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    let lowercase = flag("do_lower_case")
        .ok_or_else(|| wrong(TOKENIZER_CONFIG, "does not say `do_lower_case`: whether capital letters count"))?;
    let vocabulary: HashMap<String, u32> =
        words.lines().zip(0..).map(|(word, id)| (word.trim_end().to_owned(), id)).collect();
    let unknown = config.get("unk_token").and_then(Value::as_str).unwrap_or("[UNK]");
    Ok(WordPiece {
        inner: "##".into(),
        unknown: special(&vocabulary, unknown, VOCABULARY)?,
        first: special(&vocabulary, "[CLS]", VOCABULARY)?,
        last: special(&vocabulary, "[SEP]", VOCABULARY)?,
        lowercase,
        strip_accents: flag("strip_accents").unwrap_or(lowercase),
        split_chinese: flag("tokenize_chinese_chars").unwrap_or(true),
        clean: true,
        word_max: WORD_MAX,
        vocabulary,
    })
}

fn special(vocabulary: &HashMap<String, u32>, piece: &str, file: &str) -> Result<u32> {
    vocabulary.get(piece).copied().ok_or_else(|| wrong(file, &format!("has no piece {piece}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERT: &str = r###"{"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"ann":3,"##a":4,"Ann":5,"müll":6,"mull":7}},
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},"added_tokens":[{"id":9,"content":"[PAD]"}]}"###;

    fn read(tokenizer: Option<&str>, words: &str, config: &str) -> Result<WordPiece> {
        let files = Files::read(|name| {
            Ok(match name {
                TOKENIZER => tokenizer.map(|text| text.as_bytes().to_vec()),
                VOCABULARY => Some(words.into()),
                TOKENIZER_CONFIG => Some(config.into()),
                _ => Some(Vec::new()),
            })
        });
        super::tokenizer(&files?)
    }

    #[test]
    fn both_kinds_of_files_are_read_alike() {
        let words = "[UNK]\n[CLS]\n[SEP]\nann\n##a\nAnn\nmüll\nmull\n";
        for cutter in [read(Some(BERT), "", ""), read(None, words, r#"{"do_lower_case":true}"#)] {
            let cutter = cutter.unwrap();
            assert_eq!(cutter.cut("Anna Müll").ids, [3, 4, 7]);
            assert_eq!((cutter.unknown, cutter.first, cutter.last), (0, 1, 2));
        }
        let cased = BERT.replace(r#""lowercase":true"#, r#""lowercase":false"#);
        for cutter in [read(Some(&cased), "", ""), read(None, words, r#"{"do_lower_case":false}"#)] {
            assert_eq!(cutter.unwrap().cut("Anna müll").ids, [5, 4, 6]);
        }
    }

    #[test]
    fn other_tokenizers_are_refused() {
        let cases = [
            (Some(BERT.replace("WordPiece", "BPE")), "", "", "has BPE as its model"),
            (Some(BERT.replace("BertNormalizer", "NFC")), "", "", "has NFC as its normalizer"),
            (Some(BERT.replace("BertPreTokenizer", "ByteLevel")), "", "", "has ByteLevel as its pre_tokenizer"),
            (Some("{}".into()), "", "", "has nothing as its model"),
            (Some(BERT.replace("[CLS]", "<s>")), "", "", "has no piece [CLS]"),
            (Some(BERT.replace(":3,", ":-3,")), "", "", "a piece without a number"),
            (Some("{".into()), "", "", "is not JSON"),
            (None, "[UNK]\n[CLS]\n[SEP]\n", "{}", "does not say `do_lower_case`"),
            (None, "[UNK]\n[CLS]\n", r#"{"do_lower_case":true}"#, "has no piece [SEP]"),
        ];
        for (tokenizer, words, config, what) in cases {
            let error = read(tokenizer.as_deref(), words, config).unwrap_err();
            assert!(error.what().contains(what) && error.how_to_fix().is_some(), "{error}");
        }
    }
}
