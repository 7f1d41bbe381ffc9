//! One file for each subcommand.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod erase;
pub(crate) mod held;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod release;
pub(crate) mod remask;
pub(crate) mod repair;
pub(crate) mod reveal;
pub(crate) mod run;
pub(crate) mod shifts;
pub(crate) mod status;
pub(crate) mod verify;
