//! The files that the rules look at.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project.
pub(crate) struct Source {
    /// From the workspace's root, with forward slashes.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
    /// Whether it is compiled for tests only.
    pub(crate) for_tests: bool,
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

    /// Files and folders of the modules that this one declares for tests only: `#[cfg(test)]`, then `mod name;`.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let after_mark = self.text.split("#[cfg(test)]\n").skip(1);
        let names = after_mark.filter_map(|text| text.lines().next()?.split_once("mod ")?.1.strip_suffix(';'));
        names.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]).collect()
    }
}

/// Whether a path is one of a test, a bench or an example.
fn is_beside_the_product(path: &str) -> bool {
    path.split('/').any(|part| ["tests", "benches", "examples", "fuzz"].contains(&part))
}

/// The workspace's root: that of this run, because checkouts may share a target folder and with it the compiled test.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().unwrap().to_path_buf()
}

/// Every text file that belongs to the project: what git ignores is left out by name, so that the rules hold in an export too.
pub(crate) fn all() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let path = path.strip_prefix(root()).unwrap().to_str()?.to_owned();
        Some(Source { for_tests: is_beside_the_product(&path), path, text })
    };
    let mut found: Vec<Source> = paths.iter().filter_map(read).collect();
    let modules: Vec<String> = found.iter().filter(|source| source.is_rust()).flat_map(Source::test_modules).collect();
    for source in &mut found {
        source.for_tests |= modules.iter().any(|module| source.path.starts_with(module));
    }
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
