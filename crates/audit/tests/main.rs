//! A log, and everything that somebody could do to it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod approving;
mod going_on;
mod remains;
mod renewing;
mod reviewing;
mod tampering;
mod writing;
