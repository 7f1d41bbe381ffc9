use super::*;

fn config(json: &str) -> PostgresConfig {
    serde_json::from_str(json).unwrap()
}

fn base(url: &str) -> PostgresConfig {
    config(&format!(r#"{{"url": "{url}", "slot": "lockgate", "tables": ["public.members"]}}"#))
}

#[test]
fn a_plain_declaration_has_no_problems() {
    for url in [
        "postgresql://lockgate@db.internal/claims",
        "postgresql://lockgate@db.internal/claims?sslmode=verify-full",
        "postgresql://lockgate@localhost/claims?sslmode=disable",
        "postgresql://lockgate@127.0.0.1/claims?sslmode=disable",
        "postgresql://lockgate@/claims?host=/var/run/postgresql",
    ] {
        assert_eq!(base(url).problems(), vec![], "{url}");
    }
}

#[test]
fn weak_transport_over_a_network_is_refused_with_its_fix() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let found = base(&format!("postgresql://u@db.internal/d?sslmode={mode}")).problems();
        assert_eq!(found.len(), 1, "{mode}");
        assert!(found[0].fix.contains("verify-full"), "{mode}");
    }
    let found = base("postgresql://u@localhost/d?sslmode=prefer").problems();
    assert!(found[0].fix.contains("verify-full"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let found = config(
        r#"{"url": "postgresql://u:hunter2@h/d", "slot": "Lock-Gate", "publication": "a b", "tables": ["members"], "sslcert": "c.pem",
            "wal_budget": {"warn": "2GiB", "critical": "1GiB", "policy": "spool"}, "copy": {"parallel": 0}}"#,
    )
    .problems();
    let all: String = found.iter().map(|problem| format!("{problem}\n")).collect();
    for part in ["password", "replication slot", "publication", "`members`", "sslkey", "smaller", "parallel"] {
        assert!(all.contains(part), "{part} is missing in:\n{all}");
    }
    assert!(!all.contains("hunter2"));
}

#[test]
fn sizes_are_read_with_their_units_and_nothing_else() {
    for (text, bytes) in
        [("4GiB", Some(4 << 30)), ("10 GB", Some(10_000_000_000)), ("7", Some(7)), ("4G", None), ("GiB", None)]
    {
        assert_eq!(parse_bytes(text), bytes, "{text}");
    }
    assert!(serde_json::from_str::<ByteSize>("\"99999999999TiB\"").is_err());
}

#[test]
fn debug_hides_the_password() {
    let mut config = base("postgresql://u@h/d");
    config.password = Some(Secret::new("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_budget_has_two_levels() {
    let budget = WalBudget { warn: ByteSize(100), critical: ByteSize(200), policy: WalPolicy::Pause };
    let levels: Vec<BudgetLevel> = [99, 100, 199, 200].map(|bytes| budget.level(bytes)).into();
    use BudgetLevel::{Critical, Warn, Within};
    assert_eq!(levels, [Within, Warn, Warn, Critical]);
}

#[test]
fn a_table_may_have_dots_in_its_name_and_a_problem_says_its_field() {
    let mut config = base("postgresql://u@h/d");
    config.source = "claims_db".into();
    config.tables = vec!["public.claims.2024".into(), "public.*".into(), "claims_db.claims".into()];
    assert_eq!(config.problems(), vec![]);
    config.tables = vec!["claims_db.public.claims".into(), "claims".into(), ".claims".into(), "public.".into()];
    config.slot = "A".into();
    config.sslkey = Some("key.pem".into());
    let found = config.problems_by_field();
    let fields: Vec<&str> = found.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, ["sslkey", "slot", "tables", "tables", "tables", "tables"]);
    assert_eq!(found[2].1.fix, "Write `public.claims`.");
}
