//! `lockgate policy grants`: the statements that keep in the database what the policy drops.

use std::path::Path;

use capture::postgres::{self, Least};
use change::{Error, Kind, Result};

use crate::assemble;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

/// The statements of one database on standard output, as SQL with comments, so that it can be reviewed and run as it is.
pub(super) async fn run(dir: &Path, source: Option<&str>) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    let sources = &project.file.sources;
    let chosen = match source {
        Some(name) => sources.get_key_value(name),
        None => sources.first_key_value().filter(|_| sources.len() == 1),
    };
    let (name, entry) = chosen.ok_or_else(|| {
        let what = match source {
            Some(name) => format!("lockgate.yaml has no source `{name}`"),
            None => "lockgate.yaml has several sources, and each is a database of its own".into(),
        };
        let known: Vec<&str> = sources.keys().map(String::as_str).collect();
        Error::new(Kind::Config, what).fix(format!("Name one of: {}.", known.join(", ")))
    })?;
    let config = assemble::postgres_config(&project, name, entry)?;
    let ruled = |table: &_| policy.tables().any(|of| of == table);
    let least = postgres::least(&config, ruled, |table, column| policy.reads(table, column)).await;
    print(name, config.publication(), &least.map_err(|error| error.context(name))?);
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout)]
fn print(source: &str, publication: &str, least: &Least) {
    for (table, why) in &least.more {
        comment(&format!("{table} gives out more than the policy reads: {why}"));
    }
    for table in &least.not_followed {
        comment(&format!(
            "{table} is published and has no rules, or cannot be followed: unless others read it, take it out of {publication}"
        ));
    }
    for table in &least.copied_anew {
        comment(&format!("{table} is published anew: stop the run before, and the next one copies the table anew"));
    }
    if least.alters_publication {
        comment(&format!("whoever else reads {publication} gets no more than this either"));
    }
    if least.statements.is_empty() {
        comment(&format!("{source}: nothing to do"));
        return;
    }
    println!("BEGIN;");
    least.statements.iter().for_each(|statement| println!("{statement}"));
    println!("COMMIT;");
    comment(&format!(
        "{source}: nothing was changed. Run this as the owner of the tables, then: lockgate check --connect"
    ));
}

/// A name must not end the comment that it stands in.
#[allow(clippy::print_stdout)]
fn comment(text: &str) {
    println!("-- {}", text.replace(char::is_control, " "));
}
