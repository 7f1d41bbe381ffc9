//! A private Postgres and a seeded claims workload: what the demo and the tests run against.
//!
//! Nothing here knows Lockgate: a server that starts on a free port and cleans up after itself ([`postgres`]), and people who do
//! not exist, with their claims ([`claims`]).

pub mod claims;
pub mod postgres;

pub use postgres::PrivatePostgres;
