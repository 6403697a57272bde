//! Targets: the registry and its backups. A push goes to each target, and a pull can come from any.

mod backend;
mod capability_probe;
mod cloud;
mod failure;
mod file;
mod http;
mod identity;
mod judgement;
mod known_id;
mod known_tombstones;
mod location;
#[cfg(test)]
mod memory;
mod oci;
mod open;
mod overlap;
mod stamp_keys;
mod stamp_refusal;
mod target;
mod tombstone;
mod version;

pub use backend::{Backend, Capabilities, Condition, Listed, Stored, Token};
pub use failure::{Failure, Kind, Verdict};
pub use identity::{Identity, StoreId, StoreRole};
pub use known_id::{Basis, IdRecord, KnownId};
pub use location::{AzureLocation, FileLocation, GsLocation, Location, OciLocation, S3Location};
#[cfg(test)]
pub(crate) use memory::{Fault, Memory};
pub use open::open;
pub use overlap::Overlap;
pub use stamp_keys::{SignedStamp, StampKeyId, StampKeys, StampKeysError};
pub use stamp_refusal::StampRefusal;
pub use target::{Content, Members, Membership, Meta, RepoListing, Role, Target};
pub use tombstone::Tombstone;
pub use version::version_key;
