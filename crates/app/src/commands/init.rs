//! `lockgate init`: a starter folder that a live database is read for. Values are looked at in memory and reduced to shapes; none is kept.

use std::fmt::Write as _;
use std::path::Path;

use capture::postgres::{self, Described};
use change::{Error, Kind, Result, TableName};
use gate::{Candidate, Shape, Transform, propose};

use crate::assemble;
use crate::cli::Init;
use crate::keys;
use crate::outcome::Outcome;
use crate::project::{POLICY_FILE, PROJECT_FILE, PostgresEntry, Project, ProjectFile, SourceEntry};
use crate::secrets::Reference;

const KEY_FILE: &str = "keys/dev.key";

#[allow(clippy::print_stdout)]
pub(crate) async fn run(dir: &Path, options: &Init) -> Result<Outcome> {
    for name in [PROJECT_FILE, POLICY_FILE] {
        if dir.join(name).exists() {
            return Err(Error::new(Kind::Config, format!("{} is there already", dir.join(name).display()))
                .fix("Choose another folder with --dir, or remove the file."));
        }
    }
    let (described, tables) = match &options.from {
        Some(url) => describe(dir, url, options).await?,
        None => (Vec::new(), options.tables.clone()),
    };
    let url = options.from.as_deref().unwrap_or("postgresql://lockgate@db.internal:5432/claims?sslmode=verify-full");
    let (policy, found) = policy_text(&described);
    write_new(&dir.join(PROJECT_FILE), &project_text(url, options, &tables))?;
    write_new(&dir.join(POLICY_FILE), &policy)?;
    write_ignores(dir)?;
    match keys::make(&dir.join(KEY_FILE))? {
        true => println!(
            "wrote {PROJECT_FILE}, {POLICY_FILE} and {KEY_FILE} (keep it secret, and keep a copy) in {}",
            dir.display()
        ),
        false => {
            println!("wrote {PROJECT_FILE} and {POLICY_FILE} in {}; {KEY_FILE} was there and stays", dir.display());
        }
    }
    if options.from.is_some() {
        println!(
            "{} tables, {} columns: {} masked, {} kept, {} dropped until somebody classifies them",
            described.len(),
            found.columns,
            found.columns - found.kept - found.dropped,
            found.kept,
            found.dropped
        );
    }
    println!("next: read {POLICY_FILE} line by line, then run: lockgate --dir {} check --connect", dir.display());
    Ok(Outcome::Done)
}

/// The tables, with what cannot be followed left out and said, and what to write under `tables`: the patterns as they were given, or the names
/// of what is left.
#[allow(clippy::print_stderr)]
async fn describe(dir: &Path, url: &str, options: &Init) -> Result<(Vec<Described<Shape>>, Vec<String>)> {
    let password = Reference::parse(&options.password).map_err(|error| error.context("--password"))?;
    // A database that asks for no password needs none to be set.
    let password = Some(password)
        .filter(|password| *password != Reference::Env(DEFAULT_PASSWORD.into()) || is_set(DEFAULT_PASSWORD));
    let postgres = PostgresEntry { url: url.to_owned(), password, copy_parallel: 1, ..PostgresEntry::default() };
    let entry = SourceEntry { line: 0, postgres, tables: options.tables.clone() };
    let nothing = String::new;
    let project =
        Project { dir: dir.to_owned(), file: ProjectFile::default(), file_text: nothing(), policy_text: nothing() };
    let config = assemble::postgres_config(&project, &options.name, &entry)?;
    if let Some(problem) = config.problems().into_iter().find(|problem| problem.severity == change::Severity::Error) {
        return Err(Error::new(Kind::Config, problem.what).fix(problem.fix));
    }
    let mut described = postgres::describe(&config, Shape::of).await?;
    let mut left_out = false;
    for (table, why) in postgres::tables(&config).await?.refused {
        if why.kind() == Kind::Auth {
            eprintln!("{table}: proposed by names and types alone, without a look at values: {why}");
        } else {
            eprintln!("{table} is left out: {why}");
            left_out = true;
            described.retain(|found| found.schema.table != table);
        }
    }
    // Its name in full could not be told from that of another table.
    for found in described.extract_if(.., |found| found.schema.table.schema.contains('.')) {
        eprintln!("{} is left out: the name of its schema holds a dot", found.schema.table);
        left_out = true;
    }
    let others = postgres::others(&config).await?;
    for (table, what) in &others {
        // A pattern means tables; whoever writes a name means that one.
        if options.tables.contains(&format!("{}.{}", table.schema, table.table)) {
            eprintln!("{table} is left out: it is {what}");
            left_out = true;
        }
    }
    if described.is_empty() {
        return Err(no_table(options, &others));
    }
    let names =
        || described.iter().map(|found| &found.schema.table).map(|name| format!("{}.{}", name.schema, name.table));
    let tables = if left_out { names().collect() } else { options.tables.clone() };
    Ok((described, tables))
}

