//! The errors of a configuration, and their positions.

use std::fmt;

use super::url::UrlError;

/// The reason why a configuration is refused. It is one line that says where the error is and what
/// to do. Texts that Atlas has too are Atlas's own.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration's own URL is wrong.
    #[error("{0}")]
    Url(String),
    /// There is no such file.
    #[error("config file {name:?} was not found: {source}")]
    NotFound {
        /// The file, as it was named.
        name: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The file can't be read.
    #[error("config file {name:?} can't be read: {source}")]
    Read {
        /// The file, as it was named.
        name: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The path is a folder, a pipe or a device.
    #[error("config file {name:?} is not a regular file: name the file itself")]
    NotAFile {
        /// The file, as it was named.
        name: String,
    },
    /// The file is too large to be a configuration.
    #[error("config file {name:?} is larger than {limit} bytes: is it the right file?")]
    TooLarge {
        /// The file, as it was named.
        name: String,
        /// The most bytes that are read.
        limit: u64,
    },
    /// An argument of `--var` is malformed.
    #[error("variables must be format as key=value, got: {argument:?}")]
    Var {
        /// The argument, without its value.
        argument: String,
    },
    /// The file has no such env.
    #[error("env {name:?} not defined in config file {file:?}: {known}")]
    NoEnv {
        /// The env asked for.
        name: String,
        /// The file, as it was named.
        file: String,
        /// The envs of the file.
        known: String,
    },
    /// Something in the file is wrong.
    #[error("{place}: {message}")]
    Invalid {
        /// The position in the file.
        place: Position,
        /// The fault, and what to do.
        message: String,
    },
    /// A registry's or backup's URL is wrong.
    #[error("{place}: {what}: {source}")]
    Target {
        /// The position in the file.
        place: Position,
        /// The attribute and its block.
        what: String,
        /// The fault of the URL.
        source: UrlError,
    },
    /// Two `repo` blocks of one name have different targets.
    #[error(
        "{second}: repository {name:?} has other targets here than at {first}: give both blocks \
         the same url and backup, or one of them another name"
    )]
    Conflict {
        /// The repository's name.
        name: String,
        /// The block that came first.
        first: Position,
        /// The one that contradicts it.
        second: Position,
    },
}

impl ConfigError {
    /// Returns the position of an error that is in the file.
    pub fn place(&self) -> Option<&Position> {
        match self {
            ConfigError::Invalid { place, .. } | ConfigError::Target { place, .. } => Some(place),
            ConfigError::Conflict { second, .. } => Some(second),
            _ => None,
        }
    }
}

/// A position in the configuration file. Its `Display` is `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file, self.line, self.column)
    }
}
