//! A configuration, from the file to the merged repositories: the helpers of these tests.

mod arbitrary;
mod envs;
mod files;
mod repos;

use std::path::PathBuf;

use super::*;

fn fixture(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("file://{root}/tests/fixtures/config/{name}.atlas.hcl")
}

fn source(url: String, env: Option<&str>) -> ConfigSource {
    ConfigSource {
        url: Some(url),
        env: env.map(Into::into),
        vars: Vec::new(),
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "ACME_ATLAS_TOKEN" => Some("SECRET".into()),
        "REGISTRY" => Some("oci://me:SECRET@ghcr.io/acme/registry".into()),
        _ => None,
    }
}

/// Evaluates a text as `atlas.hcl` with env `x`.
fn eval(text: &str) -> Result<Config, ConfigError> {
    eval_with(text, Some("x"), &[], &environment)
}

fn eval_with(
    text: &str,
    env: Option<&str>,
    vars: &[&str],
    getenv: Environment<'_>,
) -> Result<Config, ConfigError> {
    let vars: Vec<String> = vars.iter().map(|var| (*var).into()).collect();
    let vars = hcl::parse_vars(&vars)?;
    let file = ConfigFile::parse("atlas.hcl".into(), PathBuf::from("/nowhere"), text.into())?;
    evaluate(&file, &Inputs { env, vars, getenv })
}

fn refusal(text: &str) -> String {
    let message = eval(text).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message:?}");
    assert!(!message.contains("SECRET"), "{message}");
    message
}

/// An env with one schema repo of this body.
fn repo(body: &str) -> String {
    format!("env \"x\" {{\n  schema {{\n    repo {{\n{body}\n    }}\n  }}\n}}\n")
}

fn shown(config: &Config) -> Vec<String> {
    shown_repos(&config.repos)
}

fn shown_repos(repos: &[RepoConfig]) -> Vec<String> {
    repos
        .iter()
        .map(|repo| {
            let backups: Vec<_> = repo.backups.iter().map(ToString::to_string).collect();
            format!("{} {} {}", repo.name, repo.registry, backups.join(" "))
        })
        .collect()
}
