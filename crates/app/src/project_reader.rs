//! Fields out of a YAML mapping, with every mistake kept and its line.

use std::collections::BTreeMap;

use change::{Problem, Severity};
use gate::yaml::{Entry, Node, Value};

/// Reads the fields of one mapping; [`Reader::end`] reports those that nobody asked for.
pub(crate) struct Reader<'a> {
    file: &'a str,
    line: u64,
    entries: &'a [Entry],
    asked: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a str, node: &'a Node, problems: &'a mut Vec<Problem>) -> Self {
        let mut reader = Self { file, line: node.line, entries: &[], asked: Vec::new(), problems };
        match &node.value {
            Value::Map(entries) => reader.entries = entries,
            _ => reader.wrong(Some(node.line), "fields are expected here", "Write `name: value` lines."),
        }
        reader
    }

    /// The line on which the mapping starts.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Adds a problem.
    pub(crate) fn wrong(&mut self, line: Option<u64>, what: &str, fix: &str) {
        let (file, what, fix) = (self.file.to_owned(), what.to_owned(), fix.to_owned());
        self.problems.push(Problem { severity: Severity::Error, file, line, what, fix });
    }

    /// The names of all fields; they count as asked for.
    pub(crate) fn keys(&mut self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// The lines of the fields, by name.
    pub(crate) fn lines(&self) -> BTreeMap<String, u64> {
        self.entries.iter().map(|entry| (entry.key.clone(), entry.line)).collect()
    }

    fn find(&mut self, name: &str) -> Option<&'a Entry> {
        self.asked.push(name.to_owned());
        self.entries.iter().find(|entry| entry.key == name)
    }

    /// A scalar and its line.
    pub(crate) fn text_with_line(&mut self, name: &str) -> Option<(String, u64)> {
        let entry = self.find(name)?;
        match &entry.value.value {
            Value::Scalar(text) => Some((text.clone(), entry.line)),
            _ => {
                self.wrong(Some(entry.line), &format!("`{name}` must be a single value"), "Write it on the same line.");
                None
            }
        }
    }

    /// A scalar.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.text_with_line(name).map(|(text, _)| text)
    }

    /// A scalar that must be there; empty when it is not.
    pub(crate) fn required(&mut self, name: &str) -> String {
        self.text(name).filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.wrong(Some(self.line), &format!("`{name}` is missing"), &format!("Add `{name}: ...`."));
            String::new()
        })
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, name: &str, min: f64, max: f64) -> Option<f64> {
        let (text, line) = self.text_with_line(name)?;
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        let within = number.filter(|number| (min..=max).contains(number));
        if within.is_none() {
            let what = match number {
                Some(number) if number < min => format!("`{name}: {text}` is too small"),
                Some(_) => format!("`{name}: {text}` is too large"),
                None => format!("`{name}` must be a number"),
            };
            self.wrong(Some(line), &what, &format!("Choose between {min} and {max}."));
        }
        within
    }

    /// A list of scalars; a single scalar counts as a list of one.
    pub(crate) fn list(&mut self, name: &str) -> Vec<String> {
        let Some(entry) = self.find(name) else { return Vec::new() };
        let items = match &entry.value.value {
            Value::List(items) => items.as_slice(),
            Value::Scalar(_) => std::slice::from_ref(&entry.value),
            Value::Map(_) => &[],
        };
        let texts: Vec<String> = items.iter().filter_map(scalar).collect();
        if texts.len() != items.len() || items.is_empty() {
            self.wrong(Some(entry.line), &format!("`{name}` must be a list of names"), "Write `[a, b]`.");
        }
        texts
    }

    /// A mapping of scalars.
    pub(crate) fn texts(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        self.section(name, |section| {
            for key in section.keys() {
                if let Some(text) = section.text(&key) {
                    texts.insert(key, text);
                }
            }
        });
        texts
    }

    /// A mapping, read by `read`; nothing happens when it is missing.
    pub(crate) fn section(&mut self, name: &str, read: impl FnOnce(&mut Reader<'_>)) {
        if let Some(entry) = self.find(name) {
            let mut section = Reader::new(self.file, &entry.value, self.problems);
            section.line = entry.line;
            read(&mut section);
        }
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn end(&mut self) {
        let unknown: Vec<&Entry> = self.entries.iter().filter(|entry| !self.asked.contains(&entry.key)).collect();
        for entry in unknown {
            let fix = format!("Known here: {}.", self.asked.join(", "));
            self.wrong(Some(entry.line), &format!("there is no field `{}` here", entry.key), &fix);
        }
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(text) => Some(text.clone()),
        _ => None,
    }
}
