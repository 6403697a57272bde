//! `atlas.hcl` and URLs, turned into what to mount.

mod error;
#[cfg(test)]
mod fuzz;
mod hcl;
mod secret;
mod store;
#[cfg(test)]
mod tests;
mod url;

pub use self::error::ConfigError;
pub use self::hcl::Place;
pub use self::secret::Secret;
pub use self::store::{check_backups, targets_from_flags};
pub use self::url::{SCHEMES, UrlError, parse_target, refuse_credentials_on_command_line};

use std::collections::BTreeMap;

use self::hcl::{File, Inputs, Scope};
use crate::artifact::RepoName;
use crate::target::Location;

/// The configuration that is read when none is named: Atlas's own default.
pub const DEFAULT_URL: &str = hcl::DEFAULT_URL;

/// What the user named: a configuration file, an env of it, values of its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The configuration's URL (`--config`); [`DEFAULT_URL`] if there is none.
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
    /// What the file says of Atlas Cloud; empty if no repository has it for its registry.
    pub cloud: CloudConfig,
    /// The evaluated envs: one of them for each block of the name, and each element of its
    /// `for_each`.
    pub envs: Vec<EnvConfig>,
    repos: Vec<RepoConfig>,
}

impl Config {
    /// Returns every repository once, in file order.
    pub fn repos(&self) -> &[RepoConfig] {
        &self.repos
    }
}

/// One env.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvConfig {
    /// Its name.
    pub name: String,
    /// Its `repo` blocks, in file order, one name possibly twice (`schema` and `migration`).
    pub repos: Vec<RepoConfig>,
}

/// One `repo` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoConfig {
    /// The repository.
    pub name: RepoName,
    /// Its registry; Atlas Cloud if the block has no `url`.
    pub registry: Location,
    /// Its backups, in their order.
    pub backups: Vec<Location>,
}

/// The `atlas { cloud { … } }` block, and `ATLAS_TOKEN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// The organization.
    pub org: Option<String>,
    /// The token: the file's, or else that of the environment.
    pub token: Option<Secret>,
    /// The address of Atlas Cloud, if it is not the public one.
    pub url: Option<String>,
}

/// Loads a configuration: reads the file, chooses the env, and evaluates its `repo` blocks and
/// what they refer to. Everything else in the file is left unevaluated.
///
/// # Errors
///
/// [`ConfigError`], with file, line and column for everything that is in the file.
pub fn load(source: &Source, getenv: Environment<'_>) -> Result<Config, ConfigError> {
    let vars = hcl::parse_vars(&source.vars)?;
    let file = File::load(source.url.as_deref().unwrap_or(DEFAULT_URL))?;
    evaluate(
        &file,
        &Inputs {
            env: source.env.as_deref(),
            vars,
            getenv,
        },
    )
}

fn evaluate(file: &File, inputs: &Inputs<'_>) -> Result<Config, ConfigError> {
    let blocks = match inputs.env {
        Some(name) => hcl::select(file, name)?,
        None => Vec::new(),
    };
    let scope = Scope::new(file, inputs).map_err(|failure| ConfigError::Invalid {
        place: file.place(failure.offset),
        message: failure.message,
    })?;
    let env_name = inputs.env.unwrap_or_default();
    let mut config = Config::default();
    let mut offsets: BTreeMap<RepoName, (usize, usize)> = BTreeMap::new();
    for block in blocks {
        let what = format!("for_each of env {env_name:?}");
        let instances =
            hcl::instances(&scope, block).map_err(|failure| hcl::report(&scope, &what, failure))?;
        for names in &instances {
            let mut env = EnvConfig {
                name: env_name.into(),
                repos: Vec::new(),
            };
            for found in hcl::repos(&scope, block, env_name, names)? {
                let repo = found.config;
                env.repos.push(repo.clone());
                match offsets.get(&repo.name) {
                    None => {
                        offsets.insert(repo.name.clone(), (config.repos.len(), found.offset));
                        config.repos.push(repo);
                    }
                    Some((index, _)) if config.repos.get(*index) == Some(&repo) => {}
                    Some((_, first)) => {
                        return Err(ConfigError::Conflict {
                            name: repo.name.to_string(),
                            first: file.place(*first),
                            second: file.place(found.offset),
                        });
                    }
                }
            }
            config.envs.push(env);
        }
    }
    if config.envs.is_empty()
        && let Some(name) = inputs.env
    {
        return Err(hcl::undefined(file, name));
    }
    let on_cloud = |repo: &RepoConfig| repo.registry == Location::AtlasCloud;
    if config.repos.is_empty() || config.repos.iter().any(on_cloud) {
        config.cloud = hcl::cloud(&scope)?;
    }
    Ok(config)
}
