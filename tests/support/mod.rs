//! The tests' common parts: servers on loopback, a proxy that adds faults, and a plain HTTP client
//! for requests that no driver sends.
//!
//! No request leaves the machine, and no test is skipped: a missing server fails the test with the
//! name of the script that installs it.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

pub mod azurite;
pub mod behind;
pub mod contract;
pub mod fault;
pub mod gcs;
pub mod http;
pub mod output;
pub mod proxy;
pub mod registry;
pub mod sas;
pub mod secrets;
pub mod serve;
pub mod server;
pub mod service;
pub mod sts;
pub mod tls;
pub mod token;
pub mod tool;
pub mod tunnel;
pub mod way;
