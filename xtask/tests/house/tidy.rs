//! How the code looks.

use crate::ratchet::Ratchet;
use crate::rules::{self, Finding};
use crate::sources::{self, Source};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn assert_clean(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.what)).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn over(rule: fn(&Source) -> Vec<Finding>) -> Vec<Finding> {
    sources::all().iter().filter(|source| source.is_rust()).flat_map(rule).collect()
}

fn product() -> Vec<Source> {
    sources::all().into_iter().filter(|source| source.is_rust() && !source.for_tests).collect()
}

#[test]
fn files_are_short() {
    let measured: Vec<_> = product().iter().map(|source| (source.path.clone(), rules::code_lines(source))).collect();
    assert_none(&Ratchet::read().complaints("file", FILE_LINES_MAX, &measured));
}

#[test]
fn functions_are_short() {
    let of = |source: &Source| {
        let named = |(name, _, length)| (format!("{}::{name}", source.path), length);
        rules::functions(source).into_iter().map(named).collect::<Vec<_>>()
    };
    let measured: Vec<_> = product().iter().flat_map(of).collect();
    assert_none(&Ratchet::read().complaints("function", FUNCTION_LINES_MAX, &measured));
}

#[test]
fn names_say_something() {
    assert_clean(&over(rules::vague_name));
}

#[test]
fn only_decoders_and_the_gate_see_raw_values() {
    assert_clean(&over(rules::raw_values));
}

#[test]
fn only_app_reads_the_environment() {
    assert_clean(&over(rules::environment));
}

#[test]
fn change_and_gate_do_no_io() {
    assert_clean(&over(rules::no_io));
}

#[test]
fn only_app_prints() {
    assert_clean(&over(rules::printing));
}

#[test]
fn nothing_is_promised() {
    assert_clean(&over(rules::promises));
}

#[test]
fn no_task_is_thrown_away() {
    assert_clean(&over(rules::lost_tasks));
}

#[test]
fn no_path_of_one_machine() {
    let elsewhere = |source: &&Source| source.path != "Cargo.lock";
    assert_clean(&sources::all().iter().filter(elsewhere).flat_map(rules::machine_paths).collect::<Vec<_>>());
}

/// A source for the rules' own tests.
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned(), for_tests: false }
}

#[test]
fn each_rule_finds_what_it_forbids() {
    type Rule = fn(&Source) -> Vec<Finding>;
    let cases: [(Rule, &str, &str); 9] = [
        (rules::vague_name, "crates/app/src/utils.rs", ""),
        (rules::raw_values, "crates/flow/lake/src/a.rs", "let rows = batch.rows().expose();"),
        (rules::environment, "crates/flow/lake/src/a.rs", "let home = std::env::var(\"HOME\");"),
        (rules::no_io, "crates/flow/gate/src/a.rs", "use std::fs;"),
        (rules::printing, "crates/flow/lake/src/a.rs", concat!("print", "ln!(\"a\");")),
        (rules::promises, "crates/app/src/a.rs", concat!("// TO", "DO: more")),
        (rules::promises, "crates/app/src/a.rs", concat!("#[ign", "ore]")),
        (rules::machine_paths, "README.md", concat!("see /ho", "me/me/notes")),
        (rules::lost_tasks, "crates/app/src/a.rs", concat!("    tokio::", "spawn(async {});")),
    ];
    for (rule, path, text) in cases {
        assert_eq!(rule(&source(path, text)).len(), 1, "{path}: {text}");
    }
}

#[test]
fn rules_spare_what_they_allow() {
    let inside = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b(raw: Raw<u8>) { raw.expose(); }\n}\n";
    assert_eq!(rules::raw_values(&source("crates/flow/lake/src/a.rs", inside)), []);
    assert_eq!(rules::raw_values(&source("crates/flow/gate/src/a.rs", "raw.expose()")), []);
    assert_eq!(rules::environment(&source("crates/app/src/a.rs", "std::env::var(\"A\")")), []);
    assert_eq!(rules::lost_tasks(&source("crates/app/src/a.rs", "    let task = tokio::spawn(work());")), []);
    let explained = concat!("    // Detached: ends with\n    // the process.\n    tokio::", "spawn(work());");
    assert_eq!(rules::lost_tasks(&source("crates/app/src/a.rs", explained)), []);
}

#[test]
fn modules_for_tests_are_known() {
    let all = sources::all();
    let is_for_tests = |path: &str| all.iter().find(|source| source.path == path).unwrap().for_tests;
    assert!(is_for_tests("crates/flow/gate/src/policy/tests.rs") && is_for_tests("xtask/tests/house/main.rs"));
    assert!(!is_for_tests("crates/flow/gate/src/policy.rs"));
}

#[test]
fn functions_are_measured() {
    let text = "pub fn one() {}\n\nimpl A {\n    pub(crate) async fn three(&self) {\n        // why\n        go();\n    }\n}\n";
    let measured = rules::functions(&source("crates/app/src/a.rs", text));
    assert_eq!(measured, [("one".to_owned(), 1, 1), ("three".to_owned(), 4, 3)]);
}
