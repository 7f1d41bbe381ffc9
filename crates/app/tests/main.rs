//! The whole program against a real Postgres that the tests start themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod e2e {
    mod approvals;
    mod audit;
    mod bad_input;
    mod cells;
    mod clouds;
    mod codes;
    mod copy_and_follow;
    mod crashes;
    mod decoders;
    mod erase;
    mod extreme;
    mod failure_modes;
    mod fips;
    mod foreign_readers;
    mod grants;
    mod held;
    mod held_elsewhere;
    mod key_managers;
    mod key_providers;
    mod keys;
    mod leaks;
    mod models;
    mod online;
    mod policy;
    mod policy_changes;
    mod project;
    mod release;
    mod remask;
    mod repair;
    mod repair_ranges;
    mod roles;
    mod servers;
    mod shapes;
    mod staging;
    mod trouble;
    mod x12;
}
