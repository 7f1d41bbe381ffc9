//! `lockgate keys`: where the keys are, and which there are.

use std::path::Path;

use change::Result;

use crate::cli::Keys;
use crate::outcome::Outcome;

mod ledger;
mod wrap;

use self::ledger::Act;

pub(crate) async fn run(dir: &Path, command: &Keys) -> Result<Outcome> {
    match command {
        Keys::Show { json } => ledger::run(dir, Act::Show { json: *json }).await,
        Keys::Rotate { compromised, out } => {
            ledger::run(dir, Act::Rotate { compromised: *compromised, out: out.as_deref() }).await
        }
        Keys::Retire { epoch, out } => ledger::run(dir, Act::Retire { epoch: *epoch, out: out.as_deref() }).await,
        Keys::Wrap(options) => wrap::run(dir, options).await,
    }
}
