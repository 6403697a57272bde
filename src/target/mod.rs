//! Targets: the registry and its backups, one place each that a push goes to and a pull can come
//! from.

mod cloud;
mod driver;
mod file;
mod location;
#[cfg(test)]
mod memory;
mod open;
mod place;
mod stand_in;
#[expect(
    clippy::module_inception,
    reason = "the floor is named after what it is about"
)]
mod target;
mod tombstone;
mod trial;
mod verdict;
mod waiting;

pub use driver::{Condition, Driver, Listed, Stored, Token};
pub use location::{AzureLocation, FileLocation, GsLocation, Location, OciLocation, S3Location};
#[cfg(test)]
pub(crate) use memory::{Fault, Memory};
pub use open::open;
pub use place::Overlap;
pub use target::{Content, Meta, RepoListing, Role, Target};
pub use tombstone::Tombstone;
pub use trial::Trial;
pub use verdict::{Failure, Kind, Verdict};
