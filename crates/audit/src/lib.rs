//! The audit log: what was done with the data and by which policy, in a form that cannot be changed unseen.
//!
//! A [`Log`] is a folder with one file of [`Entry`]s, each chained to the one before it by SHA-256 and under a MAC of the writer's key, and
//! one file of [`Head`]s: the root of an RFC 6962 Merkle tree over all entries so far, signed with Ed25519. [`verify`] proves a log from these files, the public key and
//! copies of heads that lie elsewhere; it needs neither the engine nor its configuration.

mod event;
mod hex;
mod time;

mod entry;
mod tree;

mod head;
mod heads_file;
mod keys;
mod signed;

mod backwards;
mod chain;
mod log;
mod remains;
mod standing;

mod anchored;
mod finding;
mod proof;
mod verify;
mod writers;

mod digest;
mod review;

pub use anchored::Anchored;
pub use digest::{Acts, Digest, Principal, Subject, Sum};
pub use entry::{Entry, read_line, read_newer_line};
pub use event::{
    AnchorSeen, Because, Event, Former, HeadsKnown, HeldAction, InForce, Program, Purge, Purpose, Reason, Role,
    RunEnding,
};
pub use finding::Finding;
pub use head::{Head, newest_head, proven_head};
pub use heads_file::{HeadLine, Heads};
pub use hex::{Hash, Hex, Name};
pub use keys::{MacKey, PublicKey, SigningKey};
pub use log::{HEADS_FILE, LOG_FILE, Log, Moment, Opener, PUBLIC_KEY_FILE};
pub use remains::Remains;
pub use review::Review;
pub use standing::{Approval, Standing};
pub use time::utc;
pub use verify::{Evidence, Files, Given, Report, verify};
