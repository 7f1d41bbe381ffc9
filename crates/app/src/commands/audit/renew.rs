//! `lockgate audit renew`: the log is set aside, and another one begins that says why.

use std::path::Path;
use std::sync::Arc;

use ::audit::Because;
use change::Result;

use crate::audit;
use crate::cli::BecauseOf;
use crate::clock::SystemClock;
use crate::outcome::{Outcome, refused};
use crate::project::Project;
use crate::turn::{Turn, Work};

#[allow(clippy::print_stdout)]
pub(super) async fn run(dir: &Path, because: BecauseOf) -> Result<Outcome> {
    let project = match Project::read(dir) {
        Ok(project) => project,
        Err(problems) => return refused(&problems),
    };
    let _turn = Turn::alone(&project.state_dir(), Work::Audit).await?;
    let because = match because {
        BecauseOf::KeyLost => Because::KeyLost,
        BecauseOf::KeyExposed => Because::KeyExposed,
        BecauseOf::Damaged => Because::Damaged,
    };
    let renewed = audit::renew(&project, because, Arc::new(SystemClock::new())).await?;
    match (&renewed.aside, renewed.is_ended) {
        (Some(aside), true) => println!("the log was set aside in {}, and its last entry says so", aside.display()),
        (Some(aside), false) => println!("the log was set aside in {}; it cannot say so itself", aside.display()),
        (None, _) => println!("the renewal that was begun before is finished"),
    }
    println!("a new log has begun, and its first entry names the one before and the reason");
    println!("key {} ({}): give it to the auditor", renewed.key.fingerprint().as_str(), renewed.key);
    Ok(Outcome::Done)
}
