//! Where the credentials of each cloud's stores are found, and how they are fetched.

pub(super) mod aws;
mod aws_keys;
mod aws_machine;
pub(super) mod aws_profile;
pub(super) mod aws_role;
pub(super) mod azure;
pub(super) mod gcs;
mod token_service;

#[cfg(test)]
mod aws_tests;
