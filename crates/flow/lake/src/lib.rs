//! Cleared changes become Delta commits.
