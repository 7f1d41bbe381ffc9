//! Postgres: logical replication through `pgoutput`, and the first copy through `COPY (binary)`.
//!
//! [`PostgresConfig`] is checked offline by its `problems`, online by [`probe`] and [`describe`]; [`open`](open()) starts.
//!
//! The codec turns bytes into Arrow columns and does no I/O: [`pgoutput`] reads the messages of the stream, [`copy_binary`] the rows
//! of a copy, [`types`] says which Arrow type each Postgres type becomes, and [`rows`] builds batches.

mod config;
mod dsn;

mod catalog;
mod client;
mod failure;
mod server;

mod identity;
mod position;
mod publication;
mod slot;
mod standing;

mod describe;
mod least;
mod probe;

mod apply;
mod copy;
mod measure;
mod reread;
mod room;
mod source;
mod start;
mod stream;
mod toast;
mod walsender;

pub mod copy_binary;
pub mod pgoutput;
pub mod rows;
pub mod table;
pub mod types;

pub use config::{BudgetLevel, ByteSize, CopyConfig, PostgresConfig, SLOW_CHUNK_ROWS, Secret, WalBudget, WalPolicy};
pub use describe::{Described, Tables, describe, lag, others, tables};
pub use identity::Resume;
pub use least::{Least, least};
pub use probe::{ProbeReport, probe};
pub use reread::{Reread, SlotView, number_of, numbered, reread};
pub use source::{PostgresSource, open};
pub use types::OnUnfit;
