use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, TimeUnit};
use change::{Clock, Column, Identity, Problem, Severity, StoppedClock, TableName, TableSchema};
use zeroize::Zeroizing;

use crate::{Gate, KeyRing, Policy, Profile, Vault};

/// 2026-11-21T00:00:00Z, for ever.
const NOW: StoppedClock = StoppedClock(1_795_219_200_000_000);

pub(crate) fn stopped_clock() -> Arc<dyn Clock> {
    Arc::new(NOW)
}

/// Numbers its codes, so that a test can foresee them.
#[derive(Default)]
struct CountingVault(Mutex<BTreeMap<(String, [u8; 32]), u128>>);

impl Vault for CountingVault {
    fn id(&self) -> change::Result<String> {
        Ok("CountingVault".into())
    }

    fn codes(&self, domain: &str, index: &[[u8; 32]]) -> change::Result<Vec<[u8; 16]>> {
        let mut codes = self.0.lock().unwrap();
        let mut code = |index: &[u8; 32]| {
            let next = codes.len() as u128 + 1;
            codes.entry((domain.to_owned(), *index)).or_insert(next).to_be_bytes()
        };
        Ok(index.iter().map(&mut code).collect())
    }

    fn find(&self, domain: &str, index: &[[u8; 32]]) -> change::Result<Vec<Option<[u8; 16]>>> {
        let codes = self.0.lock().unwrap();
        Ok(index.iter().map(|index| codes.get(&(domain.to_owned(), *index)).map(|code| code.to_be_bytes())).collect())
    }

    fn numbers(&self, domain: &str, index: &[[u8; 32]]) -> change::Result<Vec<i64>> {
        Ok(self.codes(domain, index)?.into_iter().map(|code| u128::from_be_bytes(code) as i64).collect())
    }

    fn find_numbers(&self, domain: &str, index: &[[u8; 32]]) -> change::Result<Vec<Option<i64>>> {
        let number = |code: [u8; 16]| u128::from_be_bytes(code) as i64;
        Ok(self.find(domain, index)?.into_iter().map(|code| code.map(number)).collect())
    }
}

pub(crate) fn keys(first_byte: u8) -> Option<KeyRing> {
    let key = Zeroizing::new(std::array::from_fn(|index| index as u8 + first_byte));
    Some(KeyRing::parse(&KeyRing::generate("test", key).unwrap()).unwrap())
}

/// The keys of [`keys`] after rotations: epochs 1 to `newest`, each wrapping the one before.
pub(crate) fn rotated(newest: u32) -> KeyRing {
    let random = |step: u8, first: u8| Zeroizing::new(std::array::from_fn(|index| index as u8 * step + first));
    let mut text = KeyRing::generate("test", random(1, 0)).unwrap();
    for key in [random(3, 5), random(7, 1)].iter().take(newest as usize - 1) {
        text = KeyRing::rotated(&text, key, 1_795_219_200_000_000, false).unwrap();
    }
    KeyRing::parse(&text).unwrap()
}

/// Compiles with a fixed key, a vault of its own and a clock that stands.
pub(crate) fn compile(policy: &Policy, tables: &[Arc<TableSchema>]) -> Result<Gate, Vec<Problem>> {
    policy.compile(tables, keys(0), Some(Arc::new(CountingVault::default())), Arc::new(NOW))
}

fn members(identity: Identity) -> Arc<TableSchema> {
    let column = |name: &str, data_type: DataType, source_type: &str| Column {
        name: name.into(),
        data_type,
        nullable: true,
        source_type: source_type.into(),
        number: None,
    };
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(TableSchema {
        table: TableName::new("claims_db", "public", "members"),
        columns: vec![
            column("member_id", DataType::Int64, "bigint"),
            column("ssn", DataType::Utf8, "text"),
            column("birth_date", DataType::Date32, "date"),
            column("zip", DataType::Utf8, "character varying(10)"),
            column("weight", DataType::Float64, "double precision"),
            column("updated_at", micros, "timestamp with time zone"),
        ],
        identity,
    })
}

