//! Races: two writers with the same base save at once, and exactly one wins. The writers are two
//! drivers with the same token, or two mounts, each a process of its own.
//!
//! `ATLASFS_RACES` sets the number of races on each store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../mount/home.rs"]
#[allow(dead_code, reason = "the tests of mounts use all of it")]
mod home;
#[path = "../mount/mounted.rs"]
#[allow(dead_code, reason = "the tests of mounts use all of it")]
mod mounted;
#[path = "../mount/program.rs"]
#[allow(dead_code, reason = "the tests of mounts use all of it")]
mod program;
#[path = "../mount/store.rs"]
#[allow(dead_code, reason = "the tests of mounts use all of it")]
mod store;

mod drivers;
mod mounts;
mod racer;

/// Returns the number of races on each store. The default is enough to detect a store whose
/// conditions don't hold, and small enough for every run.
fn races(unless: usize) -> usize {
    std::env::var("ATLASFS_RACES").map_or(unless, |races| races.parse().unwrap())
}
