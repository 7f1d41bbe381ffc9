//! `lockgate keys wrap`: the keys as they are, in a file that a key manager opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::{Event, Hash, Name, Program};
use change::{Error, Kind, Result};

use crate::audit::Auditor;
use crate::cli::WrapKeys;
use crate::clock::SystemClock;
use crate::keys;
use crate::outcome::{Outcome, refused};
use crate::project::{PROJECT_FILE, Project};

/// Written down in the audit log of the project folder. Outside of one, `--from` says where the keys are and there is no log.
#[allow(clippy::print_stdout)]
pub(super) async fn run(dir: &Path, options: &WrapKeys) -> Result<Outcome> {
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
    let auditor = match Project::read(dir) {
        Ok(project) => Some(Auditor::open(&project, Arc::new(SystemClock::new()), Program::Keys).await?),
        Err(_) if !dir.join(PROJECT_FILE).exists() => None,
        Err(problems) => return refused(&problems),
    };
    let written = wrap(&from, &options.into, dir, auditor.as_deref());
    if let Some(auditor) = auditor {
        auditor.close().await?;
    }
    let path = written?;
    println!("{} is written, and was opened again by the manager.", path.display());
    if from != options.into {
        println!("Now write into policy.yaml:  keys: {}", options.into);
        println!("Keep a copy of the key file where the manager's end cannot take it from you; then delete it here.");
    }
    Ok(Outcome::Done)
}

/// The file has its name only when the log says so: what cannot be recorded is not there. What a kill leaves without its name, the next call
/// writes over.
fn wrap(from: &str, into: &str, dir: &Path, auditor: Option<&Auditor>) -> Result<PathBuf> {
    let unnamed = keys::wrap(from, into, dir)?;
    if let Some(auditor) = auditor {
        let manager = into.split_once(':').map_or(into, |(scheme, _)| scheme);
        let file = Hash::of(&[unnamed.text().as_bytes()]);
        auditor.record(Event::KeysWrapped { manager: Name::new(manager), file })?;
    }
    unnamed.name()
}
