//! What holds of any text, over seeded random ones: pieces of notes, of identifiers, and of every part of Unicode.

use super::*;

/// SplitMix64, so that a failure is repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const PIECES: [&str; 64] = [
    "Dr.",
    "Mr",
    "Patient:",
    "MRN",
    "SSN",
    "Ildiko",
    "Szabo",
    "Smith",
    "May",
    "Will",
    "Hope",
    "wife",
    "son",
    "MD",
    "RN",
    "March",
    "14",
    "2019",
    "3/14",
    "078-05-1120",
    "212-555-0100",
    "(212)",
    "555-0100",
    "x12",
    "@",
    "a.b@example.com",
    "www.",
    "http://",
    ":",
    "::",
    "-",
    "--",
    ".",
    ",",
    "#",
    "(",
    ")",
    "/",
    "'",
    "\"",
    "[NAME]",
    "[DATE",
    "]",
    "[",
    "[REDACTED:error]",
    "12",
    "99213",
    "CPT",
    "NDC",
    "mg",
    "year",
    "old",
    "93",
    "born",
    "in",
    "Hospital",
    "County",
    "KS",
    "66018",
    "Street",
    "Apt",
    "1EG4TE5MK73",
    "\n",
    "lisinopril",
];

fn text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(40) {
        match random.below(12) {
            0 => text.extend(char::from_u32(random.below(0x3000) as u32)),
            1 => text.extend(char::from_u32(random.below(0x11_0000) as u32)),
            2 => text.push_str(&random.below(10_000_000).to_string()),
            _ => text.push_str(random.of(&PIECES)),
        }
        text.push_str(random.of(&[" ", " ", " ", "", "-", "\n", ".", ", ", "\u{301}", "\u{200b}"]));
    }
    text
}

#[test]
fn any_text_comes_out_clear_and_stays_as_it_is() {
    for seed in 0..4000 {
        let random = &mut Random(seed);
        let text = text(random);
        for tier in [Tier::Detect, Tier::Allowlist] {
            let once = scrub_known(tier, &text, &[("last_name", "Szabo"), ("ssn", "078-05-1120")]);
            let again = scrub_known(tier, &once, &[("last_name", "Szabo"), ("ssn", "078-05-1120")]);
            assert_eq!(once, again, "seed {seed}, {tier:?}");
            let scrubber = Scrubber::new(tier, TODAY);
            assert!(scrubber.find(&once, &KnownValues::default()).unwrap().is_empty(), "seed {seed}, {tier:?}");
        }
    }
}

#[test]
fn what_is_found_lies_within_the_text_and_apart() {
    for seed in 0..2000 {
        let text = text(&mut Random(seed));
        let found = Scrubber::new(Tier::Allowlist, TODAY).find(&text, &KnownValues::default()).unwrap();
        let mut from = 0;
        for (range, _) in found {
            assert!(
                range.start >= from && range.start <= range.end && text.get(range.clone()).is_some(),
                "seed {seed}"
            );
            from = range.end;
        }
    }
}

#[test]
fn no_known_value_comes_out() {
    let names = ["Szabo", "Whitaker", "Oyelaran", "Müller", "O'Connell", "Nakagawa"];
    let codes = ["A25-637781", "078-05-1120", "W881204533", "1EG4-TE5-MK73"];
    for seed in 0..3000 {
        let random = &mut Random(seed);
        let (name, code) = (random.of(&names), random.of(&codes));
        let mut note = text(random);
        for value in [name, code] {
            let spelt = match random.below(5) {
                0 => value.to_lowercase(),
                1 => value.to_uppercase(),
                2 => value.replace('-', " "),
                3 => value.replace('-', ""),
                _ => value.to_owned(),
            };
            let spelt =
                if spelt.chars().any(|letter| letter.is_ascii_digit()) { spelt } else { spelt.replace(' ', "") };
            let at = note.char_indices().map(|(at, _)| at).nth(random.below(60)).unwrap_or(note.len());
            note.insert_str(at, &format!(" {spelt} "));
        }
        let out = scrub_known(Tier::Detect, &note, &[("last_name", name), ("mrn", code)]);
        let squeeze =
            |text: &str| -> String { text.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect() };
        let bare = squeeze(&out);
        assert!(!bare.contains(&squeeze(code)), "seed {seed}: the code came out");
        assert!(
            !out.to_lowercase()
                .split(|letter: char| !letter.is_alphabetic() && letter != '\'')
                .any(|word| word == name.to_lowercase()),
            "seed {seed}: the name came out"
        );
    }
}

/// A text of a quarter of a megabyte whose time grew with its square would not end here.
#[test]
fn texts_made_to_be_slow_end() {
    const MADE: [&str; 20] = [
        "1-",
        "a.",
        "A ",
        "A-",
        ":",
        "a@",
        "((",
        "1 ",
        "Szabo ",
        "MRN ",
        "a\u{301}",
        "x",
        "www.",
        "http://",
        "(www.",
        "a.com/",
        "data:a/b,",
        "MRN,",
        "May-",
        "Monday,the ",
    ];
    for made in MADE {
        let text = made.repeat((1 << 18) / made.len());
        let out = scrub_known(Tier::Allowlist, &text, &[("last_name", "Szabo"), ("mrn", "1111111111")]);
        assert!(!out.contains("Szabo") && out.len() <= 16 * text.len());
    }
}
