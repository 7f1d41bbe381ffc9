//! `lockgate keys`: where the keys are, and which there are.

mod ledger;

use std::path::Path;

use change::Result;

use crate::cli::Keys;
use crate::outcome::Outcome;

pub(crate) async fn run(dir: &Path, command: &Keys) -> Result<Outcome> {
    match command {
        Keys::Show { .. } | Keys::Rotate { .. } | Keys::Retire { .. } => ledger::run(dir, command).await,
    }
}
