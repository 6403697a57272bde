//! The settings of a mount and of a check, from flags or from mount options.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::Secret;
use crate::fs::FsSettings;
use crate::fuse::Owner;
use crate::registry;

/// The selected registries and backups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The URL of the configuration: `file://atlas.hcl`.
    pub config: Option<String>,
    /// The environment in it.
    pub env: Option<String>,
    /// The records of `--var`, in the given order. They may hold secrets.
    pub vars: Vec<Secret>,
    /// The registry's URL; with a configuration, it holds for repositories without a `url`.
    pub registry: Option<String>,
    /// The backups' URLs, in order.
    pub backups: Vec<String>,
    /// The file of the keys that sign stamps; absolute.
    pub stamp_key: Option<PathBuf>,
}

/// All settings of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSettings {
    /// The mount point; absolute and resolved when it reaches `start`.
    pub dir: PathBuf,
    /// Whether the mount stays in the foreground.
    pub foreground: bool,
    /// The registries and backups.
    pub selection: Selection,
    /// Pushes and pulls.
    pub registry: registry::Settings,
    /// The file system.
    pub fs: FsSettings,
    /// The root of the journals, the caches on disk and the unpushed files; absolute.
    pub state_dir: PathBuf,
    /// Whether other users have access.
    pub allow_other: bool,
    /// The owner of the files.
    pub owner: Owner,
    /// The level, format and file of the log.
    pub log: LogSettings,
}

/// The settings of `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// The targets.
    pub selection: Selection,
    /// Whether to write, read and remove an object.
    pub write: bool,
    /// The time limit for each target.
    pub timeout: Duration,
    /// Whether to print JSON.
    pub json: bool,
}

/// The level, format and file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The lowest level to log.
    pub level: tracing::Level,
    /// The format of a line.
    pub format: LogFormat,
    /// The file to append to, if not the default one.
    pub file: Option<PathBuf>,
    /// The directory of the default file; absolute.
    pub dir: PathBuf,
}

/// Implements `FromStr` by names, with an error that lists them.
macro_rules! by_name {
    ($type:ident, $what:literal, $($name:literal => $value:expr),+) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok($value),)+
                    _ => Err(format!(
                        "`{text}` is not {}: write one of {}",
                        $what,
                        [$($name),+].join(", ")
                    )),
                }
            }
        }
    };
}

/// An answer of a target after which a read asks the next target, as after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackReason {
    /// The target has no such artifact.
    NotFound,
    /// The target refuses these credentials.
    Denied,
}

by_name!(FallbackReason, "a reason to fall back",
    "not-found" => Self::NotFound, "denied" => Self::Denied);

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object per line.
    Json,
}

by_name!(LogFormat, "a log format", "text" => Self::Text, "json" => Self::Json);

/// A log level, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogLevel(pub(super) tracing::Level);

by_name!(LogLevel, "a log level",
    "error" => Self(tracing::Level::ERROR),
    "warn" => Self(tracing::Level::WARN),
    "info" => Self(tracing::Level::INFO),
    "debug" => Self(tracing::Level::DEBUG),
    "trace" => Self(tracing::Level::TRACE));

/// Returns the default state directory.
pub(super) fn default_state_dir() -> PathBuf {
    user_dir("XDG_STATE_HOME", ".local/state")
}

/// Returns the folder of the embedded registry.
pub(super) fn embedded_registry() -> PathBuf {
    user_dir("XDG_DATA_HOME", ".local/share").join("registry")
}

/// Returns this program's folder below one of the user's directories (XDG Base Directory
/// Specification). At boot there is no home, and root must find the same folder in a shell, so
/// root's folder is `/var/lib/atlasfs`.
fn user_dir(variable: &str, below_home: &str) -> PathBuf {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(dir) = absolute(variable) {
        return dir.join("atlasfs");
    }
    match absolute("HOME") {
        Some(home) if Owner::of_this_process().uid != 0 => home.join(below_home).join("atlasfs"),
        _ => PathBuf::from("/var/lib/atlasfs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_refused_with_the_right_ones() {
        let error = "most".parse::<FallbackReason>().unwrap_err();
        assert_eq!(
            error,
            "`most` is not a reason to fall back: write one of not-found, denied"
        );
        assert_eq!("denied".parse(), Ok(FallbackReason::Denied));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("warn".parse(), Ok(LogLevel(tracing::Level::WARN)));
    }
}
