//! The transforms over Arrow arrays.

pub(crate) mod copy;