fn policy(rest: &str) -> String {
    format!("profile: limited_data_set\nkeys: file:./k\ntables:\n  claims_db.public.members:\n{rest}")
}

/// Everything that `check` would say, from both steps.
fn problems(text: &str) -> Vec<Problem> {
    Policy::parse(text, "policy.yaml")
        .and_then(|policy| compile(&policy, &[members(Identity::Key(vec![0]))]))
        .map_or_else(|problems| problems, |gate| gate.notes().to_vec())
}

fn line(problem: &Problem) -> (u64, Severity) {
    (problem.line.unwrap_or(0), problem.severity)
}

#[test]
fn wrong_policies_say_where_and_how_to_mend_it() {
    let id = "    member_id: hmac_token(member)\n";
    let wrong = [
        (policy(&format!("{id}    zip: zipp3\n")), 6, "no transform `zipp3`", "Did you mean `zip3`?"),
        (policy(&format!("{id}    birthdate: drop\n")), 6, "no column `birthdate`", "Did you mean `birth_date`?"),
        (policy(&format!("{id}    zip: zip3\n    zip: drop\n")), 7, "already on line 6", "Keep one"),
        (policy("    member_id: drop\n"), 5, "`drop` would make different rows the same", "hmac_token(domain)"),
        (policy("    zip: zip3\n"), 4, "member_id identifies the row and has no rule", "hmac_token(domain)"),
        (policy(&format!("{id}    weight: hmac_token(w)\n")), 6, "weight is double precision", "fits the type"),
        (policy(&format!("{id}    ssn: keep\n")), 6, "direct identifier", "reviewer"),
        (policy(&format!("{id}    zip: [zip3, drop]\n")), 6, "list of rules", "one transform"),
        (policy(&format!("{id}    zip: {{ transform: zip3, on_invalid: pass }}\n")), 6, "cannot be `pass`", "null"),
        (
            policy(&format!("{id}    zip: {{ transform: zip3, on_invald: null }}\n")),
            6,
            "no option `on_invald`",
            "`on_invalid`",
        ),
        (
            policy(&format!("{id}    zip: {{ transform: zip3, canonical: trim }}\n")),
            6,
            "means nothing to `zip3`",
            "Remove",
        ),
        (
            policy("    member_id: { transform: hmac_token(member), canonical: trim }\n"),
            5,
            "canonical form `trim`",
            "hmac_token",
        ),
        (
            policy(&format!("{id}    zip: vault_code(member)\n")),
            6,
            "domain `member` is of `hmac_token(member)`",
            "another domain",
        ),
        (
            policy(&format!("{id}    zip: {{ transform: hmac_token(member), canonical: trim }}\n")),
            6,
            "has canonical form exact for",
            "one form",
        ),
        (policy(&format!("{id}    zip:\n")), 6, "no transform", "Use one of"),
        (
            policy(id).replace("profile: limited", "profile: limted"),
            1,
            "no profile `limted_data_set`",
            "`limited_data_set`",
        ),
        (policy(id).replace("profile: limited_data_set\n", ""), 1, "claims no profile", "Add `profile"),
        (policy(id).replace("keys: file:./k\n", ""), 4, "needs keys", "Add `keys"),
        (
            policy(&format!("{id}    birth_date: date_shift(person,30)\n")),
            6,
            "whose dates they are",
            "subject: member_id",
        ),
        (
            policy(&format!("{id}    birth_date: {{ transform: date_shift(person 30), subject: membr_id }}\n")),
            6,
            "no column `membr_id` to tell the person by",
            "`member_id`",
        ),
        (
            policy(&format!("{id}    birth_date: {{ transform: date_shift(person 30), subject: weight }}\n")),
            6,
            "names no person",
            "integers or text",
        ),
        (
            policy(&format!(
                "{id}    birth_date: {{ transform: date_shift(p 30), subject: member_id }}\n    updated_at: {{ transform: date_shift(p 60), subject: member_id }}\n"
            )),
            7,
            "domain `p` is of `date_shift(p,30)`",
            "another domain",
        ),
        (
            policy(&format!("{id}    zip: {{ transform: zip3, subject: member_id }}\n")),
            6,
            "`subject` means nothing",
            "Remove",
        ),
        (
            policy(&format!("{id}    zip: {{ transform: zip3, paths: {{ a: keep }} }}\n")),
            6,
            "`paths` means nothing",
            "Remove",
        ),
        (policy(&format!("{id}    ssn: json_paths\n")), 6, "which places of its documents", "paths:"),
        (
            policy(&format!("{id}    ssn: {{ transform: json_paths, paths: {{ a: drop }} }}\n")),
            6,
            "`a` is dropped",
            "Leave",
        ),
        (
            policy(&format!("{id}    ssn: {{ transform: json_paths, paths: {{ a: keep, a.b: keep }} }}\n")),
            6,
            "`a.b` contradicts",
            "keep one",
        ),
        (
            policy(&format!("{id}    ssn: {{ transform: json_paths, paths: {{ patient.ssn: keep }} }}\n")),
            6,
            "ssn.patient.ssn passes by `keep`",
            "reviewer",
        ),
        (
            policy(&format!("{id}    ssn: {{ transform: json_paths, paths: {{ a: round(5) }} }}\n")),
            6,
            "does not read the text of `a`",
            "another",
        ),
        (
            policy(&format!(
                "{id}    ssn: {{ transform: json_paths, paths: {{ a: {{ transform: keep, on_invalid: halt }} }} }}\n"
            )),
            6,
            "`on_invalid` is for the whole column",
            "Move",
        ),
        (policy(&format!("{id}    weight: {{ transform: drop, class: Z }}\n")), 6, "no class `Z`", "A to R"),
        (
            policy(&format!("{id}    weight: {{ transform: keep, class: G, reason: r, reviewer: dpo }}\n")),
            6,
            "its declared class may not be shown",
            "correct `class`",
        ),
        (
            policy("    member_id: { transform: round(1), reason: r, reviewer: dpo }\n"),
            5,
            "leaves every value as it is",
            "keep",
        ),
        (policy(&format!("{id}    weight: fpe_ff1(w,digits,9)\n")), 6, "reads text, or integers", "fits the type"),
        (
            policy(&format!("{id}    weight: round(0.5)\n    updated_at: round(5)\n")),
            7,
            "reads numbers",
            "fits the type",
        ),
        (policy(id).replace("claims_db.public.", ""), 4, "not a table's full name", "source.schema.table"),
        (policy(id).replace("members:", "membres:"), 4, "no source captures", "claims_db.public.members"),
        (policy(id).replace("tables", "tabels"), 3, "no option `tabels`", "`tables`"),
        (policy(id).replace("limited_data_set", "expert"), 0, "no determination", "expires"),
        (
            format!("{}expert: {{ name: A, method: B, expires: 2026-11-20 }}\n", policy(id)),
            6,
            "expired on 2026-11-20",
            "renewed",
        ),
        (format!("{}expert: {{ name: A, expires: soon }}\n", policy(id)), 6, "does not say `method`", "on file"),
        (format!("{}max_invalid_percent: many\n", policy(id)), 6, "cannot be `many`", "0 to 100"),
    ];
    for (text, at, what, fix) in wrong {
        let text = if text.contains("expert: {") { text.replace("limited_data_set", "expert") } else { text };
        let problems = problems(&text);
        let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        let found = errors
            .iter()
            .any(|problem| problem.line.unwrap_or(0) == at && problem.what.contains(what) && problem.fix.contains(fix));
        assert!(found, "expected line {at}, {what}, {fix}; got {errors:?} for\n{text}");
    }
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = policy("    member_id: hmac(member)\n    ssn: kep\n    zip: zip3(\n") + "extra: 1\n";
    let errors = Policy::parse(&text, "policy.yaml").unwrap_err();
    let lines: Vec<u64> = errors.iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines.len(), 4, "{errors:?}");
    assert!([5, 6, 7, 8].iter().all(|line| lines.contains(line)), "{lines:?}");
    assert!(errors.iter().all(|problem| problem.file == "policy.yaml"));
}

