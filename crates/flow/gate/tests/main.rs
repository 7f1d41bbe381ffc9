//! The gate measured from outside: how much of what identifies a person its scrubber finds, and how much else it takes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod free_text;
