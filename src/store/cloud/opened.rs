//! The opening of a store, whatever its provider.

use super::backend::CloudBackend;
use crate::store::Failure;
use crate::store::http::opening::{OpenError, invalid};

/// Opens a store, or explains in one line why it can't be opened.
pub(super) fn opened(
    url: &str,
    build: impl FnOnce() -> Result<CloudBackend, OpenError>,
) -> Result<CloudBackend, Failure> {
    let possible = |driver: CloudBackend| {
        driver
            .bucket
            .path("app/schema")
            .map(|_| driver)
            .map_err(|_| invalid("the prefix can't be part of a key"))
    };
    build().and_then(possible).map_err(|(kind, why)| Failure {
        // The reason says what to do.
        fix: Some(why.clone()),
        ..Failure::new(kind, format!("cannot open {url}: {why}")).before_asking()
    })
}
