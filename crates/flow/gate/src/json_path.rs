use std::fmt;

use crate::policy::Rule;

/// A place in a JSON document: `patient.id`, `lines[].code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath {
    pub(crate) steps: Vec<Step>,
}

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of a key.
    Key(String),
    /// Every item of a list.
    Items,
}

impl JsonPath {
    /// Reads keys apart by dots, `[]` behind those that hold a list.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.strip_prefix("$.").unwrap_or(text).split('.') {
            let key = part.trim_end_matches("[]");
            let lists = (part.len() - key.len()) / 2;
            if key.is_empty() || key.contains(['[', ']', '*', '"', '\'']) {
                return Err(format!("`{text}` is not a path"));
            }
            steps.push(Step::Key(key.into()));
            steps.extend((0..lists).map(|_| Step::Items));
        }
        Ok(Self { steps })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Items => f.write_str("[]")?,
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// The rules of [`crate::Transform::JsonPaths`]: each place with its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonPaths(pub(crate) Vec<(JsonPath, Rule)>);

impl JsonPaths {
    /// The paths, each with what its rule means.
    pub(crate) fn meaning(&self) -> String {
        let meanings = self.0.iter().map(|(path, rule)| format!("{path}={}", rule.meaning()));
        meanings.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for JsonPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, rule)) in self.0.iter().enumerate() {
            write!(f, "{}{path}={}", if index > 0 { ", " } else { "" }, rule.transform)?;
        }
        Ok(())
    }
}

/// The paths as a tree, for one walk through a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// The rule of this number.
    Leaf(usize),
    /// Keys that are let through.
    Object(Vec<(String, Branch)>),
    /// Every item of a list.
    Items(Box<Branch>),
}

impl Branch {
    /// Puts the paths together, numbered in their order.
    ///
    /// # Errors
    /// The path that contradicts one before it: one place cannot be a value, a list and an object at once.
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a JsonPath>) -> Result<Self, &'a JsonPath> {
        let mut root = Branch::Object(Vec::new());
        for (number, path) in paths.into_iter().enumerate() {
            root.add(&path.steps, number).ok_or(path)?;
        }
        Ok(root)
    }

    fn add(&mut self, steps: &[Step], number: usize) -> Option<()> {
        match (self, steps) {
            (Branch::Items(item), [Step::Items, rest @ ..]) => item.add(rest, number),
            (Branch::Object(keys), [Step::Key(key), rest @ ..]) => {
                match keys.iter_mut().find(|(known, _)| known == key) {
                    Some((_, branch)) => branch.add(rest, number),
                    None => {
                        keys.push((key.clone(), Branch::new(rest, number)));
                        Some(())
                    }
                }
            }
            _ => None,
        }
    }

    fn new(steps: &[Step], number: usize) -> Self {
        match steps {
            [] => Branch::Leaf(number),
            [Step::Items, rest @ ..] => Branch::Items(Box::new(Branch::new(rest, number))),
            [Step::Key(key), rest @ ..] => Branch::Object(vec![(key.clone(), Branch::new(rest, number))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_spelt_again() {
        for text in ["a", "a.b", "lines[].code", "a[][]", "name[].given[]"] {
            assert_eq!(JsonPath::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(JsonPath::parse("$.a.b").unwrap().to_string(), "a.b");
        for text in ["", "a..b", "[]", "a[0]", "a[*].b", "a.", "['a.b']"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_place_cannot_be_two_things() {
        let tree = |texts: &[&str]| {
            let paths: Vec<JsonPath> = texts.iter().map(|text| JsonPath::parse(text).unwrap()).collect();
            Branch::of(&paths).map_err(JsonPath::to_string).map(drop)
        };
        assert_eq!(tree(&["a.b", "a.c", "d[].e", "d[].f[]"]), Ok(()));
        for wrong in [["a", "a"], ["a", "a.b"], ["a.b", "a"], ["a[]", "a.b"], ["a[].b", "a[]"]] {
            assert_eq!(tree(&wrong), Err(wrong[1].to_owned()));
        }
    }
}