/// Nothing can be followed of what `--tables` names.
fn no_table(options: &Init, others: &[(TableName, String)]) -> Error {
    let what = format!("no table matches {}", options.tables.join(", "));
    match others.first() {
        Some((other, is)) => Error::new(Kind::Config, format!("{what}: {other} is {is}")).fix(
            "Name tables with rows of their own: in place of a view those that it reads, in place of a partition the table that it is a part of.",
        ),
        None => Error::new(Kind::Config, what)
            .fix("Give --tables a pattern such as public.*, and grant USAGE on the schema."),
    }
}

const DEFAULT_PASSWORD: &str = "LOCKGATE_SOURCE_PASSWORD";

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

/// What was proposed, for the summary.
#[derive(Default)]
struct Found {
    columns: usize,
    kept: usize,
    dropped: usize,
}

fn policy_text(described: &[Described<Shape>]) -> (String, Found) {
    let mut text = format!(
        "# Proposed by `lockgate init`: a start, not a review. A column that is not named is never stored.\n\
         # The transforms are described in docs/guide/policy.md. A letter is the class of 45 CFR 164.514(b)(2)(i) that a column seems to be of.\n\
         profile: limited_data_set\nkeys: file:./{KEY_FILE}\ntables:\n"
    );
    let mut found = Found::default();
    if described.is_empty() {
        text += "  # source.public.members:\n  #   member_id: hmac_token(member)\n";
    }
    for table in described {
        let schema = &table.schema;
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}:", quoted(&schema.table.to_string()));
        let key = schema.identity_columns();
        for (index, column) in schema.columns.iter().enumerate() {
            let proposal = propose(&Candidate {
                table: &schema.table.table,
                column: &column.name,
                source_type: &column.source_type,
                is_key: key.contains(&index) && matches!(schema.identity, change::Identity::Key(_)),
                shape: table.shapes.get(index).copied().unwrap_or(Shape::Unknown),
            });
            found.columns += 1;
            found.kept += usize::from(proposal.transform == Transform::Keep);
            found.dropped += usize::from(proposal.transform == Transform::Drop);
            let letter = proposal.class.and_then(|class| class.letter(&column.name));
            let letter = letter.map_or_else(String::new, |letter| format!("{letter}: "));
            let _ = writeln!(
                text,
                "    {}: {:<28} # {}; {letter}{}",
                quoted(&column.name),
                proposal.transform,
                column.source_type,
                proposal.why
            );
        }
    }
    (text, found)
}

/// A name as a YAML key.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if plain { name.to_owned() } else { in_quotes(name) }
}

/// A name in YAML's double quotes, whatever is in it.
fn in_quotes(name: &str) -> String {
    let mut text = String::from("\"");
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            // Writing to a string does not fail.
            control if control.is_control() => drop(write!(text, "\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text + "\""
}

fn project_text(url: &str, options: &Init, tables: &[String]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| in_quotes(table)).collect();
    format!(
        "lake: ./lake                          # or s3://bucket/prefix, az://container/prefix, gs://bucket/prefix\n\
         sources:\n  {name}:\n    postgres:\n      url: {url}\n{password}      slot: lockgate_{slot}\n      \
         wal_budget: {{ warn: 4GiB, critical: 10GiB, policy: spool }}\n    tables: [{tables}]\n\
         commit: {{ max_seconds: 5, max_rows: 200000 }}\n",
        name = options.name,
        password = if options.password == format!("${{env:{DEFAULT_PASSWORD}}}") && !is_set(DEFAULT_PASSWORD) {
            format!("      # password: {}\n", options.password)
        } else {
            format!("      password: {}\n", options.password)
        },
        slot = options.name.to_lowercase(),
        tables = tables.join(", ")
    )
}

/// Keys and state never reach version control.
fn write_ignores(dir: &Path) -> Result<()> {
    let path = dir.join(".gitignore");
    if path.exists() {
        return Ok(());
    }
    write_new(&path, "/keys/\n/.lockgate/\n/lake/\n")
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Config, format!("cannot write {}", path.display()))
            .source(error)
            .fix("Choose a folder that you may write to.")
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_read_back_from_the_file() {
        for name in
            ["public.claims", "public.a\"b", "public.back\\slash", "public.a.b", "public.new\nline\u{7}", "public.é: x"]
        {
            for text in [in_quotes(name), quoted(name)] {
                let root = gate::yaml::parse(&format!("tables: [{text}]\n{text}: x\n"), PROJECT_FILE).unwrap();
                let gate::yaml::Value::Map(entries) = root.value else { panic!("{name} makes another file") };
                let gate::yaml::Value::List(items) = &entries[0].value.value else {
                    panic!("{name} makes another list")
                };
                assert_eq!(items[0].value, gate::yaml::Value::Scalar(name.into()));
                assert_eq!(entries[1].key, name);
            }
        }
    }
}
