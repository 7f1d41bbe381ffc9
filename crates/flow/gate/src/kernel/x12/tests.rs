use crate::CodeType;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::policy::tests::{keys, stopped_clock};
use crate::{Policy, Profile};

use super::*;
use crate::gate::Means;
use std::sync::Arc;

/// `x12_map(name)` with these lines of its own.
fn map(name: &str, own: &str) -> X12Map {
    let text = format!(
        "profile: none\nkeys: k\ntables:\n  db.public.t:\n    doc:\n      transform: x12_map({name})\n      on_invalid: null\n      subject: who\n      paths: {{ {own} }}\n"
    );
    let text = if own.contains("date_shift") { text } else { text.replace("      subject: who\n", "") };
    let policy = Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let (_, rule) = policy.rules().next().unwrap();
    let Transform::X12Map { map } = &rule.transform else { panic!("{:?}", rule.transform) };
    map.clone()
}

/// The kernel of a column under that map.
fn kernel(name: &str, own: &str) -> X12 {
    let means = Means { keys: keys(0).map(Arc::new), clock: stopped_clock(), ..Means::none() };
    X12::new(&map(name, own), &Setup { profile: Profile::None, means: &means, table: None }).unwrap()
}

fn passed(x12: &X12, text: &str) -> (Option<String>, u64) {
    passed_in(2026, x12, text)
}

fn passed_in(year: i32, x12: &X12, text: &str) -> (Option<String>, u64) {
    let today = Date { year, month: 11, day: 21 };
    let array = StringArray::from(vec![text]);
    let passed = x12.apply(&array, Beside { today, subject: None, known: &[] }).unwrap();
    (passed.values.as_string::<i32>().iter().next().flatten().map(str::to_owned), passed.invalid)
}

fn ready_for(folder: &str) -> Option<&'static str> {
    ["837", "835", "834"].into_iter().find(|name| folder.starts_with(name))
}

/// Every file of the shared data, with the map that is for it.
fn files() -> Vec<(&'static str, PathBuf, String)> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared/data");
    let data = std::env::var_os("LOCKGATE_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let Ok(folders) = std::fs::read_dir(data.join("x12")) else {
        println!("skipped: no X12 files below ../shared/data");
        return Vec::new();
    };
    let mut found = Vec::new();
    for folder in folders.map(|folder| folder.unwrap().path()).filter(|folder| folder.is_dir()) {
        let Some(map) = ready_for(&folder.file_name().unwrap().to_string_lossy()) else { continue };
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((map, path, text));
        }
    }
    found.sort();
    found
}

/// A document in which every element that no map keeps has a value of its own, and those values.
fn planted(x12: &X12, text: &str) -> (String, BTreeSet<String>) {
    let interchanges = x12::read(text).unwrap();
    let delimiters = interchanges[0].delimiters;
    let (mut out, mut canaries, mut parent) = (String::new(), BTreeSet::new(), String::new());
    for segment in text.split(delimiters.segment).map(|segment| segment.trim_start_matches(['\r', '\n'])) {
        let parts: Vec<&str> = segment.split(delimiters.element).collect();
        let one = Segment { id: parts[0], elements: parts[1..].to_vec() };
        let mut written = vec![one.id.to_owned()];
        let envelope = ["ISA", "GS", "ST", "SE", "GE", "IEA", ""].contains(&one.id);
        let qualifier = qualifier(&one, delimiters);
        let places = x12.places.of_segment(&parent, one.id, qualifier);
        for (number, element) in (1..).zip(&one.elements) {
            let kept = |component: u8| {
                places.rule(number, component).is_some_and(|rule| {
                    matches!(x12.kernels[rule].as_ref().unwrap().kernel, Kernel::Keep | Kernel::GeoState)
                })
            };
            let components = element.split(delimiters.component).count();
            let qualifies = number == if one.id == "HL" { 3 } else { 1 };
            written.push(match envelope || qualifies || element.is_empty() {
                true => (*element).to_owned(),
                false => {
                    let parts = (1..).zip(element.split(delimiters.component)).map(|(at, part)| {
                        let keeps = kept(at) || components == 1 && kept(0);
                        if keeps || part.is_empty() {
                            return part.to_owned();
                        }
                        let canary = format!("9{:07}", 1_234_567 + canaries.len() * 37);
                        canaries.insert(canary.clone());
                        canary
                    });
                    parts.collect::<Vec<_>>().join(&delimiters.component.to_string())
                }
            });
        }
        if opens_loop(one.id) {
            parent = match one.id {
                "HL" | "NM1" | "N1" => format!("{}*{qualifier}", one.id),
                id => id.to_owned(),
            };
        }
        if !segment.is_empty() {
            out += &written.join(&delimiters.element.to_string());
            out.push(delimiters.segment);
        }
    }
    (out, canaries)
}