#[test]
fn a_stronger_claim_than_the_rules_carry_is_refused_and_names_the_columns() {
    let rules =
        "    member_id: hmac_token(member)\n    updated_at: date_trunc(month)\n    weight: keep\n    zip: zip3\n";
    let text = policy(rules).replace("limited_data_set", "safe_harbor");
    let errors = Policy::parse(&text, "policy.yaml").unwrap_err();
    assert_eq!(errors.iter().map(line).collect::<Vec<_>>(), [5, 6, 7].map(|line| (line, Severity::Error)));
    assert!(errors[0].what.contains("claims_db.public.members.member_id") && errors[0].what.contains("164.514(c)(1)"));

    assert_eq!(Policy::parse(&policy(rules), "p").unwrap().claimable(), Profile::LimitedDataSet);
    let safe = "    member_id: vault_code(member)\n    birth_date: dob_generalise\n    zip: zip3\n    weight: { transform: keep, reason: measured, reviewer: dpo }\n";
    let safe = Policy::parse(&policy(safe).replace("limited_data_set", "safe_harbor"), "p").unwrap();
    assert_eq!(safe.claimable(), Profile::SafeHarbor);
    let none = policy("    member_id: keep\n    ssn: keep\n").replace("limited_data_set", "none");
    assert_eq!(Policy::parse(&none, "p").unwrap().claimable(), Profile::None);
}

