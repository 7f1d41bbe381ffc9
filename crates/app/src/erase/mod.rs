//! Erasing persons. A request is a sealed record in the lake that knows how far it is; every step may be done again:
//!
//! 1. suppressed: the record is there, and no gate lets the persons through any more;
//! 2. deleted: no table's newest version has their rows, none of those is held back, and the vault has no codes of theirs;
//! 3. done: no object of the lake has anything of theirs, a scan has shown it, and the tokens are out of the record. What stays is keyed hashes.

mod held_rows;
mod identifiers;
mod legal_hold;
mod matching;
mod receipt;
mod request;
mod work;

use change::{Error, Kind, Result};
use gate::{KeyRing, Policy, Suppressed};
use lake::Lake;

pub(crate) use self::identifiers::{Identifiers, check_spelling, read as read_identifiers};
pub(crate) use self::legal_hold::{lift, place, seal_anew as seal_holds_anew, sealed_under as holds_sealed_under};
pub(crate) use self::matching::in_words;
pub(crate) use self::request::Request;
pub(crate) use self::work::{Progress, Worksite, column_of};
use crate::keys;
use crate::project::Project;

/// The keys of a project, without which erased persons cannot be told.
///
/// # Errors
/// `Config` when the policy names none.
pub(crate) fn keys_of(project: &Project, policy: &Policy) -> Result<KeyRing> {
    keys::load(policy.keys(), &project.dir)?.ok_or_else(|| {
        Error::new(Kind::Config, "policy.yaml names no keys, and erased persons are remembered by keyed hashes")
            .fix("Add `keys: file:./keys/dev.key`; `lockgate init` makes such a file.")
    })
}

/// The persons that no gate of the project may let through.
///
/// # Errors
/// Those of the lake; `Privacy` when a record does not open: somebody could come back.
pub(crate) async fn suppressed(project: &Project, policy: &Policy, lake: &Lake) -> Result<Vec<Suppressed>> {
    let records = Request::paths(lake).await?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys_of(project, policy)?;
    let mut persons = Vec::with_capacity(records.len());
    for path in records {
        persons.extend(Request::load(lake, &keys, &path).await?.suppressed);
    }
    Ok(persons)
}
