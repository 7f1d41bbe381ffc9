use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const LABELS: [&str; 7] = ["O", "B-PATIENT", "I-PATIENT", "B-DOCTOR", "I-DOCTOR", "B-HOSPITAL", "I-HOSPITAL"];
const PIECES: [&str; 13] = ["[UNK]", "[CLS]", "[SEP]", "p", "##p", "##o", "d", "##d", "h", "o", "##i", "x", "."];
const PIECES_MAX: usize = 16;

/// Tags pieces by what they are called: `p`, `d` and `h` begin, their inner forms go on, all else is outside.
struct ByPiece {
    runs: Mutex<Vec<usize>>,
    fault: fn(&[u32], &mut Vec<f32>) -> Result<(), NotSearched>,
}

impl Logits for ByPiece {
    fn logits(&self, ids: &[u32]) -> Result<Vec<f32>, NotSearched> {
        self.runs.lock().unwrap().push(ids.len());
        let mut logits = Vec::new();
        for id in ids {
            let tag = match PIECES[*id as usize] {
                "p" => 1,
                "##p" => 2,
                "d" => 3,
                "##d" => 4,
                "h" => 5,
                "##i" => 6,
                _ => 0,
            };
            logits.extend((0..LABELS.len()).map(|label| if label == tag { 1.0 } else { -1.0 }));
        }
        (self.fault)(ids, &mut logits)?;
        Ok(logits)
    }
}

fn finder(fault: fn(&[u32], &mut Vec<f32>) -> Result<(), NotSearched>) -> Result<Finder> {
    let config = Config { tags: LABELS.map(Tag::parse).into(), pieces_max: PIECES_MAX };
    let cutter = WordPiece {
        vocabulary: PIECES.iter().zip(0..).map(|(piece, id)| ((*piece).to_owned(), id)).collect(),
        inner: "##".into(),
        unknown: 0,
        first: 1,
        last: 2,
        lowercase: true,
        strip_accents: true,
        split_chinese: true,
        clean: true,
        word_max: 100,
    };
    Finder::new("11".into(), config, cutter, Box::new(ByPiece { runs: Mutex::default(), fault }))
}

fn found(text: &str) -> Vec<(String, Label)> {
    let found = finder(|_, _| Ok(())).unwrap().find(text).unwrap();
    found.into_iter().map(|(range, label)| (text[range].to_owned(), label)).collect()
}

fn check(text: &str, expected: &[(&str, Label)]) {
    let expected: Vec<(String, Label)> = expected.iter().map(|(text, label)| ((*text).to_owned(), *label)).collect();
    assert_eq!(found(text), expected, "{text}");
}

#[test]
fn words_are_put_together_as_their_pieces_say() {
    check("o p o", &[("p", Label::Name)]);
    check("ppp", &[("ppp", Label::Name)]);
    check("p p", &[("p", Label::Name), ("p", Label::Name)]);
    // The mark of going on: from word to word, without a beginning, and after another entity.
    check("p oi", &[("p", Label::Name), ("oi", Label::Organization)]);
    check("h oi  oi o oi", &[("h oi  oi", Label::Organization), ("oi", Label::Organization)]);
    check("p od", &[("p", Label::Name), ("od", Label::Name)]);
    // Of one word only some pieces are tagged: it goes as a whole, as the first of them says.
    check("oop o", &[("oop", Label::Name)]);
    check("oid", &[("oid", Label::Organization)]);
    check("h.", &[("h", Label::Organization)]);
    check("", &[]);
    check(" \u{301}\n", &[]);
}

#[test]
fn places_are_bytes_of_the_text() {
    check("é\u{1f642} Pp, Ö H", &[("Pp", Label::Name), ("H", Label::Organization)]);
    check("病p院", &[("p", Label::Name)]);
    check("\u{200b}p\u{301}p o", &[("p\u{301}p", Label::Name)]);
}

#[test]
fn long_texts_are_read_in_windows_and_every_name_in_them_is_found() {
    for length in 0..120 {
        for at in 0..=length {
            let text = format!("{}hp ppp{}", "o ".repeat(at), " o".repeat(length - at));
            let expected = [("hp".to_owned(), Label::Organization), ("ppp".to_owned(), Label::Name)];
            assert_eq!(found(&text), expected, "{length} {at}");
        }
    }
}

#[test]
fn what_a_text_may_cost_is_bounded() {
    static LONGEST: AtomicUsize = AtomicUsize::new(0);
    let finder = finder(|ids, _| {
        LONGEST.fetch_max(ids.len(), Ordering::Relaxed);
        Ok(())
    });
    let finder = finder.unwrap();
    let size = PIECES_MAX - 2;
    let most = size + (WINDOWS_MAX - 1) * (size - size / 4);
    assert!(finder.find(&"o ".repeat(most)).is_ok());
    assert_eq!(finder.find(&"o ".repeat(most + 1)), Err(NotSearched));
    assert_eq!(LONGEST.load(Ordering::Relaxed), PIECES_MAX, "no window is longer than the model reads");
}

#[test]
fn a_model_that_fails_on_a_text_is_no_search() {
    type Fault = fn(&[u32], &mut Vec<f32>) -> Result<(), NotSearched>;
    const X: u32 = 11;
    let faults: [Fault; 5] = [
        |ids, _| if ids.contains(&X) { Err(NotSearched) } else { Ok(()) },
        |ids, logits| {
            logits.truncate(if ids.contains(&X) { 1 } else { logits.len() });
            Ok(())
        },
        |ids, logits| {
            logits.extend(ids.contains(&X).then_some(0.0));
            Ok(())
        },
        |ids, logits| {
            logits[LABELS.len()] = if ids.contains(&X) { f32::NAN } else { 0.0 };
            Ok(())
        },
        |ids, _| {
            assert!(!ids.contains(&X), "a made-up fault of the model");
            Ok(())
        },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let finder = finder(fault).unwrap();
        assert_eq!(finder.find("o p x"), Err(NotSearched), "{number}");
        assert_eq!(finder.find("x o p x o"), Err(NotSearched), "{number}: and again");
        assert_eq!(finder.find("o p").map(|found| found.len()), Ok(1), "{number}: the next text is searched");
    }
}

#[test]
fn a_model_that_gives_something_else_is_refused_at_once() {
    let error = finder(|_, logits| {
        logits.push(0.0);
        Ok(())
    });
    let error = error.err().unwrap();
    assert!(error.what().contains("no number for each word piece and label"), "{error}");
}
