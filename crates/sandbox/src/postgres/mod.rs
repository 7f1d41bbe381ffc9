//! A real Postgres server in a private folder, on a free port, for as long as a value lives.

mod account;
mod binaries;
mod guard;
mod options;
mod server;
mod tls;

pub use binaries::{Installed, available};
pub use options::Options;
pub use server::PrivatePostgres;
