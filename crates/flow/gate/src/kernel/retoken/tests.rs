use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, StringArray};

use super::*;
use crate::Profile;
use crate::calendar::Date;
use crate::gate::Means;
use crate::kernel::subject::Beside;
use crate::kernel::{Kernel, Setup, Stored};
use crate::policy::tests::rotated;
use crate::policy::{Policy, Rule};

/// The rule of column `v`, written as in a policy.
fn rule(text: &str) -> Rule {
    let text = format!("profile: none\nkeys: k\ntables:\n  db.public.t:\n    v: {text}\n");
    let policy = Policy::parse(&text, "p").unwrap_or_else(|problems| panic!("{problems:?}"));
    policy.rules().next().unwrap().1.clone()
}

fn cleared(rule: &Rule, keys: &KeyRing, values: &ArrayRef) -> ArrayRef {
    let means = Means::for_keys(keys.clone());
    let setup = Setup { profile: Profile::None, means: &means, table: None };
    apply(&Kernel::new(rule, values.data_type(), &setup).unwrap().unwrap(), values)
}

/// For what the rule made under epoch `before`.
fn moved(rule: &Rule, keys: &KeyRing, before: u32) -> Option<Kernel> {
    let stored =
        Stored { keys: Some(keys), epoch: &|_| Some(before), old_years: false, old_zips: false, old_times: false };
    Kernel::moved(rule, &stored).unwrap()
}

