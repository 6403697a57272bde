//! The driver of OCI registries.

mod auth;
mod backend;
mod change;
mod client;
mod docker;
mod error;
mod helper;
mod known;
mod lease;
mod login;
mod manifest;
mod name;
mod tags;

pub(super) use backend::open;
