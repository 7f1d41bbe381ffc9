//! Policies that encrypt cells: what is refused, and what each claim says of them.

use super::*;
use crate::kernel::cells::tests::CountingStore;

const ID: &str = "    member_id: hmac_token(member)\n";
const CELL: &str = "    ssn: { transform: encrypt_cell(person), subject: member_id }\n";

#[test]
fn wrong_rules_for_cells_say_where_and_how_to_mend_it() {
    let wrong = [
        (format!("{ID}    ssn: encrypt_cell(person)\n"), 6, "does not say whose key it has", "subject: member_id"),
        (format!("{ID}    ssn: encrypt_cell\n"), 6, "takes one argument", "encrypt_cell(person)"),
        (format!("{ID}    ssn: encrypt_cell(Person)\n"), 6, "a domain is", "encrypt_cell(person)"),
        (format!("{ID}    ssn: encrypt_cel(person)\n"), 6, "no transform `encrypt_cel`", "`encrypt_cell`"),
        (
            format!("{ID}    ssn: {{ transform: encrypt_cell(person), subject: membr_id }}\n"),
            6,
            "could be named",
            "Store the subject's column",
        ),
        (
            format!("{ID}    zip: drop\n    ssn: {{ transform: encrypt_cell(person), subject: zip }}\n"),
            7,
            "no person of domain `person` could be named",
            "hmac_token(domain)",
        ),
        (
            format!("{ID}    weight: {{ transform: encrypt_cell(person), subject: member_id }}\n"),
            6,
            "weight is double precision",
            "fits the type",
        ),
        (
            "    member_id: { transform: encrypt_cell(person), subject: member_id }\n".to_owned(),
            5,
            "could be named",
            "Store the subject's column",
        ),
        (
            format!(
                "{ID}    ssn: {{ transform: json_paths, paths: {{ a: encrypt_cell(person) }}, subject: member_id }}\n"
            ),
            6,
            "bytes, which have no place in a document",
            "whole column",
        ),
        (
            format!("{ID}{CELL}    zip: {{ transform: encrypt_cell(person), subject: member_id, canonical: trim }}\n"),
            7,
            "has canonical form exact for",
            "one form",
        ),
        (
            format!("{ID}{CELL}    weight: {{ transform: drop, subject: ssn }}\n"),
            7,
            "`subject` means nothing",
            "encrypt_cell",
        ),
    ];
    for (rules, at, what, fix) in wrong {
        let problems = problems(&policy(&rules));
        let found = problems.iter().any(|problem| {
            line(problem) == (at, Severity::Error) && problem.what.contains(what) && problem.fix.contains(fix)
        });
        assert!(found, "expected line {at}, {what}, {fix}; got {problems:?} for\n{rules}");
    }
}

#[test]
fn an_encrypted_cell_is_no_safe_harbor_and_fits_the_other_claims() {
    let text = policy(&format!("{ID}{CELL}"));
    assert!(problems(&text).iter().all(|problem| problem.severity != Severity::Error));
    let policy = Policy::parse(&text, "policy.yaml").unwrap();
    assert_eq!((policy.claimable(), policy.encrypts_cells()), (Profile::LimitedDataSet, true));
    let claimed = text.replace("limited_data_set", "safe_harbor").replace("hmac_token", "vault_code");
    let problems = problems(&claimed);
    assert!(
        problems.iter().any(|problem| problem.what.contains("still there for whoever has its key")),
        "{problems:?}"
    );
}

#[test]
fn a_table_without_key_cannot_have_cells_and_no_table_without_a_store() {
    let policy = Policy::parse(&policy(&format!("{ID}{CELL}")), "policy.yaml").unwrap();
    let refused = compile(&policy, &[members(Identity::WholeRow)]).err().unwrap();
    assert!(refused.iter().any(|problem| problem.what.contains("never comes out alike")), "{refused:?}");
    let table = members(Identity::Key(vec![0]));
    let gate = compile(&policy, std::slice::from_ref(&table)).unwrap();
    let missing = gate.table(&table).err().unwrap();
    assert!(missing.what().contains("a store of data keys"), "{missing}");
    let gate = gate.with_cell_keys(Arc::new(CountingStore::default())).unwrap();
    assert_eq!(gate.stamp().cells.as_deref(), Some("CountingStore"));
    let cleared = gate.table(&table).unwrap();
    let ssn = &cleared.schema().columns[1];
    assert_eq!((ssn.name.as_str(), &ssn.data_type, ssn.statistics), ("ssn", &DataType::Binary, false));
}

#[test]
fn whose_cells_an_erasure_reaches_follows_the_subjects_column() {
    let policy = Policy::parse(&policy(&format!("{ID}{CELL}")), "policy.yaml").unwrap();
    let table = TableName::new("claims_db", "public", "members");
    let subject = policy.subject(&table, "member_id").unwrap();
    let ids = change::Raw::new(vec!["7".to_owned(), "8".to_owned()]);
    let known = subject.known_as(&ids, &keys(0).unwrap(), None).unwrap();
    assert_eq!((known.cells.len(), known.cells[0].0.as_str(), known.cells[0].1.len()), (1, "person", 2));
    assert_ne!(known.cells[0].1[0], known.cells[0].1[1]);
    let other = Policy::parse(
        "profile: none\nkeys: k\ntables:\n  claims_db.public.members:\n    member_id: hmac_token(member)\n    ssn: hmac_token(ssn)\n    zip: { transform: encrypt_cell(person), subject: member_id }\n",
        "policy.yaml",
    );
    let known = other.unwrap().subject(&table, "ssn").unwrap().known_as(&ids, &keys(0).unwrap(), None).unwrap();
    assert!(known.cells.is_empty());
}
