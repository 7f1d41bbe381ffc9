use super::*;
use crate::Policy;
use crate::class::names_direct_identifier;

const SHAPES: [Shape; 22] = [
    Shape::Unknown,
    Shape::FewValues,
    Shape::FewLong,
    Shape::Long,
    Shape::Name,
    Shape::Street,
    Shape::Place,
    Shape::Zip,
    Shape::Point,
    Shape::Vehicle,
    Shape::Numbers,
    Shape::Ages,
    Shape::ManyValues,
    Shape::Prose,
    Shape::Ssn,
    Shape::Mbi,
    Shape::Npi,
    Shape::Phone,
    Shape::Email,
    Shape::Network,
    Shape::Date,
    Shape::Account,
];

fn proposal_for(column: &str, source_type: &str, is_key: bool, shape: Shape) -> Proposal {
    propose(&Candidate { table: "members", column, source_type, is_key, shape })
}

fn proposed(column: &str, source_type: &str, is_key: bool, shape: Shape) -> String {
    proposal_for(column, source_type, is_key, shape).transform.to_string()
}

#[test]
fn a_members_table_gets_what_a_privacy_officer_would_write() {
    let cases = [
        ("id", "bigint", true, "hmac_token(member)"),
        ("member_id", "bigint", true, "hmac_token(member)"),
        ("MemberID", "character varying(12)", false, "hmac_token(member)"),
        ("ssn", "character(11)", false, "drop"),
        ("mbi", "text", false, "hmac_token(mbi)"),
        ("first_name", "text", false, "drop"),
        ("birth_date", "date", false, "dob_generalise"),
        ("death_date", "date", false, "date_year"),
        ("zip", "character varying(10)", false, "zip3"),
        ("state", "character(2)", false, "geo_state"),
        ("city", "text", false, "drop"),
        ("email", "text", false, "drop"),
        ("phone", "text", false, "drop"),
        ("updated_at", "timestamp with time zone", false, "date_trunc(month)"),
        ("age", "integer", false, "age_cap"),
        ("notes", "text", false, "drop"),
        ("provider_id", "uuid", false, "hmac_token(provider)"),
        ("paid_amount", "numeric(12,2)", false, "keep"),
        ("is_active", "boolean", false, "keep"),
        ("plan_code", "text", false, "drop"),
        ("payload", "jsonb", false, "drop"),
        ("blob", "bytea", false, "drop"),
        ("whatever", "text", false, "drop"),
        ("tags", "text[]", false, "drop"),
    ];
    for (column, source_type, is_key, expected) in cases {
        assert_eq!(proposed(column, source_type, is_key, Shape::Unknown), expected, "{column}");
    }
}

#[test]
fn values_that_look_like_an_identifier_are_never_kept_whatever_the_name_says() {
    use Shape as S;
    for shape in [S::Prose, S::Ssn, S::Mbi, S::Npi, S::Phone, S::Email, S::Network, S::Account] {
        for column in ["plan_code", "paid_amount", "is_active", "status", "line_no", "drg", "birth_year"] {
            for source_type in ["text", "character(3)", "numeric(12,2)", "integer", "boolean"] {
                assert_ne!(proposed(column, source_type, false, shape), "keep", "{column} {source_type} {shape:?}");
            }
        }
    }
    for shape in [S::Unknown, S::FewValues, S::ManyValues, S::Date] {
        for column in [
            "ssn",
            "member_id",
            "account_type",
            "email_status",
            "phone_type",
            "name_code",
            "claim_id",
            "device_count",
            "birth_year",
            "provider_npi",
        ] {
            for source_type in ["text", "character(3)", "integer", "real", "boolean", "date", "text[]", "claim_status"]
            {
                assert_ne!(proposed(column, source_type, false, shape), "keep", "{column} {source_type} {shape:?}");
            }
        }
    }
}

#[test]
fn code_like_columns_with_room_for_names_of_people_are_dropped() {
    let columns = [
        "type",
        "kind",
        "category",
        "flag",
        "status",
        "is_named",
        "relation_code",
        "school_code",
        "patient_status",
        "status_code",
        "plan",
        "plan_code",
        "attending_dx_doctor",
        "diagnosis_by_type",
    ];
    for column in columns {
        for source_type in ["text", "character varying", "character varying(20)", "character(8)", "citext"] {
            for shape in [Shape::Unknown, Shape::FewValues, Shape::ManyValues, Shape::Date] {
                assert_eq!(proposed(column, source_type, false, shape), "drop", "{column} {source_type} {shape:?}");
            }
        }
    }
    let found = proposal_for("status", "text", false, Shape::FewValues);
    assert!(found.why.contains("names of people"), "{}", found.why);
}

