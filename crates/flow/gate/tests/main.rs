//! The gate measured from outside: how much of what identifies a person its scrubber and its proposals find, and how much else they take.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod classify;
mod free_text;
