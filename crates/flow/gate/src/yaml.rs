//! YAML as a tree that knows its lines, so that every problem of a file can be reported at once and where it stands.
//!
//! A deliberate part of YAML: mappings, lists and plain or quoted scalars. Anchors, aliases, tags and several documents in one file
//! are refused: what a reviewer sees in the diff is what holds.

use change::{Problem, Severity};
use saphyr_parser::{Event, Parser, Span};

/// Deeper nesting than any of our files needs is refused.
const DEPTH_MAX: usize = 32;

/// A value and the line on which it starts, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The line, from 1.
    pub line: u64,
    /// What stands there.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text as written, without its quotes; numbers and booleans are not told apart from text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the file's order; no key twice.
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The line of the key, from 1.
    pub line: u64,
    /// The value.
    pub value: Node,
}

/// A part of the tree that is not finished yet.
enum Open {
    List { line: u64, items: Vec<Node> },
    Map { line: u64, entries: Vec<Entry>, key: Option<(String, u64)>, duplicate: bool },
}

struct Builder<'a> {
    file: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    problems: Vec<Problem>,
}

/// Reads one document. An empty file is an empty mapping. Returns all duplicate keys and unsupported features at once, and stops at the
/// first error of syntax.
pub fn parse(text: &str, file: &str) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder { file, open: Vec::new(), root: None, problems: Vec::new() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                builder.event(event, span);
                if builder.open.len() > DEPTH_MAX {
                    builder.problem(line(span), "the file is nested too deeply", "Flatten it.");
                    return Err(builder.problems);
                }
            }
            Err(error) => {
                let what = format!("this is not YAML: {}", error.info());
                let at = error.marker().line() as u64;
                builder.problem(at, what, "Check the indentation (spaces, not tabs), colons and quotes on this line.");
                return Err(builder.problems);
            }
        }
    }
    if builder.problems.is_empty() {
        Ok(builder.root.unwrap_or(Node { line: 1, value: Value::Map(Vec::new()) }))
    } else {
        Err(builder.problems)
    }
}

fn line(span: Span) -> u64 {
    span.start.line() as u64
}

impl Builder<'_> {
    fn problem(&mut self, line: u64, what: impl Into<String>, fix: &str) {
        self.problems.push(Problem {
            severity: Severity::Error,
            file: self.file.into(),
            line: Some(line),
            what: what.into(),
            fix: fix.into(),
        });
    }

    fn event(&mut self, event: Event<'_>, span: Span) {
        let at = line(span);
        match event {
            Event::Scalar(text, _, anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                self.scalar(text.into_owned(), at);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                self.open.push(Open::List { line: at, items: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some());
                self.open.push(Open::Map { line: at, entries: Vec::new(), key: None, duplicate: false });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { line, items }) => self.place(Node { line, value: Value::List(items) }),
                Some(Open::Map { line, entries, .. }) => self.place(Node { line, value: Value::Map(entries) }),
                None => {}
            },
            Event::Alias(_) => {
                self.problem(at, "aliases (*name) are not supported", "Write the value out.");
                self.scalar(String::new(), at);
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                self.problem(at, "the file holds a second document", "Keep one document per file; remove `---`.");
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
    }

    fn refuse(&mut self, line: u64, anchor: usize, tag: bool) {
        if anchor > 0 {
            self.problem(line, "anchors (&name) are not supported", "Write the value out where it is needed.");
        }
        if tag {
            self.problem(line, "tags (!name) are not supported", "Remove the tag.");
        }
    }

    fn scalar(&mut self, text: String, line: u64) {
        let mut first = None;
        match self.open.last_mut() {
            Some(Open::Map { key: key @ None, entries, duplicate, .. }) => {
                first = entries.iter().find(|entry| entry.key == text).map(|entry| entry.line);
                *duplicate = first.is_some();
                *key = Some((text.clone(), line));
            }
            _ => self.place(Node { line, value: Value::Scalar(text.clone()) }),
        }
        if let Some(first) = first {
            let what = format!("`{text}` stands here a second time; it is already on line {first}");
            self.problem(line, what, "Keep one of the two.");
        }
    }

    /// Puts a finished node into what is open; a node where a key belongs is a mapping or list used as a key.
    fn place(&mut self, node: Node) {
        let at = node.line;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, duplicate, .. }) => match key.take() {
                Some(_) if *duplicate => {}
                Some((key, line)) => entries.push(Entry { key, line, value: node }),
                None => {
                    *key = Some((String::new(), at));
                    self.problem(at, "a key must be plain text", "Write the key as a name.");
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(line: u64, text: &str) -> Node {
        Node { line, value: Value::Scalar(text.into()) }
    }

    #[test]
    fn every_node_knows_its_line() {
        let tree = parse("# head\na: 1\nb:\n  c: [x, 'y']\n", "f.yaml").unwrap();
        let list = Node { line: 4, value: Value::List(vec![scalar(4, "x"), scalar(4, "y")]) };
        let b = Node { line: 4, value: Value::Map(vec![Entry { key: "c".into(), line: 4, value: list }]) };
        let expected = vec![
            Entry { key: "a".into(), line: 2, value: scalar(2, "1") },
            Entry { key: "b".into(), line: 3, value: b },
        ];
        assert_eq!(tree.value, Value::Map(expected));
        assert_eq!(parse("", "f.yaml").unwrap().value, Value::Map(vec![]));
    }

    #[test]
    fn what_a_reviewer_would_not_see_is_refused_with_its_line() {
        let lines = |text: &str| {
            let problems = parse(text, "f.yaml").unwrap_err();
            problems.iter().map(|problem| problem.line.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(lines("a: 1\nb: 2\na: 3\nb: {x: 1, x: 2}\n"), [3, 4, 4]);
        assert_eq!(lines("a: &x 1\nb: *x\n"), [1, 2]);
        assert_eq!(lines("a: !secret 1\n"), [1]);
        assert_eq!(lines("a: 1\n---\nb: 1\n"), [2]);
        assert_eq!(lines("a: 1\nb: [1, 2\n").len(), 1);
        assert_eq!(lines("a: 1\n? {x: 1}\n: 2\n"), [2]);
        assert_eq!(lines(&"[".repeat(100)), [1]);
    }
}
