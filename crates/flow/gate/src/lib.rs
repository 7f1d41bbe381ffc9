//! Contract, masking, quality: raw in, cleared out. No I/O.

mod cleared;

pub use cleared::{ClearedBatch, ClearedColumn, ClearedSchema};
