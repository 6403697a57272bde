//! HTTP as the stores in a network speak it: the client, its credentials, and what a reply means.

pub(super) mod credential_cache;
pub(super) mod error_document;
pub(super) mod failure;
pub(super) mod middleware;
pub(super) mod opening;
pub(super) mod permission;
pub(super) mod proxy;
pub(super) mod renewal;
pub(super) mod success;
pub(super) mod transport;
pub(super) mod xml;

#[cfg(test)]
mod credential_cache_tests;
