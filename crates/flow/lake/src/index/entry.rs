use change::{Error, Kind, Result};

use super::KeyHash;

/// The number that stands for a data file inside one index; see [`super::KeyIndex::file_id`]. Never used for another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(super) u32);

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The data file.
    pub file: FileId,
    /// The row's number in the file, from 0, deleted rows counted; below 2^30.
    pub row: u32,
}

/// What the index knows of one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A live row.
    Row {
        /// Where it lies.
        place: Place,
        /// Whether the first copy brought it, so that any streamed change replaces it and a re-read of its chunk may.
        copied: bool,
    },
    /// The row was deleted by the stream while the first copy was unfinished: a copied row of this identity must not bring it back.
    Tombstone,
}

impl Entry {
    /// The place of the live row.
    pub fn place(&self) -> Option<Place> {
        match self {
            Entry::Row { place, .. } => Some(*place),
            Entry::Tombstone => None,
        }
    }
}

/// One step from the table version that the index reflects to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The identity has this entry from now on, whatever it had. Unique indexes only.
    Put {
        /// The identity.
        key: KeyHash,
        /// The new entry.
        entry: Entry,
    },
    /// The identity has no entry from now on. Unique indexes only.
    Remove {
        /// The identity.
        key: KeyHash,
    },
    /// One more row of the identity. Multiset indexes only.
    Add {
        /// The identity.
        key: KeyHash,
        /// Where the row lies.
        place: Place,
    },
    /// The row of the identity at this place is gone; nothing happens when it is not there. Multiset indexes only.
    Take {
        /// The identity.
        key: KeyHash,
        /// Where the row lay.
        place: Place,
    },
    /// Compaction moved a row; nothing happens when the identity's row is no longer at `from`. The entry keeps its mark as copied.
    /// Costs as many reads as the identity has rows: for multisets see [`super::KeyIndex::relocate`].
    Move {
        /// The identity.
        key: KeyHash,
        /// Where the row lay.
        from: Place,
        /// Where it lies now.
        to: Place,
    },
}

/// Bits that a place leaves free: 30 bits of file, 30 bits of row, 4 bits of marks.
const PART_BITS: u32 = 30;
const MARK_BITS: u32 = 4;
const COPIED: u64 = 1;
const TOMBSTONE: u64 = 2;
/// A multiset's first row: further rows exist, counted under [`KeyHash::count`].
pub(super) const MORE: u64 = 4;
/// Not a place but a number of rows, under [`KeyHash::count`].
pub(super) const COUNT: u64 = 8;

/// Stands for "no entry" where an entry may be missing. Not a place: both marks that exclude each other are set.
pub(super) const ABSENT: u64 = u64::MAX;

/// The 64 bits in which a place is stored, without marks.
pub(super) fn pack(place: Place) -> Result<u64> {
    if place.row >> PART_BITS != 0 || place.file.0 >> PART_BITS != 0 {
        return Err(Error::new(
            Kind::Full,
            format!("the key index counts files and rows of a file up to 2^{PART_BITS} and has met more"),
        )
        .fix(
            "Let data files be smaller, or delete the index folder so that it is built anew with fresh file numbers.",
        ));
    }
    Ok((u64::from(place.file.0) << (PART_BITS + MARK_BITS)) | (u64::from(place.row) << MARK_BITS))
}

/// The place in a payload, marks ignored.
pub(super) fn unpack(payload: u64) -> Place {
    let mask = (1 << PART_BITS) - 1;
    Place {
        file: FileId(((payload >> (PART_BITS + MARK_BITS)) & mask) as u32),
        row: ((payload >> MARK_BITS) & mask) as u32,
    }
}

/// A payload's marks.
pub(super) fn marks(payload: u64) -> u64 {
    payload & ((1 << MARK_BITS) - 1)
}

/// A number of rows as a payload.
pub(super) fn pack_count(rows: u64) -> u64 {
    (rows << MARK_BITS) | COUNT
}

/// The number of rows in a payload that [`pack_count`] made.
pub(super) fn unpack_count(payload: u64) -> u64 {
    payload >> MARK_BITS
}

/// Whether a payload is a tombstone.
pub(super) fn is_tombstone(payload: u64) -> bool {
    marks(payload) == TOMBSTONE
}

/// Whether a payload points at a row that the first copy brought.
pub(super) fn is_copied(payload: u64) -> bool {
    marks(payload) == COPIED
}

/// Whether a payload points at a row.
pub(super) fn is_row(payload: u64) -> bool {
    payload & (TOMBSTONE | COUNT) == 0
}

pub(super) fn encode(entry: Entry) -> Result<u64> {
    match entry {
        Entry::Row { place, copied } => Ok(pack(place)? | if copied { COPIED } else { 0 }),
        Entry::Tombstone => Ok(TOMBSTONE),
    }
}

pub(super) fn decode(payload: u64) -> Entry {
    if is_tombstone(payload) {
        return Entry::Tombstone;
    }
    Entry::Row { place: unpack(payload), copied: payload & COPIED != 0 }
}
