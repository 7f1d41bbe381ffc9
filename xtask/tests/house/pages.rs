//! Whether the pages still tell the truth: a hand-kept map rots unless a test reads it.

use std::fs;
use std::path::Path;

use crate::sources::{self, root};

/// What stands between backticks on a page, code blocks left out.
fn quoted(page: &str) -> Vec<String> {
    let prose: Vec<&str> = page.split("```").step_by(2).collect();
    let lines = prose.iter().flat_map(|part| part.lines());
    lines.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether a quotation means a file or folder of the project.
fn is_path(word: &str) -> bool {
    const TOPS: [&str; 11] = [
        "crates/",
        "docs/",
        "xtask/",
        "tests/",
        "scripts/",
        "benches/",
        "examples/",
        "fuzz/",
        "ui/",
        ".ci/",
        ".config/",
    ];
    TOPS.iter().any(|top| word.starts_with(top)) && !word.contains(['*', '<', ' '])
}

#[test]
fn architecture_names_every_crate() {
    let words = quoted(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    for manifest in sources::all().iter().filter(|source| source.path.ends_with("/Cargo.toml")) {
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let named = words.iter().any(|word| word.trim_end_matches('/') == folder);
        assert!(named || folder.starts_with("fuzz"), "ARCHITECTURE.md does not name `{folder}/`");
    }
}

#[test]
fn pages_name_only_what_exists() {
    let mut wrong = Vec::new();
    for page in sources::all().iter().filter(|source| source.path.ends_with(".md")) {
        for word in quoted(&page.text).iter().filter(|word| is_path(word)) {
            let (file, item) = word.split_once("::").map_or((word.as_str(), None), |(file, item)| (file, Some(item)));
            let file = root().join(file);
            if !file.exists() {
                wrong.push(format!("{}: `{word}` does not exist", page.path));
            } else if item.is_some_and(|item| !defines(&file, item)) {
                wrong.push(format!("{}: `{word}`: the file defines no such item", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in sources::all().iter().filter(|source| source.path.ends_with(".md")) {
        let folder = root().join(&page.path).parent().unwrap().to_path_buf();
        for target in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                wrong.push(format!("{}: the link to {target} leads nowhere", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The text of a file of the project.
fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Asserts that the words are some, and that each stands on a page.
fn assert_told(words: &[String], what: &str, is_told: impl Fn(&str) -> bool) {
    let missing: Vec<&String> = words.iter().filter(|word| !is_told(word)).collect();
    assert!(!words.is_empty() && missing.is_empty(), "{what}: {missing:?}");
}

/// The variants of an enumeration as `rename_all = "snake_case"` spells them.
fn variants(source: &str, start: &str) -> Vec<String> {
    let body = source.split(start).nth(1).unwrap().split("\n}\n").next().unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    ")?.split([' ', ',']).next());
    let names = lines.filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase()));
    names.map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The first literal of every call of these functions.
fn literals_of(source: &str, calls: &[&str]) -> Vec<String> {
    let after = |call: &&str| source.split(&format!("{call}(\"")).skip(1).map(str::to_owned).collect::<Vec<_>>();
    let literals = calls.iter().flat_map(after);
    literals.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
}

/// The long options that clap makes of these definitions.
fn long_options(source: &str) -> Vec<String> {
    let arguments = source.split("#[arg(").skip(1).filter_map(|rest| rest.split_once(")]\n"));
    let long = arguments.filter(|(attribute, _)| attribute.split([',', ' ', '=']).any(|word| word == "long"));
    let name = |(attribute, rest): (&str, &str)| match attribute.split_once("long = \"") {
        Some((_, given)) => given.split('"').next().unwrap().to_owned(),
        None => rest.trim_start().trim_start_matches("pub(crate) ").split(':').next().unwrap().replace('_', "-"),
    };
    long.map(name).collect()
}

#[test]
fn every_event_of_the_audit_log_is_explained() {
    let page = text_of("docs/privacy/auditor.md");
    let events = variants(&text_of("crates/audit/src/event.rs"), "pub enum Event {\n");
    assert_told(&events, "docs/privacy/auditor.md lacks events", |event| page.contains(&format!("`{event}`")));
}

#[test]
fn every_key_of_the_project_file_is_explained() {
    let source = text_of("crates/app/src/project.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    let calls = ["text", "text_with_line", "texts", "required", "list", "number", "section", "size"];
    let page = quoted(&text_of("docs/guide/project.md"));
    let is_told = |key: &str| {
        page.iter().any(|words| words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key))
    };
    assert_told(&literals_of(source, &calls), "docs/guide/project.md lacks keys", is_told);
}

#[test]
fn every_long_option_stands_on_a_page() {
    let is_page = |source: &&sources::Source| source.path.ends_with(".md") && source.path != "CHANGELOG.md";
    let pages: String = sources::all().iter().filter(is_page).map(|source| source.text.clone()).collect();
    let is_told = |option: &str| {
        pages
            .split(&format!("--{option}"))
            .skip(1)
            .any(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-' || next == '_'))
    };
    assert_told(&long_options(&text_of("crates/app/src/cli.rs")), "no page names options", is_told);
}

/// Whether the file defines a function or type of the item's last name: `Writer::commit` looks for `commit`.
fn defines(file: &Path, item: &str) -> bool {
    let name = item.rsplit("::").next().unwrap();
    let text = fs::read_to_string(file).unwrap();
    ["fn", "struct", "enum", "trait", "mod", "type", "const"].iter().any(|kind| {
        let start = format!("{kind} {name}");
        text.match_indices(&start).any(|(at, _)| {
            let next = text[at + start.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

#[test]
fn quotations_are_found() {
    let page = "See `crates/app/` and `a b`.\n```\n`not this`\n```\nand `docs/adr/`";
    assert_eq!(quoted(page), ["crates/app/", "a b", "docs/adr/"]);
    assert!(
        defines(&root().join("xtask/tests/house/pages.rs"), "quoted")
            && !defines(&root().join("xtask/tests/house/pages.rs"), "quote")
    );
}

#[test]
fn definitions_are_read() {
    assert_eq!(
        variants("pub enum E {\n    /// A\n    OneTwo {\n        At: u8,\n    },\n    Three,\n}\n", "enum E {\n"),
        ["one_two", "three"]
    );
    let options = "#[arg(long)]\n    pub(crate) a_b: u8,\n#[arg(value_name = \"X\")]\n c: u8,\n#[arg(long = \"d\", value_name = \"E\")]\n es: u8,";
    assert_eq!(long_options(options), ["a-b", "d"]);
    assert_eq!(literals_of("r.text(\"a\"); r.texts(\"b\")", &["text", "texts"]), ["a", "b"]);
}
