use std::sync::Arc;

use gate::{EntityFinder, KnownValues, Label, NotSearched, Scratch, Scrubbed, Scrubber, Tier};
use ner::{Finder, Logits};

use super::*;

/// 2026-11-21.
const TODAY: i32 = 20_778;

fn finder() -> Arc<Finder> {
    Arc::new(Finder::load(&files()).unwrap())
}

fn found(finder: &Finder, text: &str) -> Vec<(String, Label)> {
    finder.find(text).unwrap().into_iter().map(|(range, label)| (text[range].to_owned(), label)).collect()
}

#[test]
fn logits_are_those_of_onnxruntime() {
    let model = ner::onnx_model(&files(), 11).unwrap();
    for (text, ids, expected) in expected() {
        let logits = model.logits(&ids).unwrap();
        assert_eq!(logits.len(), expected.len(), "{text}");
        let farthest = logits.iter().zip(&expected).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(farthest < 2e-5, "{text}: {farthest}");
        assert_eq!(model.logits(&ids).unwrap(), logits, "the same again");
    }
}

#[test]
fn names_are_found_with_their_bytes() {
    let finder = finder();
    let text =
        "é\u{1f642} Zebulon  Quillip saw Dr. ÁRDWIN (Mercygate Halls, Oxbow); Norbertine is a tanner. Zebulon zebu";
    let expected = [
        ("Zebulon  Quillip", Label::Name),
        ("ÁRDWIN", Label::Name),
        ("Mercygate Halls", Label::Organization),
        ("Oxbow", Label::Place),
        ("Norbertine", Label::Name),
        ("tanner", Label::Unknown),
        ("Zebulon", Label::Name),
        ("zebu", Label::Name),
    ];
    assert_eq!(found(&finder, text), expected.map(|(text, label)| (text.to_owned(), label)));
    // Of a sign that is made of two, the base parts words.
    assert_eq!(found(&finder, "zebu≠oxbow"), [("zebu".to_owned(), Label::Name), ("oxbow".to_owned(), Label::Place)]);
    assert_eq!(found(&finder, "the patient is well"), []);
    assert_eq!(found(&finder, ""), []);
}

#[test]
fn a_name_is_found_wherever_it_stands_in_a_long_text() {
    let finder = finder();
    for before in (0..200).step_by(7) {
        let text = format!("{}Zebulon Quillip{}", "pain ".repeat(before), " well".repeat(200 - before));
        assert_eq!(found(&finder, &text), [("Zebulon Quillip".to_owned(), Label::Name)], "{before}");
    }
    assert_eq!(finder.find(&"pain ".repeat(5000)), Err(NotSearched));
}

#[test]
fn what_detectors_find_stays_found_and_the_model_adds() {
    let (detect, finder) = (Scrubber::new(Tier::Detect, TODAY), finder());
    let with_model = Scrubber::new(Tier::DetectNer, TODAY).with_entities(finder);
    let (mut notes, mut more) = (0, 0);
    for note in notes_of_many_kinds() {
        let known = KnownValues::default();
        let before = detect.find(&note, &known).unwrap();
        let after = with_model.find(&note, &known).unwrap();
        for (range, _) in &before {
            let covers = after.iter().any(|(wider, _)| wider.start <= range.start && range.end <= wider.end);
            assert!(covers, "{note}: {range:?}");
        }
        let bytes =
            |found: &[(std::ops::Range<usize>, Label)]| found.iter().map(|(range, _)| range.len()).sum::<usize>();
        more += usize::from(bytes(&after) > bytes(&before));
        notes += 1;
        let scrubbed = with_model.scrub(&note, &known, &mut Scratch::default());
        assert_eq!(with_model.scrub(&note, &known, &mut Scratch::default()), scrubbed, "the same again");
        let Scrubbed::Replaced(text) = scrubbed else { panic!("{note}: {scrubbed:?}") };
        assert!(detect.find(&text, &known).unwrap().is_empty(), "{text}");
    }
    assert!(notes >= 500 && more * 3 > notes, "{notes} notes, {more} with something that only the model finds");
}

/// Notes with and without what detectors know and what the model knows, in every order of parts.
fn notes_of_many_kinds() -> Vec<String> {
    let parts = [
        "Seen on 3/14/2024 by Dr. Whitaker",
        "SSN 078-05-1120, phone (212) 555-0142",
        "zebulon quillip reports no pain",
        "lives in oxbow near 12 Main Street, Topeka KS 66603",
        "Mercygate Halls, MRN 00481516",
        "élan, a tanner; José Müller-Ó'Brien called",
        "write to ann@example.org about the 病院",
        "Zo\u{308}e and Whit-\naker at mercygate",
    ];
    let mut notes = Vec::new();
    for first in parts {
        for second in parts {
            for third in parts {
                let note =
                    format!("{first}. {second}\n{third}; the plan is rest. {}", "pain ".repeat(notes.len() % 40));
                notes.push(note);
            }
        }
    }
    notes
}

#[test]
fn a_text_that_is_too_long_for_the_model_is_replaced_as_a_whole() {
    let with_model = Scrubber::new(Tier::DetectNer, TODAY).with_entities(finder());
    let scrub = |text: &str| with_model.scrub(text, &KnownValues::default(), &mut Scratch::default());
    assert_eq!(scrub(&"pain ".repeat(5000)), Scrubbed::Refused);
    assert_eq!(scrub("the zebu is well"), Scrubbed::Replaced("the [NAME] is well".into()));
}
