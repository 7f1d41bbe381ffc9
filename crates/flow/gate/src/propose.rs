mod holds;
mod known;
mod seen;

use holds::Holds;
use known::{is_birth_year, is_bound, is_count, is_counter, is_npi, is_public_code};

use crate::Transform;
use crate::class::{Class, classify, mentions, words};
use crate::shape::Shape;
use crate::transform::{CodeType, DateUnit, Edges};

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

/// What `init` writes for a column, for a person to review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The transform.
    pub transform: Transform,
    /// Why, as a comment for the reviewer.
    pub why: &'static str,
    /// What the column seems to hold; `None` when nothing says it.
    pub class: Option<Class>,
}

fn proposal(transform: Transform, why: &'static str) -> Proposal {
    Proposal { transform, why, class: None }
}

fn dropped(why: &'static str) -> Proposal {
    proposal(Transform::Drop, why)
}

/// Proposes a transform. An identifier is never kept, and whatever is doubtful is dropped, or made as coarse as Safe Harbor asks for where a
/// type alone allows it. Every proposal fits a limited data set.
pub fn propose(candidate: &Candidate<'_>) -> Proposal {
    let holds = Holds::of(candidate.source_type);
    Proposal { class: seen::class(candidate, holds), ..transform(candidate, holds) }
}

fn transform(candidate: &Candidate<'_>, holds: Holds) -> Proposal {
    let words = words(candidate.column);
    if holds == Holds::Number && candidate.shape == Shape::FewValues && is_counter(&words) {
        return proposal(Transform::Keep, "counts within something else: few values, each many times");
    }
    if candidate.is_key {
        return key(candidate, holds);
    }
    let class = classify(candidate.column);
    let is_text = matches!(holds, Holds::Text { .. });
    let is_number_or_text = is_text || holds == Holds::Number;
    // Ten digits with a wrong check digit look like phone numbers; the name knows better.
    let may_be_npi = matches!(
        candidate.shape,
        Shape::Unknown
            | Shape::FewValues
            | Shape::FewLong
            | Shape::Long
            | Shape::Numbers
            | Shape::ManyValues
            | Shape::Npi
            | Shape::Phone
    );
    if class == Some(Class::Unique) && is_npi(&words) && is_number_or_text && may_be_npi {
        return proposal(token(candidate), "provider identifier (NPI): joins survive through its token");
    }
    if let Some(found) = by_shape(candidate, class) {
        return found;
    }
    if is_birth_year(class, &words) && is_number_or_text {
        return proposal(bucket(&BIRTH_YEARS), "year of birth: decade");
    }
    let holds_dates = is_text && candidate.shape == Shape::Date && matches!(class, None | Some(Class::Date));
    let holds = if holds_dates { Holds::Date } else { holds };
    match class {
        Some(class) => by_class(candidate, class, holds, &words),
        None if holds == Holds::Date && is_bound(&words) => {
            proposal(Transform::DateTrunc { unit: DateUnit::Month }, "begin or end of something: month")
        }
        None => by_type(holds).unwrap_or_else(|| dropped("nothing says what it is: dropped until somebody does")),
    }
}

/// What identifies rows has to tell them apart in the lake too.
fn key(candidate: &Candidate<'_>, holds: Holds) -> Proposal {
    match holds {
        Holds::Flag => proposal(Transform::Keep, "yes or no, and part of what identifies the row"),
        Holds::Float => dropped("identifies the row, but its type has no token: choose another key"),
        Holds::Date => proposal(
            token(candidate),
            "identifies the row, so it cannot be made coarser: to use it as a date, keep it if the day may be known",
        ),
        _ => proposal(token(candidate), "identifies the row: same value, same token"),
    }
}

