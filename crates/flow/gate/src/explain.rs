//! What a policy does to each column and why, in words for whoever answers for it.

use std::collections::BTreeMap;

use change::TableName;

use crate::class::{Class, Declared, LETTERS, classify};
use crate::kernel::place::ZIP3_VINTAGE;
use crate::policy::{OnInvalid, Policy, Rule};
use crate::reveal::{Reveals, Treatment};
use crate::transform::{CodeType, DateUnit, Tier};
use crate::{Profile, Transform};

/// A policy in words: [`Policy::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The claimed profile.
    pub claimed: Profile,
    /// The strongest profile that the rules could carry.
    pub claimable: Profile,
    /// What the claim needs beside the rules.
    pub paperwork: Option<&'static str>,
    /// SHA-256 of the compiled rules, as it stands in every commit.
    pub policy_hash: String,
    /// The vintage of the ZIP table, as it stands in every commit.
    pub zip3_table: &'static str,
    /// The folder of the model that `scrub_text` asks, as written, and the model's SHA-256.
    pub model: Option<(String, String)>,
    /// Where the keys are, as written.
    pub keys: Option<String>,
    /// The domains that need keys, each with the transforms that use it.
    pub domains: BTreeMap<String, Vec<String>>,
    /// Tables that leave in groups of at least k only, and how.
    pub releases: Vec<(TableName, String)>,
    /// Every rule, in the order of the tables' names and of the file.
    pub columns: Vec<ExplainedColumn>,
    /// The 18 classes of 164.514(b)(2)(i), and what becomes of the columns that hold them.
    pub coverage: Vec<ClassCoverage>,
}

/// What becomes of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedColumn {
    /// The table.
    pub table: TableName,
    /// The column, or the column and the path within its documents.
    pub column: String,
    /// The transform as the policy spells it.
    pub transform: String,
    /// What is stored.
    pub stored: String,
    /// Why it may be stored so: what the column holds, who vouches for it.
    pub why: String,
    /// What happens to a value that the transform cannot read.
    pub unreadable: &'static str,
}

/// What becomes of one class of identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCoverage {
    /// The letter, A to R.
    pub letter: char,
    /// What the class is.
    pub title: &'static str,
    /// The columns that hold it, by how they are treated; what is shown comes last.
    pub columns: BTreeMap<Treatment, Vec<String>>,
}

impl Policy {
    /// The policy in words. Columns that it does not name are dropped and so not in it. Which class a column holds is what its rule
    /// declares, else what its name gives away.
    pub fn explain(&self) -> Explanation {
        let mut domains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, rule) in self.rules() {
            let Some(domain) = rule.transform.domain() else { continue };
            let users = domains.entry(domain.into()).or_default();
            if !users.contains(&rule.transform.to_string()) {
                users.push(rule.transform.to_string());
            }
        }
        Explanation {
            claimed: self.profile,
            claimable: self.claimable(),
            paperwork: self.profile.paperwork(),
            policy_hash: self.hash(),
            zip3_table: ZIP3_VINTAGE,
            model: self.model.as_ref().map(|model| (model.folder.clone(), model.sha256.clone())),
            keys: self.keys.clone(),
            domains,
            releases: self
                .tables
                .iter()
                .filter_map(|(table, rules)| Some((table.clone(), rules.k_gate.as_ref()?.to_string())))
                .collect(),
            columns: self.rules().map(|(table, rule)| explained(table, rule)).collect(),
            coverage: self.coverage(),
        }
    }

    /// What becomes of each of the 18 classes.
    fn coverage(&self) -> Vec<ClassCoverage> {
        let mut classes: Vec<ClassCoverage> =
            LETTERS.map(|(letter, title)| ClassCoverage { letter, title, columns: BTreeMap::new() }).into();
        for (table, rule) in self.rules() {
            let Some(letter) = rule.letter() else { continue };
            let treatment = Reveals::of(&rule.transform).treatment();
            if let Some(class) = classes.iter_mut().find(|class| class.letter == letter) {
                class.columns.entry(treatment).or_default().push(format!("{table}.{}", rule.place()));
            }
        }
        classes
    }
}

impl Rule {
    /// The class of identifiers that the column holds, as declared or as its name tells.
    fn letter(&self) -> Option<char> {
        match self.class {
            Some(Declared::Identifies(letter)) => Some(letter),
            Some(Declared::NotIdentifying) => None,
            None => classify(&self.column).and_then(|class| class.letter(&self.column)),
        }
    }
}

