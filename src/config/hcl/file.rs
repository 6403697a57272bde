//! The configuration file: finding, reading and parsing it, and the positions in it.

use std::path::{Path, PathBuf};

use hcl::edit::Span;
use hcl::edit::structure::Body;

use super::super::error::{ConfigError, Position};
use crate::model::{Syntax, decode, plain};

/// The largest configuration, in bytes. Real ones have a few kilobytes. The parser's time is
/// quadratic in the number of an object's keys; this limit keeps the worst case below a second.
pub(crate) const MAX_FILE_BYTES: u64 = 128 * 1024;

/// A parsed configuration file.
pub(crate) struct ConfigFile {
    /// The path as given.
    pub(crate) name: String,
    /// The base folder of `file`, `fileset` and `glob`.
    pub(crate) dir: PathBuf,
    text: Vec<u8>,
    pub(crate) body: Body,
}

impl ConfigFile {
    /// Reads and parses the file that a URL names.
    pub(crate) fn load(url: &str) -> Result<Self, ConfigError> {
        let path = path_of(url)?;
        let name = path.display().to_string();
        let read = |source| match std::io::Error::kind(&source) {
            std::io::ErrorKind::NotFound => ConfigError::NotFound {
                name: name.clone(),
                source,
            },
            _ => ConfigError::Read {
                name: name.clone(),
                source,
            },
        };
        let size = std::fs::metadata(&path).map_err(read)?;
        if !size.is_file() {
            return Err(ConfigError::NotAFile { name });
        }
        if size.len() > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge {
                name,
                limit: MAX_FILE_BYTES,
            });
        }
        let text = std::fs::read(&path).map_err(read)?;
        let dir = std::path::absolute(&path).map_err(read)?;
        let dir = dir.parent().unwrap_or(Path::new("/")).to_path_buf();
        Self::parse(name, dir, text)
    }

    /// Parses the text of a file.
    pub(crate) fn parse(name: String, dir: PathBuf, text: Vec<u8>) -> Result<Self, ConfigError> {
        let invalid = |Syntax {
                           line,
                           column,
                           message,
                       },
                       why| ConfigError::Invalid {
            place: Position {
                file: name.clone(),
                line,
                column,
            },
            message: format!("{why}{message}"),
        };
        let text = match decode(&text) {
            Ok(text) => text.to_vec(),
            Err(utf16) => {
                return Err(invalid(
                    Syntax::at(&text, 0, utf16.to_string()),
                    "the file ",
                ));
            }
        };
        let plain = plain(&text).map_err(|syntax| invalid(syntax, "not valid HCL: "))?;
        let body = hcl::edit::parser::parse_body(&plain).map_err(|error| {
            let why = explain(error.message());
            let syntax = Syntax::at(&text, error.location().offset(), why);
            invalid(syntax, "HCL that atlasfs can't read: ")
        })?;
        Ok(Self {
            name,
            dir,
            text,
            body,
        })
    }

    /// Returns the position of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Position {
        let Syntax { line, column, .. } = Syntax::at(&self.text, offset, "");
        Position {
            file: self.name.clone(),
            line,
            column,
        }
    }
}

/// Returns advice on HCL that HashiCorp's parser accepts and hcl-rs's parser refuses. The limits
/// are constants of hcl-rs, whose parser is recursive.
fn explain(message: &str) -> &str {
    match message {
        _ if message.contains("nested levels") => {
            "more than 64 levels are nested here: move an inner part to a local"
        }
        _ if message.contains("chained binary operators") => {
            "more than 128 operators are chained here: move a part of the expression to a local"
        }
        _ if message.contains("redefined object key") => {
            "this object already has the key, in another spelling: remove one of them"
        }
        other => other,
    }
}

/// Returns the start of a parsed node.
pub(crate) fn offset_of(node: &impl Span) -> usize {
    node.span().map_or(0, |span| span.start)
}

/// Returns the path in a configuration's URL: host and path, as Atlas joins them.
fn path_of(url: &str) -> Result<PathBuf, ConfigError> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(ConfigError::Url(format!(
            "missing scheme for config file. Did you mean file://{}?",
            url.escape_debug()
        )));
    };
    if scheme != "file" {
        return Err(ConfigError::Url(format!(
            "unsupported config file driver {scheme:?}: only file:// is supported"
        )));
    }
    match super::super::url::decode(rest) {
        Some(path) if !path.is_empty() && !path.contains(char::is_control) => Ok(path.into()),
        _ => Err(ConfigError::Url(format!(
            "config file {url:?} names no file: write file://atlas.hcl"
        ))),
    }
}
