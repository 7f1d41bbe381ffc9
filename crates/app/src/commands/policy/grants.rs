//! `lockgate policy grants`: the statements that keep in the database what the policy drops.

use std::path::Path;

use capture::postgres::{self, Least};
use change::Result;

use crate::assemble;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

/// The statements on standard output, as SQL with comments, so that it can be reviewed and run as it is.
#[allow(clippy::print_stdout)]
pub(super) async fn run(dir: &Path) -> Result<Outcome> {
    let (project, policy) = match Project::with_policy(dir) {
        Ok(read) => read,
        Err(problems) => return refused(&problems),
    };
    for (name, entry) in &project.file.sources {
        let config = assemble::postgres_config(&project, name, entry)?;
        let ruled = |table: &_| policy.tables().any(|of| of == table);
        let least = postgres::least(&config, ruled, |table, column| policy.reads(table, column)).await;
        print(name, &least.map_err(|error| error.context(name))?);
    }
    println!("-- Nothing was changed. Next: run this as the owner of the tables, then lockgate check --connect");
    Ok(Outcome::Done)
}

#[allow(clippy::print_stdout)]
fn print(source: &str, least: &Least) {
    for (table, why) in &least.whole {
        println!("-- {table} gives out every column: {why}");
    }
    for table in &least.copied_anew {
        println!("-- {table} is published anew: stop the run before, and the next one copies the table anew");
    }
    if least.statements.is_empty() {
        println!("-- {source}: nothing to do");
        return;
    }
    println!("-- {source}");
    println!("BEGIN;");
    least.statements.iter().for_each(|statement| println!("{statement}"));
    println!("COMMIT;");
}