fn explained(table: &TableName, rule: &Rule) -> ExplainedColumn {
    ExplainedColumn {
        table: table.clone(),
        column: rule.place(),
        transform: rule.transform.to_string(),
        stored: stored(&rule.transform, rule.subject.as_deref()) + &epochs(rule) + &null_as(rule),
        why: why(rule),
        unreadable: match (&rule.transform, rule.on_invalid) {
            (transform, _) if !transform.can_fail() => "-",
            (Transform::ScrubText { .. }, OnInvalid::Null) => "[REDACTED:error], and counted",
            (_, OnInvalid::Null) => "null, and counted",
            (_, OnInvalid::Hold) => "the row is held",
            (_, OnInvalid::Halt) => "the table stops",
        },
    }
}

/// What the rule says of the key's epochs.
fn epochs(rule: &Rule) -> String {
    let stays = rule.pin.map(|epoch| format!("; stays on key epoch {epoch}"));
    let beside =
        rule.beside().map(|beside| format!("; that of an older key epoch stands beside it, in `{}`", beside.column));
    stays.into_iter().chain(beside).collect()
}

/// What stands for null, when not null.
fn null_as(rule: &Rule) -> String {
    rule.null_as.as_ref().map(|constant| format!("; `{constant}` where the source has null")).unwrap_or_default()
}

fn why(rule: &Rule) -> String {
    let held = match (rule.class, classify(&rule.column)) {
        (Some(Declared::NotIdentifying), _) => "declared not identifying".into(),
        (Some(Declared::Identifies(letter)), _) => format!("declared {}", titled(letter)),
        (None, Some(Class::FreeText)) => "free text, which can hold anything".into(),
        (None, Some(class)) => match class.letter(&rule.column) {
            Some(letter) => titled(letter),
            None => "its name does not say that it identifies anybody".into(),
        },
        (None, None) => "its name does not say what it holds".into(),
    };
    match (&rule.reason, &rule.reviewer) {
        (Some(reason), Some(reviewer)) => format!("{held}; {reviewer}: {reason}"),
        (Some(reason), None) => format!("{held}; {reason}"),
        _ => held,
    }
}

fn titled(letter: char) -> String {
    let title = LETTERS.iter().find(|(known, _)| *known == letter).map_or("", |(_, title)| title);
    format!("{letter}: {title}")
}

/// What is stored, in a sentence.
fn stored(transform: &Transform, subject: Option<&str>) -> String {
    use Transform as T;
    match transform {
        T::Keep => "the value as it is".into(),
        T::Drop => "nothing".into(),
        T::NullOut => "always null".into(),
        T::Redact { marker } => format!("[{marker}] for every value"),
        T::MaskChars { shown } => format!("**** and the last {shown} characters"),
        T::HmacToken { domain, code } => {
            format!("a keyed token, the same for the same value in domain {domain}{}", bare(*code))
        }
        T::SivToken { domain } => format!("a keyed token of domain {domain} that the key turns back"),
        T::VaultCode { domain, code } => {
            format!("a random code, the same for the same value in domain {domain}{}", bare(*code))
        }
        T::FpeFf1 { domain, format } => format!("another value of shape {format}, by the key of domain {domain}"),
        T::DictSurrogate { list, domain } => {
            format!("an invented {list}, the same for the same {} in domain {domain}", subject.unwrap_or("value"))
        }
        T::DateYear => "the year; years that show an age above 89 as one".into(),
        T::DateTrunc { unit: DateUnit::Month } => "the first day of the month".into(),
        T::DateTrunc { unit: DateUnit::Quarter } => "the first day of the quarter".into(),
        T::DateTrunc { unit: DateUnit::Week } => "the Monday of the week".into(),
        T::DateShift { domain, days_max } => {
            let whose = subject.map(|subject| format!(" of one {subject}")).unwrap_or_default();
            format!("the date moved by 1 to {days_max} days, all dates{whose} alike in domain {domain}")
        }
        T::EncryptCell { domain } => {
            let whose = subject.unwrap_or("person");
            format!("the value, encrypted under a key of its {whose} that can be destroyed, in domain {domain}")
        }
        T::AgeCap { text: false } => "the age in years, 90 for all above".into(),
        T::AgeCap { text: true } => "the age in years as text, 90+ for 90 and all above".into(),
        T::DobGeneralise => "the year of birth; everybody above 89 as one".into(),
        T::Zip3 => "three digits where more than 20,000 people live, else 000".into(),
        T::GeoState => "the state".into(),
        T::Bucket { edges } => format!("the range among the borders {edges}"),
        T::Round { step } => format!("the nearest multiple of {step}"),
        T::TopCode { cap } => format!("the number, {cap} for all above"),
        T::Hierarchy { level } => format!("the code's {}", level.to_string().replace(',', " ")),
        T::JsonPaths { paths } => format!("{} places of the document, each by its rule", paths.0.len()),
        T::X12Map { map } => {
            format!("the elements that map {} lets through, each by its rule; the envelope made anew", map.ready.name())
        }
        T::ScrubText { tier, known, .. } => scrubbed(*tier, known),
    }
}

