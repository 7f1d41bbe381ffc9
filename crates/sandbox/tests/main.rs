//! Real servers, started and stopped, with invented claims in them.

mod claims;
mod private_postgres;
