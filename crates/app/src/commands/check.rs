//! `lockgate check`: everything that is wrong, at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use capture::postgres;
use change::{Clock, Problem, Result, Severity, TableName, TableSchema};
use gate::{EntityFinder, Policy};
use lake::Lake;

use crate::cli::Check;
use crate::clock::SystemClock;
use crate::outcome::{Outcome, print_problems};
use crate::project::{POLICY_FILE, PROJECT_FILE, Project};
use crate::{assemble, entities, keys};

#[allow(clippy::print_stdout)]
pub(crate) async fn run(dir: &Path, options: &Check) -> Result<Outcome> {
    let mut problems = Vec::new();
    match Project::read(dir) {
        Err(found) => problems.extend(found),
        Ok(project) => {
            problems.extend(assemble::offline_problems(&project));
            let model = project.policy().map_or(Ok(None), |policy| assemble::model(&policy, &project));
            let model = model.unwrap_or_else(|problem| {
                problems.push(problem);
                project.policy().ok().and_then(|policy| entities::absent(&policy))
            });
            if options.connect {
                problems.extend(connected_problems(&project, model).await);
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
async fn connected_problems(project: &Project, model: Option<Arc<dyn EntityFinder>>) -> Vec<Problem> {
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
                let withheld = policy.iter().flat_map(|policy| assemble::withheld(policy, &report.withheld));
                problems.extend(withheld.map(|(table, columns)| Problem {
                    severity: Severity::Warning,
                    file: POLICY_FILE.into(),
                    line: None,
                    what: format!("{table}: the publication leaves out columns that rules read: {columns}"),
                    fix: "Nothing of them comes into the lake. `lockgate policy grants` prints what publishes them; else drop them in the policy.".into(),
                }));
                schemas.extend(report.tables);
                refused.extend(report.refused);
            }
            Err(error) => problems.push(assemble::as_problem(PROJECT_FILE, line, &error)),
        }
    }
    let lake = match assemble::lake(project).await {
        Ok(lake) => match probe(&lake).await {
            Ok(()) => Ok(lake),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    // What is wrong with the policy alone is among the offline problems.
    if let Some(policy) = policy.filter(|_| !schemas.is_empty()) {
        let met = met(project, policy, model, lake.as_deref().ok(), &refused, &schemas).await;
        problems.extend(met.unwrap_or_else(|found| found));
    }
    if let Err(error) = lake {
        problems.push(assemble::as_problem(PROJECT_FILE, Some(project.file.lake_line), &error));
    }
    problems
}

async fn probe(lake: &Lake) -> Result<()> {
    lake.probe().await?;
    lake.check_at_rest().await
}

/// The notes of a policy that fits the sources' tables.
///
/// # Errors
/// All problems of the policy at once.
async fn met(
    project: &Project,
    mut policy: Policy,
    model: Option<Arc<dyn EntityFinder>>,
    lake: Option<&Lake>,
    refused: &BTreeSet<TableName>,
    schemas: &[Arc<TableSchema>],
) -> std::result::Result<Vec<Problem>, Vec<Problem>> {
    let keys = keys::load(policy.keys(), &project.dir);
    let keys = keys.map_err(|error| vec![assemble::as_problem(POLICY_FILE, None, &error)])?;
    let asked = match lake {
        Some(lake) => assemble::drop_at_source(&mut policy, schemas, lake).await.is_ok(),
        None => false,
    };
    if !asked {
        // What keeps the lake away is said beside this.
        schemas.iter().for_each(|schema| policy.drop_unasked(schema));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let gate = assemble::compile(&policy, keys, model, project, refused, schemas, &clock)?;
    Ok(gate.notes().to_vec())
}
