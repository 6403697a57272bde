//! The backends of cloud stores: one module for each provider's way to open them.

mod azure;
mod backend;
mod bucket;
mod claim;
mod credentials;
mod gcs;
mod opened;
mod quirks;
mod s3;

#[cfg(test)]
mod azure_tests;
#[cfg(test)]
mod gcs_tests;
#[cfg(test)]
mod s3_tests;

pub(super) use azure::{open as open_azure, service_name as azure_service_name};
pub(super) use gcs::{open as open_gcs, service_name as gcs_service_name};
pub(super) use s3::{open as open_s3, service_name as s3_service_name};
