//! Comparing the lake with its source, and writing what differs.
//!
//! Raw rows cannot be compared with a masked lake. So the source's rows are read as a first copy reads them (chunks of blocks, a short
//! transaction each), pass the same gate, and are compared as what they become: the transforms give the same output for the same value.
//! What depends on the day of processing (years that show an age) is brought to today's on both sides first.
//!
//! **In bounded memory.** A row is known by two keyed 128-bit fingerprints of its cleared values, one of its key and one of the whole row, under
//! a seed that is drawn for each comparison. `verify` writes nothing of it anywhere: a table too large for one pass is first summed up in buckets
//! of keys on both sides; only rows of buckets that differ are then looked at one by one, as many buckets at a time as fit. `repair` has the
//! fingerprints in files of the project folder, and reads the source once, and once more what differs.
//!
//! **Beside a run** (`verify`). The lake is behind the source, so rows that changed a moment ago differ. What differs is looked at again: the
//! source first, then, once the slot has confirmed the end of the log as it was after that, the lake. A row is different when two
//! such looks in a row saw the same on both sides, where "the same" includes the position at which the lake last changed the row: the lake had
//! by then applied everything that the source showed. A row that the lake lacks has no position; one that is deleted and inserted
//! again, alike, between all looks could be taken for missing. Without a run the lake does not move and one look decides; its lag is told.
//!
//! **Behind a gap** (`repair`). The seam is that of the first copy. LOW is the first boundary of a new slot, made before anything is read: what
//! was changed up to LOW is seen by every chunk, and what was changed after it the stream says again. What comparing finds is
//! written as inserts, updates and deletes with positions of their own, above all that was recorded and below all that will be streamed
//! ([`change::FreshStart`]): the change log records them like any change. A delete in the gap left no raw row behind, only the lake knows its
//! token, so the lake removes it by its own row. When a table is done its checkpoint becomes LOW, with a copy that has seen everything up
//! to the end of its reading, so that the source sends whole rows for updates that repair may have overtaken.
//!
//! [`change::RepairMark`] lies in the lake from before the slot is made until every table is done; no run starts meanwhile. A repair that was killed
//! goes on with the same slot: the current rows are brought to where the change log is (which is committed first), and what was written is equal
//! then. Of the table that it was at, the chunks that were read before are not read again (`docs/adr/0011-repair-by-range.md`). Tables that
//! cannot be compared (no key, an unfinished copy) or cannot be read stay below LOW, and the next run copies them anew.

mod compare;
mod differences;
mod fingerprint;
mod limits;
mod mend;
mod progress;
mod runs;
mod sides;
mod tally;

pub(crate) use compare::{Verdict, verify};
pub(crate) use limits::Limits;
pub(crate) use mend::{Mended, Teller, level, mend};
pub(crate) use progress::{Ground, Progress, forget_all, forget_source_of};
pub(crate) use sides::Sides;
