use crate::Transform;
use crate::class::{Class, classify, words};
use crate::transform::DateUnit;

/// A column of a live database, as `init` finds it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The table's name, which names the domain of a bare `id`.
    pub table: &'a str,
    /// The column's name.
    pub column: &'a str,
    /// The source's own type: `character varying(20)`.
    pub source_type: &'a str,
    /// Whether the column is part of what identifies a row. Such a column cannot be dropped.
    pub is_key: bool,
    /// What a sample of its values looks like.
    pub shape: Shape,
}

/// What a sample of a column's values looks like. Tells no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Nothing was sampled, or nothing stands out.
    Unknown,
    /// A handful of values, each many times.
    FewValues,
    /// Nearly every value is another.
    ManyValues,
    /// Long text with spaces.
    Prose,
    /// Nine digits as social security numbers are made.
    Ssn,
    /// Eleven characters as Medicare beneficiary identifiers are made.
    Mbi,
    /// Ten digits with the check digit of a provider identifier.
    Npi,
    /// Phone numbers.
    Phone,
    /// E-mail addresses.
    Email,
    /// Web or network addresses.
    Network,
    /// Dates in text.
    Date,
    /// Card or account numbers with a check digit.
    Account,
}

/// What `init` writes for a column, for a person to review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The transform.
    pub transform: Transform,
    /// Why, as a comment for the reviewer.
    pub why: &'static str,
}

/// Proposes a transform. Whatever is doubtful is dropped, and an identifier is never kept. Every proposal fits a limited data set.
pub fn propose(candidate: &Candidate<'_>) -> Proposal {
    let proposal = |transform, why| Proposal { transform, why };
    let holds = Holds::of(candidate.source_type);
    if candidate.is_key {
        return match holds {
            Holds::Number | Holds::Text | Holds::Date => {
                proposal(token(candidate), "identifies the row: same value, same token")
            }
            _ => proposal(Transform::Drop, "identifies the row, but its type has no token: choose another key"),
        };
    }
    if let Some(found) = by_shape(candidate) {
        return found;
    }
    let Some(class) = classify(candidate.column) else {
        return proposal(Transform::Drop, "nothing says what it is: dropped until somebody does");
    };
    match (class, holds) {
        (Class::Ssn, _) => proposal(Transform::Drop, "social security or tax number"),
        (Class::Name, _) => proposal(Transform::Drop, "name of a person or of somebody near"),
        (Class::Street, _) => proposal(Transform::Drop, "street address or point on the map"),
        (Class::Place, _) => proposal(Transform::Drop, "smaller than a state"),
        (Class::Phone, _) => proposal(Transform::Drop, "phone or fax number"),
        (Class::Email, _) => proposal(Transform::Drop, "e-mail address"),
        (Class::Account, _) => proposal(Transform::Drop, "account number"),
        (Class::Licence, _) => proposal(Transform::Drop, "certificate or licence"),
        (Class::Vehicle, _) => proposal(Transform::Drop, "vehicle"),
        (Class::Device, _) => proposal(Transform::Drop, "device or serial number"),
        (Class::Network, _) => proposal(Transform::Drop, "web or network address"),
        (Class::Biometric, _) => proposal(Transform::Drop, "biometric or picture"),
        (Class::FreeText, _) => proposal(Transform::Drop, "free text can hold anything"),
        (Class::MedicalRecord | Class::HealthPlan | Class::Unique, Holds::Number | Holds::Text) => {
            proposal(token(candidate), "identifier: joins survive through its token")
        }
        (Class::Zip, Holds::Number | Holds::Text) => proposal(Transform::Zip3, "ZIP code"),
        (Class::State, Holds::Text) => proposal(Transform::GeoState, "state"),
        (Class::Birth, Holds::Date | Holds::Text) => {
            proposal(Transform::DobGeneralise, "date of birth: year, 90 and older in one group")
        }
        (Class::Death, Holds::Date | Holds::Text) => proposal(Transform::DateYear, "date of death: year"),
        (Class::Date, Holds::Date) => {
            proposal(Transform::DateTrunc { unit: DateUnit::Month }, "date about a person: month")
        }
        (Class::Age, Holds::Number) => proposal(Transform::AgeCap, "age: 90 and older in one group"),
        (Class::Amount, Holds::Number) => proposal(Transform::Keep, "amount or quantity"),
        (Class::Code, Holds::Flag) => proposal(Transform::Keep, "yes or no"),
        (Class::Code, Holds::Text | Holds::Number) if candidate.shape == Shape::FewValues => {
            proposal(Transform::Keep, "code with few values")
        }
        _ => proposal(Transform::Drop, "name and type do not fit together: dropped until somebody says what it is"),
    }
}