/// What the values give away, whatever the column is called.
fn by_shape(candidate: &Candidate<'_>, class: Option<Class>) -> Option<Proposal> {
    let (transform, why) = match candidate.shape {
        Shape::Unknown | Shape::FewValues | Shape::Date => return None,
        // States are called as cities and people are.
        Shape::Name | Shape::Place if class == Some(Class::State) => return None,
        // Money, codes and provider numbers have these shapes too: the name knows better, when it says anything.
        Shape::FewLong | Shape::Long | Shape::Numbers | Shape::Ages | Shape::ManyValues | Shape::Zip | Shape::Point
            if class.is_some() =>
        {
            return None;
        }
        Shape::FewLong | Shape::Long => (Transform::Drop, "looks like numbers or codes of persons or things"),
        Shape::Numbers => (Transform::Drop, "numbers that may be of persons or things, or codes of places"),
        Shape::Ages => (Transform::Drop, "looks like ages"),
        Shape::ManyValues => (Transform::Drop, "nearly every value is another: it may identify"),
        Shape::Zip => (Transform::Drop, "looks like ZIP codes, or codes of another kind"),
        Shape::Point => (Transform::Drop, "looks like points on the map"),
        Shape::Name => (Transform::Drop, "looks like names of people"),
        Shape::Street => (Transform::Drop, "looks like street addresses"),
        Shape::Place => (Transform::Drop, "looks like cities"),
        Shape::Vehicle => (Transform::Drop, "looks like vehicles"),
        Shape::Prose => (Transform::Drop, "looks like free text"),
        Shape::Ssn => (Transform::Drop, "looks like social security numbers"),
        Shape::Mbi => (token(candidate), "looks like Medicare beneficiary identifiers"),
        Shape::Npi => (token_of("npi".into()), "looks like provider identifiers (NPI)"),
        Shape::Phone => (Transform::Drop, "looks like phone numbers"),
        Shape::Email => (Transform::Drop, "looks like e-mail addresses"),
        Shape::Network => (Transform::Drop, "looks like web or network addresses"),
        Shape::Account => (Transform::Drop, "looks like card or account numbers"),
    };
    Some(proposal(transform, why))
}

fn by_class(candidate: &Candidate<'_>, class: Class, holds: Holds, words: &[String]) -> Proposal {
    if let Some(identifies) = identifying(class) {
        return if holds == Holds::Number && is_count(words) {
            proposal(bucket(&COUNTS), "a count, but of something that identifies: ranges")
        } else {
            dropped(identifies)
        };
    }
    match (class, holds) {
        (Class::MedicalRecord | Class::HealthPlan | Class::Unique, Holds::Number | Holds::Text { .. }) => {
            proposal(token(candidate), "identifier: joins survive through its token")
        }
        (Class::MedicalRecord | Class::HealthPlan, Holds::Date) if !mentions(candidate.column, 'C') => {
            dropped("a date by its type, and called like an identifier: dropped until somebody says what it is")
        }
        (Class::Zip, Holds::Number | Holds::Text { .. }) => proposal(Transform::Zip3, "ZIP code"),
        (Class::State, Holds::Text { .. }) => proposal(Transform::GeoState, "state"),
        (Class::Birth, Holds::Date | Holds::Text { .. }) => {
            proposal(Transform::DobGeneralise, "date of birth: year, 90 and older in one group")
        }
        (Class::Birth, Holds::Number) => {
            dropped("a date of birth, or a part of one, as a number: no transform reads it")
        }
        (Class::Death, Holds::Date | Holds::Text { .. }) => proposal(Transform::DateYear, "date of death: year"),
        (Class::Date, Holds::Date) => {
            proposal(Transform::DateTrunc { unit: DateUnit::Month }, "date about a person: month")
        }
        (Class::Age, Holds::Number | Holds::Float) => {
            proposal(Transform::AgeCap { text: false }, "age: 90 and older in one group")
        }
        // `numeric` without digits has no exact counterpart in the lake.
        (Class::Amount, Holds::Number) if candidate.source_type == "numeric" => {
            proposal(Transform::Keep, "amount or quantity; lands as text, because its type names no digits")
        }
        (Class::Amount, Holds::Number | Holds::Float) => proposal(Transform::Keep, "amount or quantity"),
        (Class::Amount, Holds::Text { .. }) => {
            dropped("an amount by its name, but text: dropped until somebody has looked at its values")
        }
        (Class::Code, Holds::Flag) => proposal(Transform::Keep, "yes or no"),
        (Class::Code, Holds::Number | Holds::Text { .. }) => code(candidate.shape, holds, words),
        (Class::Code, Holds::Array) => {
            dropped("an array of codes lands as one text, {A,B}: keep it once somebody has looked at its values")
        }
        (Class::Code, Holds::Other) => {
            dropped("a type of the database's own: when it is an enumeration, its labels can be kept after a look")
        }
        _ => by_type(holds)
            .unwrap_or_else(|| dropped("name and type do not fit together: dropped until somebody says what it is")),
    }
}

