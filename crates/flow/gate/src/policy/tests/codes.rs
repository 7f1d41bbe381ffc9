//! Tokens and codes in other types than text, ages as text, and what stands for null.

use change::Raw;

use super::*;
use crate::{Effect, StoredToken, Subject};

const ID: &str = "    member_id: hmac_token(member,binary)\n";

fn claiming_nothing(rules: &str) -> String {
    policy(rules).replace("limited_data_set", "none")
}

#[test]
fn a_domain_is_of_one_type_and_null_as_of_its_columns() {
    let wrong = [
        (
            format!("{ID}    ssn: hmac_token(member)\n"),
            6,
            "domain `member` is of `hmac_token(member,binary)` for",
            "would not join",
        ),
        (
            format!("{ID}    ssn: vault_code(v,int64)\n    zip: vault_code(v)\n"),
            7,
            "domain `v` is of `vault_code(v,int64)` for",
            "would not join",
        ),
        (format!("{ID}    ssn: hmac_token(s,int64)\n"), 6, "could be that of two values", "hmac_token(member)"),
        (
            format!("{ID}    ssn: {{ transform: json_paths, paths: {{ a: hmac_token(x binary) }} }}\n"),
            6,
            "`hmac_token(x,binary)` of `a`: tokens and codes within documents are text",
            "one type in all its columns",
        ),
        (
            format!("{ID}    ssn: {{ transform: x12_map(837p), paths: {{ NM1*IL.09: vault_code(x int64) }} }}\n"),
            6,
            "within documents are text",
            "Leave out",
        ),
        (
            format!("{ID}    zip: {{ transform: zip3, null_as: none }}\n"),
            6,
            "members.zip: `null_as` `none` is a value that `zip3` would make another of",
            "leave `null_as` out",
        ),
        (
            format!("{ID}    weight: {{ transform: round(5), null_as: light }}\n"),
            6,
            "members.weight: `null_as` `light` is not a number",
            "leave `null_as` out",
        ),
        (
            format!("{ID}    ssn: {{ transform: hmac_token(s), null_as: none }}\n"),
            6,
            "would join as if",
            "null stays null",
        ),
        (format!("{ID}    zip: {{ transform: zip3, null_a: '000' }}\n"), 6, "no option `null_a`", "`null_as`"),
        (format!("{ID}    zip: {{ transform: zip3, null_as: '' }}\n"), 6, "must be text", "one value"),
        (
            format!("{ID}    zip: {{ transform: redact(Z), null_as: 'a(b)' }}\n"),
            6,
            "one line without brackets",
            "unknown",
        ),
        (
            format!("{ID}    ssn: {{ transform: json_paths, paths: {{ a: {{ transform: keep, null_as: x }} }} }}\n"),
            6,
            "`null_as` means nothing within documents",
            "is not there",
        ),
        (
            format!(
                "{ID}    zip: {{ transform: redact(Z), null_as: '[Z]' }}\n    \"*\": {{ k_gate: {{ person: zip, columns: {{ weight: [null_out] }} }} }}\n    weight: keep\n"
            ),
            7,
            "all rows without a person would be one's",
            "another column",
        ),
    ];
    for (rules, at, what, fix) in wrong {
        let problems = problems(&policy(&rules));
        let found = problems.iter().any(|problem| {
            line(problem) == (at, Severity::Error) && problem.what.contains(what) && problem.fix.contains(fix)
        });
        assert!(found, "expected line {at}, {what}, {fix}; got {problems:?} for\n{rules}");
    }
    let right = format!(
        "{ID}    ssn: vault_code(s,int64)\n    zip: {{ transform: zip3, null_as: '000' }}\n    weight: age_cap(text)\n"
    );
    assert!(problems(&policy(&right)).iter().all(|problem| problem.severity != Severity::Error));
}

#[test]
fn rows_that_are_found_by_all_their_values_keep_their_nulls() {
    let text = claiming_nothing("    member_id: keep\n    zip: { transform: zip3, null_as: '000' }\n");
    let policy = Policy::parse(&text, "p").unwrap();
    let refused = compile(&policy, &[members(Identity::WholeRow)]).err().unwrap();
    assert!(refused.iter().any(|problem| problem.what.contains("rows of before `zip` came have null")), "{refused:?}");
    assert!(compile(&policy, &[members(Identity::InsertOnly)]).is_ok());
}

#[test]
fn the_claim_is_that_of_the_text() {
    let with = |rule: &str| Policy::parse(&policy(&format!("    member_id: {rule}\n")), "p").unwrap().claimable();
    for rule in ["vault_code(v)", "vault_code(v,binary)", "vault_code(v,int64)"] {
        assert_eq!(with(rule), Profile::SafeHarbor, "{rule}");
    }
    for rule in ["hmac_token(h)", "hmac_token(h,binary)"] {
        assert_eq!(with(rule), Profile::LimitedDataSet, "{rule}");
    }
    let age = |rule: &str| Policy::parse(&policy(&format!("    age: {rule}\n")), "p").unwrap().claimable();
    assert_eq!([age("age_cap"), age("age_cap(text)")], [Profile::SafeHarbor; 2]);
}

