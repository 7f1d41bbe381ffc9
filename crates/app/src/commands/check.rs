//! `lockgate check`: everything that is wrong, at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use capture::postgres;
use change::{Clock, Problem, Result, Severity, TableName, TableSchema};

use crate::assemble;
use crate::cli::Check;
use crate::clock::SystemClock;
use crate::outcome::{Outcome, print_problems};
use crate::project::{PROJECT_FILE, Project};

#[allow(clippy::print_stdout)]
pub(crate) async fn run(dir: &Path, options: &Check) -> Result<Outcome> {
    let mut problems = Vec::new();
    match Project::read(dir) {
        Err(found) => problems.extend(found),
        Ok(project) => {
            problems.extend(assemble::offline_problems(&project));
            if options.connect {
                problems.extend(connected_problems(&project).await);
            }
        }
    }
    // The files and the databases may tell the same.
    let mut told: Vec<Problem> = Vec::new();
    for problem in problems {
        if !told.contains(&problem) {
            told.push(problem);
        }
    }
    let problems = told;
    if print_problems(&problems) {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        println!("{errors} to fix");
        return Ok(Outcome::ToFix);
    }
    match options.connect {
        true => println!("nothing to fix; next: lockgate run"),
        false => println!("nothing to fix in the files; next: lockgate check --connect"),
    }
    Ok(Outcome::Done)
}

/// What only the databases and the lake can tell.
async fn connected_problems(project: &Project) -> Vec<Problem> {
    let mut problems = Vec::new();
    let (mut schemas, mut refused): (Vec<Arc<TableSchema>>, _) = (Vec::new(), BTreeSet::new());
    let policy = project.policy().ok();
    let ruled = |table: &TableName| policy.as_ref().is_none_or(|policy| policy.tables().any(|named| named == table));
    for (name, entry) in &project.file.sources {
        let line = Some(entry.postgres.url_line);
        let at = |problem: Problem| match problem.file.is_empty() {
            true => Problem { file: PROJECT_FILE.into(), line, ..problem },
            false => problem,
        };
        let probed = match assemble::postgres_config(project, name, entry) {
            // Already among the offline problems.
            Err(_) => continue,
            Ok(config) => postgres::probe(&config, ruled).await,
        };
        match probed {
            Ok(report) => {
                problems.extend(report.problems.into_iter().map(at));
                schemas.extend(report.tables);
                refused.extend(report.refused);
            }
            Err(error) => problems.push(assemble::as_problem(PROJECT_FILE, line, &error)),
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    if !schemas.is_empty() {
        match assemble::compile(project, &refused, &schemas, &clock) {
            Ok(gate) => problems.extend(gate.notes().iter().cloned()),
            Err(found) => problems.extend(found),
        }
    }
    let lake_line = Some(project.file.lake_line);
    match assemble::lake(project).await {
        Ok(lake) => {
            let probed = match lake.probe().await {
                Ok(()) => lake.check_at_rest().await,
                Err(error) => Err(error),
            };
            if let Err(error) = probed {
                problems.push(assemble::as_problem(PROJECT_FILE, lake_line, &error));
            }
        }
        Err(error) => problems.push(assemble::as_problem(PROJECT_FILE, lake_line, &error)),
    }
    problems
}