/// What a token or code is when it is not text.
fn bare(code: CodeType) -> &'static str {
    match code {
        CodeType::Text => "",
        CodeType::Binary => ", as 16 bytes",
        CodeType::Int64 => ", as a number",
    }
}

fn scrubbed(tier: Tier, known: &[String]) -> String {
    let passes = match tier {
        Tier::Drop => return "nothing".into(),
        Tier::Allowlist => "the text's known words, small numbers and public codes; all else as [REDACTED]",
        Tier::Detect => "the text, with placeholders for what detectors find; unknown names can remain",
        Tier::DetectNer => "the text, with placeholders for what detectors or the model find; unknown names can remain",
    };
    match known {
        [] => format!("{passes}; no value of the row is searched in it"),
        known => format!("{passes}; the row's {} are searched in it", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(rules: &str) -> Explanation {
        let text = format!("profile: limited_data_set\nkeys: file:./k\ntables:\n  db.public.t:\n{rules}");
        Policy::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{problems:?}")).explain()
    }

    #[test]
    fn every_column_is_explained_with_what_it_holds_and_who_vouches() {
        let explanation = explanation(
            "    ssn: drop\n    member_id: { transform: hmac_token(member), on_invalid: halt }\n    \
             note_text: { transform: keep, reason: coded list, reviewer: dpo }\n    x7: { transform: vault_code(x), class: H }\n    \
             status: keep\n    doc:\n      transform: json_paths\n      paths: { patient.birth: date_year }\n",
        );
        let lines: Vec<String> = explanation
            .columns
            .iter()
            .map(|column| format!("{} | {} | {} | {}", column.column, column.stored, column.why, column.unreadable))
            .collect();
        assert_eq!(lines[0], "ssn | nothing | G: social security numbers | -");
        assert!(lines[1].contains("in domain member | I: health plan") && lines[1].ends_with("the table stops"));
        assert!(lines[2].contains("free text, which can hold anything; dpo: coded list"), "{}", lines[2]);
        assert!(lines[3].contains("declared H: medical record numbers"));
        assert!(lines[4].contains("does not say that it identifies"));
        assert!(lines[6].starts_with("doc.patient.birth | the year"));
        assert_eq!((explanation.claimed, explanation.claimable), (Profile::LimitedDataSet, Profile::LimitedDataSet));
        assert_eq!(explanation.domains.keys().collect::<Vec<_>>(), ["member", "x"]);
        assert_eq!(explanation.policy_hash.len(), 64);
    }

    #[test]
    fn every_class_is_covered_by_how_its_columns_are_treated() {
        let explanation = explanation(
            "    ssn: drop\n    tax_id: redact(TIN)\n    first_name: hmac_token(name)\n    zip: zip3\n    city: keep\n    \
             ref_number: { transform: keep, class: not_identifying }\n    fax: drop\n    ip: drop\n    photo: drop\n",
        );
        let letters: String = explanation.coverage.iter().map(|class| class.letter).collect();
        assert_eq!(letters, "ABCDEFGHIJKLMNOPQR");
        let of = |letter: char| {
            let class = explanation.coverage.iter().find(|class| class.letter == letter).unwrap();
            class.columns.iter().map(|(how, names)| format!("{how:?} {}", names.len())).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(of('G'), "Removed 2");
        assert_eq!(of('A'), "Token 1");
        assert_eq!(of('B'), "Coarse 1, Shown 1");
        assert_eq!([of('E'), of('O'), of('Q')], ["Removed 1", "Removed 1", "Removed 1"]);
        assert_eq!([of('D'), of('N'), of('R')], ["", "", ""]);
    }
}