#[test]
fn an_identifier_made_coarse_is_treated_as_one_that_is_kept() {
    let vouched = "reason: r, reviewer: dpo";
    for profile in ["limited_data_set", "expert"] {
        let refused = |rule: &str| refused(profile, rule);
        let coarse = ["round(10)", "bucket(0 10)", "hierarchy(ndc product)", "hierarchy(icd10 category)"];
        for transform in coarse.into_iter().chain(["top_code(5)", "zip3", "age_cap", "date_year"]) {
            let declared =
                |class: char| refused(&format!("code: {{ transform: {transform}, class: {class}, {vouched} }}"));
            for class in ['A', 'D', 'G', 'J'] {
                let what = declared(class).unwrap_or_default();
                assert!(what.contains("its declared class may not be shown"), "{profile} {transform} {class}: {what}");
            }
            assert_eq!(['B', 'C', 'R'].map(declared), [None, None, None], "{profile} {transform}");
        }
        for transform in coarse.into_iter().chain(["zip3", "age_cap", "date_year", "dob_generalise"]) {
            let named = |rest: &str| refused(&format!("account_no: {{ transform: {transform}{rest} }}"));
            assert!(named("").unwrap_or_default().contains("its name says"), "{profile} {transform}");
            assert_eq!(named(&format!(", {vouched}")), None, "{profile} {transform}");
            assert_eq!(refused(&format!("weight: {{ transform: {transform} }}")), None, "{profile} {transform}");
        }
    }
}

/// What is wrong with a policy of one rule that claims a profile.
fn refused(profile: &str, rule: &str) -> Option<String> {
    let text = policy(&format!("    {rule}\n")).replace("limited_data_set", profile);
    let text = text + "expert: { name: A, method: B, expires: 2027-06-30 }\n";
    Policy::parse(&text, "p").err().map(|problems| problems[0].what.clone())
}

#[test]
fn what_is_coarse_for_a_place_or_a_date_is_for_columns_that_are_called_so() {
    for profile in ["safe_harbor", "limited_data_set", "expert"] {
        for (column, transform) in [
            ("ssn", "zip3"),
            ("mrn", "date_year"),
            ("phone", "age_cap"),
            ("note", "dob_generalise"),
            ("name", "geo_state"),
        ] {
            let what = refused(profile, &format!("{column}: {transform}")).unwrap_or_default();
            assert!(what.contains("its name says"), "{profile} {column} {transform}: {what}");
            let vouched = format!("{column}: {{ transform: {transform}, reason: r, reviewer: dpo }}");
            assert_eq!(refused(profile, &vouched), None, "{profile} {column} {transform}");
        }
        for usual in [
            "zip: zip3",
            "home_address_zip: zip3",
            "subscriber_zip: zip3",
            "license_state: geo_state",
            "birth_date: dob_generalise",
            "subscriber_dob: dob_generalise",
            "date_of_death: date_year",
            "report_date: date_year",
            "account_opened: date_year",
            "phone_verified_at: date_year",
            "card_valid_from: date_year",
            "age: age_cap",
            "beneficiary_age: age_cap",
            "thing: zip3",
        ] {
            assert_eq!(refused(profile, usual), None, "{profile} {usual}");
        }
    }
}

