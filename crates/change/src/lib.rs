//! The words that every stage of Lockgate shares. No I/O, no clock, no environment.
//!
//! A reader starts here: a [`Source`] yields [`Event`]s; most are a [`ChangeBatch`], rows of one table with
//! an [`Op`] and a [`Position`] each; a [`Checkpoint`] says how far a stream is durable.

mod batch;
mod checkpoint;
mod clock;
mod error;
mod position;
mod problem;
mod raw;
mod repair;
mod schema;
mod source;

pub use batch::{ChangeBatch, Op, Origin, RowMeta, RowMetaBuilder, Share, Unsent};
pub use checkpoint::{Checkpoint, ChunkSet, CopyProgress, TableCheckpoint};
pub use clock::{Clock, StoppedClock, Timestamp};
pub use error::{Error, Kind, Result};
pub use position::Position;
pub use problem::{Problem, Severity};
pub use raw::Raw;
pub use repair::{FreshStart, RepairMark};
pub use schema::{Column, Identity, TableName, TableSchema};
pub use source::{Event, Source, SourceStatus, StatusReader, StreamLag, Suspect, SuspectExtent, TableNotice};
