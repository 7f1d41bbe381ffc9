use super::holds::Holds;
use super::known::is_bound;
use super::{Candidate, Shape};
use crate::class::{Class, classify, words};

/// What a column seems to hold: by its name where that tells a class of 45 CFR 164.514, else by its values, its type and its part in the table.
pub(super) fn class(candidate: &Candidate<'_>, holds: Holds) -> Option<Class> {
    let named = classify(candidate.column);
    if named.is_some_and(|class| class == Class::FreeText || class.letter(candidate.column).is_some()) {
        return named;
    }
    if named.is_none() && candidate.is_key {
        return Some(by_values(candidate.shape).unwrap_or(Class::Unique));
    }
    by_values(candidate.shape)
        .or_else(|| by_type(candidate, holds))
        .or(named)
        .or_else(|| by_variety(candidate.shape))
        .or_else(|| is_bound(&words(candidate.column)).then_some(Class::Date))
}

/// What values that have a form of their own are, whatever the name says.
fn by_values(shape: Shape) -> Option<Class> {
    Some(match shape {
        Shape::Prose => Class::FreeText,
        Shape::Ssn => Class::Ssn,
        Shape::Mbi => Class::HealthPlan,
        Shape::Npi => Class::Unique,
        Shape::Phone => Class::Phone,
        Shape::Email => Class::Email,
        Shape::Network => Class::Network,
        Shape::Date => Class::Date,
        Shape::Account => Class::Account,
        Shape::Name => Class::Name,
        Shape::Street => Class::Street,
        Shape::Place => Class::Place,
        Shape::Vehicle => Class::Vehicle,
        Shape::Unknown
        | Shape::FewValues
        | Shape::FewLong
        | Shape::Long
        | Shape::Numbers
        | Shape::Ages
        | Shape::ManyValues
        | Shape::Zip
        | Shape::Point => return None,
    })
}

fn by_type(candidate: &Candidate<'_>, holds: Holds) -> Option<Class> {
    match holds {
        Holds::Date | Holds::Clock => Some(Class::Date),
        Holds::Document | Holds::Binary => Some(Class::FreeText),
        _ => (candidate.source_type == "uuid").then_some(Class::Unique),
    }
}

/// What only values without any name can mean: the same forms are those of money and of public codes.
fn by_variety(shape: Shape) -> Option<Class> {
    match shape {
        Shape::FewLong | Shape::Long | Shape::Numbers | Shape::ManyValues => Some(Class::Unique),
        Shape::Ages => Some(Class::Age),
        Shape::Zip => Some(Class::Zip),
        Shape::Point => Some(Class::Street),
        _ => None,
    }
}
