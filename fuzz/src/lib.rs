//! One function for each decoder of bytes that come from outside: it must take any bytes without a panic, a hang or a large allocation,
//! and asserts what holds of the answer.
//!
//! `cargo x fuzz` runs them under libFuzzer; `make test` replays the corpus and some mutations of it (`crates/app/tests/e2e/decoders.rs`).
//! Decoders that their crates keep private are compiled in from their sources, and so are those of a crate that would bring a database
//! client or a query engine with it: an instrumented build of those takes longer than the fuzzing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a run looks for")]

#[allow(dead_code, unused_imports, reason = "the lake uses what is unused here")]
#[path = "../../crates/flow/lake/src/index/mod.rs"]
mod key_index;
#[allow(dead_code, unreachable_pub, reason = "the connector uses what is unused here")]
#[path = "../../crates/flow/capture/src/postgres"]
mod postgres {
    //! The codec of the Postgres connector, which does no I/O.

    pub(crate) mod copy_binary;
    pub(crate) mod pgoutput;
    pub(crate) mod rows;
    pub(crate) mod table;
    pub(crate) mod types;
}
#[allow(dead_code, reason = "the program uses what is unused here")]
#[path = "../../crates/app/src/project.rs"]
mod project;
#[path = "../../crates/app/src/project_reader.rs"]
mod project_reader;
#[allow(dead_code, reason = "the program uses what is unused here")]
#[path = "../../crates/app/src/roles.rs"]
mod roles;
#[allow(dead_code, reason = "the program uses what is unused here")]
#[path = "../../crates/app/src/secrets.rs"]
mod secrets;

mod settings;
mod store;
mod wire;

pub use settings::{config, keys, policy, sealed};
pub use store::index;
pub use wire::{copy_binary, pgoutput};

/// A decoder as a function of any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("config", config),
    ("copy_binary", copy_binary),
    ("index", index),
    ("keys", keys),
    ("pgoutput", pgoutput),
    ("policy", policy),
    ("sealed", sealed),
];