/// What the values give away, whatever the column is called.
fn by_shape(candidate: &Candidate<'_>) -> Option<Proposal> {
    let (transform, why) = match candidate.shape {
        Shape::Unknown | Shape::FewValues | Shape::ManyValues | Shape::Date => return None,
        Shape::Prose => (Transform::Drop, "looks like free text"),
        Shape::Ssn => (Transform::Drop, "looks like social security numbers"),
        Shape::Mbi => (token(candidate), "looks like Medicare beneficiary identifiers"),
        Shape::Npi => (token(candidate), "looks like provider identifiers"),
        Shape::Phone => (Transform::Drop, "looks like phone numbers"),
        Shape::Email => (Transform::Drop, "looks like e-mail addresses"),
        Shape::Network => (Transform::Drop, "looks like web or network addresses"),
        Shape::Account => (Transform::Drop, "looks like card or account numbers"),
    };
    Some(Proposal { transform, why })
}

/// The token in the domain that the name tells: `member_id` and the key `id` of `members` are both of domain `member`.
fn token(candidate: &Candidate<'_>) -> Transform {
    const TAILS: [&str; 12] =
        ["id", "ids", "uuid", "guid", "key", "number", "num", "no", "nbr", "identifier", "ref", "reference"];
    let is_plain = |word: &String| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let mut domain: Vec<String> = words(candidate.column).into_iter().filter(is_plain).collect();
    while domain.last().is_some_and(|last| TAILS.contains(&last.as_str())) {
        domain.pop();
    }
    if domain.is_empty() {
        domain = words(candidate.table).into_iter().filter(is_plain).collect();
        if let Some(last) = domain.last_mut() {
            *last = singular(last);
        }
    }
    let mut domain = domain.join("_");
    domain.truncate(32);
    if !domain.starts_with(|first: char| first.is_ascii_lowercase()) {
        domain = "row".into();
    }
    Transform::HmacToken { domain }
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').filter(|stem| !stem.ends_with('s')).unwrap_or(word).to_owned(),
    }
}

/// What a source's type holds, as far as proposals care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Number,
    Text,
    Date,
    Flag,
    Other,
}

impl Holds {
    fn of(source_type: &str) -> Self {
        let name = source_type.split('(').next().unwrap_or_default().trim().to_ascii_lowercase();
        if name.ends_with("[]") {
            return Holds::Other;
        }
        match name.as_str() {
            "smallint" | "integer" | "bigint" | "numeric" | "decimal" | "int2" | "int4" | "int8" | "int" => {
                Holds::Number
            }
            "text" | "character varying" | "varchar" | "character" | "char" | "bpchar" | "citext" | "uuid" => {
                Holds::Text
            }
            "date" => Holds::Date,
            "boolean" | "bool" => Holds::Flag,
            _ if name.starts_with("timestamp") => Holds::Date,
            _ => Holds::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(column: &str, source_type: &str, is_key: bool, shape: Shape) -> String {
        propose(&Candidate { table: "members", column, source_type, is_key, shape }).transform.to_string()
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
        assert_eq!(proposed("plan_code", "text", false, Shape::FewValues), "keep");
    }

    #[test]
    fn values_that_look_like_an_identifier_are_never_kept_whatever_the_name_says() {
        use Shape as S;
        for shape in [S::Prose, S::Ssn, S::Mbi, S::Npi, S::Phone, S::Email, S::Network, S::Account] {
            for column in ["plan_code", "paid_amount", "is_active", "status"] {
                for source_type in ["text", "numeric(12,2)", "boolean"] {
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
            ] {
                for source_type in ["text", "integer", "boolean", "date"] {
                    assert_ne!(proposed(column, source_type, false, shape), "keep", "{column} {source_type} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn proposals_are_spelt_as_the_policy_reads_them() {
        for column in ["état_id", "1", "Ünïque", "a_very_long_column_name_that_goes_on_and_on_number", "_", "x__id"]
        {
            let spelling = proposed(column, "text", true, Shape::Unknown);
            assert!(crate::spelling::parse(&spelling).is_ok(), "{spelling}");
        }
    }
}
