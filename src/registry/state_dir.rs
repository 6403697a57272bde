//! The state directory of one mount of a registry: its own files on this machine, and the lock that
//! reserves them for it.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::known_stores::STORES;
use super::private::{self, Layout, Refused, make_files_private, make_private};
use super::room::is_full;
use crate::dir::Dir;

/// The reason why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another mount uses it.
    #[error(
        "the state directory {dir} is in use by {holder}: unmount that, or choose another one \
         with --state-dir"
    )]
    InUse {
        /// The directory.
        dir: String,
        /// The other mount's description of itself.
        holder: String,
    },
    /// It is not this user's alone, or not atlasfs's.
    #[error("the state directory {dir} {why}, or choose another one with --state-dir")]
    Refused {
        /// The directory.
        dir: String,
        /// The problem, and the remedy.
        why: String,
    },
    /// It can't be made, read or written.
    #[error("can't use the state directory {path}: {source}; choose another one with --state-dir")]
    Io {
        /// The path of the operation.
        path: String,
        /// The reason why it failed.
        source: io::Error,
    },
}

const STAGING: &str = "staging";
const JOURNAL: &str = "journal";
const DAMAGED: &str = "journal/damaged";
const CATALOGUE: &str = "catalogue";
const CACHE: &str = "cache";
/// The file of the failures without kept bytes.
pub(super) const FAILURES: &str = "failures";
const LOCK: &str = "lock";
const LOG: &str = "log";
/// The folder of the registries in the root of the state directories.
pub(super) const REGISTRIES: &str = "registries";
/// The folder of the logs of mounts in a user's own state directory.
pub(super) const MOUNTS: &str = "mounts";

/// The beginning of the lock file in every version: the mount's description of itself.
const HOLDER: &str = "the mount on ";

/// The layout of a state directory, and of the root of all of them.
pub(super) const LAYOUT: Layout = Layout {
    marker: "atlasfs-state",
    dirs: &[STAGING, JOURNAL, DAMAGED, CACHE, STORES, REGISTRIES],
    files: &[LOCK, LOG, CATALOGUE, FAILURES],
    is_own,
};

/// Recognises files of earlier versions. A user's own directory may have a `journal` too.
fn is_own(dir: &Dir, name: &str) -> bool {
    let begins = |limit: usize, right: &dyn Fn(&[u8]) -> bool| {
        let file = dir.file(name);
        let mut bytes = Vec::new();
        let read = file.and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
        read.is_ok() && (bytes.is_empty() || right(&bytes))
    };
    let holds = |right: &dyn Fn(&str) -> bool| {
        let names = dir.list(name).unwrap_or_default();
        dir.child(name).is_ok() && names.iter().all(|name| name.to_str().is_some_and(right))
    };
    match name {
        LOCK => begins(HOLDER.len(), &|bytes| bytes == HOLDER.as_bytes()),
        // Lines begin with the year, or with a JSON object.
        LOG => begins(2, &|bytes| matches!(bytes, b"20" | b"{\"")),
        // Each line begins with its checksum.
        CATALOGUE | "catalogue.tmp" => begins(18, &is_line),
        // A free slot is zeros.
        FAILURES => begins(18, &|bytes| {
            bytes.iter().all(|&byte| byte == 0) || is_line(bytes)
        }),
        "catalogue.damaged" | "folders" | "folders.tmp" => dir.file(name).is_ok(),
        JOURNAL => holds(&|name| {
            let record = name.strip_suffix(".tmp").unwrap_or(name);
            name == "damaged" || record.len() == 20 && record.bytes().all(|b| b.is_ascii_digit())
        }),
        STAGING => holds(&|name| name.starts_with("scratch-") || name.starts_with(".tmp")),
        CACHE => holds(&|name| name == "sha256"),
        // Root's state and data have one folder.
        MOUNTS | "registry" => dir.child(name).is_ok(),
        "registry.made" => dir.file(name).is_ok(),
        _ => false,
    }
}

/// Recognises the beginning of a line of JSON after its checksum.
fn is_line(bytes: &[u8]) -> bool {
    let (sum, line) = bytes.split_at_checked(16).unwrap_or((bytes, b""));
    sum.iter().all(u8::is_ascii_hexdigit) && b" {".starts_with(line)
}

/// A state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The lock; or why there is none, on a full disk that never kept anything.
    lock: Result<File, String>,
    /// The locations of the stores that this machine knows, by their ids.
    locations: BTreeMap<String, String>,
}

