//! One file for each subcommand.

pub(crate) mod check;
pub(crate) mod held;
pub(crate) mod init;
pub(crate) mod policy;
pub(crate) mod query;
pub(crate) mod run;
pub(crate) mod status;
