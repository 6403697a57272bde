//! The `repo` blocks of an env (`schema { repo { … } }`, `migration { repo { … } }`), and the block
//! `atlas { cloud { … } }`.

use hcl::edit::expr::Expression;
use hcl::edit::structure::{Attribute, Block};

use super::super::error::ConfigError;
use super::super::types::{CloudConfig, RepoConfig, Secret, check_backup};
use super::super::url::{UrlError, did_you_mean, parse_target};
use super::error::{EvalError, EvalErrorKind};
use super::file::offset_of;
use super::scope::{Bindings, Scope};
use super::value::Value;
use crate::model::RepoName;
use crate::store::Location;

/// The blocks that hold a `repo` block.
pub(crate) const HOLDERS: [&str; 2] = ["schema", MIGRATION];

/// The block of a migration directory.
const MIGRATION: &str = "migration";

/// The attributes of a `repo` block.
const ATTRIBUTES: [&str; 3] = ["name", "backup", "url"];

/// A `repo` block and its start.
pub(crate) struct RepoBlock {
    pub(crate) config: RepoConfig,
    pub(crate) offset: usize,
    /// Whether it is in a `migration` block.
    pub(crate) migration: bool,
}

/// Evaluates the `repo` blocks of one env, in file order, and no other part of it.
///
/// # Errors
///
/// [`ConfigError`] with the position of a part that is missing or malformed or can't be evaluated.
pub(crate) fn repos(
    scope: &Scope<'_>,
    env: &Block,
    env_name: &str,
    names: &Bindings<'_>,
) -> Result<Vec<RepoBlock>, ConfigError> {
    let mut found = Vec::new();
    for holder in env.body.blocks() {
        let kind = holder.ident.as_str();
        if !HOLDERS.contains(&kind) {
            continue;
        }
        for block in holder.body.get_blocks("repo") {
            let what = format!("{kind}.repo of env {env_name:?}");
            let bodies = vec![&env.body, &holder.body, &block.body];
            let names = &Bindings::within(names, bodies);
            let (config, offset) = Reader { scope, names, what }.read(block)?;
            found.push(RepoBlock {
                config,
                offset,
                migration: kind == MIGRATION,
            });
        }
    }
    Ok(found)
}

struct Reader<'r> {
    scope: &'r Scope<'r>,
    names: &'r Bindings<'r>,
    what: String,
}

impl Reader<'_> {
    fn read(&self, block: &Block) -> Result<(RepoConfig, usize), ConfigError> {
        self.only_known(block)?;
        let name = match block.body.get_attribute("name") {
            Some(attribute) => self.name(attribute)?,
            None => {
                return Err(self.invalid(
                    offset_of(block),
                    "it has no name: write name = \"app\", the repository's slug",
                ));
            }
        };
        let registry = match block.body.get_attribute("url") {
            Some(attribute) => self.registry(attribute)?,
            None => Location::AtlasCloud,
        };
        let mut backups: Vec<Location> = Vec::new();
        if let Some(attribute) = block.body.get_attribute("backup") {
            for (offset, url) in self.backup_urls(attribute)? {
                let backup = self.target(offset, "backup", &url)?;
                let env = self.scope.inputs.getenv;
                check_backup(&backup, &registry, &backups, env).map_err(|why| {
                    ConfigError::Target {
                        place: self.scope.file.place(offset),
                        what: format!("backup of {}", self.what),
                        source: UrlError::new(&url, why),
                    }
                })?;
                backups.push(backup);
            }
        }
        let config = RepoConfig {
            name,
            registry,
            backups,
        };
        Ok((config, offset_of(block)))
    }

    /// Refuses an attribute unknown to a `repo` block: a misspelt `backup` would mean no backup at
    /// all, and would show only on the day of need.
    fn only_known(&self, block: &Block) -> Result<(), ConfigError> {
        for attribute in block.body.attributes() {
            let key = attribute.key.as_str();
            if !ATTRIBUTES.contains(&key) {
                return Err(self.invalid(
                    offset_of(attribute),
                    format!(
                        "unknown attribute {key:?}{}: known are name, backup, url",
                        did_you_mean(key, &ATTRIBUTES)
                    ),
                ));
            }
        }
        match block.body.blocks().next() {
            Some(inner) => Err(self.invalid(
                offset_of(inner),
                format!(
                    "unknown block {:?}: known are the attributes name, backup, url",
                    inner.ident.as_str()
                ),
            )),
            None => Ok(()),
        }
    }

    fn name(&self, attribute: &Attribute) -> Result<RepoName, ConfigError> {
        let offset = offset_of(&attribute.value);
        match self.value(attribute)? {
            // With these characters the text is a URL rather than a name, and may hold a token.
            Value::String(name) if name.contains([':', '@']) => Err(self.invalid(
                offset,
                "invalid name: it has a ':' or '@': use the repository's slug",
            )),
            Value::String(name) => RepoName::parse(&name).map_err(|error| {
                self.invalid(offset, format!("{error}: use the repository's slug"))
            }),
            other => Err(self.invalid(
                offset,
                format!("name must be a string, it is {}", other.kind()),
            )),
        }
    }

    fn registry(&self, attribute: &Attribute) -> Result<Location, ConfigError> {
        let offset = offset_of(&attribute.value);
        match self.value(attribute)? {
            Value::Null => Ok(Location::AtlasCloud),
            // Atlas would use Atlas Cloud. An empty URL mostly means an unset variable, and a push
            // must not silently go to another registry.
            Value::String(url) if url.is_empty() => Err(self.invalid(
                offset,
                "url is empty: give it a value, or remove it to use Atlas Cloud",
            )),
            Value::String(url) => self.target(offset, "url", &url),
            other => Err(self.invalid(
                offset,
                format!("url must be a string, it is {}", other.kind()),
            )),
        }
    }

    /// Returns the URLs of the backups, each with the position of its own element if it has one.
    fn backup_urls(&self, attribute: &Attribute) -> Result<Vec<(usize, String)>, ConfigError> {
        let whole = offset_of(&attribute.value);
        let value = self.value(attribute)?;
        if value == Value::Null {
            return Ok(Vec::new());
        }
        let Some(elements) = value.elements() else {
            return Err(self.invalid(
                whole,
                format!(
                    "backup must be a list of strings, it is {}: write backup = [ … ]",
                    value.kind()
                ),
            ));
        };
        let offsets: Vec<usize> = match &attribute.value {
            Expression::Array(items) => items.iter().map(offset_of).collect(),
            _ => Vec::new(),
        };
        let mut urls = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let offset = offsets.get(index).copied().unwrap_or(whole);
            match element {
                Value::String(url) if url.is_empty() => {
                    return Err(self.invalid(
                        offset,
                        format!("backup[{index}] is empty: give it a value, or remove it"),
                    ));
                }
                Value::String(url) => urls.push((offset, url.clone())),
                other => {
                    return Err(self.invalid(
                        offset,
                        format!("backup[{index}] must be a string, it is {}", other.kind()),
                    ));
                }
            }
        }
        Ok(urls)
    }

    fn value(&self, attribute: &Attribute) -> Result<Value, ConfigError> {
        let value = self.scope.evaluate(&attribute.value, self.names);
        let known = value.and_then(|value| match value.unknown() {
            Some(failure) => Err(failure.clone()),
            None => Ok(value),
        });
        known.map_err(|failure| report(self.scope, &self.what, failure))
    }

    fn target(&self, offset: usize, what: &str, url: &str) -> Result<Location, ConfigError> {
        parse_target(url).map_err(|source| ConfigError::Target {
            place: self.scope.file.place(offset),
            what: format!("{what} of {}", self.what),
            source,
        })
    }

    fn invalid(&self, offset: usize, message: impl std::fmt::Display) -> ConfigError {
        ConfigError::Invalid {
            place: self.scope.file.place(offset),
            message: format!("{}: {message}", self.what),
        }
    }
}