/// Why a column of this class is dropped whatever its type.
fn identifying(class: Class) -> Option<&'static str> {
    Some(match class {
        Class::Ssn => "social security or tax number",
        Class::Name => "name of a person or of somebody near, or a login",
        Class::Street => "street address or point on the map",
        Class::Place => "smaller than a state",
        Class::Phone => "phone or fax number",
        Class::Email => "e-mail address",
        Class::Account => "account number",
        Class::Licence => "certificate or licence",
        Class::Vehicle => "vehicle",
        Class::Device => "device or serial number",
        Class::Network => "web or network address",
        Class::Biometric => "biometric or picture",
        Class::FreeText => "free text can hold anything",
        _ => return None,
    })
}

/// Text narrower than this has no room for a first and a last name.
const FULL_NAME_CHARACTERS: usize = 5;

/// Codes of the public systems that are mostly used (diagnoses, procedures, groups) are no longer; numbers of persons are.
const PUBLIC_CODE_CHARACTERS: usize = 8;

/// Codes are kept where neither name nor type leaves room for a person. Few values alone do not tell `HMO` from the name of a patient who
/// comes often.
fn code(shape: Shape, holds: Holds, words: &[String]) -> Proposal {
    let is_public = is_public_code(words);
    let width = if let Holds::Text { characters } = holds { characters.unwrap_or(usize::MAX) } else { 0 };
    // Drugs and diagnoses have long codes; others that long may be of a person.
    let few = shape == Shape::FewValues || (shape == Shape::FewLong && is_public);
    if matches!(shape, Shape::ManyValues | Shape::Zip) {
        dropped("a code by its name, but nearly every value is another: dropped until somebody has looked")
    } else if shape == Shape::Date {
        dropped("a code by its name, but its values look like dates")
    } else if is_public && (few || width <= PUBLIC_CODE_CHARACTERS) {
        proposal(Transform::Keep, "code of a public system or list")
    } else if few && width < FULL_NAME_CHARACTERS {
        proposal(Transform::Keep, "code with few values and no room for a name")
    } else if few {
        dropped("few values, but room for names of people: keep it once somebody has looked at them")
    } else {
        dropped("a code by its name: keep it once somebody has looked at its values")
    }
}

/// What the type alone says.
fn by_type(holds: Holds) -> Option<Proposal> {
    Some(match holds {
        Holds::Date => proposal(Transform::DateYear, "a date, and its name does not say of what: year"),
        Holds::Clock => dropped("a time of day or a duration: lands as text, and nothing makes it coarser"),
        Holds::Array => dropped("an array lands as one text, {a,b}, and its elements cannot be masked one by one"),
        Holds::Document => dropped("a document can hold anything"),
        Holds::Binary => dropped("bytes can hold anything"),
        Holds::Number | Holds::Float | Holds::Text { .. } | Holds::Flag | Holds::Other => return None,
    })
}

/// Decades; who is older than the first border is in one group.
const BIRTH_YEARS: [&str; 10] = ["1940", "1950", "1960", "1970", "1980", "1990", "2000", "2010", "2020", "2030"];

const COUNTS: [&str; 5] = ["1", "2", "5", "10", "100"];

/// Drops when the borders are none: nothing is kept by mistake.
fn bucket(edges: &[&str]) -> Transform {
    Edges::parse(edges).map_or(Transform::Drop, |edges| Transform::Bucket { edges })
}

/// The token in the domain that the name tells: `member_id` and the key `id` of `members` are both of domain `member`, and provider
/// identifiers are of one domain whoever the provider is.
fn token(candidate: &Candidate<'_>) -> Transform {
    const TAILS: [&str; 12] =
        ["id", "ids", "uuid", "guid", "key", "number", "num", "no", "nbr", "identifier", "ref", "reference"];
    if is_npi(&words(candidate.column)) {
        return token_of("npi".into());
    }
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
    token_of(domain.join("_"))
}

fn token_of(mut domain: String) -> Transform {
    domain.truncate(32);
    if !domain.starts_with(|first: char| first.is_ascii_lowercase()) {
        domain = "row".into();
    }
    Transform::HmacToken { domain, code: CodeType::Text }
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').filter(|stem| !stem.ends_with('s')).unwrap_or(word).to_owned(),
    }
}

#[cfg(test)]
mod tests;
