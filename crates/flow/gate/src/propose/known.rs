//! Names that tell a proposal more than their class. Each list is closed: one word that it does not know, and the name tells nothing.

use crate::class::Class;

fn has(words: &[String], any_of: &[&str]) -> bool {
    words.iter().any(|word| any_of.contains(&word.as_str()))
}

fn all_in(words: &[String], lists: &[&[&str]]) -> bool {
    words.iter().all(|word| lists.iter().any(|list| list.contains(&word.as_str())))
}

/// National provider identifiers.
pub(super) fn is_npi(words: &[String]) -> bool {
    has(words, &["npi", "npis"])
}

/// A year of birth by itself.
pub(super) fn is_birth_year(class: Option<Class>, words: &[String]) -> bool {
    has(words, &["yob", "birthyear"]) || (class == Some(Class::Birth) && has(words, &["year", "yr"]))
}

/// A count of things rather than one of them: `login_count`.
pub(super) fn is_count(words: &[String]) -> bool {
    words.last().is_some_and(|last| matches!(last.as_str(), "count" | "counts" | "cnt"))
}

/// A number that counts within a claim, a day or a document: `line_no`, `service_line_number`, `claim_seq`.
pub(super) fn is_counter(words: &[String]) -> bool {
    const COUNTED: [&str; 8] = ["line", "lines", "seq", "sequence", "ordinal", "row", "rank", "revision"];
    const AROUND: [&str; 14] = [
        "no",
        "nbr",
        "num",
        "number",
        "claim",
        "service",
        "svc",
        "detail",
        "dx",
        "diagnosis",
        "procedure",
        "proc",
        "item",
        "version",
    ];
    has(words, &COUNTED) && all_in(words, &[&COUNTED, &AROUND])
}

/// One end of a period: `service_from`, `coverage_end`.
pub(super) fn is_bound(words: &[String]) -> bool {
    const BOUNDS: [&str; 25] = [
        "from",
        "to",
        "thru",
        "through",
        "until",
        "since",
        "start",
        "stop",
        "starts",
        "started",
        "begin",
        "begins",
        "end",
        "ends",
        "ended",
        "effective",
        "eff",
        "expires",
        "expiration",
        "term",
        "termination",
        "admit",
        "admission",
        "discharge",
        "service",
    ];
    words.last().is_some_and(|last| BOUNDS.contains(&last.as_str()))
}

/// A code of a public coding system or list, and nothing else: `drg`, `primary_dx_code`, `sex`.
pub(super) fn is_public_code(words: &[String]) -> bool {
    const SYSTEMS: [&str; 25] = [
        "icd",
        "icd9",
        "icd10",
        "diagnosis",
        "dx",
        "cpt",
        "cpt4",
        "hcpcs",
        "drg",
        "msdrg",
        "ndc",
        "loinc",
        "snomed",
        "procedure",
        "proc",
        "px",
        "modifier",
        "revenue",
        "taxonomy",
        "specialty",
        "gender",
        "sex",
        "currency",
        "language",
        "pos",
    ];
    const AROUND: [&str; 16] = [
        "code",
        "cd",
        "type",
        "version",
        "ms",
        "cm",
        "pcs",
        "rev",
        "primary",
        "principal",
        "secondary",
        "admitting",
        "claim",
        "line",
        "service",
        "provider",
    ];
    let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
    let named: Vec<String> = words.iter().filter(|word| !is_number(word)).cloned().collect();
    has(&named, &SYSTEMS) && all_in(&named, &[&SYSTEMS, &AROUND])
}
