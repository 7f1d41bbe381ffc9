//! The audit log: what was done with the data and by which policy, in a form that cannot be changed unseen.
//!
//! A [`Log`] is a folder with one file of [`Entry`]s, each chained to the one before it by SHA-256, and one file of [`Head`]s: the root of
//! an RFC 6962 Merkle tree over all entries so far, signed with Ed25519. [`verify`] proves a log from these files, the public key and
//! copies of heads that lie elsewhere; it needs neither the engine nor its configuration.

mod event;
mod hex;

mod entry;
mod tree;

mod head;
mod keys;

mod log;
mod verify;

pub use entry::{Entry, read_line};
pub use event::{Event, HeldAction, Program, Purge, Purpose, Reason, RunEnding};
pub use head::Head;
pub use hex::{Hash, Hex, Name};
pub use keys::{PublicKey, SigningKey};
pub use log::{HEADS_FILE, LOG_FILE, Log, Moment, PUBLIC_KEY_FILE};
pub use verify::{Evidence, Finding, Report, verify};
