//! What a change of policy means: does a reader of the lake learn more or less?

use std::collections::{BTreeMap, BTreeSet};

use change::TableName;

use crate::policy::{NewColumns, OnInvalid, Policy, Rule};
use crate::reveal::{Finer, Reveals, finer};
use crate::{KGate, Transform};

/// One thing that differs between two policies: [`Policy::changes_to`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: a column, or an option of the whole policy.
    pub place: String,
    /// As it was.
    pub before: String,
    /// As it is now.
    pub after: String,
    /// What it means for what is stored.
    pub effect: Effect,
    /// Why it means that.
    pub why: String,
}

/// What a difference means for what a reader of the lake can learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// At least one thing more.
    Loosens,
    /// Something else, of which no program can say whether it is more.
    Alters,
    /// Less, and nothing more.
    Tightens,
}

const NOT_STORED: &str = "not stored";

impl Policy {
    /// What changes from this policy to `new`, loosening first. Comments, order and reasons are not compared, except that the person who
    /// vouches is.
    pub fn changes_to(&self, new: &Policy) -> Vec<Difference> {
        let mut found = self.top_changes(new);
        let times = match (self.profile.keeps_time(), new.profile.keeps_time()) {
            (false, true) => Some((Effect::Loosens, "the time of day of timestamps passes under this profile")),
            (true, false) => Some((Effect::Tightens, "the time of day of timestamps does not pass under this profile")),
            _ => None,
        };
        let (before, after) = (self.places(), new.places());
        let mut places: Vec<_> = before.keys().chain(after.keys()).collect();
        places.sort();
        places.dedup();
        for place in places {
            let (was, is) = (before.get(place).copied(), after.get(place).copied());
            let mut changes: Vec<Change> = moved(was, is).into_iter().chain(optional(was, is)).collect();
            let is_shifted =
                |rule: &Rule| rule.within.is_none() && matches!(rule.transform, Transform::DateShift { .. });
            if was.is_some_and(is_shifted) && is.is_some_and(is_shifted) {
                changes.extend(times.map(|(effect, why)| (effect, why.to_owned())));
            }
            changes.dedup();
            let spelt = |rule: Option<&Rule>| rule.map_or_else(|| NOT_STORED.into(), options);
            found.extend(changes.into_iter().map(|(effect, why)| Difference {
                place: format!("{}.{}", place.0, place.1),
                before: spelt(was),
                after: spelt(is),
                effect,
                why,
            }));
        }
        found.extend(self.release_changes(new));
        found.extend(self.new_column_changes(new));
        found.sort_by_key(|difference| difference.effect);
        found
    }

    fn places(&self) -> BTreeMap<(TableName, String), &Rule> {
        self.rules().map(|(table, rule)| ((table.clone(), rule.place()), rule)).collect()
    }

    /// What changes in how tables are released.
    fn release_changes(&self, new: &Policy) -> Vec<Difference> {
        let tables: BTreeSet<TableName> = self.k_gated().union(&new.k_gated()).cloned().collect();
        let mut found = Vec::new();
        for table in tables {
            let (was, is) = (self.k_gate(&table), new.k_gate(&table));
            let (effect, why) = match (was, is) {
                _ if was == is => continue,
                (Some(_), None) => (Effect::Loosens, "the table can be queried and exported as it is"),
                (None, Some(_)) => (Effect::Tightens, "the table leaves in groups only"),
                (Some(was), Some(is)) => was.compared(is),
                (None, None) => continue,
            };
            let spelt = |gate: Option<&KGate>| gate.map_or_else(|| "no k_gate".to_owned(), ToString::to_string);
            let (before, after, why) = (spelt(was), spelt(is), why.to_owned());
            found.push(Difference { place: format!("{table} k_gate"), before, after, effect, why });
        }
        found
    }

    /// What changes for columns that no rule names.
    fn new_column_changes(&self, new: &Policy) -> Vec<Difference> {
        let both = self
            .tables
            .iter()
            .filter_map(|(table, was)| Some((table, was.new_columns, new.tables.get(table)?.new_columns)));
        let changed = both.filter(|(_, was, is)| was != is).map(|(table, was, is)| {
            let (effect, why) = match is {
                NewColumns::Drop => {
                    (Effect::Loosens, "a column that no rule names does not stop the table; it is not stored")
                }
                NewColumns::Halt => (Effect::Tightens, "a column that no rule names stops the table"),
            };
            let place = format!("{table} new_columns");
            Difference { place, before: was.name().into(), after: is.name().into(), effect, why: why.into() }
        });
        changed.collect()
    }

