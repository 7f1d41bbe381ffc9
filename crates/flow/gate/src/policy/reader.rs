//! From the text of `policy.yaml` to a [`Policy`], with everything that is wrong in it.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use change::{Problem, TableName};

use super::{Expert, HELD_DAYS, INVALID_PERCENT_MAX, NerModel, NewColumns, OnInvalid, Policy, Rule, TableRules};
use crate::calendar::Date;
use crate::canonical::Form;
use crate::class::Declared;
use crate::epoch::Rotation;
use crate::json_path::{Branch, JsonPath, JsonPaths};
use crate::report::{Report, did_you_mean};
use crate::yaml::{self, Entry, Node, Value};
use crate::{Profile, Transform, null_as, spelling};

mod k_gate;
mod ner;
mod x12;

const TOP: [&str; 7] = ["profile", "keys", "tables", "expert", "max_invalid_percent", "held_days", "ner"];
const OPTIONS: [&str; 11] = [
    "transform",
    "on_invalid",
    "null_as",
    "canonical",
    "subject",
    "epoch",
    "dual",
    "paths",
    "class",
    "reason",
    "reviewer",
];
const EXPERT: [&str; 3] = ["name", "method", "expires"];

/// A longer constant is no value but a text.
const NULL_AS_CHARACTERS_MAX: usize = 64;

/// Stands for every column of a table.
const EVERY: &str = "*";

/// Reads as much as can be read; the report says what could not.
pub(super) fn read(text: &str, file: &str) -> Result<(Policy, Report), Vec<Problem>> {
    let root = yaml::parse(text, file)?;
    let mut reader = Reader { report: Report::new(file), model: None };
    let policy = reader.policy(&root, file);
    Ok((policy, reader.report))
}

struct Reader {
    report: Report,
    /// SHA-256 of the policy's model.
    model: Option<String>,
}

impl Reader {
    fn policy(&mut self, root: &Node, file: &str) -> Policy {
        let entries = self.map(root, "the policy");
        self.known(entries, &TOP, "the policy");
        let mut policy = Policy {
            file: file.into(),
            profile: Profile::None,
            expert: None,
            keys: None,
            model: None,
            invalid_percent_max: INVALID_PERCENT_MAX,
            held_days: HELD_DAYS,
            tables: BTreeMap::new(),
        };
        match find(entries, "profile") {
            None => self.report.error(
                root.line,
                "the policy claims no profile",
                "Add `profile: limited_data_set` (or safe_harbor, expert, or none to make no claim).",
            ),
            Some(node) => policy.profile = self.profile(node),
        }
        policy.keys = find(entries, "keys").and_then(|node| self.text(node, "`keys`"));
        policy.expert = find(entries, "expert").and_then(|node| self.expert(node));
        if let Some(node) = find(entries, "max_invalid_percent") {
            policy.invalid_percent_max = self.percent(node);
        }
        if let Some(node) = find(entries, "held_days") {
            policy.held_days = self.days(node);
        }
        policy.model = find(entries, "ner").and_then(|node| self.ner(node));
        self.model = policy.model.as_ref().map(|model| model.sha256.clone());
        match find(entries, "tables") {
            None => self.report.error(root.line, "the policy names no table", "Add `tables:` with a rule per column."),
            Some(node) => {
                for entry in self.map(node, "`tables`") {
                    self.table(entry, &mut policy);
                }
            }
        }
        policy
    }

