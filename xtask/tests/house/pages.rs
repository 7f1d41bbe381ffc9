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