    fn top_changes(&self, new: &Policy) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut add = |place: &str, before: String, after: String, effect, why: &str| {
            if before != after {
                found.push(Difference { place: place.into(), before, after, effect, why: why.into() });
            }
        };
        let (claim, why) = match new.profile > self.profile {
            true => (Effect::Loosens, "less is claimed: readers and contracts may rest on the old claim"),
            false => (Effect::Tightens, "more is claimed"),
        };
        add("profile", self.profile.to_string(), new.profile.to_string(), claim, why);
        let keys = |policy: &Policy| policy.keys.clone().unwrap_or_else(|| "none".into());
        add("keys", keys(self), keys(new), Effect::Alters, "other keys make other tokens; the lake refuses them");
        let (watch, why) = match new.invalid_percent_max > self.invalid_percent_max {
            true => (Effect::Loosens, "more unreadable values pass as null before the table stops"),
            false => (Effect::Tightens, "fewer unreadable values pass as null before the table stops"),
        };
        let percent = |policy: &Policy| policy.invalid_percent_max.to_string();
        add("max_invalid_percent", percent(self), percent(new), watch, why);
        let (longer, why) = match new.held_days > self.held_days {
            true => (Effect::Loosens, "rows that are held, raw and sealed, are kept for longer"),
            false => (Effect::Tightens, "rows that are held, raw and sealed, are erased sooner"),
        };
        add("held_days", self.held_days.to_string(), new.held_days.to_string(), longer, why);
        let expires = |policy: &Policy| {
            policy.expert.as_ref().map_or_else(|| "none".into(), |expert| format!("expires {}", expert.expires))
        };
        add("expert", expires(self), expires(new), Effect::Alters, "the report on file must say the same");
        found
    }
}

/// An effect, and why it is that.
type Change = (Effect, String);

const NO_JOIN: &str = "rows of before and after no longer join";

/// What it means that one transform comes in place of another; a place without a rule is dropped.
fn moved(before: Option<&Rule>, after: Option<&Rule>) -> Option<Change> {
    let nothing = Transform::Drop;
    let was = before.map_or(&nothing, |rule| &rule.transform);
    let is = after.map_or(&nothing, |rule| &rule.transform);
    let both_documents = std::mem::discriminant(was) == std::mem::discriminant(is) && was.is_document();
    let (shown_before, shown) = (Reveals::of(was), Reveals::of(is));
    let (more, less) = (shown.beyond(shown_before), shown_before.beyond(shown));
    if !more.is_empty() {
        let less = if less.is_empty() { String::new() } else { format!("; no longer tells {}", less.join(", ")) };
        return Some((Effect::Loosens, format!("tells {}{less}", more.join(", "))));
    }
    if !less.is_empty() {
        return Some((Effect::Tightens, format!("no longer tells {}", less.join(", "))));
    }
    if was == is || both_documents {
        return None;
    }
    if let (Transform::AgeCap { .. }, Transform::AgeCap { .. }) = (was, is) {
        return Some((Effect::Alters, "the same ages in another type".into()));
    }
    Some(match finer(was, is) {
        Finer::First => (Effect::Tightens, "coarser than before".into()),
        Finer::Second => (Effect::Loosens, "finer than before".into()),
        Finer::Neither if was.domain().is_some() || is.domain().is_some() => (Effect::Alters, NO_JOIN.into()),
        Finer::Neither => (Effect::Alters, "which of the two tells more, a person must judge".into()),
    })
}

