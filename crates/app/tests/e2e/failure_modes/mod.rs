//! How such tools lose data, made for real: each test makes one of the known failure modes happen and says what must come of it.
//! `docs/guarantees.md` lists the modes and the tests that stand for each.

pub(crate) mod ledger;
pub(crate) mod patience;
pub(crate) mod process;
mod proxy;
mod store_proxy;

mod copying;
pub(crate) mod disk;
mod foreign_writers;
mod network;
mod publication;
mod replica;
mod server;
mod slot;
mod soak;
mod spool;
mod stores;
mod two_writers;
