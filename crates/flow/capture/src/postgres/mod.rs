//! Postgres: logical replication through `pgoutput`, and the first copy through `COPY (binary)`.
//!
//! The codec turns bytes into Arrow columns and does no I/O: [`pgoutput`] reads the messages of the stream, [`copy_binary`] the rows
//! of a copy, [`types`] says which Arrow type each Postgres type becomes, and [`rows`] builds batches.

pub mod copy_binary;
pub mod pgoutput;
pub mod rows;
pub mod table;
pub mod types;
