//! One function for each rule: a source in, findings out. `tidy` runs them over the project and `ratchet` forgives the past.

use crate::sources::Source;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

fn finding(source: &Source, line: usize, what: impl Into<String>) -> Finding {
    Finding { path: source.path.clone(), line, what: what.into() }
}

/// Whether a line holds code rather than nothing or a comment.
fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

/// Lines of code that the file has, tests at its end left out.
pub(crate) fn code_lines(source: &Source) -> usize {
    source.product_lines().filter(|(_, line)| is_code(line)).count()
}

/// Name, line and lines of code of each function; trusts rustfmt that a body ends at its head's indentation.
pub(crate) fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let lines: Vec<(usize, &str)> = source.product_lines().collect();
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        let body = &lines[index..];
        let one_line = line.trim_end().ends_with(['}', ';']);
        let length = match body.iter().position(|(_, line)| *line == close) {
            Some(end) if !one_line => body[..=end].iter().filter(|(_, line)| is_code(line)).count(),
            _ => 1,
        };
        found.push((name.to_owned(), *number, length));
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "default ", "const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

/// Names that say nothing.
pub(crate) fn vague_name(source: &Source) -> Vec<Finding> {
    const VAGUE: [&str; 10] =
        ["utils", "util", "common", "types", "base", "core", "helpers", "helper", "manager", "misc"];
    let stem = source.path.rsplit('/').next().and_then(|file| file.strip_suffix(".rs"));
    // `types/` is the one name that a folder of many types may have: the Postgres ones.
    match stem.filter(|stem| VAGUE.contains(stem)) {
        Some(stem) => vec![finding(source, 1, format!("`{stem}` says nothing; name the file after what it does"))],
        None => Vec::new(),
    }
}

/// Whose code may look at raw values: the gate, decoders, and `change`, which makes the mark.
pub(crate) fn raw_values(source: &Source) -> Vec<Finding> {
    const MAY: [&str; 3] = ["crates/flow/gate/", "crates/flow/capture/", "crates/change/src/"];
    if MAY.iter().any(|folder| source.path.starts_with(folder)) || source.for_tests {
        return Vec::new();
    }
    let what = "only decoders and the gate may look at raw values";
    words(source, source.product_lines(), &[".expose()", ".into_exposed()", "Raw::expose", "Raw::into_exposed"], what)
}

/// Crates below `app` take the environment as arguments.
pub(crate) fn environment(source: &Source) -> Vec<Finding> {
    if !is_below_app(source) {
        return Vec::new();
    }
    words(source, source.product_lines(), &["std::env", "env::var", "env::args"], "only `app` reads the environment")
}

/// `change` and `gate` do no I/O.
pub(crate) fn no_io(source: &Source) -> Vec<Finding> {
    let pure = ["crates/change/src/", "crates/flow/gate/src/", "crates/flow/ner/src/"];
    if source.for_tests || !pure.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    let io = ["std::fs", "std::net", "std::process", "std::env", "std::thread", "File::open", "tokio::"];
    words(source, source.product_lines(), &io, "`change`, `gate` and `ner` do no I/O")
}

/// Programs print; libraries return or log.
pub(crate) fn printing(source: &Source) -> Vec<Finding> {
    if source.for_tests || !source.path.starts_with("crates/") || source.path.starts_with("crates/app/") {
        return Vec::new();
    }
    let macros = [concat!("print", "ln!("), concat!("eprint", "ln!("), concat!("db", "g!(")];
    words(source, source.product_lines(), &macros, "a library returns or logs; only `app` prints")
}

/// Work that is promised instead of done, and tests that never run.
pub(crate) fn promises(source: &Source) -> Vec<Finding> {
    let promises = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut found = words(source, source.lines(), &promises, "do it, or leave it out");
    found.extend(words(source, source.lines(), &[concat!("#[ign", "ore]")], "say why, and how the test is run"));
    found
}

/// Paths of the machine that the code was written on.
pub(crate) fn machine_paths(source: &Source) -> Vec<Finding> {
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    words(source, source.lines(), &paths, "a path of one machine")
}

/// A task whose handle is thrown away dies unheard, unless a comment above it that begins with `Detached:` says why it may. The crates that
/// talk to databases are spared: there the task that drives a connection ends with its client, who hears of every failure.
pub(crate) fn lost_tasks(source: &Source) -> Vec<Finding> {
    if source.path.starts_with("crates/flow/capture/") || source.path.starts_with("crates/sandbox/") {
        return Vec::new();
    }
    let what =
        "a task's handle is thrown away; keep it and await it, use a JoinSet, or say why above it: `// Detached: ...`";
    let mut found = Vec::new();
    let mut explained = false;
    for (number, line) in source.product_lines().map(|(number, line)| (number, line.trim_start())) {
        if line.starts_with(concat!("tokio::", "spawn(")) && !explained {
            found.push(finding(source, number, what));
        }
        explained = line.starts_with("// Detached:") || (explained && line.starts_with("//"));
    }
    found
}

fn is_below_app(source: &Source) -> bool {
    let below = ["crates/change/src/", "crates/flow/", "crates/control/src/"];
    below.iter().any(|folder| source.path.starts_with(folder)) && !source.for_tests
}

fn words<'a>(
    source: &Source,
    lines: impl Iterator<Item = (usize, &'a str)>,
    words: &[&str],
    what: &str,
) -> Vec<Finding> {
    let code =
        |line: &str| !source.is_rust() || !line.trim_start().starts_with("//") || words.contains(&concat!("TO", "DO"));
    let mut found = Vec::new();
    for (number, line) in lines {
        if let Some(word) = words.iter().find(|word| code(line) && line.contains(**word)) {
            found.push(finding(source, number, format!("`{word}`: {what}")));
        }
    }
    found
}
