use chrono::{Days, NaiveDate};

use super::canary::{self, Canary, WATCHED};
use super::dice::Dice;
use super::identifiers::npi;
use super::notes::{DIAGNOSES, body, findings};
use super::people::{AS_OF, PLACES, Person, STREETS, member_id};
use super::row::Row;
use super::schema::Table;

/// Days that the claims of the first load reach back.
const HISTORY_DAYS: u64 = 400;

/// How many rows of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Rows of `providers`.
    pub providers: u64,
    /// Rows of `members`; one in two has a claim of its own number.
    pub members: u64,
    /// Rows of `claims`, each with one to eight rows of `claim_lines`, 3.5 on average.
    pub claims: u64,
    /// Rows of `claim_notes`.
    pub notes: u64,
    /// Rows of `eligibility_staging`.
    pub staging: u64,
}

impl Scale {
    /// What belongs to about so many rows of `claim_lines`. 134,000 make 200,000 rows in all.
    pub fn of_lines(lines: u64) -> Self {
        let claims = (lines * 2 / 7).max(2 * WATCHED);
        Self { providers: (claims / 20).max(20), members: claims / 2, claims, notes: claims / 5, staging: 500 }
    }
}

/// The plan's data: every row follows from the seed and its number.
#[derive(Clone, Copy, Debug)]
pub struct Claims {
    pub(super) seed: u64,
    pub(super) scale: Scale,
}

impl Claims {
    /// The data of this seed.
    pub fn new(seed: u64, scale: Scale) -> Self {
        Self { seed, scale }
    }

    /// How much there is.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The values that were planted in the first load so that a search of the lake can prove that none came through.
    pub fn canaries(&self) -> Vec<Canary> {
        let of_claim = |claim: u64| {
            [
                ("claims.claim_id", claim_id(claim).to_string()),
                ("claims.patient_account", patient_account(claim)),
                ("claim_lines.device_serial", device_serial(claim)),
                ("claim_lines.remark", canary::word(claim + REMARK_WORDS)),
            ]
            .map(|(column, value)| Canary { column, value })
        };
        let members = (0..WATCHED).flat_map(|member| canary::of_member(&self.person(member)));
        members.chain((0..WATCHED).flat_map(of_claim)).collect()
    }

    pub(super) fn person(&self, member: u64) -> Person {
        Person::new(self.seed, member, self.is_watched(member))
    }

    /// Whether a member's values are canaries: the first few, and one in ten of those who join later.
    pub(super) fn is_watched(&self, member: u64) -> bool {
        member < WATCHED || member >= self.scale.members && (member - self.scale.members).is_multiple_of(10)
    }

    /// Calls `each` with every row of the first load of a table, in order, until it fails.
    pub(super) fn for_each<E>(&self, table: Table, mut each: impl FnMut(&Row) -> Result<(), E>) -> Result<(), E> {
        let mut row = Row::default();
        let mut emit = |fill: &mut dyn FnMut(&mut Row)| {
            row.clear();
            fill(&mut row);
            each(&row)
        };
        match table {
            Table::Providers => (0..self.scale.providers).try_for_each(|n| emit(&mut |row| self.provider(n, row))),
            Table::Members => (0..self.scale.members).try_for_each(|n| emit(&mut |row| self.member(n, row))),
            Table::Claims => (0..self.scale.claims).try_for_each(|n| emit(&mut |row| self.claim(n, row))),
            Table::ClaimLines => (0..self.scale.claims).try_for_each(|n| {
                let claim = self.facts(n);
                let person = self.person(claim.member);
                (1..=claim.lines).try_for_each(|line| emit(&mut |row| self.line(&claim, &person, line, row)))
            }),
            Table::ClaimNotes => (0..self.scale.notes).try_for_each(|n| emit(&mut |row| self.note(n, n * 5, row))),
            Table::EligibilityStaging => {
                (1..=self.scale.staging).try_for_each(|n| emit(&mut |row| self.staged(0, n, row)))
            }
        }
    }

