//! Real servers, started and stopped, with invented claims in them.
#![allow(clippy::unwrap_used, reason = "a test's own functions may fail like the test")]

mod claims;
mod private_postgres;
