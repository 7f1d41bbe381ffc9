//! Contract, masking, quality: raw in, cleared out. No I/O.
//!
//! A [`Policy`] is read from `policy.yaml`, meets the tables in [`Policy::compile`] and becomes a [`Gate`]; that makes a [`TableGate`] for each
//! table, whose [`clear`](TableGate::clear) turns raw rows into a [`ClearedBatch`].

mod json_path;
mod policy;
mod profile;
mod transform;
mod x12_map;

mod gate;
mod table;

mod carried;
mod cleared;
mod epoch;
mod held;
mod k_gate;
mod spooled;
mod stamp;

mod kernel;

mod canonical;
mod cell;
mod cell_keys;
mod ff1;
mod format;
mod json;
mod keys;
mod seal;
mod siv;
mod vault;
mod x12;

mod remask;
mod subject;
mod suppress;

mod calendar;
mod invalid;
mod null_as;

mod class;
mod propose;
mod shape;

mod diff;
mod explain;
mod opening;
mod rehearse;
mod reveal;

mod report;
mod scrub;
mod spelling;
pub mod yaml;

pub use cell_keys::{CellKey, CellKeys};
pub use class::{Class, classify};
pub use cleared::{ClearedBatch, ClearedColumn, ClearedSchema};
pub use diff::{Difference, Effect};
pub use explain::{ClassCoverage, ExplainedColumn, Explanation};
pub use gate::Gate;
pub use held::{HeldIndex, HeldRow, Nonces, RowKey, Sealed, Why};
pub use k_gate::{Counted, Counting, Decided, KGate, KReport, ReleasedLevel};
pub use keys::{KeyEpoch, KeyRing};
pub use opening::{Answer, OpenedCell, Opener};
pub use policy::{NerModel, Policy};
pub use profile::Profile;
pub use propose::{Candidate, Proposal, propose};
pub use rehearse::Rehearsed;
pub use remask::{Remask, Remasker};
pub use reveal::Treatment;
pub use scrub::{EntityFinder, KnownValues, Label, NotSearched, REFUSED, Scratch, Scrubbed, Scrubber, TEXT_BYTES_MAX};
pub use seal::{Sealer, sealed_epoch};
pub use shape::Shape;
pub use spooled::{SpoolCipher, Spooled};
pub use stamp::{PolicyStamp, TableStamp};
pub use subject::{KnownAs, StoredToken, Subject, SubjectPlace};
pub use suppress::{Scope, Suppressed};
pub use table::{Cleared, DroppedColumn, Readmitted, Standing, TableGate};
pub use transform::{
    CodeLevel, CodeType, DateUnit, Edges, Format, JsonPaths, Quantity, SurrogateList, Tier, Transform, X12Map,
};
pub use vault::{NumberMarks, Vault};
