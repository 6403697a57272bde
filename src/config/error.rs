//! The errors of a configuration, and their positions.

use std::fmt;

use super::url::UrlError;

/// The reason why a configuration is refused: one line with the position of the error and advice.
/// If Atlas has a message for the same error, the text is the same.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration's own URL is wrong.
    #[error("{0}")]
    Url(String),
    /// There is no such file.
    #[error("config file {name:?} was not found: {source}")]
    NotFound {
        /// The file name as given.
        name: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The file can't be read.
    #[error("config file {name:?} can't be read: {source}")]
    Read {
        /// The file name as given.
        name: String,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The path is a folder, a pipe or a device.
    #[error("config file {name:?} is not a regular file: name the file itself")]
    NotAFile {
        /// The file name as given.
        name: String,
    },
    /// The file is too large for a configuration.
    #[error("config file {name:?} is larger than {limit} bytes: is it the right file?")]
    TooLarge {
        /// The file name as given.
        name: String,
        /// The most bytes that atlasfs reads.
        limit: u64,
    },
    /// An argument of `--var` is malformed.
    #[error("variables must be format as key=value, got: {argument:?}")]
    Var {
        /// The argument, without its value.
        argument: String,
    },
    /// The file lacks the env.
    #[error("env {name:?} not defined in config file {file:?}: {known}")]
    NoEnv {
        /// The name of the requested env.
        name: String,
        /// The file name as given.
        file: String,
        /// The envs of the file.
        known: String,
    },
    /// A part of the file is wrong.
    #[error("{place}: {message}")]
    Invalid {
        /// The position in the file.
        place: Position,
        /// The error and the advice.
        message: String,
    },
    /// A registry's or backup's URL is wrong.
    #[error("{place}: {what}: {source}")]
    Target {
        /// The position in the file.
        place: Position,
        /// The attribute and its block.
        what: String,
        /// The error in the URL.
        source: UrlError,
    },
    /// Two `repo` blocks with the same name have different targets.
    #[error(
        "{second}: repository {name:?} has different targets here than at {first}: give both \
         blocks the same url and backup, or rename one"
    )]
    Conflict {
        /// The repository's name.
        name: String,
        /// The first block.
        first: Position,
        /// The block that contradicts it.
        second: Position,
    },
}

impl ConfigError {
    /// Returns the position of an error in the file.
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
    /// The file name as given.
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
