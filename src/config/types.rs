//! The types of a configuration: its source, its repositories and their targets.

use std::fmt;

use super::url::UrlError;
use crate::model::RepoName;
use crate::store::{Location, Overlap};

/// The user's input: a configuration file, an env of it, and values of its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSource {
    /// The configuration's URL (`--config`); [`DEFAULT_URL`](super::DEFAULT_URL) if there is none.
    pub url: Option<String>,
    /// The env (`--env`); without one no env block is evaluated.
    pub env: Option<String>,
    /// The arguments of `--var`, each a CSV record of `key=value`.
    pub vars: Vec<String>,
}

/// The process environment, as a function from a variable's name to its value.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration: the repositories to mount and their targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The evaluated envs: one for each block of the name, and each element of its `for_each`.
    pub envs: Vec<EnvConfig>,
    /// Every repository once, in file order.
    pub repos: Vec<RepoConfig>,
    /// The migration directories whose targets differ from those of the schema with the same name.
    pub migrations: Vec<RepoConfig>,
}

/// One env.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvConfig {
    /// Its name.
    pub name: String,
    /// Its `repo` blocks, in file order. A name may occur twice (`schema` and `migration`).
    pub repos: Vec<RepoConfig>,
}

/// One `repo` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoConfig {
    /// The repository.
    pub name: RepoName,
    /// Its registry; Atlas Cloud if the block has no `url`.
    pub registry: Location,
    /// Its backups, in order.
    pub backups: Vec<Location>,
}

/// The `atlas { cloud { … } }` block, and `ATLAS_TOKEN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// The organization.
    pub org: Option<String>,
    /// The token: from the file, or else from the environment.
    pub token: Option<Secret>,
    /// The address of Atlas Cloud, if it is not the public one.
    pub url: Option<String>,
}

/// A secret. Its `Debug` is `Secret(…)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one caller that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// Refuses backups that would not be second copies, among those that are mounted together.
///
/// # Errors
///
/// [`UrlError`] for the first backup that is the registry itself, is listed twice, or overlaps
/// another store.
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

/// Refuses a backup that would not be a second copy.
///
/// # Errors
///
/// The reason, which names the other store.
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
                format!("this backup is listed twice, also as {other}: keep one")
            }
            (Overlap::Within, _) => format!(
                "this backup lies inside {what} {other}, where its artifacts would show as \
                 repositories: move it elsewhere"
            ),
            (Overlap::Around, _) => format!(
                "this backup contains {what} {other}, whose artifacts would show as repositories: \
                 move it elsewhere"
            ),
        });
    }
    Ok(())
}
