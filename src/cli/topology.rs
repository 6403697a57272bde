//! The repositories to mount, and the locations of their targets.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::settings::{Selection, embedded_registry};
use crate::config;
use crate::store::{FileLocation, Location, Overlap, StampKeys};

/// The reason why the file system can't be made: one line with advice and without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl StartError {
    pub(super) fn new(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// The repositories of the configuration with their targets, and the targets of all others.
pub(super) struct Topology {
    pub(super) repos: Vec<config::RepoConfig>,
    /// The migration directories whose targets differ from those of their repository.
    pub(super) migrations: Vec<config::RepoConfig>,
    pub(super) others: Option<(Location, Vec<Location>)>,
    /// The keys that sign stamps.
    pub(super) stamp_keys: Option<Arc<StampKeys>>,
}

impl Topology {
    /// Returns the registry of each repository with its backups, and those of all others.
    pub(super) fn sets(&self) -> impl Iterator<Item = (&Location, &[Location])> {
        let named = self.repos.iter().chain(&self.migrations);
        let named = named.map(|repo| (&repo.registry, &*repo.backups));
        let others = self.others.iter();
        named.chain(others.map(|(registry, backups)| (registry, &**backups)))
    }
}

/// Loads the configuration, and parses the URLs.
///
/// # Errors
///
/// [`StartError`] for a configuration that can't be loaded or names no target, and for wrong URLs.
pub(super) fn load(selection: &Selection) -> Result<Topology, StartError> {
    let stamp_keys = selection.stamp_key.as_deref().map(StampKeys::read);
    let stamp_keys = stamp_keys.transpose().map_err(StartError::new)?;
    let stamp_keys = stamp_keys.map(Arc::new);
    let parse = |url: &String| config::parse_flag(url).map_err(StartError::new);
    let registry = selection.registry.as_ref().map(parse).transpose()?;
    let backups = selection.backups.iter().map(parse);
    let backups = backups.collect::<Result<Vec<_>, _>>()?;
    let env = |name: &str| std::env::var(name).ok();
    let Some(url) = &selection.config else {
        if selection.env.is_some() || !selection.vars.is_empty() {
            return Err(StartError::new(
                "--env and --var need a configuration: name it with --config file://atlas.hcl",
            ));
        }
        let registry = registry.map_or_else(|| embedded(&embedded_registry()), Ok)?;
        config::check_backups(&registry, &backups, &env).map_err(StartError::new)?;
        return Ok(Topology {
            repos: Vec::new(),
            migrations: Vec::new(),
            others: Some((registry, backups)),
            stamp_keys,
        });
    };
    let vars = selection.vars.iter();
    let source = config::ConfigSource {
        url: Some(url.clone()),
        env: selection.env.clone(),
        vars: vars.map(|var| var.expose().to_owned()).collect(),
    };
    let config = config::load(&source, &env).map_err(StartError::new)?;
    let (mut repos, mut migrations) = (config.repos, config.migrations);
    for repo in repos.iter_mut().chain(&mut migrations) {
        if let (Location::AtlasCloud, Some(registry)) = (&repo.registry, &registry) {
            repo.registry = registry.clone();
        }
        for backup in &backups {
            let same = |other: &Location| other.overlap(backup, &env) == Some(Overlap::Same);
            if !repo.backups.iter().any(same) {
                repo.backups.push(backup.clone());
            }
        }
        config::check_backups(&repo.registry, &repo.backups, &env)
            .map_err(|error| StartError(format!("repository {}: {error}", repo.name)))?;
    }
    if let Some(registry) = &registry {
        config::check_backups(registry, &backups, &env).map_err(StartError::new)?;
    }
    if repos.is_empty() && registry.is_none() {
        return Err(StartError(nothing_to_mount(url, selection.env.as_deref())));
    }
    Ok(Topology {
        repos,
        migrations,
        others: registry.map(|registry| (registry, backups)),
        stamp_keys,
    })
}

fn nothing_to_mount(url: &str, env: Option<&str>) -> String {
    match env {
        Some(env) => format!(
            "env {env:?} of {url} names no repository: add schema {{ repo {{ name = \"…\" }} }} to \
             it, or name a registry with --registry"
        ),
        None => format!(
            "{url} needs an env, because only an env names repositories: choose one with --env, or \
             name a registry with --registry"
        ),
    }
}

/// Returns the embedded registry. Its folder is made once: if it disappears later, that is an
/// outage, and not an empty registry whose schemas are all deleted.
fn embedded(dir: &Path) -> Result<Location, StartError> {
    let made = dir.with_extension("made");
    let location = Location::File(FileLocation {
        url: format!("file://{}", dir.display()),
        dir: dir.to_owned(),
        create_dir: false,
        known: false,
        read_only: false,
    });
    // Only the owner gets access, as to the files in the folder. This also fixes a folder of an
    // earlier version.
    let make = || {
        if !made.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&made)?;
            file.write_all(b"the embedded registry beside this file was made\n")?;
        }
        match std::fs::metadata(dir) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
                std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            }
            // A missing folder is an outage.
            _ => Ok(()),
        }
    };
    make().map_err(|error| {
        StartError::new(format!(
            "can't create the embedded registry {}: {error}; name another one with --registry",
            dir.display()
        ))
    })?;
    Ok(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_registry_that_is_gone_is_not_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("atlasfs/registry");
        embedded(&dir).unwrap();
        assert!(dir.is_dir());
        std::fs::remove_dir(&dir).unwrap();
        embedded(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn an_embedded_registry_is_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("atlasfs/registry");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        embedded(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.with_extension("made")), 0o600);
        std::fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        embedded(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700, "an earlier version made it");
    }

    #[test]
    fn a_configuration_without_repositories_is_refused_with_advice() {
        assert!(nothing_to_mount("file://a.hcl", Some("dev")).contains("--registry"));
        assert!(nothing_to_mount("file://a.hcl", None).contains("--env"));
    }
}
