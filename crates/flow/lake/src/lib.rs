//! Cleared changes become Delta commits; the only crate that knows Delta.
//!
//! A [`Lake`] is a folder of tables on a disk or in an object store. A [`TableWriter`] owns one table: it stages
//! [`gate::ClearedBatch`]es in data files that nobody sees yet and commits them together with the table's checkpoint. What a
//! commit replaces is found through a key index and marked in deletion vectors, so that its cost follows the number of changed rows.

mod failure;
mod lake;
mod location;
mod naming;
mod objects;
mod stream_place;

mod incoming;
mod protocol;
mod schema;
mod writer;

mod area;
mod at_rest;
mod changes;
mod copied;
mod current;
mod fill;
mod held_bytes;
mod identity;
mod plan;

pub mod index;
mod rebuild;
mod reidentify;

mod deleted;
mod encode;
mod foreign;
mod log;
mod offload;
mod press;
mod record;
mod rows;
mod stored;

mod erase;
mod found;
mod join;
mod purge;
mod remask;
mod residue;
mod sidecars;
mod staging;

mod sweep;
mod upkeep;
mod versions;
mod widen;

pub use erase::{Doomed, Erased};
pub use failure::unreadable;
pub use lake::{Lake, LakeOptions, TableStatus, TableVersion};
pub use location::check_place;
pub use naming::{LakeTable, Layer};
pub use purge::Past;
pub use remask::{Remasked, Strict};
pub use residue::{Residue, Traces};
pub use staging::{Left, Staging};
pub use stored::{StoredRows, StoredTable};
pub use sweep::RETENTION_MICROS;
pub use writer::{Commit, Committed, Outcome, TableWriter, WriterOptions};
