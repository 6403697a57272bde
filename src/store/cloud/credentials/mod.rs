//! The sources of each provider's credentials, and how they are fetched.

pub(super) mod aws;
pub(super) mod aws_profile;
pub(super) mod aws_services;
pub(super) mod azure;
pub(super) mod gcs;
mod token_service;

#[cfg(test)]
mod aws_tests;