#[test]
fn what_nobody_classified_is_listed_and_nothing_stops() {
    let text = policy("    member_id: hmac_token(member)\n    ssn: drop\n");
    let policy = Policy::parse(&text, "policy.yaml").unwrap();
    let mut other = (*members(Identity::InsertOnly)).clone();
    other.table.table = "audit".into();
    let gate = compile(&policy, &[members(Identity::Key(vec![0])), Arc::new(other.clone())]).unwrap();
    let whats: Vec<&str> = gate.notes().iter().map(|problem| problem.what.as_str()).collect();
    for expected in [
        "members.birth_date (date) has no rule",
        "members.zip",
        "members.weight",
        "audit has no rule and is not captured",
    ] {
        assert!(whats.iter().any(|what| what.contains(expected)), "{expected} in {whats:?}");
    }
    assert!(gate.captures(&members(Identity::InsertOnly).table) && !gate.captures(&other.table));
    assert_eq!(gate.table(&Arc::new(other)).err().unwrap().kind(), change::Kind::Privacy);
}

#[test]
fn a_value_that_is_kept_here_and_coded_there_is_warned_of() {
    let rules =
        "    member_id: hmac_token(member)\n  claims_db.public.claims:\n    member_id: keep\n    status: keep\n";
    let text = policy(rules).replace("limited_data_set", "none");
    let mut claims = (*members(Identity::InsertOnly)).clone();
    claims.table.table = "claims".into();
    claims.columns[1].name = "status".into();
    let policy = Policy::parse(&text, "p").unwrap();
    let gate = compile(&policy, &[members(Identity::Key(vec![0])), Arc::new(claims)]).unwrap();
    let warned: Vec<_> = gate.notes().iter().filter(|problem| problem.severity == Severity::Warning).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].what.contains("claims.member_id is kept") && warned[0].line == Some(7));
}

#[test]
fn a_table_without_key_is_warned_of_transforms_that_change_with_the_years() {
    let policy = Policy::parse(&policy("    birth_date: dob_generalise\n"), "p").unwrap();
    let gate = compile(&policy, &[members(Identity::WholeRow)]).unwrap();
    assert!(gate.notes().iter().any(|problem| problem.severity == Severity::Warning && problem.line == Some(5)));
}

#[test]
fn missing_means_are_named() {
    let policy = Policy::parse(&policy("    member_id: hmac_token(member)\n    zip: vault_code(zip)\n"), "p").unwrap();
    let tables = [members(Identity::Key(vec![0]))];
    let problems = policy.compile(&tables, None, None, Arc::new(NOW)).err().unwrap();
    let is_error = |problem: &&Problem| problem.severity == Severity::Error;
    let errors: Vec<&str> = problems.iter().filter(is_error).map(|problem| problem.what.as_str()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("`file:./k` are not there") && errors[1].contains("needs a vault"));
}

#[test]
fn the_stamp_follows_the_meaning_and_not_the_spelling() {
    let stamp = |text: &str, first_byte: u8| {
        let policy = Policy::parse(text, "p").unwrap();
        let tables = [members(Identity::Key(vec![0]))];
        policy.compile(&tables, keys(first_byte), None, Arc::new(NOW)).unwrap().stamp().clone()
    };
    let first = stamp(&policy("    member_id: hmac_token(member)\n    zip: zip3\n"), 0);
    let same =
        policy("    zip: { transform: zip3, reason: x }\n    # a comment\n    member_id: hmac_token( member )\n");
    assert_eq!(stamp(&same, 0), first);
    let other = stamp(&policy("    member_id: hmac_token(member)\n    zip: drop\n"), 0);
    assert_ne!(other.policy_hash, first.policy_hash);
    assert!(other.continues(&first).is_ok());

    let error = stamp(&same, 1).continues(&first).unwrap_err();
    assert_eq!(error.kind(), change::Kind::Privacy);
    assert!(error.what().contains("epoch 1"));
}

