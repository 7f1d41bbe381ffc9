//! The files that the rules look at.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project.
pub(crate) struct Source {
    /// From the workspace's root, with forward slashes.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The same without what is there for tests only: everything from the first `#[cfg(test)]` that opens a module in place.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file is a test, a bench or an example as a whole.
    pub(crate) fn is_for_tests(&self) -> bool {
        let folders = ["tests", "benches", "examples", "fuzz"];
        self.path.split('/').any(|part| folders.contains(&part)) || self.path.ends_with("tests.rs")
    }
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every text file that belongs to the project: what git ignores is left out by name, so that the rules hold in an export too.
pub(crate) fn all() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        Some(Source { path: path.strip_prefix(root()).unwrap().to_str()?.to_owned(), text })
    };
    let found: Vec<Source> = paths.iter().filter_map(read).collect();
    assert!(found.iter().any(|source| source.path == "crates/change/src/lib.rs"), "the walk misses the sources");
    found
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    const LEFT_OUT: [&str; 8] =
        [".git", ".tools", "target", "bin", "lockgate-demo", "node_modules", "__pycache__", "keys"];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}
