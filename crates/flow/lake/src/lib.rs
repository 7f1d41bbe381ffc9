//! Cleared changes become Delta commits.

pub mod index;