#[test]
fn the_hash_says_more_only_where_an_option_is_not_as_usual() {
    let id = "    member_id: hmac_token(member)\n";
    let hash = |rules: &str, rest: &str| Policy::parse(&(policy(rules) + rest), "p").unwrap().hash();
    let usual = hash(id, "");
    let strict = |new: &str| format!("    \"*\": {{ new_columns: {new} }}\n{id}");
    assert_eq!(hash(id, "held_days: 7\nmax_invalid_percent: 0.1\n"), usual);
    assert_eq!(hash(&strict("drop"), ""), usual);
    let unusual = [
        hash(id, "held_days: 8\n"),
        hash(id, "held_days: 80\n"),
        hash(id, "max_invalid_percent: 8\n"),
        hash(&strict("halt"), ""),
        usual,
    ];
    assert_eq!(unusual.iter().collect::<std::collections::BTreeSet<_>>().len(), unusual.len());
}

#[test]
fn a_determination_holds_through_its_last_day() {
    let text = policy("    member_id: hmac_token(member)\n").replace("limited_data_set", "expert");
    let expert = Policy::parse(&(text.clone() + "expert: { name: A, method: B, expires: 2026-11-21 }\n"), "p").unwrap();
    let (now, day) = (NOW.now(), 86_400_000_000);
    assert!(expert.still_claims(now + day - 1).is_ok());
    let error = expert.still_claims(now + day).unwrap_err();
    assert!(error.kind() == change::Kind::Privacy && error.what().contains("expired on 2026-11-21"), "{error}");
    let gate = compile(&expert, &[members(Identity::Key(vec![0]))]).unwrap();
    assert!(gate.still_claims(now).is_ok() && gate.still_claims(now + day).is_err());
    assert_eq!(expert.expires_within(30, now - 31 * day), None);
    for days in [-30, 0, 1] {
        assert_eq!(expert.expires_within(30, now + days * day).as_deref(), Some("2026-11-21"), "{days}");
    }
    // Who claims something else has no use for it.
    let less =
        text.replace("profile: expert", "profile: none") + "expert: { name: A, method: B, expires: 2026-11-20 }\n";
    let less = Policy::parse(&less, "p").unwrap();
    assert!(less.still_claims(now).is_ok() && less.expires_within(30, now).is_none());
}

#[test]
fn epochs_of_rules_are_checked() {
    let read = |rules: &str| Policy::parse(&policy(rules), "p");
    let refused = |rules: &str| read(rules).unwrap_err()[0].what.clone();
    let two = "    member_id: { transform: hmac_token(member), epoch: 1 }\n    ssn: hmac_token(member)\n";
    assert!(refused(two).contains("domain `member` is on epoch 1 for"), "{}", refused(two));
    for (option, expected) in [
        ("{ transform: keep, epoch: 1 }", "`epoch` means nothing to `keep`"),
        ("{ transform: vault_code(v), epoch: 1 }", "`epoch` means nothing to `vault_code(v)`"),
        ("{ transform: hmac_token(z), epoch: first }", "`epoch` cannot be `first`"),
        ("{ transform: hmac_token(z), epoch: 0 }", "`epoch` cannot be `0`"),
        ("{ transform: fpe_ff1(z npi), dual: 1 }", "`dual` means nothing to"),
    ] {
        let found = refused(&format!("    zip: {option}\n"));
        assert!(found.contains(expected), "{found}");
    }
    let tables = [members(Identity::Key(vec![0]))];
    let compiled = |rules: &str, keys: KeyRing| {
        let compiled = read(rules).unwrap().compile(&tables, Some(keys), None, Arc::new(NOW));
        compiled.err().map(|problems| problems.into_iter().find(|problem| problem.severity == Severity::Error).unwrap())
    };
    let pinned = |option: &str| format!("    member_id: {{ transform: hmac_token(member), {option} }}\n");
    assert_eq!(compiled(&pinned("epoch: 1"), rotated(2)), None);
    assert_eq!(compiled(&pinned("dual: 1"), rotated(2)), None);
    for (option, newest, expected) in [
        ("epoch: 3", 2, "the key file has no key for it"),
        ("dual: 3", 2, "the key file has no key for it"),
        ("dual: 2", 2, "of the epoch that is to stand beside them"),
    ] {
        let problem = compiled(&pinned(option), rotated(newest)).unwrap();
        assert!(problem.what.contains(expected), "{problem:?}");
    }
    let text = KeyRing::generate("test", Zeroizing::new(std::array::from_fn(|index| index as u8))).unwrap();
    let other = Zeroizing::new(std::array::from_fn(|index| index as u8 * 3));
    let exposed = || KeyRing::parse(&KeyRing::rotated(&text, &other, 0, true).unwrap()).unwrap();
    assert_eq!(compiled("    member_id: hmac_token(member)\n", exposed()), None);
    let shift =
        "    member_id: hmac_token(member)\n    birth_date: { transform: date_shift(person 90), subject: member_id }\n";
    for rules in [pinned("epoch: 1"), pinned("dual: 1"), shift.to_owned()] {
        let problem = compiled(&rules, exposed()).unwrap();
        assert!(problem.what.contains("epoch 1, which is compromised"), "{problem:?}");
    }
    assert_eq!(compiled(&shift.replace("subject", "epoch: 2, subject"), exposed()), None);
}

