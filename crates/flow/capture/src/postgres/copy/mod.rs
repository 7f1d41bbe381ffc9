//! The first copy: a table is cut into chunks by block ranges, read in short transactions beside the stream.
//!
//! Seam to the stream. LOW is the end of the server's log when the copy is set up. Before a chunk is read, every transaction that was
//! writing at that moment has ended, so everything below LOW is visible to every chunk; everything above LOW is streamed and
//! wins over a copied row. So whatever else a chunk sees, the end state is right.
//!
//! A table without a key cannot be merged like that: its chunks are all read under one exported snapshot, whose consistent point is LOW, and
//! it begins anew when that snapshot is lost.

pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod run;
pub(crate) mod settle;
pub(crate) mod snapshot;
