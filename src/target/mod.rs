//! Targets: the registry and its backups, one place each that a push goes to and a pull can come
//! from.

mod cloud;
mod driver;
mod file;
mod location;
mod open;
#[expect(
    clippy::module_inception,
    reason = "the floor is named after what it is about"
)]
mod target;
mod verdict;

pub use driver::{Condition, Driver, Listed, Stored, Token};
pub use location::{AzureLocation, FileLocation, GsLocation, Location, OciLocation, S3Location};
pub use open::open;
pub use target::{Content, Meta, RepoListing, Role, Target};
pub use verdict::{Failure, Kind, Verdict};