#[test]
fn codes_without_room_for_a_person_are_kept() {
    let cases = [
        ("status", "character(1)", Shape::FewValues, "keep"),
        ("plan_code", "character varying(4)", Shape::FewValues, "keep"),
        ("plan_code", "character varying(4)", Shape::Unknown, "drop"),
        ("status", "smallint", Shape::FewValues, "keep"),
        ("status", "smallint", Shape::Unknown, "drop"),
        ("gender", "text", Shape::FewValues, "keep"),
        ("drg", "text", Shape::FewValues, "keep"),
        ("drg", "text", Shape::Unknown, "drop"),
        ("drg", "integer", Shape::Unknown, "keep"),
        ("drg", "character(3)", Shape::Unknown, "keep"),
        ("drg", "character(3)", Shape::ManyValues, "drop"),
        ("primary_dx_code", "character varying(8)", Shape::Unknown, "keep"),
        ("icd10_code", "character varying(9)", Shape::Unknown, "drop"),
        ("dx_1", "character(7)", Shape::Date, "drop"),
        ("procedure_code_2", "character(5)", Shape::Unknown, "keep"),
    ];
    for (column, source_type, shape, expected) in cases {
        assert_eq!(proposed(column, source_type, false, shape), expected, "{column} {source_type} {shape:?}");
    }
}

#[test]
fn provider_identifiers_are_called_so_and_share_a_domain() {
    for shape in [Shape::Unknown, Shape::FewValues, Shape::ManyValues, Shape::Npi, Shape::Phone] {
        for (column, source_type) in [("npi", "bigint"), ("provider_npi", "text"), ("BillingNPI", "character(10)")] {
            let found = proposal_for(column, source_type, false, shape);
            assert_eq!(found.transform.to_string(), "hmac_token(npi)", "{column} {shape:?}");
            assert!(found.why.contains("NPI"), "{column} {shape:?}: {}", found.why);
        }
    }
    assert_eq!(proposed("rendering_npi", "text", true, Shape::ManyValues), "hmac_token(npi)");
    assert_eq!(proposed("renderer", "text", false, Shape::Npi), "hmac_token(npi)");
    // What a name claims does not outweigh values of another kind.
    assert_eq!(proposed("npi", "text", false, Shape::Ssn), "drop");
    assert_eq!(proposed("npi", "text", false, Shape::Email), "drop");
    assert_eq!(proposed("npi_phone", "text", false, Shape::Phone), "drop");
}

#[test]
fn years_of_birth_become_decades() {
    for (column, source_type) in [("birth_year", "integer"), ("yob", "smallint"), ("YearOfBirth", "character(4)")] {
        let found = proposed(column, source_type, false, Shape::FewValues);
        assert_eq!(found, "bucket(1940,1950,1960,1970,1980,1990,2000,2010,2020,2030)", "{column}");
    }
    assert_eq!(proposed("birth_month", "integer", false, Shape::FewValues), "drop");
    assert_eq!(proposed("dob_int", "integer", false, Shape::Unknown), "drop");
    assert_eq!(proposed("birth_year", "text", false, Shape::Ssn), "drop");
}

#[test]
fn dates_without_a_telling_name_are_made_as_coarse_as_safe_harbor_asks() {
    let cases = [
        ("service_from", "date", Shape::Unknown, "date_trunc(month)"),
        ("service_to", "timestamp without time zone", Shape::Unknown, "date_trunc(month)"),
        ("coverage_end", "date", Shape::Unknown, "date_trunc(month)"),
        ("geburtsdatum", "date", Shape::Unknown, "date_year"),
        ("paid", "date", Shape::Unknown, "date_year"),
        ("birth_from", "date", Shape::Unknown, "dob_generalise"),
        ("service_from", "text", Shape::Date, "date_trunc(month)"),
        ("service_date", "text", Shape::Date, "date_trunc(month)"),
        ("service_date", "text", Shape::Unknown, "drop"),
        ("geburtsdatum", "text", Shape::Date, "date_year"),
        ("claim_id", "text", Shape::Date, "hmac_token(claim)"),
        ("license_date", "date", Shape::Unknown, "drop"),
        ("service_from", "integer", Shape::Unknown, "drop"),
    ];
    for (column, source_type, shape, expected) in cases {
        assert_eq!(proposed(column, source_type, false, shape), expected, "{column} {source_type} {shape:?}");
    }
}

