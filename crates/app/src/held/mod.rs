//! Held rows: where they are kept, what may be done with them, and how they come in after all.
//!
//! `gate::HeldRow` says which rows are held and in which order they may come in. This side makes that last:
//!
//! 1. **Kept before passed.** [`Keeper::clear`] makes the held rows of a batch durable before the rest of the batch goes to the lake, so
//!    before any checkpoint passes them. What the source sends again is known by table and position, and kept once.
//! 2. **Released through the lake's own commits.** `lockgate held release` only marks rows. The pipeline takes marked rows at a boundary at
//!    or above their positions, commits the stream there, and sends them to both lake tables as a release with a number. Each table
//!    commits the rows together with that number (`change::TableCheckpoint::released`), and passes over a release that it has. Rows
//!    behind wait until then, so a released row never replaces a newer one.
//! 3. **Resumed where it was.** A release that only one of the two tables has when the process dies is sent again at its own
//!    boundary: the batch of the stream that crosses it is cut there ([`Keeper::crossing`]).
//! 4. **Known until it cannot come again.** Of a row that is released or dropped the sealed record is erased at once and the position is
//!    kept until both tables are beyond it.

mod keeper;
mod release;
mod store;

pub use keeper::Witness;
pub(crate) use keeper::{Keeper, expire, has_expired};
pub(crate) use release::Release;
pub use store::{Choice, HeldLine, HeldStore};
