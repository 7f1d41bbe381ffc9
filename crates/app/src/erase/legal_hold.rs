//! Persons under legal hold: nobody erases them until the hold is lifted. Known, as erased ones, by keyed hashes in a sealed record.

use std::collections::BTreeSet;

use change::{Error, Kind, Raw, Result};
use gate::{KeyRing, Subject, Suppressed, sealed_epoch};
use lake::Lake;

use crate::audit::random;

const PATH: [&str; 2] = ["_lockgate", "legal-hold"];
const KIND: &str = "legal hold";

/// The persons on hold.
pub(crate) async fn all(lake: &Lake, keys: &KeyRing) -> Result<Vec<Suppressed>> {
    let Some(sealed) = lake.object_at(&PATH.join("/")).await? else { return Ok(Vec::new()) };
    let plain = keys.sealer(KIND).open(PATH[1].as_bytes(), &sealed)?;
    serde_json::from_slice(&plain).map_err(|_| {
        Error::new(Kind::Privacy, "the record of persons on legal hold is of another version")
            .fix("Use the version of Lockgate that wrote it, or a newer one.")
    })
}

async fn save(lake: &Lake, keys: &KeyRing, held: &[Suppressed]) -> Result<()> {
    let plain =
        serde_json::to_vec(held).map_err(|_| Error::new(Kind::Bug, "the record of persons on hold is not JSON"))?;
    lake.put_object(&PATH, keys.sealer(KIND).seal(random()?, PATH[1].as_bytes(), &plain)?).await
}

/// Seals the record under the current epoch of the key; tells whether it was under another.
pub(crate) async fn seal_anew(lake: &Lake, keys: &KeyRing) -> Result<bool> {
    let moves = sealed_under(lake).await?.is_some_and(|epoch| epoch != keys.current_epoch());
    if moves {
        save(lake, keys, &all(lake, keys).await?).await?;
    }
    Ok(moves)
}

/// The epoch under which the record is sealed; `None` when there is none.
pub(crate) async fn sealed_under(lake: &Lake) -> Result<Option<u32>> {
    Ok(lake.object_at(&PATH.join("/")).await?.and_then(|record| sealed_epoch(&record)))
}

/// Puts persons on hold.
pub(crate) async fn place(lake: &Lake, keys: &KeyRing, persons: Vec<Suppressed>) -> Result<()> {
    let mut held = all(lake, keys).await?;
    held.extend(persons);
    save(lake, keys, &held).await
}

/// Which persons are on hold, by their number.
pub(super) fn among(
    held: &[Suppressed],
    subject: &Subject,
    ids: &Raw<Vec<String>>,
    keys: &KeyRing,
) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for record in held {
        let there = subject.found_in(record, ids, keys)?;
        found.extend((0..).zip(there).filter_map(|(person, there)| there.map(|_| person)));
    }
    Ok(found)
}

/// Lifts the hold of persons.
pub(crate) async fn lift(lake: &Lake, keys: &KeyRing, subject: &Subject, ids: &Raw<Vec<String>>) -> Result<()> {
    let mut held = all(lake, keys).await?;
    for record in &mut held {
        let lifted: BTreeSet<usize> = subject.found_in(record, ids, keys)?.into_iter().flatten().collect();
        record.retain(|person| !lifted.contains(&person));
    }
    held.retain(|record| !record.is_empty());
    save(lake, keys, &held).await
}
