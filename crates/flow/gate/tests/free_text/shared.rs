//! The data sets of others, when they are there: `phi_notes` and `phi_presidio` under `../shared/data` or `LOCKGATE_DATA`.

use std::path::PathBuf;
use std::process::Command;

use gate::Tier;
use serde_json::Value;

use super::{Measured, Note};

pub(crate) fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared/data");
    std::env::var_os("LOCKGATE_DATA").map_or_else(|| beside.into(), PathBuf::from)
}

fn unpacked(file: &str) -> Option<String> {
    let path = folder().join(file);
    if !path.exists() {
        println!("skipped: {file} is not there");
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The offsets there count characters.
fn note(text: &Value, spans: &Value, names: [&str; 3]) -> Note {
    let text = text.as_str().unwrap().to_owned();
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let spans = spans.as_array().unwrap().iter().map(|span| {
        let at = |name: &str| bytes[span[name].as_u64().unwrap() as usize];
        (at(names[0])..at(names[1]), span[names[2]].as_str().unwrap().to_owned())
    });
    let spans = spans.collect();
    Note { text, spans, known: Vec::new(), keep: Vec::new() }
}

#[test]
fn notes_with_exact_spans() {
    let Some(lines) = unpacked("phi_notes/notes.jsonl.gz") else { return };
    let notes: Vec<Note> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| note(&line["text"], &line["spans"], ["start", "end", "label"]))
        .collect();
    for tier in [Tier::Detect, Tier::Allowlist] {
        let measured = Measured::of(&notes, tier);
        measured.print(&format!("phi_notes, {tier:?}"));
        for class in ["ACCOUNT", "DATE", "EMAIL", "FAX", "HEALTH_PLAN_ID", "MRN", "PHONE", "SSN", "URL", "ZIP", "AGE"] {
            assert!(measured.recall[class].percent() >= 99.9, "{class}");
        }
        assert!(measured.recall["NAME"].percent() >= 97.0);
        assert!(measured.precision_of(|_| true) >= if tier == Tier::Detect { 97.0 } else { 70.0 });
    }
}

/// General text in many national forms: printed, and asserted only where the form is one that the gate promises to know.
#[test]
fn sentences_of_presidio() {
    let Some(text) = unpacked("phi_presidio/synth_dataset_v2.json.gz") else { return };
    let sentences: Value = serde_json::from_str(&text).unwrap();
    let names = ["start_position", "end_position", "entity_type"];
    let notes: Vec<Note> = sentences
        .as_array()
        .unwrap()
        .iter()
        .map(|sentence| note(&sentence["full_text"], &sentence["spans"], names))
        .collect();
    for tier in [Tier::Detect, Tier::Allowlist] {
        let measured = Measured::of(&notes, tier);
        measured.print(&format!("phi_presidio, {tier:?}"));
        for class in ["CREDIT_CARD", "EMAIL_ADDRESS", "IP_ADDRESS", "US_SSN", "DOMAIN_NAME", "US_DRIVER_LICENSE"] {
            assert!(measured.recall[class].percent() >= 99.9, "{class}");
        }
    }
}
