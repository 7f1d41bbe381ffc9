//! `k_gate` of a table: `{ k: 11, person: member_id, columns: { zip: [prefix(2), redact(ANY)] } }`.

use super::{Reader, Rule, find};
use crate::k_gate::{K_DEFAULT, K_MAX, Level};
use crate::yaml::{Entry, Node, Value};
use crate::{KGate, Transform, spelling};

const OPTIONS: [&str; 3] = ["k", "person", "columns"];
const EXAMPLE: &str = "Write k_gate: { k: 11, columns: { zip: [prefix(2)], birth_date: [round(5), round(10)] } }.";

impl Reader {
    /// How a table with these rules is released.
    pub(super) fn k_gate(&mut self, every: &Entry, rules: &[Rule]) -> Option<KGate> {
        let Value::Map(options) = &every.value.value else { return None };
        let node = find(options, "k_gate")?;
        let entries = self.map(node, "`k_gate`");
        self.known(entries, &OPTIONS, "`k_gate`");
        let k = find(entries, "k").map_or(Some(K_DEFAULT), |node| self.k(node))?;
        let person = match find(entries, "person") {
            Some(node) => {
                let name = self.text(node, "`person`")?;
                if rules.iter().any(|rule| rule.column == name && rule.null_as.is_some()) {
                    let what = format!("`k_gate`: `{name}` has `null_as`: all rows without a person would be one's");
                    self.report.error(node.line, what, "Take `null_as` out of its rule, or name another column.");
                    return None;
                }
                Some(self.gated_column(&name, node.line, rules)?)
            }
            None => None,
        };
        let Some(named) = find(entries, "columns") else {
            self.report.error(node.line, "`k_gate` names no columns that together can tell who somebody is", EXAMPLE);
            return None;
        };
        let mut columns = Vec::new();
        for entry in self.map(named, "`columns`") {
            let column = self.gated_column(&entry.key, entry.line, rules)?;
            columns.push((column, self.ladder(entry)?));
        }
        if columns.is_empty() {
            self.report.error(named.line, "`k_gate` names no columns that together can tell who somebody is", EXAMPLE);
            return None;
        }
        Some(KGate { k, person, columns })
    }

    fn k(&mut self, node: &Node) -> Option<u32> {
        let text = self.text(node, "`k`")?;
        let k = text.parse::<u32>().ok().filter(|k| (2..=K_MAX).contains(k));
        if k.is_none() {
            self.report.error(
                node.line,
                format!("`k` cannot be `{text}`"),
                format!("Write a number from 2 to {K_MAX}."),
            );
        }
        k
    }

    /// A column that the lake has and can group by.
    fn gated_column(&mut self, name: &str, line: u64, rules: &[Rule]) -> Option<String> {
        let rule = rules.iter().find(|rule| rule.column == *name);
        let wrong = match rule.map(|rule| &rule.transform) {
            None => "has no rule, and is not in the lake",
            Some(Transform::Drop) => "is dropped, and is not in the lake",
            Some(transform) if transform.is_random() => "never has the same value twice",
            Some(transform) if transform.is_document() => "holds documents",
            Some(_) => return Some(name.to_owned()),
        };
        self.report.error(line, format!("`k_gate`: `{name}` {wrong}"), "Name columns that the policy stores.");
        None
    }

    /// The levels, each coarser than the one before.
    fn ladder(&mut self, entry: &Entry) -> Option<Vec<Level>> {
        let Value::List(nodes) = &entry.value.value else {
            let what = format!("`k_gate`: `{}` has no list of levels", entry.key);
            self.report.error(entry.line, what, EXAMPLE);
            return None;
        };
        let mut levels = Vec::new();
        for node in nodes {
            let text = self.text(node, "a level")?;
            let level = level(&text).map_err(|(what, fix)| {
                self.report.error(node.line, format!("`k_gate`: `{}`: {what}", entry.key), fix);
            });
            levels.push(level.ok()?);
        }
        if levels.is_empty() {
            let what = format!("`k_gate`: `{}` has no levels", entry.key);
            self.report.error(entry.line, what, "Name at least one; redact(ANY) makes all values alike.");
            return None;
        }
        Some(levels)
    }
}

fn level(text: &str) -> Result<Level, (String, String)> {
    const FIX: &str = "Use prefix(N), bucket, round, top_code, date_trunc, date_year, hierarchy, zip3, geo_state, redact(ANY) or null_out.";
    if let Some(inside) = text.strip_prefix("prefix(").and_then(|rest| rest.strip_suffix(')')) {
        let characters = inside.trim().parse().ok().filter(|characters| (1..=64).contains(characters));
        return characters
            .map(Level::Prefix)
            .ok_or_else(|| ("`prefix` takes 1 to 64 characters".into(), "Write it like prefix(2).".into()));
    }
    let transform = spelling::parse(text).map_err(|wrong| (wrong.what, wrong.fix))?;
    match Level::is_coarse(&transform) {
        true => Ok(Level::By(transform)),
        false => Err((format!("`{transform}` makes nothing coarser"), FIX.into())),
    }
}
