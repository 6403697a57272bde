//! Opening: from a location to the driver of its store.

use std::sync::Arc;

use super::cloud::{open_azure, open_gcs, open_s3};
use super::file::FileBackend;
use super::oci::open as open_oci;
use super::unavailable::Unavailable;
use super::{Backend, Failure, Kind, Location};

/// A driver, and what it found when it first looked at its store.
pub(super) type Opened = (Arc<dyn Backend>, Result<(), Failure>);

/// Opens the driver of a location. `env` looks up environment variables.
///
/// It sends nothing over the network. It looks at a disk, for at most two seconds.
///
/// # Errors
///
/// The location can't work as it is written, or the folder of a `file://` target isn't there.
/// `Target::open` is more patient with the latter.
pub fn open(
    location: &Location,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Backend>, Failure> {
    let (driver, found) = build(location, env)?;
    found.map(|()| driver)
}

pub(super) fn build(
    location: &Location,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Opened, Failure> {
    match location {
        Location::File(location) => {
            let (driver, found) = FileBackend::open(location);
            Ok((Arc::new(driver), found))
        }
        Location::S3(location) => cloud(open_s3(location, env)),
        Location::Gs(location) => cloud(open_gcs(location, env)),
        Location::Azure(location) => cloud(open_azure(location, env)),
        Location::Oci(location) => cloud(open_oci(location, env)),
        Location::AtlasCloud => Ok((Arc::new(Unavailable::for_atlas_cloud()), Ok(()))),
    }
}

/// A cloud store without credentials is a target all the same: the others still serve.
fn cloud(opened: Result<impl Backend, Failure>) -> Result<Opened, Failure> {
    match opened {
        Ok(driver) => Ok((Arc::new(driver), Ok(()))),
        Err(failure) if failure.kind == Kind::Denied => {
            let found = Err(failure.clone());
            Ok((Arc::new(Unavailable::denied(failure)), found))
        }
        Err(failure) => Err(failure),
    }
}
