//! `lockgate keys`.

use std::path::Path;

use change::Result;

use crate::cli::Keys;
use crate::outcome::Outcome;

mod wrap;

pub(crate) fn run(dir: &Path, command: &Keys) -> Result<Outcome> {
    match command {
        Keys::Wrap(options) => wrap::run(dir, options),
    }
}
