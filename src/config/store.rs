//! A registry and its backups together: when two URLs name one store.

use super::url::{UrlError, parse_target, refuse_credentials_on_command_line};
use crate::target::{AzureLocation, Location};

/// Parses the registry and the backups that came as flags (`--registry`, `--backup`).
///
/// # Errors
///
/// [`UrlError`] for a URL that can't be used, one with credentials, a backup that is the registry
/// itself, and one that is there twice.
pub fn targets_from_flags(
    registry: &str,
    backups: &[String],
) -> Result<(Location, Vec<Location>), UrlError> {
    let parse = |url: &str| {
        refuse_credentials_on_command_line(url)?;
        parse_target(url)
    };
    let registry = parse(registry)?;
    let mut parsed = Vec::new();
    for url in backups {
        let backup = parse(url)?;
        check_backup(&backup, &registry, &parsed).map_err(|why| UrlError::new(url, why))?;
        parsed.push(backup);
    }
    Ok((registry, parsed))
}

/// Refuses a backup that would be no second copy.
///
/// # Errors
///
/// Why it isn't one.
pub(super) fn check_backup(
    backup: &Location,
    registry: &Location,
    before: &[Location],
) -> Result<(), &'static str> {
    if same_store(backup, registry) {
        Err("this backup is the registry itself: a backup must be another store")
    } else if before.iter().any(|other| same_store(other, backup)) {
        Err("this backup is listed twice: keep one")
    } else {
        Ok(())
    }
}

/// Tells whether two locations are the same place of the same store, however their URLs are
/// written: credentials, region and the like don't tell stores apart.
fn same_store(one: &Location, other: &Location) -> bool {
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
