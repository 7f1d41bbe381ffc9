//! `lockgate keys wrap`: the keys as they are, in a file that a key manager opens.

use std::path::Path;

use change::{Error, Kind, Result};

use crate::cli::WrapKeys;
use crate::keys;
use crate::outcome::{Outcome, refused};
use crate::project::Project;

#[allow(clippy::print_stdout)]
pub(super) fn run(dir: &Path, options: &WrapKeys) -> Result<Outcome> {
    let from = match &options.from {
        Some(from) => from.clone(),
        None => {
            let (_, policy) = match Project::with_policy(dir) {
                Ok(read) => read,
                Err(problems) => return refused(&problems),
            };
            let none = || {
                Error::new(Kind::Config, "policy.yaml names no keys")
                    .fix("Say where they are: --from file:./keys/dev.key")
            };
            policy.keys().ok_or_else(none)?.to_owned()
        }
    };
    let path = keys::wrap(&from, &options.into, dir)?;
    println!("{} is written, and was opened again by the manager.", path.display());
    if from != options.into {
        println!("Now write into policy.yaml:  keys: {}", options.into);
        println!("Keep a copy of the key file where the manager's end cannot take it from you; then delete it here.");
    }
    Ok(Outcome::Done)
}
