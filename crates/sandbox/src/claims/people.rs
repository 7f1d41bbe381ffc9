use chrono::{Days, NaiveDate};

use super::canary;
use super::dice::Dice;
use super::identifiers::{mbi, ssn};

/// The day on which the invented data ends: nothing in it depends on the clock.
pub(super) const AS_OF: NaiveDate = match NaiveDate::from_ymd_opt(2026, 9, 30) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

/// A member, before anything is formatted for a table.
pub(super) struct Person {
    pub(super) member_id: u64,
    pub(super) first_name: &'static str,
    pub(super) last_name: String,
    pub(super) birth_date: NaiveDate,
    pub(super) sex: char,
    pub(super) ssn: String,
    pub(super) mbi: String,
    pub(super) address: String,
    pub(super) place: Place,
    pub(super) zip: String,
    pub(super) phone: String,
    pub(super) email: String,
}

/// A town.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) city: &'static str,
    pub(super) state: &'static str,
    pub(super) zip3: &'static str,
}

/// The id of a member by its number. No round number: a watched one must not turn up by chance, as digits of a position for example.
pub(super) fn member_id(member: u64) -> u64 {
    5_731_846_209 + member * 3
}

impl Person {
    /// The member of this number; see [`canary`] for those who are watched.
    pub(super) fn new(seed: u64, member: u64, watched: bool) -> Self {
        let mut dice = Dice::new(seed, 1, member);
        let first_name = dice.pick(FIRST_NAMES);
        let place = dice.pick(PLACES);
        // One in forty is over 90, so that the rule for the very old is seen at work.
        let years = if dice.below(40) == 0 { 90 + dice.below(14) } else { dice.below(90) };
        let birth_date = AS_OF.checked_sub_days(Days::new(years * 365 + dice.below(365))).unwrap_or(AS_OF);
        let last_name = dice.pick(LAST_NAMES);
        let mut person = Self {
            member_id: member_id(member),
            first_name,
            last_name: last_name.to_owned(),
            birth_date,
            sex: dice.pick(&['F', 'M', 'U']),
            ssn: ssn(member),
            mbi: mbi(member),
            address: format!(
                "{} {} {}",
                1 + dice.below(9_800),
                dice.pick(STREETS),
                dice.pick(&["St", "Ave", "Rd", "Ln"])
            ),
            place,
            zip: format!("{}{:02}", place.zip3, 1 + dice.below(98)),
            // 555-01xx is kept free for fiction by the North American numbering plan.
            phone: format!("({:03}) 555-01{:02}", 201 + dice.below(780), dice.below(100)),
            email: format!("{}.{}{member}@example.com", first_name.to_lowercase(), last_name.to_lowercase()),
        };
        if watched {
            canary::mark(&mut person, member);
        }
        if dice.percent(20) {
            person.zip.push_str(&format!("-{:04}", dice.below(10_000)));
        }
        person
    }
}

const FIRST_NAMES: &[&str] = &[
    "Amara", "Beatrice", "Carlos", "Daniel", "Elena", "Farid", "Grace", "Hector", "Imani", "Jonas", "Keiko", "Leila",
    "Marcus", "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Samuel", "Tamika", "Ulrich", "Valeria", "Walter",
    "Ximena", "Yusuf", "Zoe", "Andre", "Bianca", "Cedric", "Dolores", "Esther", "Felix", "Gloria", "Hiro", "Ingrid",
    "Jamal", "Katrin", "Luther", "Mei", "Noel", "Olga", "Pedro", "Ruth", "Silvia", "Thomas", "Uma", "Viktor", "Wendy",
];

const LAST_NAMES: &[&str] = &[
    "Abernathy",
    "Bianchi",
    "Castellano",
    "Dombrowski",
    "Eriksen",
    "Fitzgerald",
    "Gutierrez",
    "Hashimoto",
    "Ibrahim",
    "Jankowski",
    "Kowalczyk",
    "Lindqvist",
    "MacAllister",
    "Nakamura",
    "O'Donnell",
    "Petrovic",
    "Quintero",
    "Rosenthal",
    "Santiago",
    "Thibodeaux",
    "Underhill",
    "Vasquez",
    "Weatherford",
    "Xiong",
    "Yamaguchi",
    "Zimmerman",
    "Achterberg",
    "Bhattacharya",
    "Chukwuemeka",
    "Delacroix",
    "Eisenhauer",
    "Featherstone",
    "Goldsmith",
    "Henriksen",
    "Iwanicki",
];

pub(super) const STREETS: &[&str] = &[
    "Magnolia",
    "Old Mill",
    "Chestnut Hill",
    "Prospect",
    "Sycamore",
    "Harbor View",
    "Meadowlark",
    "Juniper",
    "Foxglove",
    "Stonebridge",
    "Willow Creek",
    "Larkspur",
    "Quarry",
    "Cottonwood",
    "Birchwood",
    "Ridgecrest",
];

/// Some of the prefixes hold fewer than 20,000 people and become 000 under Safe Harbor.
pub(super) const PLACES: &[Place] = &[
    Place { city: "Boston", state: "MA", zip3: "021" },
    Place { city: "Chicago", state: "IL", zip3: "606" },
    Place { city: "Houston", state: "TX", zip3: "770" },
    Place { city: "Phoenix", state: "AZ", zip3: "850" },
    Place { city: "Portland", state: "OR", zip3: "972" },
    Place { city: "Atlanta", state: "GA", zip3: "303" },
    Place { city: "Denver", state: "CO", zip3: "802" },
    Place { city: "Miami", state: "FL", zip3: "331" },
    Place { city: "Seattle", state: "WA", zip3: "981" },
    Place { city: "Bellows Falls", state: "VT", zip3: "051" },
    Place { city: "Guildhall", state: "VT", zip3: "059" },
    Place { city: "Bellevue", state: "NH", zip3: "036" },
    Place { city: "Valentine", state: "NE", zip3: "692" },
    Place { city: "Yellowstone", state: "WY", zip3: "821" },
    Place { city: "Socorro", state: "NM", zip3: "878" },
    Place { city: "Ely", state: "NV", zip3: "893" },
];
