//! How a command comes to be alone. What can be refused is refused before a run is asked for its turn; what others may change is read after it
//! was given.

use std::path::Path;

use change::{Problem, Result};
use gate::Policy;

use crate::project::Project;
use crate::turn::{Turn, Work};
use crate::{assemble, spool};

/// A project that nobody else works on, as it is now.
pub(crate) struct Alone {
    pub(crate) project: Project,
    pub(crate) policy: Policy,
    pub(crate) turn: Turn,
}

/// Asks the runs of a project folder for their turn and waits for it; problems of its files are returned as such.
///
/// # Errors
/// `Config` while rows wait in a spool; those of the lake, which has to take an object; those of [`Turn::alone`].
pub(crate) async fn alone(dir: &Path, work: Work) -> Result<std::result::Result<Alone, Vec<Problem>>> {
    let project = match Project::with_policy(dir) {
        Ok((project, _)) => project,
        Err(problems) => return Ok(Err(problems)),
    };
    let state_dir = project.state_dir();
    spool::must_be_empty(&state_dir, doing(work))?;
    // A run would stand for nothing; and one that gives its turn while the lake is away cannot go on before it is back.
    assemble::lake(&project).await?.probe().await?;
    let turn = Turn::alone(&state_dir, work).await?;
    spool::must_be_empty(&state_dir, doing(work))?;
    Ok(Project::with_policy(dir).map(|(project, policy)| Alone { project, policy, turn }))
}

fn doing(work: Work) -> &'static str {
    match work {
        Work::Audit => "a new audit log",
        Work::Erase => "an erasure",
        Work::Keys => "a change of the keys",
        Work::Remask => "remasking",
        Work::Repair => "a repair",
    }
}