/// What other options mean, where both rules store something.
fn optional(before: Option<&Rule>, after: Option<&Rule>) -> Vec<Change> {
    let stores = |rule: &&Rule| rule.transform != Transform::Drop;
    let (Some(before), Some(after)) = (before.filter(stores), after.filter(stores)) else { return Vec::new() };
    let mut found: Vec<(Effect, &str)> = Vec::new();
    let joins = |rule: &Rule| rule.transform.domain().is_some() || rule.transform.is_document();
    let by = |rule: &Rule| (rule.form, rule.subject.clone(), rule.pin);
    if joins(before) && joins(after) && by(before) != by(after) {
        found.push((Effect::Alters, NO_JOIN));
    }
    if before.dual != after.dual {
        let why = "a column with the tokens of an older epoch comes or goes; `lockgate remask` does it for stored rows";
        found.push((Effect::Alters, why));
    }
    if before.null_as != after.null_as {
        found.push(match before.null_as {
            Some(_) => {
                (Effect::Loosens, "where null stood as one value it does so no more, which can tell who has none")
            }
            None => (Effect::Alters, "null is stored as another value"),
        });
    }
    if before.on_invalid != after.on_invalid && before.transform.can_fail() && after.transform.can_fail() {
        found.push(match after.on_invalid {
            OnInvalid::Null => (Effect::Loosens, "an unreadable value becomes null and is counted"),
            OnInvalid::Hold if before.on_invalid == OnInvalid::Halt => {
                (Effect::Loosens, "a row with an unreadable value is held back, and the table goes on")
            }
            OnInvalid::Hold => (Effect::Tightens, "a row with an unreadable value is held back"),
            OnInvalid::Halt => (Effect::Tightens, "an unreadable value stops the table"),
        });
    }
    if (&before.reviewer, before.class) != (&after.reviewer, after.class) {
        found.push((Effect::Alters, "somebody else vouches for it, or for another class"));
    }
    found.into_iter().map(|(effect, why)| (effect, why.to_owned())).collect()
}

