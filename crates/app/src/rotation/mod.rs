//! What a rotation of the keys means for a project: what still needs an epoch of the key, what is exposed when somebody else has it, and the
//! sealed records that move to the new one. The tables are brought there by `lockgate remask`.

mod needs;
mod sealed;

pub(crate) use self::needs::{Need, Needs, check_exposed};
pub(crate) use self::sealed::seal_anew;
