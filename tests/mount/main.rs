//! Real mounts and real programs: each step of a user, done by the built program.
//!
//! Every reader and writer is a process of its own with a time limit. So a mount that hangs fails
//! one test, and the others go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "../support/mod.rs"]
mod support;

mod author;
mod bad_input;
mod blackhole;
mod check;
mod clients;
mod closers;
mod conditions;
mod config;
mod contention;
mod contract;
mod deadlines;
mod documents;
mod editors;
mod edits;
mod fallback;
mod folders;
mod fsx;
mod full_disk;
mod history;
mod home;
mod identity;
mod input;
mod input_azure;
mod lifecycle;
mod limits;
mod listing;
mod migrations;
mod mounted;
mod network_namespace;
mod oci;
mod parameters;
mod permissions;
mod pjdfstest;
mod plan_status;
mod posix;
mod program;
mod readers;
mod refused;
mod registries;
mod repair;
mod resources;
mod saves;
mod secrets;
mod signed;
mod startup;
mod store;
mod stores;
mod temporary;
mod tls;
mod tools;
mod torn;
mod tunnel;
mod twins;
mod writers;