impl StateDir {
    /// Makes the directory if it is missing, private to its owner, and locks it. `holder` describes
    /// this mount to another mount that finds the directory locked.
    ///
    /// # Errors
    ///
    /// [`StateDirError`].
    pub fn open(path: &Path, holder: &str) -> Result<Self, StateDirError> {
        let wrong = |name: &str| {
            let path = path.join(name).display().to_string();
            move |source| StateDirError::Io { path, source }
        };
        // Reading must work on a full disk. The first push that finds room makes the rest.
        let unlocked = |error: io::Error| Self {
            path: path.to_owned(),
            lock: Err(format!(
                "the state directory {} could not be made when mounting ({error}): make room, and \
                 mount again",
                path.display()
            )),
            locations: BTreeMap::new(),
        };
        let dir = match claim(path) {
            Err(StateDirError::Io { source, .. }) if is_full(&source) => {
                return Ok(unlocked(source));
            }
            dir => dir?,
        };
        let lock = match dir.file_or_new(LOCK, 0o600) {
            Err(error) if is_full(&error) => return Ok(unlocked(error)),
            lock => lock.map_err(wrong(LOCK))?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.take(1_000).read_to_string(&mut holder);
                return Err(StateDirError::InUse {
                    dir: path.display().to_string(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(wrong(LOCK)(source)),
        }
        let holder = format!("{holder}\n");
        // In this order even a full disk accepts it in place of the last one.
        let written = lock
            .write_all_at(holder.as_bytes(), 0)
            .and_then(|()| lock.set_len(holder.len() as u64));
        match written {
            Err(error) if !is_full(&error) => return Err(wrong(LOCK)(error)),
            _ => {}
        }
        for made in [STAGING, JOURNAL, DAMAGED] {
            match make_own(&dir, made) {
                Err(error) if is_full(&error) => break,
                made_it => made_it.map_err(wrong(made))?,
            }
        }
        Ok(Self {
            path: path.to_owned(),
            lock: Ok(lock),
            locations: BTreeMap::new(),
        })
    }

    /// Locks the directory of a mount that has ended; `None` if another mount uses it.
    pub(super) fn left_behind(path: &Path) -> Option<Self> {
        let lock = Dir::open(path)
            .and_then(|dir| dir.file_or_new(LOCK, 0o600))
            .ok()?;
        lock.try_lock().ok()?;
        Some(Self {
            path: path.to_owned(),
            lock: Ok(lock),
            locations: BTreeMap::new(),
        })
    }

    /// Adds the locations of the stores that this machine knows, by their ids.
    pub(super) fn with_locations(self, locations: BTreeMap<String, String>) -> Self {
        Self { locations, ..self }
    }

    /// Returns the location of a store that a mount of this machine has used.
    pub(super) fn location_of(&self, id: &str) -> Option<&str> {
        self.locations.get(id).map(String::as_str)
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.path
    }

    /// Returns why nothing can be kept here, if there is a reason.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.lock.as_ref().err().map(String::as_str)
    }

    /// Opens the log in a state directory.
    ///
    /// # Errors
    ///
    /// [`StateDirError`].
    pub fn log(path: &Path) -> Result<File, StateDirError> {
        claim(path)?
            .appended(LOG, 0o600)
            .map_err(|source| StateDirError::Io {
                path: path.join(LOG).display().to_string(),
                source,
            })
    }

    /// Returns the directory of the staged files.
    pub fn staging(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// Returns the directory of the journal.
    pub(super) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Returns the path of the index file.
    pub(super) fn index(&self) -> PathBuf {
        self.path.join(CATALOGUE)
    }

    /// Returns the default directory of the cache on disk.
    pub(super) fn cache(&self) -> PathBuf {
        self.path.join(CACHE)
    }
}

/// Makes a directory within the state directory, private with all files in it.
fn make_own(dir: &Dir, name: &str) -> io::Result<()> {
    match dir.make_dir(name, 0o700) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    make_private(dir, name, 0o700)?;
    make_files_private(dir, Path::new(name))
}

/// Makes a directory this user's state directory, or returns why it can't be one.
pub(super) fn claim(path: &Path) -> Result<Dir, StateDirError> {
    private::open(path, &LAYOUT).map_err(|refused| match refused {
        Refused::Foreign(why) => StateDirError::Refused {
            dir: path.display().to_string(),
            why,
        },
        Refused::Io(source) => StateDirError::Io {
            path: path.display().to_string(),
            source,
        },
    })
}

/// Returns the folder of a mount point's log, below the state directory of a user.
pub fn log_folder(mount_point: &Path) -> PathBuf {
    let mut name = String::new();
    for byte in mount_point.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' if name.is_empty() => {}
            b'/' => name.push('-'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') => {
                name.push(char::from(*byte));
            }
            byte => name.push_str(&format!("%{byte:02x}")),
        }
    }
    Path::new(MOUNTS).join(name)
}

#[cfg(test)]
#[path = "state_dir_tests.rs"]
mod tests;
