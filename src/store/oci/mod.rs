//! The backend for OCI registries.

mod artifact;
mod auth;
mod backend;
mod client;
mod docker;
mod lease;
mod repository;
mod requests;

pub(super) use backend::open;
