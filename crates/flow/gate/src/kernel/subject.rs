//! Whom a row is about, for transforms that must treat all rows of one person alike.

use arrow::array::Array;
use arrow::buffer::BooleanBuffer;
use change::Result;

use super::keyed_hash::KeyedHash;
use super::repeats::{self, Seen};
use super::scrub::KnownCells;
use crate::KeyRing;
use crate::calendar::Date;
use crate::canonical::Form;
use crate::keys::Purpose;

/// What a transform sees beside its own column.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'a> {
    /// The day of processing, UTC.
    pub(crate) today: Date,
    /// The column that says whom a row is about, when the rule names one.
    pub(crate) subject: Option<SubjectCells<'a>>,
    /// The columns whose values are searched in a text.
    pub(crate) known: &'a [KnownCells<'a>],
}

/// The raw column that says whom a row is about.
#[derive(Clone, Copy)]
pub(crate) struct SubjectCells<'a> {
    pub(crate) values: &'a dyn Array,
    /// Rows for which the source did not send it.
    pub(crate) unsent: Option<&'a BooleanBuffer>,
}

/// Whom one row is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The row says nobody.
    Missing,
    /// The source did not send it with this change.
    Unsent,
    /// A keyed hash of the person's identifier.
    Known(u64),
}

/// Hashes the identifiers of persons under a key of its own purpose.
pub(super) struct SubjectHash {
    hash: KeyedHash,
    form: Form,
}

impl SubjectHash {
    pub(super) fn new(keys: &KeyRing, purpose: Purpose, domain: &str, form: Form, epoch: u32) -> Result<Self> {
        Ok(Self { hash: KeyedHash::new(keys, purpose, domain, epoch, form)?, form })
    }

    /// One entry per row.
    pub(super) fn of(&self, cells: SubjectCells<'_>) -> Result<Vec<Subject>> {
        let mut subjects = Vec::with_capacity(cells.values.len());
        repeats::for_each(cells.values, self.form, |seen| {
            subjects.push(match seen {
                Seen::Null | Seen::Invalid => Subject::Missing,
                Seen::Again(row) => subjects[row],
                Seen::New(bytes) => {
                    let [a, b, c, d, e, f, g, h, ..] = self.hash.of(bytes);
                    Subject::Known(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
                }
            });
        })?;
        for row in cells.unsent.iter().flat_map(|unsent| unsent.set_indices()) {
            subjects[row] = Subject::Unsent;
        }
        Ok(subjects)
    }
}
