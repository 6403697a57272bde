//! When two URLs name one store.

use crate::target::{AzureLocation, Location};

/// Tells whether two locations are the same place of the same store, however their URLs are
/// written: credentials, region and the like don't tell stores apart.
pub(super) fn same_store(one: &Location, other: &Location) -> bool {
    match (one, other) {
        (Location::File(a), Location::File(b)) => a.dir == b.dir,
        (Location::S3(a), Location::S3(b)) => {
            (&a.bucket, &a.prefix, &a.endpoint) == (&b.bucket, &b.prefix, &b.endpoint)
        }
        (Location::Gs(a), Location::Gs(b)) => {
            (&a.bucket, &a.prefix, &a.universe_domain) == (&b.bucket, &b.prefix, &b.universe_domain)
        }
        (Location::Azure(a), Location::Azure(b)) => {
            let key = |l: &AzureLocation| {
                (
                    l.container.clone(),
                    l.prefix.clone(),
                    l.storage_account.clone(),
                    l.domain.clone(),
                    l.local_emulator,
                )
            };
            key(a) == key(b)
        }
        (Location::Oci(a), Location::Oci(b)) => {
            (&a.host, &a.repository) == (&b.host, &b.repository)
        }
        (Location::AtlasCloud, Location::AtlasCloud) => true,
        _ => false,
    }
}