#[test]
fn no_value_of_an_element_that_no_map_keeps_survives_and_the_output_is_x12_again() {
    let (mut planted_values, mut documents) = (0, 0);
    for (map, path, text) in files() {
        let x12 = kernel(map, "");
        let (before, _) = passed(&x12, &text);
        let before = before.unwrap_or_else(|| panic!("{} is not read", path.display()));
        let again = x12::read(&before).unwrap_or_else(|| panic!("{} is no X12: {before}", path.display()));
        assert_eq!(again[0].delimiters, x12::read(&text).unwrap()[0].delimiters);
        // What has passed is a document of the map again, and all of its segments pass.
        let twice = passed(&x12, &before).0.unwrap_or_else(|| panic!("{} does not pass twice", path.display()));
        let segments = |text: &str| text.matches(again[0].delimiters.segment).count();
        assert_eq!(segments(&twice), segments(&before), "{}", path.display());
        let (with_canaries, canaries) = planted(&x12, &text);
        let (after, _) = passed(&x12, &with_canaries);
        let after = after.unwrap_or_else(|| panic!("{} is not read with canaries", path.display()));
        for canary in &canaries {
            assert!(with_canaries.contains(canary));
            assert!(
                !after.contains(canary) && !after.contains(&canary[2..]),
                "{}: {canary} in {after}",
                path.display()
            );
        }
        planted_values += canaries.len();
        documents += 1;
    }
    println!("{planted_values} values in {documents} documents");
    assert!(documents == 0 || planted_values > 500, "{planted_values} values are too few to tell");
}