    pub(super) fn provider(&self, number: u64, row: &mut Row) {
        let mut dice = Dice::new(self.seed, 2, number);
        let organisation = dice.percent(30);
        let place = dice.pick(PLACES);
        row.push(npi(number));
        row.push(if organisation { 2 } else { 1 });
        match organisation {
            true => row.push(format_args!("{} {} Clinic", place.city, dice.pick(STREETS))),
            false => {
                // A clinician is a person like any other, with a number that no member has.
                let person = Person::new(self.seed, number + 1_000_000_000, false);
                row.push(format_args!("{}, {} MD", person.last_name, person.first_name));
            }
        }
        row.push(dice.pick(&["207Q00000X", "208D00000X", "282N00000X", "207R00000X", "363LF0000X"]));
        row.push(format_args!("{} {} Blvd", 1 + dice.below(900), dice.pick(STREETS)));
        row.push(place.city);
        row.push(place.state);
        row.push(format_args!("{}{:02}", place.zip3, 1 + dice.below(98)));
        row.maybe(dice.percent(90).then(|| format!("({:03}) 555-01{:02}", 201 + dice.below(780), dice.below(100))));
    }

    pub(super) fn member(&self, number: u64, row: &mut Row) {
        let person = self.person(number);
        let mut dice = Dice::new(self.seed, 3, number);
        row.push(person.member_id);
        row.push(person.mbi);
        row.push(person.ssn);
        row.push(person.first_name);
        row.push(person.last_name);
        row.push(person.birth_date);
        row.push(person.sex);
        row.push(person.address);
        row.push(person.place.city);
        row.push(person.place.state);
        row.push(person.zip);
        row.maybe((dice.percent(95) || self.is_watched(number)).then_some(person.phone));
        row.maybe((dice.percent(80) || self.is_watched(number)).then_some(person.email));
        row.push(dice.pick(PLANS));
        row.maybe(dice.percent(90).then(|| dice.below(40_000) as f64 / 8192.0));
        row.push(days_before(100 + dice.below(2_000)));
        row.push(format_args!("{} 08:{:02}:{:02}+00", days_before(dice.below(400)), dice.below(60), dice.below(60)));
    }

    /// What a claim and its lines have in common.
    pub(super) fn facts(&self, claim: u64) -> ClaimFacts {
        let mut dice = Dice::new(self.seed, 4, claim);
        // The higher the number, the later: the newest of the first load came in on the last day.
        let age = if claim < self.scale.claims {
            (self.scale.claims - 1 - claim) * HISTORY_DAYS / self.scale.claims
        } else {
            0
        };
        let lines = dice.pick(&[1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 8]);
        let charges = (0..lines).map(|_| 2_000 + dice.below(90_000) * (1 + dice.below(9))).collect();
        ClaimFacts {
            claim,
            member: if claim < WATCHED { claim } else { dice.below(self.scale.members) },
            provider: dice.below(self.scale.providers),
            lines,
            received: days_before(age),
            served: days_before(age + 3 + dice.below(25)),
            institutional: dice.percent(25),
            charges,
            diagnosis: dice.pick(DIAGNOSES),
        }
    }

    pub(super) fn claim(&self, number: u64, row: &mut Row) {
        let claim = self.facts(number);
        let mut dice = Dice::new(self.seed, 5, number);
        let charge: u64 = claim.charges.iter().sum();
        row.push(claim_id(number));
        row.push(member_id(claim.member));
        row.push(npi(claim.provider));
        row.push(patient_account(number));
        row.push(if claim.institutional { 'I' } else { 'P' });
        row.push(claim.diagnosis);
        row.maybe(claim.institutional.then(|| 1 + dice.below(998)));
        row.push(claim.served);
        row.push(
            claim
                .served
                .checked_add_days(Days::new(if claim.institutional { dice.below(6) } else { 0 }))
                .unwrap_or(AS_OF),
        );
        row.cents(charge);
        row.cents(charge * (40 + dice.below(40)) / 100);
        row.push(dice.pick(&["PAID", "PAID", "PAID", "DENIED", "PENDING"]));
        row.push(dice.percent(85));
        row.push(format_args!(
            "{} {:02}:{:02}:{:02}.{:06}+00",
            claim.received,
            dice.below(24),
            dice.below(60),
            dice.below(60),
            dice.below(1_000_000)
        ));
    }

