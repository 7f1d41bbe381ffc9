use std::collections::BTreeMap;

use change::{Problem, TableName};

use crate::report::{Report, did_you_mean};
use crate::yaml::{self, Entry, Node, Value};
use crate::{Profile, Transform, spelling};

/// `policy.yaml`, read and right in itself; [`Policy::compile`] meets it with the tables.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) file: String,
    pub(crate) profile: Profile,
    pub(crate) keys: Option<String>,
    pub(crate) tables: BTreeMap<TableName, TableRules>,
}

/// The rules of one table.
#[derive(Clone, Debug)]
pub(crate) struct TableRules {
    pub(crate) line: u64,
    pub(crate) columns: Vec<Rule>,
}

/// What the policy says of one column.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) column: String,
    pub(crate) line: u64,
    pub(crate) transform: Transform,
    pub(crate) on_invalid: OnInvalid,
    pub(crate) reason: Option<String>,
    pub(crate) reviewer: Option<String>,
}

/// What becomes of a value that a transform cannot read. It never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInvalid {
    /// It becomes null and is counted.
    Null,
    /// The table stops.
    Halt,
}

const TOP: [&str; 3] = ["profile", "keys", "tables"];
const OPTIONS: [&str; 4] = ["transform", "on_invalid", "reason", "reviewer"];

impl Policy {
    /// Reads `policy.yaml`. `file` is its name as the user knows it, for messages. Reports everything that can be said without the
    /// tables' structure, all at once.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Problem>> {
        let root = yaml::parse(text, file)?;
        let mut reader = Reader { report: Report::new(file) };
        let policy = reader.policy(&root, file);
        if reader.report.has_errors() { Err(reader.report.problems) } else { Ok(policy) }
    }

    /// The claimed profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Where the keys are, as written: `file:./keys/dev.key`. The gate does not read it.
    pub fn keys(&self) -> Option<&str> {
        self.keys.as_deref()
    }

    /// The tables that have rules.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.tables.keys()
    }
}

struct Reader {
    report: Report,
}

impl Reader {
    fn policy(&mut self, root: &Node, file: &str) -> Policy {
        let entries = self.map(root, "the policy");
        self.known(entries, &TOP, "the policy");
        let mut policy = Policy { file: file.into(), profile: Profile::None, keys: None, tables: BTreeMap::new() };
        match find(entries, "profile") {
            None => self.report.error(
                root.line,
                "the policy claims no profile",
                "Add `profile: limited_data_set` (or safe_harbor, expert, or none to make no claim).",
            ),
            Some(node) => policy.profile = self.profile(node),
        }
        policy.keys = find(entries, "keys").and_then(|node| self.text(node, "`keys`"));
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

    fn table(&mut self, entry: &Entry, policy: &mut Policy) {
        let mut parts = entry.key.splitn(3, '.');
        let (Some(source), Some(schema), Some(table)) = (parts.next(), parts.next(), parts.next()) else {
            let what = format!("`{}` is not a table's full name", entry.key);
            self.report.error(entry.line, what, "Write source.schema.table, like claims_db.public.members.");
            return;
        };
        let entries = self.map(&entry.value, &format!("`{}`", entry.key));
        let columns = entries.iter().filter_map(|column| self.rule(column)).collect();
        policy.tables.insert(TableName::new(source, schema, table), TableRules { line: entry.line, columns });
    }

    fn rule(&mut self, entry: &Entry) -> Option<Rule> {
        let mut rule = Rule {
            column: entry.key.clone(),
            line: entry.line,
            transform: Transform::Drop,
            on_invalid: OnInvalid::Null,
            reason: None,
            reviewer: None,
        };
        match &entry.value.value {
            Value::Scalar(text) => rule.transform = self.transform(text, entry)?,
            Value::List(_) => {
                let what = format!("`{}` has a list of rules; a column has exactly one", entry.key);
                self.report.error(entry.value.line, what, "Keep one transform.");
                return None;
            }
            Value::Map(options) => {
                let whose = format!("the rule of `{}`", entry.key);
                self.known(options, &OPTIONS, &whose);
                let Some(node) = find(options, "transform") else {
                    self.report.error(entry.line, format!("{whose} names no transform"), "Add `transform: drop`.");
                    return None;
                };
                let text = self.text(node, "`transform`")?;
                rule.transform = self.transform(&text, entry)?;
                rule.reason = find(options, "reason").and_then(|node| self.text(node, "`reason`"));
                rule.reviewer = find(options, "reviewer").and_then(|node| self.text(node, "`reviewer`"));
                if let Some(node) = find(options, "on_invalid") {
                    rule.on_invalid = self.on_invalid(node)?;
                }
            }
        }
        Some(rule)
    }

    fn transform(&mut self, text: &str, entry: &Entry) -> Option<Transform> {
        spelling::parse(text)
            .map_err(|wrong| self.report.error(entry.line, format!("`{}`: {}", entry.key, wrong.what), wrong.fix))
            .ok()
    }

    fn on_invalid(&mut self, node: &Node) -> Option<OnInvalid> {
        let text = self.text(node, "`on_invalid`")?;
        match text.as_str() {
            "null" => Some(OnInvalid::Null),
            "halt" => Some(OnInvalid::Halt),
            _ => {
                let what = format!("`on_invalid` cannot be `{text}`");
                self.report.error(node.line, what, "Use null (the value becomes null and is counted) or halt.");
                None
            }
        }
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
