//! Contract, masking, quality: raw in, cleared out. No I/O.

mod cleared;
mod gate;
mod kernel;
mod policy;
mod profile;
mod report;
mod spelling;
mod table;
mod transform;
pub mod yaml;

pub use cleared::{ClearedBatch, ClearedColumn, ClearedSchema};
pub use gate::Gate;
pub use policy::Policy;
pub use profile::Profile;
pub use table::{Cleared, DroppedColumn, TableGate};
pub use transform::Transform;
