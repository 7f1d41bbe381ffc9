//! Read paths over the lake: SQL, read-only.
//!
//! A [`Session`] sees every table of a lake under its three levels (`claims_db.public.claims`), now or as it was. Tables are opened when
//! a statement names them.

mod catalog;
mod export;
mod refusal;
mod session;

pub use export::{Format, ParquetFile, TABLE_ROWS, write_answer};
pub use session::{Answer, Session};
