//! A private Postgres and a seeded claims workload.
