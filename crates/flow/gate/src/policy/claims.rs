//! What a policy's rules say together: domains, keys, and whether they carry the claimed profile.

use std::collections::{BTreeMap, BTreeSet};

use super::Policy;
use crate::report::Report;
use crate::{Profile, Transform};

/// Adds everything that is wrong with the rules as a whole.
pub(super) fn check(policy: &Policy, report: &mut Report) {
    check_profile(policy, report);
    check_domains(policy, report);
    check_persons(policy, report);
    check_model(policy, report);
    let first_token = policy.rules().find(|(_, rule)| rule.transform.domain().is_some());
    if let (None, Some((_, rule))) = (&policy.keys, first_token) {
        let what = format!("`{}` needs keys, and the policy names none", rule.transform);
        report.error(
            rule.line,
            what,
            "Add `keys: file:./keys/dev.key` to the policy (`lockgate init` makes the file).",
        );
    }
}

fn check_profile(policy: &Policy, report: &mut Report) {
    // The lines of a ready-made map have the line of its column: what is wrong with many of them is said once.
    let mut said = BTreeSet::new();
    for (table, rule) in policy.rules() {
        if let Some(breach) = policy.profile.breach(rule)
            && said.insert((table, rule.line, breach.why))
        {
            let what = format!(
                "`{}` cannot be claimed: {table}.{} passes by `{}`: {}",
                policy.profile,
                rule.place(),
                rule.transform,
                breach.why
            );
            report.error(rule.line, what, breach.fix);
        }
    }
    if policy.profile == Profile::Expert && policy.expert.is_none() && !report.has_errors() {
        report.error(
            None,
            "`expert` is claimed, and no determination is named",
            "Add `expert: { name: ..., method: ..., expires: 2027-06-30 }`.",
        );
    }
}

/// A rule that asks a model needs one, and a model that nobody asks is a rule that was misspelt.
fn check_model(policy: &Policy, report: &mut Report) {
    let asking = policy.rules().map(|(_, rule)| rule).find(|rule| rule.transform.asks_model());
    match (&policy.model, asking) {
        // What is wrong with `ner` itself has been said.
        (None, Some(rule)) if !report.has_errors() => {
            let what = format!("`{}` asks a model, and the policy names none", rule.transform);
            let fix = "Add `ner: { model: ./models/deid, sha256: ... }` to the policy, or use the tier detect.";
            report.error(rule.line, what, fix);
        }
        (Some(model), None) if !report.has_errors() => {
            let fix = "Write scrub_text(detect+ner,columns) for the columns that it is for, or remove `ner`.";
            report.error(model.line, "`ner` names a model, and no rule asks it", fix);
        }
        _ => {}
    }
}

/// Cells are for being made unreadable: somebody must be able to say whose.
fn check_persons(policy: &Policy, report: &mut Report) {
    let named = |domain: &str| {
        policy.cell_rules().any(|(table, rule, of)| {
            let subject = policy
                .tables
                .get(table)
                .and_then(|rules| rules.columns.iter().find(|column| Some(&column.column) == rule.subject.as_ref()));
            of == domain && subject.is_some_and(|subject| subject.transform.is_injective() && subject.null_as.is_none())
        })
    };
    let mut told: Vec<&str> = Vec::new();
    for (table, rule, domain) in policy.cell_rules().filter(|(_, _, domain)| !named(domain)) {
        if !told.contains(&domain) {
            let what = format!(
                "{table}.{}: no person of domain `{domain}` could be named when they are to be erased",
                rule.column
            );
            let fix = "Store the subject's column in one table of the domain: hmac_token(domain), vault_code(domain) or keep.";
            report.error(rule.line, what, fix);
            told.push(domain);
        }
    }
}

/// What has one domain must join: one kind of code and one canonical form in all its columns. Codes, shifts and invented values have
/// domains of their own.
fn check_domains(policy: &Policy, report: &mut Report) {
    let mut first = BTreeMap::new();
    for (table, rule) in policy.rules() {
        let (Some(domain), Some((family, kind))) = (rule.transform.domain(), kind(&rule.transform)) else { continue };
        let column = format!("{table}.{}", rule.place());
        let (before, known, form, pin) =
            first.entry((family, domain)).or_insert_with(|| (column.clone(), kind.clone(), rule.form, rule.pin));
        if *known != kind {
            let what =
                format!("domain `{domain}` is of `{known}` for {before} and of `{}` for {column}", rule.transform);
            report.error(rule.line, what, "The two would not join: use one transform, or another domain.");
        } else if *form != rule.form {
            let what =
                format!("domain `{domain}` has canonical form {form} for {before} and {} for {column}", rule.form);
            report.error(rule.line, what, "The same value would have two tokens: use one form, or another domain.");
        } else if *pin != rule.pin {
            let epoch =
                |pin: Option<u32>| pin.map_or_else(|| "the current epoch".into(), |epoch| format!("epoch {epoch}"));
            let what =
                format!("domain `{domain}` is on {} for {before} and on {} for {column}", epoch(*pin), epoch(rule.pin));
            report.error(
                rule.line,
                what,
                "The same value would have two tokens: write the same `epoch` to all of them.",
            );
        }
    }
}

/// The family in which a transform's domain must be of one kind, and the kind.
fn kind(transform: &Transform) -> Option<(&'static str, String)> {
    Some(match transform {
        Transform::HmacToken { .. }
        | Transform::SivToken { .. }
        | Transform::VaultCode { .. }
        | Transform::FpeFf1 { .. } => ("code", transform.to_string()),
        Transform::DateShift { .. } => ("shift", transform.to_string()),
        Transform::EncryptCell { .. } => ("cell", "encrypt_cell".into()),
        Transform::DictSurrogate { .. } => ("surrogate", "dict_surrogate".into()),
        _ => return None,
    })
}