    pub(super) fn line(&self, claim: &ClaimFacts, person: &Person, line: u64, row: &mut Row) {
        let mut dice = Dice::new(self.seed, 6, claim.claim * 16 + line);
        let watched = self.is_watched(claim.member) && line == 1;
        row.push(claim_id(claim.claim));
        row.push(line);
        row.push(person.member_id);
        row.push(&person.mbi);
        row.push(npi(dice.below(self.scale.providers)));
        row.push(patient_account(claim.claim));
        row.push(format_args!("{}, {}", person.last_name, person.first_name));
        row.push(person.birth_date);
        row.push(&person.zip);
        row.push(claim.served);
        row.maybe(
            dice.percent(80).then(|| claim.received.checked_add_days(Days::new(dice.below(20))).unwrap_or(AS_OF)),
        );
        row.maybe((watched || dice.percent(2)).then(|| device_serial(claim.claim)));
        if watched {
            row.push(format_args!("verify with {} before release", canary::word(claim.claim + REMARK_WORDS)));
        } else {
            row.maybe(dice.percent(10).then(|| format!("spoke to {} {}", person.first_name, person.last_name)));
        }
        row.push(dice.pick(PROCEDURES));
        row.maybe(dice.percent(30).then(|| dice.pick(&["25", "59", "GT", "TC", "LT", "RT"])));
        row.maybe(claim.institutional.then(|| dice.pick(&["0120", "0250", "0300", "0360", "0450", "0636"])));
        row.maybe(dice.percent(15).then(|| format!("{:011}", dice.below(99_999_999_999))));
        row.push(dice.pick(&["11", "11", "11", "21", "22", "23", "81", "02"]));
        row.push(claim.diagnosis);
        row.cents(100 * (1 + dice.below(12)));
        let charge = claim.charges.get(line as usize - 1).copied().unwrap_or(2_000);
        let allowed = charge * (50 + dice.below(45)) / 100;
        row.cents(charge);
        row.cents(allowed);
        row.cents(allowed * (60 + dice.below(41)) / 100);
        row.push(dice.pick(&["PAID", "PAID", "PAID", "DENIED", "PENDING"]));
        row.maybe(None::<u8>);
    }

    pub(super) fn note(&self, number: u64, claim: u64, row: &mut Row) {
        let facts = self.facts(claim);
        let mut dice = Dice::new(self.seed, 7, number);
        row.push(note_id(number));
        row.push(claim_id(claim));
        row.push(npi(facts.provider));
        row.push(format_args!("{} {:02}:15:00+00", facts.received, dice.below(24)));
        row.push(dice.pick(&["PROGRESS", "PHONE", "APPEAL", "REVIEW"]));
        row.push("DRAFT");
        row.push(body(&mut dice, &self.person(facts.member)));
        row.push(findings(&mut dice));
    }

    pub(super) fn staged(&self, batch: u64, number: u64, row: &mut Row) {
        let mut dice = Dice::new(self.seed, 8, batch << 32 | number);
        row.push(batch);
        row.push(number);
        row.push(member_id(dice.below(self.scale.members)));
        row.push(dice.pick(PLANS));
        row.push(days_before(dice.below(60)));
    }
}

/// What a claim and its lines have in common.
pub(super) struct ClaimFacts {
    pub(super) claim: u64,
    pub(super) member: u64,
    pub(super) provider: u64,
    pub(super) lines: u64,
    pub(super) received: NaiveDate,
    pub(super) served: NaiveDate,
    pub(super) institutional: bool,
    pub(super) charges: Vec<u64>,
    pub(super) diagnosis: &'static str,
}

// Words for remarks begin here, far from those for names.
const REMARK_WORDS: u64 = 100_000_000;

pub(super) const PLANS: &[&str] = &["HMO-STD", "PPO-GOLD", "PPO-SLVR", "HDHP-1", "MA-PLUS"];

const PROCEDURES: &[&str] = &[
    "99213", "99214", "99285", "80053", "85025", "36415", "93000", "71046", "97110", "J1885", "G0439", "A0428",
    "E0601", "90837",
];

/// The id of a claim by its number; no round number, see [`super::people::member_id`].
pub(super) fn claim_id(claim: u64) -> u64 {
    823_517_904_261 + claim * 7
}

/// The id of a note by its number; no round number either.
pub(super) fn note_id(note: u64) -> u64 {
    641_738_295_617 + note * 11
}

pub(super) fn patient_account(claim: u64) -> String {
    format!("PA{:07}-{:05}", claim * 37 % 9_999_991, claim % 99_991)
}

fn device_serial(claim: u64) -> String {
    format!("SN-{:010}", claim * 7_919 + 1_234_567)
}

fn days_before(days: u64) -> NaiveDate {
    AS_OF.checked_sub_days(Days::new(days)).unwrap_or(AS_OF)
}
