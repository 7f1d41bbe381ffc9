//! A health plan that does not exist: providers, members, claims, their lines and notes, and a day's work on them.
//!
//! Everything follows from a seed and a [`Scale`]: the same two give the same rows, byte for byte, in whatever order they are asked for.

mod canary;
mod dice;
mod identifiers;
mod live;
mod load;
mod notes;
mod people;
mod project;
mod row;
mod rows;
mod schema;

pub use canary::Canary;
pub use identifiers::{luhn_holds, mbi, mbi_holds, npi, npi_holds, ssn, ssn_holds};
pub use live::{Kind, Live, Statement, TableTally, Tally, Transaction};
pub use load::load;
pub use project::{PUBLICATION, SOURCE, grant, lockgate_yaml, policy_yaml, rules};
pub use rows::{Claims, Scale};
pub use schema::{Table, create_tables, schema_changes};
