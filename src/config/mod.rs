//! The configuration: from `atlas.hcl` and URLs to the repositories to mount.

mod error;
#[cfg(test)]
mod fuzz;
mod hcl;
#[cfg(test)]
mod tests;
mod types;
mod url;

pub use self::error::{ConfigError, Position};
pub use self::types::{
    CloudConfig, Config, ConfigSource, EnvConfig, Environment, RepoConfig, Secret, check_backups,
};
pub(crate) use self::url::did_you_mean;
pub use self::url::{SCHEMES, UrlError, parse_flag, parse_target};

use self::hcl::{ConfigFile, Inputs, RepoBlock, Scope};
use crate::model::RepoName;

/// The default configuration; Atlas's own default.
pub const DEFAULT_URL: &str = "file://atlas.hcl";

/// Loads a configuration: reads the file, chooses the env, and evaluates its `repo` blocks and all
/// that they refer to. No other part of the file is evaluated.
///
/// # Errors
///
/// [`ConfigError`], with file, line and column for every error in the file.
pub fn load(source: &ConfigSource, getenv: Environment<'_>) -> Result<Config, ConfigError> {
    with_file(source, getenv, evaluate)
}

/// Loads the settings of Atlas Cloud. A mount works without them: a token that can't be evaluated
/// must not keep the mount from its backups.
///
/// # Errors
///
/// [`ConfigError`], which names `ATLAS_TOKEN` if the token can't be evaluated.
pub fn load_cloud(
    source: &ConfigSource,
    getenv: Environment<'_>,
) -> Result<CloudConfig, ConfigError> {
    with_file(source, getenv, |file, inputs| {
        hcl::cloud(&scope(file, inputs)?)
    })
}

fn with_file<T>(
    source: &ConfigSource,
    getenv: Environment<'_>,
    read: impl FnOnce(&ConfigFile, &Inputs<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let vars = hcl::parse_vars(&source.vars)?;
    let file = ConfigFile::load(source.url.as_deref().unwrap_or(DEFAULT_URL))?;
    let inputs = Inputs {
        env: source.env.as_deref(),
        vars,
        getenv,
    };
    read(&file, &inputs)
}

fn scope<'a>(file: &'a ConfigFile, inputs: &'a Inputs<'a>) -> Result<Scope<'a>, ConfigError> {
    let envs = match inputs.env {
        Some(name) => hcl::select(file, name)?,
        None => Vec::new(),
    };
    Scope::new(file, inputs, envs).map_err(|failure| ConfigError::Invalid {
        place: file.place(failure.offset),
        message: failure.message,
    })
}

fn evaluate(file: &ConfigFile, inputs: &Inputs<'_>) -> Result<Config, ConfigError> {
    let scope = scope(file, inputs)?;
    let env_name = inputs.env.unwrap_or_default();
    let mut config = Config::default();
    let mut found = Vec::new();
    for block in &scope.envs {
        if !hcl::is_named(&scope, block, env_name)? {
            continue;
        }
        let what = format!("for_each of env {env_name:?}");
        let instances =
            hcl::instances(&scope, block).map_err(|failure| hcl::report(&scope, &what, failure))?;
        for names in &instances {
            let repos = hcl::repos(&scope, block, env_name, names)?;
            config.envs.push(EnvConfig {
                name: env_name.into(),
                repos: repos.iter().map(|repo| repo.config.clone()).collect(),
            });
            found.extend(repos);
        }
    }
    if config.envs.is_empty()
        && let Some(name) = inputs.env
    {
        return Err(hcl::undefined(file, name));
    }
    merge(file, &found, &mut config)?;
    Ok(config)
}

/// Lists every repository once. A migration directory may have other targets than the schema with
/// the same name.
fn merge(file: &ConfigFile, found: &[RepoBlock], config: &mut Config) -> Result<(), ConfigError> {
    let schema = |name: &RepoName| {
        let mut schemas = found.iter().filter(|repo| !repo.migration);
        schemas.find(|repo| repo.config.name == *name)
    };
    let (mut repos, mut migrations): (Vec<&RepoBlock>, Vec<&RepoBlock>) = (Vec::new(), Vec::new());
    for repo in found {
        let name = &repo.config.name;
        let kept = match schema(name).filter(|_| repo.migration) {
            Some(schema) if schema.config == repo.config => continue,
            Some(_) => &mut migrations,
            None => &mut repos,
        };
        match kept.iter().find(|first| first.config.name == *name) {
            None => kept.push(repo),
            Some(first) if first.config == repo.config => {}
            Some(first) => {
                return Err(ConfigError::Conflict {
                    name: name.to_string(),
                    first: file.place(first.offset),
                    second: file.place(repo.offset),
                });
            }
        }
    }
    let configs =
        |blocks: Vec<&RepoBlock>| blocks.into_iter().map(|it| it.config.clone()).collect();
    (config.repos, config.migrations) = (configs(repos), configs(migrations));
    Ok(())
}
