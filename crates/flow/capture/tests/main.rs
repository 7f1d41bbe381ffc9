//! Capture against recordings of Postgres, and against Postgres itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod codec_oracle;
mod printed;
mod recorded;
mod recording;
mod type_catalog;

mod cut;
mod follow;
mod lost;
mod refuse;
mod replay;
mod resume;