/// The rule with the options that matter here.
fn options(rule: &Rule) -> String {
    let mut text = match &rule.transform {
        Transform::JsonPaths { .. } => "json_paths".to_owned(),
        Transform::X12Map { map } => format!("x12_map({})", map.ready.name()),
        other => other.to_string(),
    };
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!(", {name} {value}");
        }
    };
    add("canonical", (rule.form != crate::canonical::Form::Exact).then(|| rule.form.to_string()));
    add("subject", rule.subject.clone());
    add("null_as", rule.null_as.clone());
    add("epoch", rule.pin.map(|epoch| epoch.to_string()));
    add("dual", rule.dual.map(|epoch| epoch.to_string()));
    add("on_invalid", (rule.on_invalid != OnInvalid::Null).then(|| rule.on_invalid.name().to_owned()));
    add("reviewer", rule.reviewer.clone());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Policy {
        let text = format!("profile: none\nkeys: k\ntables:\n  db.public.t:\n    id: keep\n{rules}");
        Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    fn effects(before: &str, after: &str) -> Vec<Effect> {
        let found = policy(before).changes_to(&policy(after));
        found.into_iter().map(|difference| difference.effect).collect()
    }

    #[test]
    fn what_a_change_means_is_said_and_its_reverse_is_the_reverse() {
        use Effect::{Alters, Loosens, Tightens};
        let cases = [
            ("keep", "drop", Tightens),
            ("keep", "zip3", Tightens),
            ("hmac_token(a)", "vault_code(a)", Tightens),
            ("siv_token(a)", "hmac_token(a)", Tightens),
            ("hmac_token(a)", "redact(X)", Tightens),
            ("date_trunc(week)", "date_trunc(month)", Tightens),
            ("date_trunc(quarter)", "date_year", Tightens),
            ("mask_chars(4)", "mask_chars(2)", Tightens),
            ("bucket(0,18,65)", "bucket(18)", Tightens),
            ("round(10)", "round(100)", Tightens),
            ("top_code(500)", "top_code(99.5)", Tightens),
            ("hierarchy(icd10,category)", "hierarchy(icd10,chapter)", Tightens),
            ("top_code(500)", "round(100)", Tightens),
            ("redact(X)", "null_out", Tightens),
            ("hmac_token(a)", "hmac_token(b)", Alters),
            ("bucket(0,18)", "bucket(0,21)", Alters),
            ("zip3", "geo_state", Alters),
            ("{ transform: hmac_token(a), canonical: trim }", "hmac_token(a)", Alters),
            ("{ transform: zip3, on_invalid: halt }", "zip3", Loosens),
            ("zip3", "hmac_token(a)", Loosens),
        ];
        for (before, after, expected) in cases {
            let rule = |text: &str| format!("    v: {text}\n");
            assert_eq!(effects(&rule(before), &rule(after)), [expected], "{before} to {after}");
            let reverse = match expected {
                Tightens => Loosens,
                Alters => Alters,
                Loosens if before.starts_with('{') => Tightens,
                // Each tells what the other does not.
                Loosens => Loosens,
            };
            assert_eq!(effects(&rule(after), &rule(before)), [reverse], "{after} to {before}");
            assert!(effects(&rule(before), &rule(before)).is_empty());
        }
    }

    #[test]
    fn what_loosens_is_said_beside_what_tightens() {
        use Effect::{Alters, Loosens, Tightens};
        let rule = |text: &str| format!("    v: {text}\n");
        for (before, after, expected) in [
            ("{ transform: date_trunc(week), on_invalid: halt }", "date_trunc(month)", vec![Loosens, Tightens]),
            ("{ transform: date_trunc(month), on_invalid: hold }", "date_trunc(week)", vec![Loosens, Loosens]),
            ("{ transform: hmac_token(a), canonical: trim }", "siv_token(a)", vec![Loosens, Alters]),
            ("{ transform: hmac_token(a), canonical: trim }", "hmac_token(b)", vec![Alters]),
            ("{ transform: hmac_token(a), canonical: trim }", "drop", vec![Tightens]),
            (
                "{ transform: keep, reason: r, reviewer: a }",
                "{ transform: zip3, reviewer: b, reason: r }",
                vec![Alters, Tightens],
            ),
            // Where nothing is unreadable, the option says nothing.
            ("{ transform: keep, on_invalid: halt }", "zip3", vec![Tightens]),
        ] {
            assert_eq!(effects(&rule(before), &rule(after)), expected, "{before} to {after}");
        }
    }

    #[test]
    fn the_time_of_day_that_comes_and_goes_with_the_profile_is_said() {
        let text = |profile: &str| {
            format!(
                "profile: {profile}\nkeys: k\ntables:\n  db.public.t:\n    id: drop\n    seen: {{ transform: date_shift(p 30), subject: id }}\n"
            )
        };
        let lines = |before: &str, after: &str| -> Vec<String> {
            let found =
                Policy::parse(&text(before), "p").unwrap().changes_to(&Policy::parse(&text(after), "p").unwrap());
            found.iter().map(|at| format!("{} {:?}", at.place, at.effect)).collect()
        };
        assert_eq!(lines("limited_data_set", "none"), ["profile Loosens", "db.public.t.seen Tightens"]);
        assert_eq!(lines("none", "limited_data_set"), ["db.public.t.seen Loosens", "profile Tightens"]);
        assert!(lines("none", "none").is_empty());
    }

    #[test]
    fn what_becomes_of_new_columns_is_compared() {
        let halt = "    \"*\": { new_columns: halt }\n";
        assert_eq!(effects("", halt), [Effect::Tightens]);
        assert_eq!(effects(halt, ""), [Effect::Loosens]);
        assert!(effects(halt, halt).is_empty());
    }

    #[test]
    fn columns_and_places_that_come_and_go_are_found() {
        let found = policy("    a: zip3\n    b: drop\n").changes_to(&policy("    c: redact(X)\n"));
        let lines: Vec<String> =
            found.iter().map(|at| format!("{} {} {} {:?}", at.place, at.before, at.after, at.effect)).collect();
        assert_eq!(lines, ["db.public.t.c not stored redact(X) Loosens", "db.public.t.a zip3 not stored Tightens"]);
        let document = |paths: &str| format!("    d:\n      transform: json_paths\n      paths: {{ {paths} }}\n");
        let found = policy(&document("a: keep, b: keep")).changes_to(&policy(&document("a: redact(X), c: keep")));
        let lines: Vec<String> = found.iter().map(|at| format!("{} {:?}", at.place, at.effect)).collect();
        assert_eq!(lines, ["db.public.t.d.c Loosens", "db.public.t.d.a Tightens", "db.public.t.d.b Tightens"]);
        assert!(found[0].why.contains("tells the value itself"), "{}", found[0].why);
    }

    #[test]
    fn the_whole_policys_options_are_compared() {
        let text =
            "profile: limited_data_set\nkeys: k\nmax_invalid_percent: 0.1\ntables:\n  db.public.t: { id: drop }\n";
        let before = Policy::parse(text, "p").unwrap();
        let after = text.replace("limited_data_set", "safe_harbor").replace("0.1", "5").replace("keys: k", "keys: j");
        let found = before.changes_to(&Policy::parse(&after, "p").unwrap());
        let lines: Vec<String> = found.iter().map(|at| format!("{} {:?}", at.place, at.effect)).collect();
        assert_eq!(lines, ["max_invalid_percent Loosens", "keys Alters", "profile Tightens"]);
        let held = |days: u32| Policy::parse(&format!("{text}held_days: {days}\n"), "p").unwrap();
        let effect =
            |from: u32, to: u32| held(from).changes_to(&held(to)).iter().map(|at| at.effect).collect::<Vec<_>>();
        assert_eq!(
            [effect(7, 365), effect(365, 7), effect(7, 7)],
            [vec![Effect::Loosens], vec![Effect::Tightens], vec![]]
        );
    }
}