#[test]
fn another_type_and_another_constant_are_other_rules() {
    let parse =
        |rule: &str| Policy::parse(&claiming_nothing(&format!("    member_id: keep\n    v: {rule}\n")), "p").unwrap();
    let cases = [
        ("hmac_token(a)", "hmac_token(a,binary)", "no longer join"),
        ("vault_code(a,binary)", "vault_code(a,int64)", "no longer join"),
        ("age_cap", "age_cap(text)", "the same ages in another type"),
    ];
    for (before, after, why) in cases {
        for (before, after) in [(before, after), (after, before)] {
            let (before, after) = (parse(before), parse(after));
            assert_ne!(before.hash(), after.hash());
            let meaning = |policy: &Policy| policy.rules().last().unwrap().1.meaning();
            assert_ne!(meaning(&before), meaning(&after));
            let found = before.changes_to(&after);
            let said: Vec<_> = found.iter().map(|found| (found.effect, found.why.contains(why))).collect();
            assert_eq!(said, [(Effect::Alters, true)], "{found:?}");
            assert!(after.changes_to(&after).is_empty());
        }
    }
    let (none, some) = ("{ transform: bucket(0 18), null_as: none }", "{ transform: bucket(0 18), null_as: some }");
    let constants = [
        ("bucket(0,18)", none, Effect::Alters),
        (none, some, Effect::Loosens),
        (none, "bucket(0,18)", Effect::Loosens),
    ];
    for (before, after, effect) in constants {
        let found = parse(before).changes_to(&parse(after));
        let said: Vec<_> = found.iter().map(|found| (found.effect, found.why.contains("null"))).collect();
        assert_eq!(said, [(effect, true)], "{found:?}");
    }
    let explained = |rule: &str| parse(rule).explain().columns.pop().unwrap().stored;
    assert!(explained("hmac_token(a,binary)").ends_with("in domain a, as 16 bytes"));
    assert!(explained("vault_code(a,int64)").ends_with("in domain a, as a number"));
    assert!(explained("age_cap(text)").contains("90+"));
    assert!(explained("{ transform: bucket(0 18), null_as: none }").ends_with("; `none` where the source has null"));
}

fn subject(rule: &str) -> Subject {
    let policy = Policy::parse(&policy(&format!("    member_id: {rule}\n    ssn: {rule}\n")), "p").unwrap();
    policy.subject(&TableName::new("claims_db", "public", "members"), "member_id").unwrap()
}

#[test]
fn persons_are_looked_for_by_what_is_stored() {
    let ids = Raw::new(vec!["42".to_owned(), "7".into(), "42".into()]);
    let vault: Arc<dyn Vault> = Arc::new(CountingVault::default());
    let tokens = |rule: &str, keys: &KeyRing| subject(rule).known_as(&ids, keys, Some(&vault)).unwrap().tokens;
    let (texts, bytes) = (tokens("hmac_token(m)", &rotated(2)), tokens("hmac_token(m,binary)", &rotated(2)));
    assert_eq!((bytes.len(), bytes[0].len()), (3, 2), "one of each epoch");
    assert_eq!(bytes[0], bytes[2]);
    assert_ne!(bytes[0], bytes[1]);
    assert!(bytes.iter().flatten().all(|token| StoredToken::bytes(token).len() == 16 && token.starts_with("bytes:")));
    assert!(texts.iter().flatten().all(|token| StoredToken::bytes(token) == token.as_bytes()));
    assert_eq!(tokens("vault_code(m,int64)", &rotated(1)), [[""; 0]; 3], "nobody has a code");
    let index = subject("vault_code(m,int64)").known_as(&ids, &rotated(1), Some(&vault)).unwrap().vault;
    let numbers = vault.numbers("m", &index).unwrap();
    let spelled: Vec<Vec<String>> = numbers.iter().map(|number| vec![number.to_string()]).collect();
    assert_eq!(tokens("vault_code(m,int64)", &rotated(1)), spelled);
    let codes = vault.codes("m", &index).unwrap();
    let spelled: Vec<Vec<String>> = codes.iter().map(|code| vec![StoredToken::spell(code)]).collect();
    assert_eq!(tokens("vault_code(m,binary)", &rotated(1)), spelled);
    assert!(subject("hmac_token(m,binary)").is_unmistakable() && !subject("vault_code(m,int64)").is_unmistakable());
    for odd in ["bytes:0", "bytes:zz", "bytes", "é"] {
        assert_eq!(StoredToken::bytes(odd).len(), if odd == "bytes:0" { 1 } else { odd.len() }, "{odd}");
    }
}

#[test]
fn what_hangs_on_no_epoch_is_found_in_every_table() {
    let table = members(Identity::Key(vec![0]));
    let text = claiming_nothing("    member_id: keep\n    ssn: vault_code(v,int64)\n");
    let policy = Policy::parse(&text, "p").unwrap();
    let gate = compile(&policy, std::slice::from_ref(&table)).unwrap();
    let stamp = crate::TableStamp::of(gate.stamp(), &gate.table(&table).unwrap());
    assert!(stamp.epochs.is_empty() && stamp.policy.key_epoch.is_some());
    for column in ["member_id", "ssn"] {
        let subject = policy.subject(&table.table, column).unwrap();
        assert!(subject.is_found_in(&table.table, &stamp, &keys(0).unwrap()), "{column}");
    }
}

#[test]
fn rows_without_a_value_are_nobodys() {
    let rules = "    member_id: { transform: keep, null_as: '0', reason: r, reviewer: p }\n";
    let policy = Policy::parse(&policy(rules), "p").unwrap();
    let refused = policy.subject(&TableName::new("claims_db", "public", "members"), "member_id").err().unwrap();
    assert!(refused.what().contains("rows of nobody"), "{refused}");
}
