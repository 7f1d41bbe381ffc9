//! The rules of the house, as tests: who may depend on whom, how the code looks, and whether the pages still tell the truth.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot read the sources has failed")]

mod layers;
mod pages;
mod ratchet;
mod rules;
mod sources;
mod tidy;
