//! The settings of a mount and of a check, whether they come as flags or as mount options.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config::Secret;
use crate::fuse::{Deadlines, Owner};
use crate::registry::{Durability, folder_of};

/// The registries and backups that are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The URL of the configuration: `file://atlas.hcl`.
    pub config: Option<String>,
    /// The environment in it.
    pub env: Option<String>,
    /// The records of `--var`, in the order given. They may hold secrets.
    pub vars: Vec<Secret>,
    /// The registry's URL; with a configuration, it holds for repositories without a `url`.
    pub registry: Option<String>,
    /// The backups' URLs, in order.
    pub backups: Vec<String>,
}

/// All settings of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSettings {
    /// The mount point; absolute and resolved when it gets to `start`.
    pub dir: PathBuf,
    /// It stays in the foreground.
    pub foreground: bool,
    /// The registries and backups.
    pub selection: Selection,
    /// When a push counts as done.
    pub durability: Durability,
    /// The deadlines of a request.
    pub deadlines: Deadlines,
    /// For how long names, sizes and stamps are fresh.
    pub ttl: Duration,
    /// The largest artifact in bytes.
    pub max_size: u64,
    /// The bound of the cache in memory, in bytes.
    pub cache_size: u64,
    /// The bound of the cache on disk, in bytes; 0 for none.
    pub disk_cache_size: u64,
    /// Where the cache on disk lies, if not in the state directory; absolute.
    pub cache_dir: Option<PathBuf>,
    /// The bound of the journal, in bytes.
    pub journal_size: u64,
    /// How many outages in a row have a target skipped; 0 is never.
    pub breaker: u32,
    /// After how long the backups are asked beside the registry; zero is never.
    pub hedge: Duration,
    /// How often the targets are compared and repaired; zero is never.
    pub repair_interval: Duration,
    /// The folder of the journal, the cache on disk and the unpushed files; absolute.
    pub state_dir: PathBuf,
    /// Artifacts may be deleted.
    pub allow_delete: bool,
    /// Nothing may be written.
    pub read_only: bool,
    /// Other users are let in.
    pub allow_other: bool,
    /// Documents are checked before they are pushed.
    pub validate: bool,
    /// Which answers of a target, beside outages, send a read on to the next.
    pub fallback_on: Vec<FallbackReason>,
    /// How many files may be open for writing at a time.
    pub max_open_files: usize,
    /// How many bytes scratch files may take, all together.
    pub scratch_size: u64,
    /// How many bytes artifacts may take that are being written.
    pub staging_size: u64,
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
    /// Whether an object is written, read, and removed again.
    pub write: bool,
    /// How long each target may take.
    pub timeout: Duration,
    /// Whether JSON is printed.
    pub json: bool,
}

/// The level, format and file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least urgent level that is logged.
    pub level: tracing::Level,
    /// How a line looks.
    pub format: LogFormat,
    /// The file to append to, if not the usual place.
    pub file: Option<PathBuf>,
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

/// An answer of a target that sends a read on to the next target, as an outage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallbackReason {
    /// The target has no such artifact.
    NotFound,
    /// The target refuses these credentials.
    Denied,
}

by_name!(FallbackReason, "a reason to fall back",
    "not-found" => Self::NotFound, "denied" => Self::Denied);

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
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

/// Returns where the state of a mount lies unless told otherwise.
pub(super) fn default_state_dir(mount_point: &Path) -> PathBuf {
    user_dir("XDG_STATE_HOME", ".local/state")
        .join("mounts")
        .join(folder_of(mount_point))
}

/// Returns the folder of the embedded registry.
pub(super) fn embedded_registry() -> PathBuf {
    user_dir("XDG_DATA_HOME", ".local/share").join("registry")
}

/// Returns this program's folder below one of the user's directories (XDG Base Directory
/// Specification). At boot there is no home, and root must find the same things in a shell: its
/// folder is `/var/lib/atlasfs`.
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