    fn profile(&mut self, node: &Node) -> Profile {
        let Some(text) = self.text(node, "`profile`") else { return Profile::None };
        Profile::ALL.into_iter().find(|profile| profile.name() == text).unwrap_or_else(|| {
            let names = Profile::ALL.map(Profile::name);
            let fix = match did_you_mean(&text, names) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => format!("Use one of {}.", names.join(", ")),
            };
            self.report.error(node.line, format!("there is no profile `{text}`"), fix);
            Profile::None
        })
    }

    fn expert(&mut self, node: &Node) -> Option<Expert> {
        let entries = self.map(node, "`expert`");
        self.known(entries, &EXPERT, "`expert`");
        let mut text = |key: &str| match find(entries, key) {
            Some(node) => self.text(node, &format!("`{key}`")).map(|text| (node.line, text)),
            None => {
                let fix = "An expert's determination is on file with name, method and expires: 2027-06-30.";
                self.report.error(node.line, format!("`expert` does not say `{key}`"), fix);
                None
            }
        };
        let (name, method, expires) = (text("name"), text("method"), text("expires"));
        let (line, expires) = expires?;
        let date = Date::parse(&expires);
        if date.is_none() {
            self.report.error(line, format!("`{expires}` is not a date"), "Write it like 2027-06-30.");
        }
        name.and(method)?;
        Some(Expert { line, expires: date? })
    }

    fn percent(&mut self, node: &Node) -> f64 {
        let text = self.text(node, "`max_invalid_percent`").unwrap_or_default();
        let number = text.trim_end_matches('%').trim_end().parse::<f64>().ok();
        number.filter(|number| (0.0..=100.0).contains(number)).unwrap_or_else(|| {
            let what = format!("`max_invalid_percent` cannot be `{text}`");
            self.report.error(node.line, what, "Write a number from 0 to 100, like 0.1.");
            INVALID_PERCENT_MAX
        })
    }

    fn days(&mut self, node: &Node) -> u32 {
        let text = self.text(node, "`held_days`").unwrap_or_default();
        text.parse::<u32>().ok().filter(|days| (1..=365).contains(days)).unwrap_or_else(|| {
            let what = format!("`held_days` cannot be `{text}`");
            self.report.error(node.line, what, "Write how many days a row may be held, from 1 to 365.");
            HELD_DAYS
        })
    }

    fn table(&mut self, entry: &Entry, policy: &mut Policy) {
        let mut parts = entry.key.splitn(3, '.');
        let (Some(source), Some(schema), Some(table)) = (parts.next(), parts.next(), parts.next()) else {
            let what = format!("`{}` is not a table's full name", entry.key);
            self.report.error(entry.line, what, "Write source.schema.table, like claims_db.public.members.");
            return;
        };
        let entries = self.map(&entry.value, &format!("`{}`", entry.key));
        let every = entries.iter().find(|column| column.key == EVERY);
        let default = every.and_then(|column| self.every(column));
        let named = entries.iter().filter(|column| column.key != EVERY);
        let columns: Vec<Rule> = named.filter_map(|column| self.rule_with(column, None, default)).collect();
        let k_gate = every.and_then(|every| self.k_gate(every, &columns));
        let new_columns = every.map_or(NewColumns::Drop, |every| self.new_columns(every));
        let rules = TableRules { line: entry.line, columns, k_gate, new_columns, gone: BTreeMap::new() };
        policy.tables.insert(TableName::new(source, schema, table), rules);
    }

    /// What a table's rules do about unreadable values when they do not say it themselves.
    fn every(&mut self, entry: &Entry) -> Option<OnInvalid> {
        let entries = self.map(&entry.value, &format!("`{EVERY}`"));
        self.known(entries, &["on_invalid", "new_columns", "k_gate"], &format!("`{EVERY}`"));
        find(entries, "on_invalid").and_then(|node| self.on_invalid(node))
    }

    fn new_columns(&mut self, every: &Entry) -> NewColumns {
        let Value::Map(entries) = &every.value.value else { return NewColumns::Drop };
        let Some(node) = find(entries, "new_columns") else { return NewColumns::Drop };
        let text = self.text(node, "`new_columns`").unwrap_or_default();
        NewColumns::ALL.into_iter().find(|known| known.name() == text).unwrap_or_else(|| {
            let what = format!("`new_columns` cannot be `{text}`");
            let fix = "Use drop (a column that no rule names is not stored, and said) or halt (its table stops).";
            self.report.error(node.line, what, fix);
            NewColumns::Halt
        })
    }

    /// `on_invalid` is what holds when the rule does not say it itself.
    fn rule_with(&mut self, entry: &Entry, subject: Option<String>, on_invalid: Option<OnInvalid>) -> Option<Rule> {
        let mut rule = Rule {
            column: entry.key.clone(),
            line: entry.line,
            transform: Transform::Drop,
            on_invalid: on_invalid.unwrap_or(OnInvalid::Null),
            form: Form::Exact,
            within: None,
            subject,
            pin: None,
            dual: None,
            null_as: None,
            class: None,
            reason: None,
            reviewer: None,
        };
        match &entry.value.value {
            Value::Scalar(text) => {
                rule.transform = self.transform(text, entry)?;
                x12::expand(&mut rule, Vec::new());
                self.complete(&rule)?;
            }
            Value::List(_) => {
                let what = format!("`{}` has a list of rules; a column has exactly one", entry.key);
                self.report.error(entry.value.line, what, "Keep one transform.");
                return None;
            }
            Value::Map(options) => self.options(options, entry, &mut rule)?,
        }
        let says_itself = matches!(&entry.value.value, Value::Map(options) if find(options, "on_invalid").is_some());
        if matches!(rule.transform, Transform::X12Map { .. }) && !says_itself && on_invalid.is_none() {
            // A document with a wrong envelope may hold anything: somebody has to look.
            rule.on_invalid = OnInvalid::Halt;
        }
        Some(rule)
    }

    fn options(&mut self, options: &[Entry], entry: &Entry, rule: &mut Rule) -> Option<()> {
        let whose = format!("the rule of `{}`", entry.key);
        self.known(options, &OPTIONS, &whose);
        let Some(node) = find(options, "transform") else {
            self.report.error(entry.line, format!("{whose} names no transform"), "Add `transform: drop`.");
            return None;
        };
        rule.transform = self.text(node, "`transform`").and_then(|text| self.transform(&text, entry))?;
        rule.reason = find(options, "reason").and_then(|node| self.text(node, "`reason`"));
        rule.reviewer = find(options, "reviewer").and_then(|node| self.text(node, "`reviewer`"));
        if let Some(node) = find(options, "on_invalid") {
            rule.on_invalid = self.on_invalid(node)?;
        }
        match (find(options, "paths"), &rule.transform) {
            (node, Transform::X12Map { .. }) => {
                let own = node.map_or(Some(Vec::new()), |node| self.x12_paths(node, rule))?;
                x12::expand(rule, own);
            }
            (Some(node), _) => rule.transform = self.paths(node, rule)?,
            (None, _) => {}
        }
        if let Some(node) = find(options, "canonical") {
            rule.form = self.form(node, &rule.transform)?;
        }
        if let Some(node) = find(options, "subject") {
            rule.subject = self.text(node, "`subject`");
            if !rule.transform.takes_subject() {
                let what = format!("`subject` means nothing to `{}`", rule.transform);
                self.report.error(node.line, what, "Remove it; it is for date_shift, dict_surrogate and encrypt_cell.");
                return None;
            }
        }
        if let Some(node) = find(options, "epoch") {
            rule.pin = Some(self.epoch(node, "epoch", rule.transform.rotation() != Rotation::Free, &rule.transform)?);
        }
        if let Some(node) = find(options, "dual") {
            let tells = matches!(rule.transform, Transform::HmacToken { .. } | Transform::SivToken { .. });
            rule.dual = Some(self.epoch(node, "dual", tells, &rule.transform)?);
        }
        if let Some(node) = find(options, "null_as") {
            rule.null_as = Some(self.null_as(node, &rule.transform)?);
        }
        if let Some(node) = find(options, "class") {
            rule.class = self.class(node);
        }
        self.complete(rule)
    }

    /// What a transform cannot do without.
    fn complete(&mut self, rule: &Rule) -> Option<()> {
        if matches!(&rule.transform, Transform::JsonPaths { paths } if paths.0.is_empty()) {
            let what = format!("`{}` does not say which places of its documents pass", rule.column);
            let fix = "Write `transform: json_paths`, `paths:`, and below it lines such as `lines[].code: keep`.";
            self.report.error(rule.line, what, fix);
            return None;
        }
        if rule.transform.needs_subject() && rule.subject.is_none() {
            let (what, example) = match &rule.transform {
                Transform::EncryptCell { .. } => ("a cell does not say whose key it has", "encrypt_cell(person)"),
                _ => ("a date shift does not say whose dates they are", "date_shift(person 365)"),
            };
            let fix = format!("Write {{ transform: {example}, subject: member_id }}.");
            self.report.error(rule.line, format!("`{}`: {what}", rule.column), fix);
            return None;
        }
        Some(())
    }

    /// The rules of the places in a column's documents.
    fn paths(&mut self, node: &Node, rule: &Rule) -> Option<Transform> {
        if !matches!(rule.transform, Transform::JsonPaths { .. }) {
            let what = format!("`paths` means nothing to `{}`", rule.transform);
            self.report.error(node.line, what, "Remove it; it is for json_paths and x12_map.");
            return None;
        }
        let mut paths = Vec::new();
        for entry in self.map(node, "`paths`") {
            let mut inner = self.inner(entry, rule)?;
            let path = match JsonPath::parse(&entry.key) {
                Ok(path) => path,
                Err(what) => {
                    self.report.error(entry.line, what, "Write keys with dots and [] behind lists: lines[].code.");
                    return None;
                }
            };
            inner.column = path.to_string();
            paths.push((path, inner));
        }
        if let Err(path) = Branch::of(paths.iter().map(|(path, _)| path)) {
            let what = format!("`{path}` contradicts a path above it");
            self.report.error(node.line, what, "One place is a value, a list or an object: keep one of the two.");
            return None;
        }
        Some(Transform::JsonPaths { paths: JsonPaths(paths) })
    }

    fn inner(&mut self, entry: &Entry, outer: &Rule) -> Option<Rule> {
        let mut refuse = |what: String, fix: &str| {
            self.report.error(entry.line, what, fix);
            None
        };
        if let Value::Map(options) = &entry.value.value
            && let Some(option) =
                ["on_invalid", "subject", "paths", "dual"].into_iter().find(|key| find(options, key).is_some())
        {
            return refuse(format!("`{option}` is for the whole column"), "Move it out of `paths`.");
        }
        if let Value::Map(options) = &entry.value.value
            && find(options, "null_as").is_some()
        {
            let what = format!("`null_as` means nothing within documents, and `{}` has it", entry.key);
            return refuse(what, "Remove it: a place without a value is null, or is not there.");
        }
        // A shift's person is named once, for the whole column.
        let subject = Some(String::new());
        let (whose, rule) = (entry.key.clone(), self.rule_with(entry, subject, Some(OnInvalid::Null))?);
        let mut refuse = |what: String, fix: &str| {
            self.report.error(entry.line, what, fix);
            None
        };
        match rule.transform.output(&DataType::Utf8) {
            Ok(None) if !matches!(outer.transform, Transform::X12Map { .. }) => {
                refuse(format!("`{whose}` is dropped"), "Leave it out: a place that is not named does not pass.")
            }
            Err(_) => {
                refuse(format!("`{}` does not read the text of `{whose}`", rule.transform), "Use another transform.")
            }
            Ok(Some(DataType::Binary)) if rule.transform.is_random() => refuse(
                format!("`{whose}` would be bytes, which have no place in a document"),
                "Encrypt the whole column.",
            ),
            Ok(Some(_)) if rule.transform.is_bare_code() => refuse(
                format!("`{}` of `{whose}`: tokens and codes within documents are text", rule.transform),
                "Leave out what stands behind the domain; a domain is of one type in all its columns.",
            ),
            Ok(Some(_)) if rule.transform.is_document() => {
                refuse(format!("`{whose}` has documents within documents"), "Write the whole path.")
            }
            Ok(_) => Some(Rule { within: Some(outer.column.clone()), subject: None, ..rule }),
        }
    }

    fn class(&mut self, node: &Node) -> Option<Declared> {
        let text = self.text(node, "`class`")?;
        let class = Declared::parse(&text);
        if class.is_none() {
            let what = format!("there is no class `{text}`");
            self.report.error(
                node.line,
                what,
                "Use a letter from A to R (45 CFR 164.514(b)(2)(i)), or not_identifying.",
            );
        }
        class
    }

    fn form(&mut self, node: &Node, transform: &Transform) -> Option<Form> {
        let text = self.text(node, "`canonical`")?;
        if !transform.takes_form() {
            let what = format!("`canonical` means nothing to `{transform}`");
            self.report.error(node.line, what, "Remove it; it is for tokens, vault codes and subjects.");
            return None;
        }
        let form = Form::ALL.into_iter().find(|form| form.name() == text);
        if form.is_none() {
            let names = Form::ALL.map(Form::name).join(", ");
            self.report.error(
                node.line,
                format!("there is no canonical form `{text}`"),
                format!("Use one of {names}."),
            );
        }
        form
    }

    fn epoch(&mut self, node: &Node, option: &str, fits: bool, transform: &Transform) -> Option<u32> {
        let text = self.text(node, &format!("`{option}`"))?;
        if !fits {
            let what = format!("`{option}` means nothing to `{transform}`");
            let fix =
                "Remove it: `epoch` is for tokens, shifts and invented values, `dual` for hmac_token and siv_token.";
            self.report.error(node.line, what, fix);
            return None;
        }
        let epoch = text.parse().ok().filter(|epoch| *epoch > 0);
        if epoch.is_none() {
            let fix = "Write the number of an epoch, as `lockgate keys show` prints it.";
            self.report.error(node.line, format!("`{option}` cannot be `{text}`"), fix);
        }
        epoch
    }

    fn null_as(&mut self, node: &Node, transform: &Transform) -> Option<String> {
        let text = self.text(node, "`null_as`")?;
        if let Err(why) = null_as::fits(transform) {
            let what = format!("`null_as` has no place beside `{transform}`: {why}");
            self.report.error(node.line, what, "Remove it: null stays null.");
            return None;
        }
        let legal = |letter: char| !letter.is_control() && !matches!(letter, '(' | ')');
        if text.chars().count() > NULL_AS_CHARACTERS_MAX || !text.chars().all(legal) {
            let what = "`null_as` is a value of one line without brackets, of at most 64 characters";
            self.report.error(node.line, what, "Write it like `null_as: unknown`.");
            return None;
        }
        Some(text)
    }

    fn transform(&mut self, text: &str, entry: &Entry) -> Option<Transform> {
        let read = spelling::parse(text)
            .map_err(|wrong| self.report.error(entry.line, format!("`{}`: {}", entry.key, wrong.what), wrong.fix));
        Some(self.with_model(read.ok()?))
    }

    fn on_invalid(&mut self, node: &Node) -> Option<OnInvalid> {
        let text = self.text(node, "`on_invalid`")?;
        let known = OnInvalid::ALL.into_iter().find(|on_invalid| on_invalid.name() == text);
        if known.is_none() {
            let what = format!("`on_invalid` cannot be `{text}`");
            let fix = "Use null (the value becomes null and is counted), hold (the row is kept back) or halt.";
            self.report.error(node.line, what, fix);
        }
        known
    }

    fn map<'a>(&mut self, node: &'a Node, whose: &str) -> &'a [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.report.error(
                    node.line,
                    format!("{whose} must be a mapping"),
                    "Write `name: value` lines below it.",
                );
                &[]
            }
        }
    }

    fn text(&mut self, node: &Node, whose: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(text) if !text.is_empty() => Some(text.clone()),
            _ => {
                self.report.error(node.line, format!("{whose} must be text"), "Write one value behind the colon.");
                None
            }
        }
    }

    fn known(&mut self, entries: &[Entry], known: &[&'static str], whose: &str) {
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let fix = match did_you_mean(&entry.key, known.iter().copied()) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => format!("Remove it; known are {}.", known.join(", ")),
            };
            self.report.error(entry.line, format!("{whose} has no option `{}`", entry.key), fix);
        }
    }
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Node> {
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}
