//! The ways to get credentials: keys and roles for S3, tokens for the stores of Google and Azure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "../support/mod.rs"]
mod support;

mod keys;
mod roles;
mod tokens;

use atlasfs::store::Target;
use support::behind::put;
use support::contract::{LIMIT, id, soon};

const ARN: &str = "arn:aws:iam::123456789012:role/pusher";

/// Makes a home with shared files.
fn home(config: &str, credentials: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), config).unwrap();
    std::fs::write(folder.join("credentials"), credentials).unwrap();
    home
}

/// Asserts that a target stores an artifact and returns it.
async fn works(target: &Target) {
    put(target, "app/schema", "x", 1).await.unwrap();
    let read = target.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(&*read.bytes, b"x");
}