fn apply(kernel: &Kernel, values: &ArrayRef) -> ArrayRef {
    let beside = Beside { today: Date { year: 2026, month: 11, day: 21 }, subject: None, known: &[] };
    let passed = kernel.apply(values, beside).unwrap();
    assert_eq!(passed.invalid, 0);
    passed.values
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Computed by another implementation (Python's hmac, hashlib and cryptography) from the definition in the guide: if this fails, tokens in
/// somebody's lake can no longer be joined.
#[test]
fn tokens_of_every_epoch_never_change() {
    let long = "x".repeat(200);
    let values = texts(&[Some("42"), Some(""), Some("078-05-1120"), Some(&long)]);
    let golden = [
        [
            "member.1.za24bzexmxfiod3yonxuhsgg2y",
            "member.1.7ba2ah2nq3jb5q7hoyvd4piznm",
            "member.1.4zugs4xiqzghd2tmwexafz57tm",
            "member.1.vs3mrcd6hqa3fkl65mokqia6mu",
        ],
        [
            "member.2.tyv4vffogi4gimhdxvkcz7ndne",
            "member.2.p3tvpf2wtig7mmupgbavwsop2y",
            "member.2.dpgts6bz7ut6htaste72hoopya",
            "member.2.u36t3hj7cvaif4hnulprix3bmi",
        ],
        [
            "member.3.244m6qtylatp6mav5elclnazay",
            "member.3.ksxoxhr4kryskdcnvpjigshojq",
            "member.3.ovu2v5jo22ynbgi2gtrxwidyqu",
            "member.3.mwolbwgskftfgnkhkxcosijcnq",
        ],
    ];
    for (newest, golden) in (1..).zip(golden) {
        assert_eq!(&cleared(&rule("hmac_token(member)"), &rotated(newest), &values), &texts(&golden.map(Some)));
    }
    let sealed = cleared(&rule("siv_token(member)"), &rotated(2), &texts(&[Some("42")]));
    assert_eq!(&sealed, &texts(&[Some("member.2.6ail5u6t4r7umoibmv5ir7df6j4hk")]));
}

#[test]
fn bytes_are_the_128_bits_of_the_text_in_every_epoch() {
    let values = texts(&[Some("42"), None, Some("Zo\u{eb}"), Some("42")]);
    for newest in 1..=3 {
        let spelled = cleared(&rule("hmac_token(member)"), &rotated(newest), &values);
        let read = |token: &str| base32::read_code(token.rsplit('.').next().unwrap().as_bytes()).unwrap();
        let bits: Vec<Option<[u8; 16]>> = spelled.as_string::<i32>().iter().map(|token| token.map(read)).collect();
        let bare = cleared(&rule("hmac_token(member binary)"), &rotated(newest), &values);
        assert_eq!(
            bare.as_binary::<i32>()
                .iter()
                .map(|bytes| bytes.map(|bytes| bytes.try_into().unwrap()))
                .collect::<Vec<_>>(),
            bits
        );
    }
}

#[test]
fn stored_values_become_what_new_ones_are() {
    let persons = texts(&[Some("42"), None, Some("Zo\u{eb}"), Some("42"), Some("")]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1_234_567_893), None]));
    let ssns = texts(&[Some("078-05-1120"), None, Some("123456789")]);
    let documents = texts(&[
        Some(r#"{"id":"42","note":"a \"b\" \u00eb","n":1.50,"ok":true,"ids":["1",null,"2"],"born":"1980-02-03"}"#),
        None,
        Some(r#"{"n":null,"ids":[]}"#),
    ]);
    let document = "{ transform: json_paths, paths: { id: hmac_token(member), note: keep, n: keep, ok: keep, 'ids[]': siv_token(x), born: date_year } }";
    let cases = [
        ("hmac_token(member)", &persons),
        ("{ transform: hmac_token(member), canonical: trim }", &persons),
        ("hmac_token(member binary)", &persons),
        ("siv_token(member)", &persons),
        ("fpe_ff1(person ssn)", &ssns),
        ("fpe_ff1(provider npi)", &numbers),
        (document, &documents),
    ];
    for (text, values) in cases {
        let rule = rule(text);
        for (before, now) in [(1, 2), (1, 3), (2, 3)] {
            let stored = cleared(&rule, &rotated(before), values);
            let moved = moved(&rule, &rotated(now), before).unwrap();
            assert_eq!(&apply(&moved, &stored), &cleared(&rule, &rotated(now), values), "{text}: {before} to {now}");
        }
    }
}

#[test]
fn what_is_no_token_of_the_epoch_is_not_read_and_what_needs_the_person_is_not_moved() {
    let keys = rotated(2);
    let of_other = cleared(&rule("siv_token(member)"), &rotated(2), &texts(&[Some("42")]));
    let foreign = of_other.as_string::<i32>().value(0).replace("member.2", "member.1");
    let wrong =
        ["", "42", "member.1.", "member.1.za24", "other.1.za24bzexmxfiod3yonxuhsgg2y", "member.1.ZA24", &foreign];
    let beside = Beside { today: Date { year: 2026, month: 11, day: 21 }, subject: None, known: &[] };
    for text in ["hmac_token(member)", "siv_token(member)"] {
        let moved = moved(&rule(text), &keys, 1).unwrap();
        for wrong in wrong {
            let passed = moved.apply(&texts(&[Some(wrong)]), beside).unwrap();
            assert_eq!((passed.invalid, passed.values.null_count()), (1, 1), "{text}: {wrong}");
        }
        // Nor is it when it stands there again, among tokens that are read.
        let stored = cleared(&rule(text), &rotated(1), &texts(&[Some("42")]));
        let right = Some(stored.as_string::<i32>().value(0));
        let passed = moved.apply(&texts(&[right, Some("42"), None, Some("42"), right]), beside).unwrap();
        let now = cleared(&rule(text), &keys, &texts(&[Some("42"), None, None, None, Some("42")]));
        assert_eq!((passed.invalid, &passed.values), (2, &now), "{text}");
    }
    // Of bytes nothing tells but their number: the table's stamp says of which epoch they are.
    let bare = moved(&rule("hmac_token(member binary)"), &keys, 1).unwrap();
    let wrong: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&[7; 16][..]), Some(&[7; 15]), None, Some(b"")]));
    let passed = bare.apply(&wrong, beside).unwrap();
    assert_eq!((passed.invalid, passed.values.null_count()), (2, 3));
    assert!(bare.apply(&texts(&[Some("member.1.za24bzexmxfiod3yonxuhsgg2y")]), beside).is_err(), "text is no bytes");
    // Epoch 3 does not wrap 9, and a shift of another epoch needs the person.
    assert!(moved(&rule("hmac_token(member)"), &keys, 9).is_none());
    let shift = rule("{ transform: date_shift(person 30), subject: id }");
    assert!(moved(&shift, &keys, 2).is_none());
    assert!(matches!(moved(&shift, &keys, 1), Some(Kernel::Keep)));
}
