//! `kill -9` at enumerated points of the push path. The tracer stops the real program at one system
//! call after the other, and kills it there. After the next start, everything acknowledged must be
//! there.
//!
//! A run tries a sample of the points; `scripts/crash-points --all` tries every one.
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

mod call;
mod history;
mod points;
mod recovery;
mod scene;
mod tracer;
