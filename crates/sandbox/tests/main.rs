//! Real servers, started and stopped, with invented claims in them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests watch real processes by the real clock"
)]

mod claims;
mod private_postgres;