/// Seeded cuts and changes of a right policy: whatever a file holds, reading it ends with an answer.
#[test]
fn no_text_stops_the_reader() {
    let good = policy(
        "    member_id: { transform: hmac_token(member), canonical: exact }\n    zip: zip3\n    ssn: 'drop' # x\n",
    );
    let pieces = [
        "{", "}", "[", "]", ":", "\n", "- ", "  ", "\t", "'", "\"", "&a ", "*a", "!!str ", "---\n", "...", "|", ">",
        "%", "\u{feff}", "é", "? ",
    ];
    let mut state = 7_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let mut read = 0;
    for _ in 0..3000 {
        let mut text = good.clone();
        for _ in 0..1 + below(4) {
            let at = (0..=below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            match below(3) {
                0 => text.truncate(at),
                _ => text.insert_str(at, pieces[below(pieces.len())]),
            }
        }
        match Policy::parse(&text, "policy.yaml") {
            Ok(_) => read += 1,
            Err(problems) => assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.what.is_empty())),
        }
    }
    assert!(read > 0, "the changes leave some policies right");
}

#[test]
fn scrubbed_text_carries_no_safe_harbor_and_needs_somebody_who_vouches() {
    let with = |profile: &str, rule: &str| {
        let text =
            format!("profile: {profile}\nkeys: file:./k\ntables:\n  claims_db.public.members:\n    note: {rule}\n");
        Policy::parse(&text, "policy.yaml")
    };
    let vouched = "{ transform: scrub_text(allowlist first_name), reason: sample read, reviewer: dpo }";
    let harbor = with("safe_harbor", vouched).unwrap_err();
    assert!(harbor[0].what.contains("Safe Harbor knows no remainder"), "{harbor:?}");
    let unvouched = with("limited_data_set", "scrub_text(detect)").unwrap_err();
    assert!(unvouched[0].what.contains("nobody vouches"), "{unvouched:?}");
    for (profile, rule) in
        [("safe_harbor", "scrub_text(drop)"), ("limited_data_set", vouched), ("none", "scrub_text(detect)")]
    {
        assert!(with(profile, rule).is_ok(), "{profile} {rule}");
    }
    let explained = with("limited_data_set", vouched).unwrap().explain();
    assert_eq!(explained.claimable, Profile::LimitedDataSet);
    assert!(explained.columns[0].stored.contains("the row's first_name are searched"));
    assert_eq!(explained.columns[0].unreadable, "[REDACTED:error], and counted");
    let zip = policy(&format!("    zip: {vouched}\n"));
    let problems = Policy::parse(&zip, "p").unwrap().table_problems(&members(Identity::InsertOnly));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("no column `first_name` to search for"), "{problems:?}");
}

mod cells;
mod codes;
mod model;