#[test]
fn loops_tell_whose_a_segment_is() {
    let sample = ReadyMap::ProfessionalClaim.sample();
    let own = "NM1*IL.09: hmac_token(member), NM1*IL/N4.03: keep, NM1*85.09: hmac_token(npi), HI.*-2: hierarchy(icd10 category)";
    let (text, invalid) = passed(&kernel("837p", own), sample);
    let text = text.unwrap();
    assert_eq!(invalid, 0);
    for part in [
        "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *240101*0000*^*00501*000000001*0*T*:~",
        "GS*HC*SENDER*RECEIVER*20240101*0000*1*X*005010X222A1~ST*837*0001*005010X222A1~BHT*0019*00**20240101**CH~",
        "NM1*85*2******XX*npi.1.",
        "NM1*IL*1******MI*member.1.",
        "N4**NY*10025~",
        "DMG*D8*19360101*F~CLM*[CLAIM]*100***11:B:1*Y*A*Y*Y~DTP*431*D8*20240101~HI*ABK:E11~LX*1~SV1*HC:99213*100*UN*1***1~",
        "SE*15*0001~GE*1*1~IEA*1*000000001~",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for gone in ["SAMPLE", "JANE", "EXAMPLE", "078051120", "REF", "N3"] {
        assert!(!text.contains(gone), "{gone} is in {text}");
    }
    // The token of a column of the domain.
    let token = crate::kernel::token::Tokenizer::new(
        &keys(0).unwrap(),
        "member",
        crate::canonical::Form::Exact,
        1,
        CodeType::Text,
    )
    .unwrap();
    let token = token.apply(&StringArray::from(vec!["1EG4TE5MK73"])).unwrap();
    assert!(text.contains(token.values.as_string::<i32>().value(0)));
    let (plain, _) = passed(&kernel("837p", ""), sample);
    assert!(plain.unwrap().contains("N4**NY*100~"));
}

#[test]
fn what_is_no_document_of_the_map_never_passes() {
    let good = ReadyMap::Payment.sample();
    let x12 = kernel("835", "");
    assert!(passed(&x12, good).0.is_some());
    let wrong = [
        ("", "nothing"),
        ("n/a", "no X12"),
        (ReadyMap::Enrolment.sample(), "another set"),
        (&good.replace("SE*", "SE*9"), "a wrong count"),
        (&good.replace("IEA*1*000000001", "IEA*1*000000002"), "another control number"),
        (&good[..200], "cut off"),
        (&good.replace("BPR*", "bpr*"), "no segment"),
        (&format!("{good}078-05-1120"), "something behind"),
        (&format!("078-05-1120{good}"), "something before"),
        (&good.replace("00501", "00501*"), "ISA of another width"),
    ];
    for (text, why) in wrong {
        assert_eq!(passed(&x12, text), (None, 1), "{why}");
    }
    for other in ["837p", "837i"] {
        let sample = if other == "837p" { ReadyMap::InstitutionalClaim } else { ReadyMap::ProfessionalClaim };
        assert_eq!(passed(&kernel(other, ""), sample.sample()), (None, 1));
        assert!(passed(&kernel("837", ""), sample.sample()).0.is_some());
    }
}

#[test]
fn an_element_that_cannot_be_read_is_empty_and_counted() {
    let sample = ReadyMap::ProfessionalClaim.sample();
    let x12 = kernel("837p", "");
    // Another document's delimiters, a date in another form, a range of dates, a time of day.
    let (text, invalid) = passed(&x12, &sample.replace("ABK:E119", "ABK>078051120"));
    assert_eq!(invalid, 1);
    assert!(!text.unwrap().contains("078051120"));
    let (text, invalid) = passed(&x12, &sample.replace("DTP*431*D8*20240229", "DTP*431*D8*02/29/24"));
    assert_eq!((text.unwrap().contains("DTP*431"), invalid), (false, 1));
    let (text, _) = passed(&x12, &sample.replace("DTP*431*D8*20240229", "DTP*435*RD8*20240229-20250301"));
    assert!(text.unwrap().contains("DTP*435*RD8*20240101-20250101~"));
    let (text, _) = passed(&x12, &sample.replace("DTP*431*D8*20240229", "DTP*435*DT*202402291315"));
    assert!(text.unwrap().contains("DTP*435*DT*202401010000~"));
}

#[test]
fn a_policy_says_what_a_map_may_let_through() {
    let with = |claim: &str, lines: &str| {
        let text = format!(
            "profile: {claim}\nkeys: k\ntables:\n  db.public.t:\n    id: {}\n    doc:\n{lines}",
            if claim == "safe_harbor" { "vault_code(id)" } else { "hmac_token(id)" }
        );
        Policy::parse(&text, "policy.yaml")
            .map(|_| ())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let map = "      transform: x12_map(837p)\n";
    let vouched = format!("{map}      reason: read by counsel\n      reviewer: dpo\n");
    let wrong = [
        ("limited_data_set", format!("{map}      paths: {{ NM1*IL.03: keep }}\n"), "declared class may not be shown"),
        ("limited_data_set", format!("{map}      paths: {{ NM1*IL.9-1-1: drop }}\n"), "no place in an X12 document"),
        ("limited_data_set", format!("{map}      paths: {{ ISA.06: keep }}\n"), "always made anew"),
        ("limited_data_set", format!("{map}      paths: {{ N4/N3.01: drop }}\n"), "begins no loop"),
        ("limited_data_set", format!("{map}      paths: {{ CLM.02: round(5) }}\n"), "does not read the text"),
        ("limited_data_set", format!("{map}      paths: {{ CLM.02: json_paths }}\n"), "does not say which places"),
        (
            "limited_data_set",
            format!("{map}      paths: {{ CLM.01: encrypt_cell(p) }}\n"),
            "bytes, which have no place",
        ),
        (
            "limited_data_set",
            format!("{map}      paths: {{ CLM.01: {{ transform: drop, on_invalid: halt }} }}\n"),
            "whole column",
        ),
        ("limited_data_set", format!("{map}      paths: {{ DTP*472.03: date_shift(p 30) }}\n"), "whose dates they are"),
        ("limited_data_set", "      transform: x12_map(276)\n".into(), "takes 837, 837p"),
        ("safe_harbor", map.into(), "nobody vouches"),
        ("safe_harbor", format!("{vouched}      paths: {{ NM1*IL.09: hmac_token(m) }}\n"), "derived from the value"),
    ];
    for (claim, lines, part) in wrong {
        let said = with(claim, &lines).expect_err(&lines);
        assert!(said.contains(part), "{said} lacks {part} for\n{lines}");
    }
    assert_eq!(with("safe_harbor", &vouched), Ok(()));
    assert_eq!(with("safe_harbor", map).unwrap_err().matches("nobody vouches").count(), 1);
    assert_eq!(
        with("limited_data_set", &format!("{map}      paths: {{ NM1*IL.09: hmac_token(m), SBR.04: drop }}\n")),
        Ok(())
    );
}

#[test]
fn a_wrong_envelope_stops_the_table_unless_the_policy_says_otherwise() {
    let rule = |lines: &str| {
        let text = format!("profile: none\nkeys: k\ntables:\n  db.public.t:\n    doc: {lines}\n");
        Policy::parse(&text, "policy.yaml").unwrap().rules().next().unwrap().1.on_invalid
    };
    use crate::policy::OnInvalid;
    assert_eq!(rule("x12_map(837p)"), OnInvalid::Halt);
    assert_eq!(rule("{ transform: x12_map(837p), on_invalid: hold }"), OnInvalid::Hold);
    assert_eq!(rule("{ transform: x12_map(837p), on_invalid: null }"), OnInvalid::Null);
    assert_eq!(rule("x12_map(837p)\n    '*': { on_invalid: hold }"), OnInvalid::Hold);
}

#[test]
fn what_is_stored_of_every_file_becomes_what_a_later_year_makes_of_it() {
    let own = "NM1*IL.09: hmac_token(m), N4.03: keep";
    for (name, path, text) in files() {
        for own in ["", own] {
            let (x12, map) = (kernel(name, own), map(name, own));
            let later = Stored { keys: None, epoch: &|_| None, old_years: true, old_zips: true, old_times: false };
            let moved = X12::moved(&map, &later).unwrap().unwrap();
            let (Some(stored), _) = passed(&x12, &text) else { continue };
            let (fresh, _) = passed_in(2031, &x12, &text);
            assert_eq!(passed_in(2031, &moved, &stored), (fresh, 0), "{name} {}", path.display());
        }
    }
}