/// Turns a failed evaluation into an error that names the block.
pub(crate) fn report(scope: &Scope<'_>, what: &str, failure: EvalError) -> ConfigError {
    let message = match failure.kind {
        EvalErrorKind::Data(address) => format!(
            "{what} needs {address}, which atlasfs does not evaluate: data sources run programs \
             and queries; give its value with getenv or a variable instead"
        ),
        EvalErrorKind::Error | EvalErrorKind::Refused => format!("{what}: {}", failure.message),
    };
    ConfigError::Invalid {
        place: scope.file.place(failure.offset),
        message,
    }
}

/// The variable with the token if the file has none; Atlas's own.
const TOKEN_VARIABLE: &str = "ATLAS_TOKEN";

/// The attribute with the token in the file.
const TOKEN: &str = "token";

/// Evaluates the settings of Atlas Cloud.
///
/// # Errors
///
/// [`ConfigError`] for a value that is not a string or can't be evaluated. A token that needs a
/// data source is no error if the environment has one.
pub(crate) fn cloud(scope: &Scope<'_>) -> Result<CloudConfig, ConfigError> {
    let from_environment = (scope.inputs.getenv)(TOKEN_VARIABLE).filter(|token| !token.is_empty());
    let mut config = CloudConfig {
        token: None,
        ..CloudConfig::default()
    };
    let blocks = scope.file.body.get_blocks("atlas");
    for block in blocks.filter(|block| block.labels.is_empty()) {
        for cloud in block.body.get_blocks("cloud") {
            let text = |key| match cloud.body.get_attribute(key) {
                Some(attribute) => text(scope, key, attribute, from_environment.is_some()),
                None => Ok(None),
            };
            config.org = text("org")?.or(config.org);
            config.url = text("url")?.or(config.url);
            config.token = text(TOKEN)?.map(Secret::new).or(config.token);
        }
    }
    config.token = config.token.or(from_environment.map(Secret::new));
    Ok(config)
}

fn text(
    scope: &Scope<'_>,
    key: &str,
    attribute: &Attribute,
    has_token: bool,
) -> Result<Option<String>, ConfigError> {
    let what = format!("atlas.cloud.{key}");
    match scope.evaluate(&attribute.value, &Bindings::file()) {
        Ok(Value::Null) => Ok(None),
        // An unset getenv gives an empty string, which counts as missing.
        Ok(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Ok(other) => Err(ConfigError::Invalid {
            place: scope.file.place(offset_of(&attribute.value)),
            message: format!("{what} must be a string, it is {}", other.kind()),
        }),
        Err(failure)
            if key == TOKEN && has_token && matches!(failure.kind, EvalErrorKind::Data(_)) =>
        {
            Ok(None)
        }
        Err(mut failure) => {
            if let (TOKEN, EvalErrorKind::Data(address)) = (key, &failure.kind) {
                failure = EvalError::refused(
                    failure.offset,
                    format!(
                        "atlasfs does not evaluate {address}: give the token in {TOKEN_VARIABLE}"
                    ),
                );
            }
            Err(report(scope, &what, failure))
        }
    }
}
