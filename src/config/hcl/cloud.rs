//! The `atlas { cloud { … } }` block.

use hcl::edit::structure::Attribute;

use super::super::{CloudConfig, ConfigError, Secret};
use super::failure::{Failure, Kind};
use super::file::offset_of;
use super::repo::report;
use super::scope::{Names, Scope};
use super::value::Value;

/// The variable that gives the token where the file doesn't; Atlas's own.
const TOKEN_VARIABLE: &str = "ATLAS_TOKEN";

/// The attribute that gives it in the file.
const TOKEN: &str = "token";

/// Evaluates what the file says of Atlas Cloud.
///
/// # Errors
///
/// [`ConfigError`] for a value that is no string or can't be evaluated. A token that needs a data
/// source is no error if the environment has one.
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
    match scope.evaluate(&attribute.value, &Names::file()) {
        Ok(Value::Null) => Ok(None),
        // An unset getenv gives an empty string: as good as not there.
        Ok(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Ok(other) => Err(ConfigError::Invalid {
            place: scope.file.place(offset_of(&attribute.value)),
            message: format!("{what} must be a string, it is {}", other.kind()),
        }),
        Err(failure) if key == TOKEN && has_token && matches!(failure.kind, Kind::Data(_)) => {
            Ok(None)
        }
        Err(mut failure) => {
            if let (TOKEN, Kind::Data(address)) = (key, &failure.kind) {
                failure = Failure::refused(
                    failure.offset,
                    format!(
                        "{address} is not evaluated by atlasfs: give the token in {TOKEN_VARIABLE}"
                    ),
                );
            }
            Err(report(scope, &what, failure))
        }
    }
}
