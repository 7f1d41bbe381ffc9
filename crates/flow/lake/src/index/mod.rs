//! The key index: where the row of a key lies in a lake table, on local disk, at a cost that does not follow the size of the table.
//!
//! A reader starts at [`KeyIndex`]. Rows are known by a keyed hash of their cleared identity ([`KeyHash`]); no value is stored. A table's
//! commit is one [`Step`]: written down as an intent, then carried out in a file of 4 KiB blocks, so that a kill at any moment leaves the
//! state before or after, never between. [`Builder`] makes an index from the table's rows; [`ScratchMap`] is the same map without
//! durability.
//!
//! The keys of a first copy's chunk come many at once, and none is known. They are laid beside the blocks as a file of their own ([`copied`]),
//! and a filter in memory tells that they are new, so that a chunk costs what it brings and not what the table has already.
//!
//! What is synced: nothing while steps are made. What a process has written survives its kill, so the order of writes is enough; what
//! the machine had not yet put on its medium when it stopped is lost, so an index that was not closed is not trusted in another boot
//! ([`BootId`]). A step costs no wait for the disk, and a stop of the machine costs a rebuild. Damage at rest is found by the
//! checksum of each kilobyte when it is read.

mod block;
mod builder;
mod copied;
mod disk;
mod entry;
mod files;
mod filter;
mod hash;
mod header;
mod intent;
mod key_index;
mod map;
mod multiset;
mod runs;
mod scratch;
mod sequence;
mod step;
#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use entry::{Change, Entry, FileId, Place};
pub use hash::{KeyHash, KeySeed};
pub use header::{BootId, Shape};
pub use key_index::{KeyIndex, Opened, Prepared};
pub use scratch::ScratchMap;
pub use step::Step;
