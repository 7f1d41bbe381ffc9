//! A real model from its files to the places that it finds, beside what the libraries of such models say.
#![allow(clippy::unwrap_used)]

mod model;
