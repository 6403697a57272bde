//! Targets: the registry and its backups, one place each that a push goes to and a pull can come
//! from.

mod driver;
mod location;
mod verdict;

pub use driver::{Condition, Driver, Listed, Stored, Token};
pub use location::{AzureLocation, FileLocation, GsLocation, Location, OciLocation, S3Location};
pub use verdict::{Failure, Kind, Verdict};