#[test]
fn counters_within_a_claim_are_kept_when_their_values_are_few() {
    for is_key in [true, false] {
        for column in ["line_no", "LineNumber", "service_line_number", "claim_seq"] {
            assert_eq!(proposed(column, "integer", is_key, Shape::FewValues), "keep", "{column}");
            for shape in SHAPES.into_iter().filter(|shape| *shape != Shape::FewValues) {
                assert_ne!(proposed(column, "integer", is_key, shape), "keep", "{column} {shape:?}");
            }
        }
        for (column, source_type) in
            [("claim_no", "integer"), ("member_seq", "integer"), ("phone_line_no", "integer"), ("line_no", "text")]
        {
            assert_ne!(proposed(column, source_type, is_key, Shape::FewValues), "keep", "{column}");
        }
    }
}

#[test]
fn counts_of_what_identifies_become_ranges() {
    assert_eq!(proposed("login_count", "integer", false, Shape::Unknown), "bucket(1,2,5,10,100)");
    assert_eq!(proposed("login_count", "integer", false, Shape::Phone), "drop");
    assert_eq!(proposed("login_count", "text", false, Shape::Unknown), "drop");
    assert_eq!(proposed("login", "integer", false, Shape::Unknown), "drop");
    assert_eq!(proposed("visit_count", "integer", false, Shape::Unknown), "keep");
}

#[test]
fn what_is_dropped_for_its_type_says_so() {
    let cases = [
        ("dx_codes", "text[]", "array of codes"),
        ("mods", "text[]", "array"),
        ("member_ids", "bigint[]", "array"),
        ("status", "claim_status", "enumeration"),
        ("admit_time", "time without time zone", "time of day"),
        ("los", "interval", "duration"),
        ("attributes", "jsonb", "document"),
        ("birth_month", "integer", "part"),
        ("amount_due", "text", "text"),
    ];
    for (column, source_type, why) in cases {
        let found = proposal_for(column, source_type, false, Shape::Unknown);
        assert_eq!(found.transform, Transform::Drop, "{column}");
        assert!(found.why.contains(why), "{column}: {}", found.why);
    }
    let unscaled = proposal_for("billed", "numeric", false, Shape::Unknown);
    assert!(unscaled.transform == Transform::Keep && unscaled.why.contains("lands as text"), "{}", unscaled.why);
}

#[test]
fn keys_get_what_tells_their_rows_apart() {
    let cases = [
        ("month", "date", "hmac_token(month)"),
        ("code", "claim_status", "hmac_token(code)"),
        ("is_primary", "boolean", "keep"),
        ("score", "double precision", "drop"),
        ("ssn", "text", "hmac_token(ssn)"),
    ];
    for (column, source_type, expected) in cases {
        assert_eq!(proposed(column, source_type, true, Shape::Unknown), expected, "{column}");
    }
    assert!(proposal_for("month", "date", true, Shape::Unknown).why.contains("keep it if"));
}

#[test]
fn nothing_is_kept_that_a_limited_data_set_would_refuse() {
    let columns = [
        "type",
        "is_ssn",
        "login_count",
        "device_cnt",
        "drg",
        "claim_line_no",
        "paid_to",
        "note_seq",
        "name_line",
        "card_row",
        "dx",
        "fee",
        "billed",
        "vin_rank",
        "address_line_no",
        "mrn_seq",
        "service_from",
        "birth_year",
        "policy_no",
        "phone_count",
        "sex",
        "subscriber",
        "chart",
    ];
    let types = [
        "text",
        "character(1)",
        "character varying(8)",
        "integer",
        "numeric",
        "real",
        "boolean",
        "date",
        "text[]",
        "x",
    ];
    for (column, source_type) in columns.iter().flat_map(|column| types.map(|source_type| (column, source_type))) {
        for shape in SHAPES {
            let proposal = proposed(column, source_type, false, shape);
            let is_shown = proposal == "keep" || proposal.starts_with("bucket(");
            assert!(!(is_shown && names_direct_identifier(column)), "{column} {source_type} {shape:?}");
            let text = format!(
                "profile: limited_data_set\nkeys: k\ntables:\n  db.public.t: {{ \"{column}\": \"{proposal}\" }}\n"
            );
            assert!(Policy::parse(&text, "p").is_ok(), "{column} {source_type} {shape:?}: {proposal}");
        }
    }
}

#[test]
fn proposals_are_spelt_as_the_policy_reads_them() {
    for column in ["état_id", "1", "Ünïque", "a_very_long_column_name_that_goes_on_and_on_number", "_", "x__id"] {
        let spelling = proposed(column, "text", true, Shape::Unknown);
        assert!(crate::spelling::parse(&spelling).is_ok(), "{spelling}");
    }
    for column in ["birth_year", "login_count"] {
        let spelling = proposed(column, "integer", false, Shape::Unknown);
        assert!(spelling.starts_with("bucket(") && crate::spelling::parse(&spelling).is_ok(), "{spelling}");
    }
}
