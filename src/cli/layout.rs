//! Which repositories there are, and where their targets lie.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::settings::{Selection, embedded_registry};
use super::start::{StartError, wrong};
use crate::config;
use crate::store::{FileLocation, Location, Overlap};

/// What is to be mounted: the repositories of the configuration, and the targets of all others.
pub(super) struct Layout {
    pub(super) repos: Vec<config::RepoConfig>,
    pub(super) others: Option<(Location, Vec<Location>)>,
    /// What the user should know of the configuration, one line each.
    pub(super) warnings: Vec<String>,
}

/// Loads the configuration, and parses the URLs.
///
/// # Errors
///
/// [`StartError`] for what can't be loaded, or names nothing.
pub(super) fn layout(what: &Selection) -> Result<Layout, StartError> {
    let parse = |url: &String| config::parse_flag(url).map_err(wrong);
    let registry = what.registry.as_ref().map(parse).transpose()?;
    let backups = what.backups.iter().map(parse);
    let backups = backups.collect::<Result<Vec<_>, _>>()?;
    let env = |name: &str| std::env::var(name).ok();
    let Some(url) = &what.config else {
        if what.env.is_some() || !what.vars.is_empty() {
            return Err(wrong(
                "--env and --var belong to a configuration: name it with --config file://atlas.hcl",
            ));
        }
        let registry = registry.map_or_else(|| embedded(&embedded_registry()), Ok)?;
        config::check_backups(&registry, &backups, &env).map_err(wrong)?;
        return Ok(Layout {
            repos: Vec::new(),
            others: Some((registry, backups)),
            warnings: Vec::new(),
        });
    };
    let vars = what.vars.iter();
    let source = config::Source {
        url: Some(url.clone()),
        env: what.env.clone(),
        vars: vars.map(|var| var.expose().to_owned()).collect(),
    };
    let config = config::load(&source, &env).map_err(wrong)?;
    let mut repos = config.repos;
    for repo in &mut repos {
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
        config::check_backups(registry, &backups, &env).map_err(wrong)?;
    }
    if repos.is_empty() && registry.is_none() {
        return Err(StartError(nothing_to_mount(url, what.env.as_deref())));
    }
    Ok(Layout {
        repos,
        others: registry.map(|registry| (registry, backups)),
        warnings: config.warnings,
    })
}

fn nothing_to_mount(url: &str, env: Option<&str>) -> String {
    match env {
        Some(env) => format!(
            "env {env:?} of {url} names no repository: add schema {{ repo {{ name = \"…\" }} }} to \
             it, or name a registry with --registry"
        ),
        None => format!(
            "no env of {url} was chosen, and only an env names repositories: choose one with --env, \
             or name a registry with --registry"
        ),
    }
}

/// Returns the embedded registry. Its folder is made once: if it is gone later, that is an outage,
/// and not an empty registry whose schemas are all deleted.
fn embedded(dir: &Path) -> Result<Location, StartError> {
    let made = dir.with_extension("made");
    let location = Location::File(FileLocation {
        url: format!("file://{}", dir.display()),
        dir: dir.to_owned(),
        create_dir: false,
        known: false,
    });
    // For its owner alone, as the files in it then are, also if an earlier version made it.
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
            // One that is gone is an outage.
            _ => Ok(()),
        }
    };
    make().map_err(|error| {
        wrong(format!(
            "can't make the embedded registry {}: {error}; name another one with --registry",
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
    fn what_names_no_repository_says_what_to_do() {
        assert!(nothing_to_mount("file://a.hcl", Some("dev")).contains("--registry"));
        assert!(nothing_to_mount("file://a.hcl", None).contains("--env"));
    }
}
