use std::fmt::Write;

use super::dice::Dice;
use super::people::Person;

/// A note's text of 0.5 to 4 KB, one in fifty above 8 KB, with the member's identifiers written into it as people do.
pub(super) fn body(dice: &mut Dice, person: &Person) -> String {
    let bytes = if dice.below(50) == 0 { 9_000 + dice.below(8_000) } else { 500 + dice.below(3_500) } as usize;
    let mut text = format!(
        "Pt {} {}, DOB {}, MBI {}, seen today. SSN on file {}.\nLives at {}, {} {}. Call {} or {}.\n",
        person.first_name,
        person.last_name,
        person.birth_date.format("%m/%d/%Y"),
        person.mbi,
        person.ssn,
        person.address,
        person.place.city,
        person.zip,
        person.phone,
        person.email
    );
    while text.len() < bytes {
        let sentence = dice.pick(SENTENCES);
        // Writing to a String cannot fail.
        let _written =
            write!(text, "{sentence} ({}/{} on {}) ", 90 + dice.below(90), 50 + dice.below(50), dice.below(99_999));
        if dice.percent(8) {
            let _written =
                write!(text, "\nMember id {} confirmed by {}'s sister. ", person.member_id, person.first_name);
        }
    }
    text
}

/// Codes that a machine found in the note, with weights: no identifiers in it. One in twenty is too long to lie in the row itself.
pub(super) fn findings(dice: &mut Dice) -> String {
    let codes = if dice.below(20) == 0 { 700 } else { 4 } + dice.below(20);
    let mut json = String::from("{\"codes\": [");
    for i in 0..codes {
        let comma = if i == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _written =
            write!(json, "{comma}[\"{}{}\", {}]", dice.pick(DIAGNOSES), dice.below(10), dice.below(1_000_000));
    }
    json.push_str("]}");
    json
}

pub(super) const DIAGNOSES: &[&str] = &[
    "E11.9", "I10", "J45.909", "M54.5", "F32.9", "N18.3", "K21.9", "E78.5", "Z00.00", "R07.9", "G47.33", "L40.0",
    "C50.911", "S72.001A", "B20", "O80", "H25.9", "I50.9",
];

const SENTENCES: &[&str] = &[
    "Reports chest tightness on exertion, relieved by rest.",
    "Medication list reviewed; metformin continued at the same dose.",
    "Wound edges clean, no drainage, dressing changed.",
    "Discussed diet and exercise, patient verbalised understanding.",
    "Labs drawn, results to follow by portal message.",
    "Denies fever, chills, nausea or vomiting.",
    "Prior authorization requested for imaging of the lumbar spine.",
    "Follow-up in six weeks, sooner if symptoms worsen.",
    "Spouse present and agrees with the plan of care.",
    "Appeal received; claim reprocessed under corrected coding.",
];
