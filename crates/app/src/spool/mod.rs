//! While the lake is away and the source keeps more log than its budget allows, what has passed the gate goes into a sealed folder on the
//! local disk, and the source may forget it. When the lake answers again, the folder is drained into it in order, before anything else.
//!
//! ```text
//! .lockgate/spool/<source>/00000001.spool, 00000002.spool, ...    segments, in order
//! segment = frame*;  frame = length (u32, big-endian) | sealed entry;  the first entry says under which policy, then every table's structure
//! ```
//!
//! A segment ends at a boundary of the stream. Whatever lies behind the last boundary of the last segment was never confirmed to the source.
//! A spool that is lost is noticed as a lost slot is: the source has forgotten more than the lake has recorded.

mod bridge;
mod entry;
mod fill;
mod folder;
mod known;
mod reader;
mod silent;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use self::bridge::bridge;
pub(crate) use self::entry::Entry;
pub use self::folder::SpoolFolder;
pub(crate) use self::folder::{bytes, must_be_empty};
pub use self::known::Known;
pub(crate) use self::reader::Reader;
pub(crate) use self::silent::Silent;
