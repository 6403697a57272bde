//! A registry and its backups together: when two URLs name one store.

use super::Environment;
use super::url::{UrlError, parse_target, refuse_credentials_on_command_line};
use crate::store::{Location, Overlap};

/// Parses the registry and the backups that came as flags (`--registry`, `--backup`).
///
/// # Errors
///
/// [`UrlError`] for a URL that can't be used, one with credentials, a backup that is the registry
/// itself, one that is there twice, and one that lies in another's place.
pub fn targets_from_flags(
    registry: &str,
    backups: &[String],
    env: Environment<'_>,
) -> Result<(Location, Vec<Location>), UrlError> {
    let parse = |url: &str| {
        refuse_credentials_on_command_line(url)?;
        parse_target(url)
    };
    let registry = parse(registry)?;
    let backups = backups.iter().map(|url| parse(url));
    let backups = backups.collect::<Result<Vec<_>, _>>()?;
    check_backups(&registry, &backups, env)?;
    Ok((registry, backups))
}

/// Refuses backups that would be no second copies, among those that are mounted together.
///
/// # Errors
///
/// [`UrlError`] for the first of them, as [`targets_from_flags`] has it.
pub fn check_backups(
    registry: &Location,
    backups: &[Location],
    env: Environment<'_>,
) -> Result<(), UrlError> {
    for (place, backup) in backups.iter().enumerate() {
        let before = backups.get(..place).unwrap_or_default();
        check_backup(backup, registry, before, env)
            .map_err(|why| UrlError::new(&backup.to_string(), why))?;
    }
    Ok(())
}

/// Refuses a backup that would be no second copy.
///
/// # Errors
///
/// Why it isn't one, and of what.
pub(super) fn check_backup(
    backup: &Location,
    registry: &Location,
    before: &[Location],
    env: Environment<'_>,
) -> Result<(), String> {
    let others = before.iter().map(|other| ("the backup", other));
    for (what, other) in std::iter::once(("the registry", registry)).chain(others) {
        let Some(overlap) = backup.overlap(other, env) else {
            continue;
        };
        return Err(match (overlap, what) {
            (Overlap::Same, "the registry") => format!(
                "this backup is the registry itself, {other}: a backup must be another store"
            ),
            (Overlap::Same, _) => {
                format!("this backup is listed twice, it is the place of {other}: keep one")
            }
            (Overlap::Within, _) => format!(
                "this backup lies inside {what} {other}, where its artifacts would show as \
                 repositories: give it a place beside it"
            ),
            (Overlap::Around, _) => format!(
                "this backup has {what} {other} inside it, whose artifacts would show there as \
                 repositories: give it a place beside it"
            ),
        });
    }
    Ok(())
}
