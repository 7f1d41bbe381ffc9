//! Real servers, started and stopped.

mod private_postgres;
