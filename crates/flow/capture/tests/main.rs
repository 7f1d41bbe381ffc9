//! Capture against recordings of Postgres, and against Postgres itself.

mod codec_oracle;
mod printed;
mod recorded;
mod recording;
mod type_catalog;
