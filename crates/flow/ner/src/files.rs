use std::collections::BTreeMap;

use change::{Error, Kind, Result};
use sha2::{Digest, Sha256};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const MODEL: &str = "model.onnx";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const VOCABULARY: &str = "vocab.txt";

/// The files of a model's folder that are read, by name.
pub struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    /// Reads what is needed: `config.json`, `model.onnx`, and `tokenizer.json` or, where there is none, `vocab.txt` with
    /// `tokenizer_config.json`. `read` gives a file's bytes, and `None` when the folder has no such file.
    ///
    /// # Errors
    /// Those of `read`; `Config` when a file is missing.
    pub fn read(mut read: impl FnMut(&'static str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let mut files = BTreeMap::new();
        let missing = |name: &str, fix: &str| {
            Err(Error::new(Kind::Config, format!("the model's folder has no {name}")).fix(fix.to_owned()))
        };
        let export = "Export the model with `optimum-cli export onnx --task token-classification`, which writes it.";
        for name in [CONFIG, MODEL] {
            match read(name)? {
                Some(bytes) => drop(files.insert(name, bytes)),
                None => return missing(name, export),
            }
        }
        if let Some(bytes) = read(TOKENIZER)? {
            files.insert(TOKENIZER, bytes);
            return Ok(Self(files));
        }
        match (read(VOCABULARY)?, read(TOKENIZER_CONFIG)?) {
            (Some(words), Some(config)) => files.extend([(VOCABULARY, words), (TOKENIZER_CONFIG, config)]),
            (Some(_), None) => {
                let fix = "Put the one of the model there: it says whether capital letters count.";
                return missing(TOKENIZER_CONFIG, fix);
            }
            (None, _) => return missing("tokenizer.json and no vocab.txt", export),
        }
        Ok(Self(files))
    }

    /// The SHA-256 by which a policy names the model: over a line for each file in the order of their names, as `sha256sum` prints it.
    pub fn sha256(&self) -> String {
        let mut all = Sha256::new();
        for (name, bytes) in &self.0 {
            all.update(format!("{}  {name}\n", hex(&Sha256::digest(bytes))));
        }
        hex(&all.finalize())
    }

    /// The names of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// A file that is JSON.
    pub(crate) fn json(&self, name: &'static str) -> Result<Option<serde_json::Value>> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        let wrong =
            |_| Error::new(Kind::Config, format!("{name} of the model is not JSON")).fix("Export the model again.");
        serde_json::from_slice(bytes).map(Some).map_err(wrong)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&'static str]) -> Result<Files> {
        Files::read(|name| Ok(names.contains(&name).then(|| name.as_bytes().to_vec())))
    }

    #[test]
    fn a_missing_file_is_named() {
        let cases = [
            (&[MODEL, TOKENIZER][..], "no config.json"),
            (&[CONFIG, TOKENIZER], "no model.onnx"),
            (&[CONFIG, MODEL], "no tokenizer.json and no vocab.txt"),
            (&[CONFIG, MODEL, VOCABULARY], "no tokenizer_config.json"),
        ];
        for (names, what) in cases {
            let error = folder(names).err().unwrap();
            assert!(error.what().contains(what) && error.how_to_fix().is_some(), "{names:?}: {error}");
        }
    }

    #[test]
    fn the_digest_is_that_of_sha256sum_and_of_every_file_that_counts() {
        let both = folder(&[CONFIG, MODEL, TOKENIZER, VOCABULARY, TOKENIZER_CONFIG]).unwrap();
        assert_eq!(both.names().collect::<Vec<_>>(), [CONFIG, MODEL, TOKENIZER]);
        // cd "$(mktemp -d)"; for f in config.json model.onnx tokenizer.json; do printf $f > $f; done; sha256sum * | sha256sum
        assert_eq!(both.sha256(), "0a7f3986c57917d65291fe9568b463e0a848d92a64942af313adb78b6410d1bc");
        let words = folder(&[CONFIG, MODEL, VOCABULARY, TOKENIZER_CONFIG]).unwrap();
        assert_ne!(words.sha256(), both.sha256());
    }
}
